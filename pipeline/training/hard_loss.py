"""The loss of the hard labels: cross-entropy, with label smoothing and class weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from pipeline.training.recipe import Phase


@keras.saving.register_keras_serializable(package="softlabel")
class HardLoss(keras.losses.Loss):
    """The cross-entropy with the hard labels y, in nats.

        (sum_c w_c y_c) CE((1 - e) y + e / C, softmax(z))

    with student logits z, C classes, the label smoothing e (Szegedy et al., arXiv:1512.00567) and the class weights w.
    A label may be mixed of two, y = l y1 + (1 - l) y2; the formula then mixes their weights and their losses alike. A
    row without a label, whose y is 0, has the loss and the gradient 0.

    Args:
        label_smoothing: e, 0 to below 1.
        class_weights: w of each class. None: 1.
        name: the name of the loss.
        **base: `reduction` and `dtype` of `keras.losses.Loss`.

    Call arguments:
        y_true: (B, C or more); y are the first C columns.
        y_pred: (B, C), the logits z.

    Returns:
        (B,) losses in nats, or their mean over all rows, as `reduction` says.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        name: str = "hard_loss",
        **base: Any,
    ) -> None:
        super().__init__(name=name, **base)
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each row: (B,)."""
        hard = y_true[:, : y_pred.shape[-1]]
        label = hard
        if self.label_smoothing:
            label = (1.0 - self.label_smoothing) * hard + self.label_smoothing / y_pred.shape[-1]
        # Times 0 without a label: the gradient of TensorFlow's kernel, which is used unless operations are made
        # deterministic, is softmax(z) - y for any y.
        return _weights(hard, self.class_weights) * ops.categorical_crossentropy(label, y_pred, from_logits=True)

    def row_weights(self, y_true: Any, classes: int) -> Any:
        """The weight of each row in a loss that needs no label, (B,): that of its label, and 1 without one."""
        hard = y_true[:, :classes]
        return _weights(hard, self.class_weights) + 1.0 - ops.sum(hard, axis=-1)

    def for_phase(self, phase: Phase) -> "HardLoss":
        """The same loss with what a phase says of it."""
        return HardLoss(**of_phase(phase), name=self.name, reduction=self.reduction)

    def get_config(self) -> dict[str, Any]:
        """The arguments from which Keras makes this loss again."""
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "class_weights": self.class_weights,
        }


def of_phase(phase: Phase) -> dict[str, Any]:
    """The arguments of the hard loss in a phase whose `class_weight` is that of `with_class_weights`.

    Raises:
        ValueError: it is "balanced" still.
    """
    weights = phase.class_weight
    if weights is not None and not isinstance(weights, Mapping):
        raise ValueError(f"class_weight is {weights!r}; expected the weight of each class")
    return {
        "label_smoothing": phase.label_smoothing,
        "class_weights": None if weights is None else list(weights.values()),
    }


def _weights(hard: Any, class_weights: Sequence[float] | None) -> Any:
    return ops.sum(hard if class_weights is None else hard * ops.convert_to_tensor(class_weights, hard.dtype), axis=-1)
