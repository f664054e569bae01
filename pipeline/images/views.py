"""Views: the random transforms of an image, sampled by key and stored, so that every model sees the same.

A view is an affine transform and a color transform. The affine transform is six numbers (a, b, tx, c, d, ty) in
normalised image coordinates: x runs from -1 at the left edge to 1 at the right edge, y from -1 at the top to 1 at the
bottom. The point (x, y) of the view shows the point (a x + b y + tx, c x + d y + ty) of the image. So a transform fits
every image size; if height and width differ, a rotation turns the image as if it were squeezed to a square. The color
transform is a gain for red, green and blue, then a bias for each, for values from 0 to 1. Both transforms are computed
in float64 and rounded once to float16; only the rounded numbers are used. `rendering` applies them.

A sample is made of raw 64-bit words of the counter-based generator Philox (Salmon et al., SC 2011). Its key is the
SHA-256 of (seed, image id, number of the view). So a sample depends on nothing else: not on the order of the images,
on the batch size or on NumPy's distributions. This module does not import TensorFlow.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field

from pipeline.images.index import SplitName
from pipeline.runtime.ranges import Flag, Number, Seed, Share

Floats16 = npt.NDArray[np.float16]

IDENTITY = np.array([1, 0, 0, 0, 1, 0], np.float16)
SAME_COLOR = np.array([1, 1, 1, 0, 0, 0], np.float16)

FillMode = Literal["reflect", "nearest", "constant"]
Range = tuple[Number, Number]


def _within(lowest: float, highest: float) -> Callable[[Range], Range]:
    def check(value: Range) -> Range:
        if not lowest <= value[0] <= value[1] <= highest:
            raise ValueError(f"expected two numbers from {lowest:g} to {highest:g}, the smaller first")
        return value

    return check


@dataclass(frozen=True)
class Augmentation:
    """The ranges from which views are sampled; every kind of change is off by default.

    Attributes:
        horizontal_flip: mirror left and right in half of the views.
        vertical_flip: mirror top and bottom in half of the views.
        rotation: largest angle either way, in turns (0.25 = 90 degrees).
        translation: largest shift either way along each axis, as a fraction of the image's side.
        shear: largest shear angle either way, in degrees.
        zoom: largest change of scale; the scale is sampled from 1 - zoom to 1 + zoom (2 = twice as large).
        crop_area: random resized crop: smallest and largest share of the image's area that is shown.
        crop_aspect_ratio: smallest and largest width over height of the crop, where 1 is the image's own ratio; its
            logarithm is sampled uniformly. A side that would be longer than the image's is cut to the image's, which
            makes the area smaller.
        fill_mode: what a view shows beyond the image's edge: "reflect", "nearest" or "constant" (black, before the
            colors change).
        brightness: largest change of brightness either way, as a fraction of white.
        contrast: largest change of contrast; values move away from mid-grey by a factor of 1 - contrast
            to 1 + contrast.
        channel_gain: largest change of each color channel; each is multiplied by its own factor of
            1 - channel_gain to 1 + channel_gain.
    """

    horizontal_flip: Flag = False
    vertical_flip: Flag = False
    rotation: Annotated[float, Field(ge=0, le=0.5, strict=True)] = 0.0
    translation: Share = 0.0
    shear: Annotated[float, Field(ge=0, le=60, strict=True)] = 0.0
    zoom: Annotated[float, Field(ge=0, le=0.9, strict=True)] = 0.0
    crop_area: Annotated[Range, AfterValidator(_within(0.01, 1.0))] = (1.0, 1.0)
    crop_aspect_ratio: Annotated[Range, AfterValidator(_within(0.1, 10.0))] = (1.0, 1.0)
    fill_mode: FillMode = "reflect"
    brightness: Share = 0.0
    contrast: Share = 0.0
    channel_gain: Share = 0.0

    @property
    def moves(self) -> bool:
        """Whether a view may show points of its image in other places."""
        crops = self.crop_area != (1.0, 1.0) or self.crop_aspect_ratio != (1.0, 1.0)
        flips = self.horizontal_flip or self.vertical_flip
        return flips or crops or any((self.rotation, self.translation, self.shear, self.zoom))

    @property
    def recolors(self) -> bool:
        """Whether a view may show points of its image in other colors."""
        return any((self.brightness, self.contrast, self.channel_gain))

    @property
    def is_identity(self) -> bool:
        """True when every view is the image itself."""
        return not (self.moves or self.recolors)


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
        ranges: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values["augmentation"].items()
        }
        return cls(values["count"], values["seed"], Augmentation(**ranges))

    def as_json(self) -> dict[str, Any]:
        """Everything that decides the views, as JSON-serialisable values without those that are off."""
        off = asdict(Augmentation())
        ranges = {name: value for name, value in asdict(self.augmentation).items() if value != off[name]}
        if not self.augmentation.moves:
            ranges.pop("fill_mode", None)  # without effect, and equal views must have equal descriptions
        return {
            "count": self.count,
            "seed": self.seed,
            "augmentation": {
                name: list(value) if isinstance(value, tuple) else value for name, value in ranges.items()
            },
        }

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

    def sample(self, image_ids: Sequence[str], view: int) -> tuple[Floats16, Floats16]:
        """The transforms of one view of N images, as `sample_views` returns them."""
        return sample_views(self.augmentation, self.seed, image_ids, view)


UNTOUCHED = Views(count=1, seed=0, augmentation=Augmentation())


def philox_words(count: int, *key: str | int) -> npt.NDArray[np.uint64]:
    """`count` random 64-bit words that depend on the key alone, on every machine and in every version."""
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    words: npt.NDArray[np.uint64] = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)
    return words


def sample_view(augmentation: Augmentation, seed: int, image_id: str, number: int) -> tuple[Floats16, Floats16]:
    """Samples the transforms of one view.

    The image is cropped, and the crop is stretched to the image's size; then it is flipped, zoomed, sheared, rotated
    and shifted about its centre. After that contrast, channel gain and brightness change.

    Args:
        augmentation: the ranges.
        seed: the seed of the whole set of views.
        image_id: the image.
        number: the number of the view, or of the pass over the images.

    Returns:
        The affine and the color transform, (6,) float16 each.
    """
    # The upper 53 bits of each word fill a float64's mantissa: a uniform number in [0, 1).
    uniform = (philox_words(16, seed, image_id, number) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return _affine(augmentation, uniform[:11]), _color(augmentation, 2.0 * uniform[11:] - 1.0)


def _affine(augmentation: Augmentation, uniform: npt.NDArray[np.float64]) -> Floats16:
    """The affine transform from eleven uniform numbers in [0, 1).

    Their order is: both flips, rotation, shear, zoom, shift along x and y, the crop's area, aspect ratio, and place
    along x and y. It must never change, or stored views could not be sampled again.
    """
    either_way = 2.0 * uniform - 1.0
    flip_x = -1.0 if augmentation.horizontal_flip and uniform[0] < 0.5 else 1.0
    flip_y = -1.0 if augmentation.vertical_flip and uniform[1] < 0.5 else 1.0
    angle = 2.0 * math.pi * augmentation.rotation * either_way[2]
    shear = math.radians(augmentation.shear) * either_way[3]
    scale = 1.0 + augmentation.zoom * either_way[4]
    shift = 2.0 * augmentation.translation * either_way[5:7]
    # From the view back to the image: undo the shift, the rotation, the shear, the zoom, the flip, the crop.
    cos, sin = math.cos(angle), math.sin(angle)
    unrotate = np.array([[cos, sin], [-sin, cos]])
    unshear = np.array([[1.0, -math.tan(shear)], [0.0, 1.0]])
    matrix = np.diag([flip_x, flip_y]) @ unshear @ unrotate / scale
    offset = -matrix @ shift
    smallest, largest = augmentation.crop_area
    narrowest, widest = map(math.log, augmentation.crop_aspect_ratio)
    area = smallest + (largest - smallest) * uniform[7]
    aspect_ratio = math.exp(narrowest + (widest - narrowest) * uniform[8])
    sides = np.minimum(1.0, [math.sqrt(area * aspect_ratio), math.sqrt(area / aspect_ratio)])
    matrix, offset = sides[:, None] * matrix, sides * offset + (1.0 - sides) * either_way[9:11]
    return np.column_stack([matrix, offset]).astype(np.float16).reshape(6)


def _color(augmentation: Augmentation, either_way: npt.NDArray[np.float64]) -> Floats16:
    """The color transform from five numbers in [-1, 1): brightness, contrast, red, green, blue."""
    brightness = augmentation.brightness * either_way[0]
    contrast = 1.0 + augmentation.contrast * either_way[1]
    channels = 1.0 + augmentation.channel_gain * either_way[2:]
    # channels * (contrast * (value - 0.5) + 0.5) + brightness
    bias = channels * 0.5 * (1.0 - contrast) + brightness
    return np.concatenate([channels * contrast, bias]).astype(np.float16)


def sample_views(
    augmentation: Augmentation, seed: int, image_ids: Sequence[str], number: int
) -> tuple[Floats16, Floats16]:
    """The affine and the color transform of one view of each of N images: (N, 6) float16 each."""
    if augmentation.is_identity:
        return np.tile(IDENTITY, (len(image_ids), 1)), np.tile(SAME_COLOR, (len(image_ids), 1))
    samples = [sample_view(augmentation, seed, image_id, number) for image_id in image_ids]
    affines, colors = np.array(samples, np.float16).reshape(-1, 2, 6).swapaxes(0, 1)
    return affines, colors
