"""The entries of `distill.loss`: which soft loss a student has, and its parameters.

`soft_losses` has the functions themselves, with their formulas. This module imports neither Keras nor TensorFlow.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator

from pipeline.runtime.errors import ParameterError
from pipeline.runtime.ranges import NotNegative, Number, Share
from pipeline.runtime.temperatures import in_range

NAME = r"[a-z][a-z0-9_]*"
"""The name of a loss: it is part of file names, in which a capital T follows."""

Needs = Literal["probabilities", "logits"]
"""What the teacher's half of a batch holds: softmax(v / T), or the logits v less their mean."""


@dataclass(frozen=True, kw_only=True)
class SoftLoss:
    """What every loss may set.

    Attributes:
        hard_label_weight: the weight of the hard labels with this loss; None: that of all losses,
            distill.hard_label_weight.
        kind: the soft loss; by default the one that has the entry's name.
    """

    needs: ClassVar[Needs] = "probabilities"
    is_scaled: ClassVar[bool] = False
    """Whether its gradient falls with 1 / T^2, for which T^2 makes up."""
    without_tail: ClassVar[str] = ""
    """Why it cannot be computed from a file of the k largest logits; empty if it can."""
    fewest_classes: ClassVar[int] = 2
    """With fewer classes it would say nothing."""

    hard_label_weight: Share | None = None

    def as_json(self) -> dict[str, Any]:
        """The arguments from which `of` makes it again."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Softened(SoftLoss):
    """What every loss may set that softens the student's logits.

    Attributes:
        student_temperature: the temperature of the student's logits, from 0.001 to 1000; None: the teacher's, T.
    """

    student_temperature: Annotated[Number, AfterValidator(in_range)] | None = None


@dataclass(frozen=True, kw_only=True)
class Kl(Softened):
    """The KL divergence from the teacher's soft labels."""

    is_scaled: ClassVar[bool] = True

    kind: Literal["kl"] = "kl"


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Softened):
    """The cross-entropy with the teacher's soft labels."""

    is_scaled: ClassVar[bool] = True

    kind: Literal["cross_entropy"] = "cross_entropy"


@dataclass(frozen=True, kw_only=True)
class JensenShannon(Softened):
    """The Jensen-Shannon divergence from the teacher's soft labels."""

    is_scaled: ClassVar[bool] = True

    kind: Literal["js"] = "js"


@dataclass(frozen=True, kw_only=True)
class SquaredError(SoftLoss):
    """The squared distance from the teacher's logits, without any temperature."""

    needs: ClassVar[Needs] = "logits"
    without_tail: ClassVar[str] = "the logits of all other classes would count as equal"

    kind: Literal["mse"] = "mse"


@dataclass(frozen=True, kw_only=True)
class Decoupled(Softened):
    """Decoupled knowledge distillation: the labelled class and the other classes in terms of their own.

    Attributes:
        alpha: the weight of the term of the labelled class.
        beta: the weight of the term of the other classes; with two classes, it has no effect.
    """

    needs: ClassVar[Needs] = "logits"
    is_scaled: ClassVar[bool] = True

    alpha: NotNegative = 1.0
    beta: NotNegative = 8.0
    kind: Literal["dkd"] = "dkd"

    def __post_init__(self) -> None:
        """Refuses a loss that is 0."""
        _refuse_nothing(alpha=self.alpha, beta=self.beta)


@dataclass(frozen=True, kw_only=True)
class Relations(Softened):
    """DIST: correlations with the teacher's soft labels, over classes and over the batch.

    Attributes:
        beta: the weight of the correlation over the classes of an image; with two classes, it has no effect.
        gamma: the weight of the correlation over the images of a batch.
    """

    beta: NotNegative = 1.0
    gamma: NotNegative = 1.0
    kind: Literal["dist"] = "dist"

    def __post_init__(self) -> None:
        """Refuses a loss that is 0."""
        _refuse_nothing(beta=self.beta, gamma=self.gamma)


@dataclass(frozen=True, kw_only=True)
class Standardised(Softened):
    """Logit standardisation: the logits of teacher and student are standardised in front of another loss.

    Attributes:
        before: the loss behind it.
        alpha: with dkd, the weight of the term of the labelled class; None: 1.
        beta: with dkd, the weight of the term of the other classes; None: 8.
    """

    needs: ClassVar[Needs] = "logits"
    is_scaled: ClassVar[bool] = True
    without_tail: ClassVar[str] = "the standard deviation of all logits is not known"
    fewest_classes: ClassVar[int] = 3  # two standardised logits are 1 and -1, whatever they were

    before: Literal["kl", "dkd"] = "kl"
    alpha: NotNegative | None = None
    beta: NotNegative | None = None
    kind: Literal["logit_standardization"] = "logit_standardization"

    def __post_init__(self) -> None:
        """Refuses parameters that would be ignored."""
        if self.before == "kl" and not self.alpha is self.beta is None:
            raise ValueError("alpha and beta are for `before: dkd`; kl takes neither: leave them out")
        _refuse_nothing(**dict(zip(("alpha", "beta"), self.weights, strict=True)))

    @property
    def weights(self) -> tuple[float, float]:
        """Alpha and beta of `before: dkd`."""
        usual = Decoupled()
        return (
            usual.alpha if self.alpha is None else self.alpha,
            usual.beta if self.beta is None else self.beta,
        )


@dataclass(frozen=True, kw_only=True)
class TeachersChoice(SoftLoss):
    """The teacher's choice as if it were a label."""

    kind: Literal["hard"] = "hard"


AnySoftLoss = Kl | CrossEntropy | SquaredError | JensenShannon | Decoupled | Relations | Standardised | TeachersChoice
KINDS: dict[str, type[AnySoftLoss]] = {
    "kl": Kl,
    "cross_entropy": CrossEntropy,
    "mse": SquaredError,
    "js": JensenShannon,
    "dkd": Decoupled,
    "dist": Relations,
    "logit_standardization": Standardised,
    "hard": TeachersChoice,
}
"""The classes of soft losses by their `kind`."""


def _refuse_nothing(**weights: float) -> None:
    if not any(weights.values()):
        raise ValueError(f"{' and '.join(weights)} are 0, so the loss would be 0: expected one of them above 0")


def refuse_too_few_classes(loss: AnySoftLoss, classes: int) -> None:
    """Refuses a loss that would say nothing of so few classes.

    Raises:
        ParameterError: it would.
    """
    if classes < loss.fewest_classes:
        raise ParameterError(
            f"the loss {loss.kind!r} of distill.loss says nothing of {classes} classes: standardised, their logits are "
            f"1 and -1 for every image. Expected {loss.fewest_classes} classes or more: name another loss in "
            "distill.losses."
        )


def of(description: Mapping[str, Any]) -> AnySoftLoss:
    """The soft loss that `as_json` describes."""
    return KINDS[description["kind"]](**description)


def with_kinds(entries: Any) -> Any:
    """`distill.loss` as it is written, in which each entry that names no kind has its own name as the kind."""
    if not isinstance(entries, dict):
        return entries
    return {name: {"kind": name, **entry} if isinstance(entry, dict) else entry for name, entry in entries.items()}
