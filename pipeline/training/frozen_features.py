"""What leaves the frozen layers of a phase: features of views, computed by `Forward`, so that they are the view's own.

A training over features is always split like this, so it is the same bit for bit whether features are kept or not.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL

from pipeline.images.augmentation import Augmentation
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.transforms import Transforms, rendered_fields
from pipeline.inference.forward import Forward
from pipeline.models.frozen_part import NOTHING_IS_FROZEN, Cut, NotCut, cut
from pipeline.runtime.devices import numerics
from pipeline.runtime.digests import fingerprint
from pipeline.runtime.errors import ParameterError
from pipeline.runtime.workspace import code_sha256
from pipeline.training.input_pipeline import Examples
from pipeline.training.recipe import FeaturesDtype, Phase

Features = npt.NDArray[np.float32 | np.float16]
Ints = npt.NDArray[np.intp]

CODE = ("images", "inference", "models")
"""The packages whose code decides the features of a view."""


@dataclass(frozen=True)
class ShownImages:
    """N images as a training shows them.

    Attributes:
        images: their pixels.
        content: the SHA-256 of each file.
        augmentation: says which transforms are in use.
        transforms: from the number of a view to its transforms, (N, ...).
    """

    images: DecodedImages
    content: Sequence[str]
    augmentation: Augmentation
    transforms: Callable[[int], Transforms]

    @classmethod
    def in_views(cls, examples: Examples) -> "ShownImages":
        """The images of some examples in their views."""
        content = [sha256 for _, sha256 in examples.content]
        return cls(examples.images, content, examples.supervision.augmentation, examples.supervision.transforms)

    @classmethod
    def untouched(cls, examples: Examples) -> "ShownImages":
        """The images of some examples as they are."""
        content, count = [sha256 for _, sha256 in examples.content], len(examples.images)
        return cls(examples.images, content, Augmentation(), lambda _: Transforms.of((count,)))


class FrozenPart:
    """The frozen layers of a phase.

    Args:
        cut: the model, cut in two.
        forward: its frozen half, at the batch size of the training.
        dtype: the type to which features are rounded.
    """

    def __init__(self, cut: Cut, forward: Forward, dtype: FeaturesDtype) -> None:
        self.cut, self.forward, self.dtype = cut, forward, np.dtype(dtype)

    @property
    def values(self) -> int:
        """K, the number of features of an image."""
        return self.cut.values

    @property
    def at_once(self) -> int:
        """P, the number of images in a forward pass."""
        return len(self.forward.places)

    def fingerprint_of(self, shown: ShownImages, view: int) -> str:
        """A digest of everything that decides the features of one view of N images."""
        used = [*rendered_fields(shown.augmentation), *(["partner"] if shown.augmentation.mixes else [])]
        transforms = shown.transforms(view) if used else None
        return fingerprint(
            frozen=self._fingerprint,
            images=shown.content,
            preprocessing=shown.images.preprocessing,
            augmentation=shown.augmentation.as_json(),
            transforms=[[name, _sha256(getattr(transforms, name))] for name in used],
        )

    @cached_property
    def _fingerprint(self) -> str:
        frozen = self.cut.frozen
        return fingerprint(
            code=code_sha256(CODE),
            libraries=[*numerics(), PIL.__version__],
            layers=frozen.to_json(),
            weights=[_sha256(np.asarray(weight)) for weight in frozen.weights],
            tensors=list(self.cut.tensors.values()),
            batch_size=self.forward.batch_size,
            answers=self.forward.answers_sha256,  # other processors round in another way
            dtype=self.dtype.name,
        )

    def of_few(self, pixels: Any) -> Features:
        """The features of R <= P images: (R, height, width, channels) float32 becomes (R, K).

        Raises:
            ParameterError: as `rounded`.
        """
        return self.rounded(self.forward.of_few(pixels))

    def of_views(self, shown: ShownImages, views: Ints, rows: Ints, transforms: Transforms) -> Iterator[Features]:
        """The features of R views, in batches of P; the arguments are those of `rendered_views`.

        Raises:
            ParameterError: as `rounded`.
        """
        for features in self.forward.of_views(shown.images, views, rows, transforms, shown.augmentation):
            yield self.rounded(features)

    def rounded(self, features: npt.NDArray[np.float32]) -> Features:
        """Features in their type.

        Raises:
            ParameterError: a finite number is too large for float16.
        """
        if self.dtype == np.float32:
            return features
        with np.errstate(over="ignore"):
            halves = features.astype(np.float16)
        if np.isinf(halves).any() and np.isfinite(features).all():
            raise ParameterError(
                f"features_dtype is float16, and the frozen layers give {np.abs(features).max():.4g}; a float16 holds "
                "no number above 65504. Set features_dtype: float32, or leave it out."
            )
        return halves


def split_for(model: Any, phase: Phase, batch_size: int, title: str) -> FrozenPart | None:
    """The frozen part of a model in a phase; None, and why, if the whole model is to be trained at once.

    Whether it is split depends on model, phase, batch size and processor alone, never on where features are kept.

    Args:
        model: the model, with the weights from which the phase begins.
        phase: the phase.
        batch_size: the number of images in a step.
        title: the name of the phase, for messages.
    """
    halves = cut(model, phase.trainable_from, phase.backbone_in_inference_mode)
    if isinstance(halves, NotCut):
        if halves.reason != NOTHING_IS_FROZEN:
            print(f"{title}: the frozen layers run with the others in every step: {halves.reason}", file=sys.stderr)
        return None
    forward = Forward(halves.frozen, batch_size)
    if not forward.is_steady:
        print(
            f"{title}: the frozen layers run with the others in every step: what they give for an image depends on the "
            "other images of its batch, or on its place there",
            file=sys.stderr,
        )
        return None
    return FrozenPart(halves, forward, phase.features_dtype)


def _sha256(array: npt.NDArray[Any]) -> str:
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()
