"""Views: the random transforms of an image, sampled by key and stored, so that every model sees the same.

A view is first a picture of its image: an affine transform, a color transform, operations on its pixels, and a box
that is erased. Then it may be mixed with the picture of another image in its own view of the same number.
`docs/format.md` says what each number means. `sampling` draws them, `transforms` holds them, and `rendering` applies
them. This module does not import TensorFlow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipeline.images.augmentation import Augmentation
from pipeline.images.index import SplitName
from pipeline.images.sampling import sample_views
from pipeline.images.transforms import Transforms
from pipeline.runtime.ranges import Seed


@dataclass(frozen=True)
class Views:
    """The views of each training image; validation and test images are used untouched.

    Attributes:
        count: V, the number of views.
        seed: the seed of the whole set.
        augmentation: the ranges from which the views are sampled.
    """

    count: Annotated[int, Field(ge=1, le=65535, strict=True)]
    seed: Seed
    augmentation: Augmentation

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Views":
        """The views that `as_json` describes."""
        return cls(values["count"], values["seed"], Augmentation.from_json(values["augmentation"]))

    def as_json(self) -> dict[str, Any]:
        """Everything that decides the views, as JSON-serialisable values without those that are off."""
        return {"count": self.count, "seed": self.seed, "augmentation": self.augmentation.as_json()}

    @property
    def advice(self) -> str | None:
        """Why these views are a poor choice, if they are."""
        if self.count > 1 or self.augmentation.is_identity:
            return None
        return (
            "views.count is 1 with an augmentation: in every epoch a student would see the same one distorted view of "
            "each image, which overfits (Beyer et al., arXiv:2106.05237). Set views.count to the number of epochs, or "
            "to as many as you can afford, or leave views.augmentation empty."
        )

    def of_split(self, split: SplitName) -> "Views":
        """The views of one split's images: only training images are augmented."""
        return self if split == "train" else UNTOUCHED

    def sample(self, image_ids: Sequence[str], view: int, labelled: npt.NDArray[np.bool_] | None = None) -> Transforms:
        """The transforms of one view of N images, as `sample_views` returns them."""
        return sample_views(self.augmentation, self.seed, image_ids, view, labelled)


UNTOUCHED = Views(count=1, seed=0, augmentation=Augmentation())
