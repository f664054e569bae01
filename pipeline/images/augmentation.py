"""What may change in a view of an image: the ranges from which `sampling` draws."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from pipeline.images.operations import OPERATIONS
from pipeline.runtime.ranges import Flag, Number, Share

FillMode = Literal["reflect", "nearest", "constant"]
OperationName = Literal[
    "blur",
    "hue",
    "saturation",
    "grayscale",
    "solarize",
    "posterize",
    "autocontrast",
    "equalize",
    "sharpness",
]
Range = tuple[Number, Number]
ShareOfViews = Annotated[float, Field(gt=0, le=1, strict=True)]


def _within(lowest: float, highest: float) -> Callable[[Range], Range]:
    def check(value: Range) -> Range:
        if not lowest <= value[0] <= value[1] <= highest:
            raise ValueError(f"expected two numbers from {lowest:g} to {highest:g}, the smaller first")
        return value

    return check


Area = Annotated[Range, AfterValidator(_within(0.01, 1.0))]
AspectRatio = Annotated[Range, AfterValidator(_within(0.1, 10.0))]


@dataclass(frozen=True)
class Mixing:
    """Views that are mixed with the view of another training image.

    Attributes:
        alpha: the share of the image itself is sampled from Beta(alpha, alpha): 1 is uniform; with less, one of the
            two images mostly prevails.
        share: the share of the views that are mixed so.
    """

    alpha: Annotated[float, Field(ge=0.01, le=100, strict=True)]
    share: ShareOfViews


@dataclass(frozen=True)
class Erasing:
    """Views in which a box is mid-grey (random erasing, Zhong et al., arXiv:1708.04896).

    Attributes:
        share: the share of the views that have such a box.
        area: smallest and largest share of the picture's area.
        aspect_ratio: smallest and largest width over height, sampled and cut as those of a crop.
    """

    share: ShareOfViews
    area: Area = (0.02, 0.33)
    aspect_ratio: AspectRatio = (0.3, 3.3)


@dataclass(frozen=True)
class Operations:
    """Operations on the pixels of every view, drawn with replacement, each with a strength of its own.

    Attributes:
        count: K, how many operations a view gets, one after another.
        of: the operations to draw from, each with its largest strength (docs/format.md); or `magnitude`.
        magnitude: M of RandAugment (Cubuk et al., arXiv:1909.13719): all operations, up to M tenths of the strengths
            that they have there at most; or `of`.

    Raises:
        ValueError: neither or both of `of` and `magnitude` are named, or a strength is out of its range.
    """

    count: Annotated[int, Field(ge=1, le=8, strict=True)]
    of: dict[OperationName, Number] | None = None
    magnitude: Annotated[float, Field(gt=0, le=10, strict=True)] | None = None

    def __post_init__(self) -> None:
        """Compares the strengths with their limits."""
        if (self.of is None) == (self.magnitude is None):
            raise ValueError("expected either of, a map of operations to strengths, or magnitude")
        if self.of is not None and not self.of:
            raise ValueError("of names no operation; to have none, leave operations out")
        for name, strength in self.strengths.items():
            limit = OPERATIONS[name].limit
            if not 0 < strength <= limit:
                raise ValueError(f"the strength of {name} is above 0, and at most {limit:g}; of says {strength:g}")

    def __hash__(self) -> int:
        """Equal for equal descriptions."""
        return hash((self.count, tuple(self.strengths.items())))

    @property
    def strengths(self) -> dict[str, float]:
        """The operations to draw from, in the order of their codes, each with its largest strength."""
        tenths = (self.magnitude or 0.0) / 10
        named: Mapping[str, float] = {name: known.at_magnitude_10 * tenths for name, known in OPERATIONS.items()}
        if self.of is not None:
            named = {str(name): strength for name, strength in self.of.items()}
        return {name: named[name] for name in sorted(named, key=lambda name: OPERATIONS[name].code)}


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
        operations: further operations on the pixels, such as blur or hue.
        erasing: a box that becomes mid-grey.
        mixup: views that are blended with a view of another image.
        cutmix: views of which a box shows a view of another image.

    Raises:
        ValueError: more than all views would be mixed.
    """

    horizontal_flip: Flag = False
    vertical_flip: Flag = False
    rotation: Annotated[float, Field(ge=0, le=0.5, strict=True)] = 0.0
    translation: Share = 0.0
    shear: Annotated[float, Field(ge=0, le=60, strict=True)] = 0.0
    zoom: Annotated[float, Field(ge=0, le=0.9, strict=True)] = 0.0
    crop_area: Area = (1.0, 1.0)
    crop_aspect_ratio: AspectRatio = (1.0, 1.0)
    fill_mode: FillMode = "reflect"
    brightness: Share = 0.0
    contrast: Share = 0.0
    channel_gain: Share = 0.0
    operations: Operations | None = None
    erasing: Erasing | None = None
    mixup: Mixing | None = None
    cutmix: Mixing | None = None

    def __post_init__(self) -> None:
        """Compares the shares of mixed views."""
        if self.share_mixed > 1:
            raise ValueError(
                f"mixup.share and cutmix.share are together {self.share_mixed:g}; expected at most 1, since a view is "
                "mixed in one way"
            )

    @property
    def share_mixed(self) -> float:
        """The share of the views that are mixed."""
        return sum(kind.share for kind in (self.mixup, self.cutmix) if kind is not None)

    @property
    def moves(self) -> bool:
        """Whether a view may show points of its image in other places."""
        crops = self.crop_area != (1.0, 1.0) or self.crop_aspect_ratio != (1.0, 1.0)
        flips = self.horizontal_flip or self.vertical_flip
        return flips or crops or any((self.rotation, self.translation, self.shear, self.zoom))

    @property
    def recolors(self) -> bool:
        """Whether a view may show points of its image in other colors, by gains and biases."""
        return any((self.brightness, self.contrast, self.channel_gain))

    @property
    def mixes(self) -> bool:
        """Whether a view may show a second image."""
        return self.share_mixed > 0

    @property
    def is_identity(self) -> bool:
        """True when every view is the image itself."""
        return not (self.moves or self.recolors or self.operations or self.erasing or self.mixes)

    @classmethod
    def from_json(cls, ranges: Mapping[str, Any]) -> "Augmentation":
        """The augmentation that `as_json` describes.

        Raises:
            ValueError: a value is none that params.yaml might have.
        """
        CHECK.validate_python(dict(ranges))
        below = {"operations": Operations, "erasing": Erasing, "mixup": Mixing, "cutmix": Mixing}
        values = {
            name: below[name](**_as_tuples(value)) if name in below else value
            for name, value in _as_tuples(ranges).items()
        }
        return cls(**values)

    def as_json(self) -> dict[str, Any]:
        """The ranges that are not off, as JSON-serialisable values; equal views have equal descriptions."""
        off = asdict(Augmentation())
        ranges = {name: value for name, value in asdict(self).items() if value != off[name]}
        if not self.moves:
            ranges.pop("fill_mode", None)  # without effect
        if self.operations is not None:
            ranges["operations"] = {"count": self.operations.count, "of": self.operations.strengths}
        return {name: _as_lists(value) for name, value in ranges.items()}


CHECK = TypeAdapter(Augmentation)


def _as_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_lists(inner) for name, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value
