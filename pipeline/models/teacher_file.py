"""A teacher that is not trained here, as params.yaml describes it: a trained model, or only its answers."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from pipeline.models.applications import applications
from pipeline.models.descriptions import Channels, Model
from pipeline.models.hub import HUB
from pipeline.models.other_formats import TABLES, conversion_of
from pipeline.models.parts import Preprocessing
from pipeline.runtime.errors import nearest
from pipeline.runtime.ranges import Positive, Rate, Share

APPLICATION = "keras.applications:"
"""What stands before the name of a classifier of keras.applications."""

Average = Literal["logits", "probabilities"]
"""What an ensemble averages."""


def _as_text(name: Any) -> Any:
    """Takes a whole number for a class name, so that YAML needs no quotation marks."""
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else name


ClassName = Annotated[str, BeforeValidator(_as_text), Field(min_length=1)]


def _refuse_repeated(stated: Iterable[str | int | None]) -> None:
    known = [one for one in stated if one is not None]
    if repeated := sorted({str(one) for one in known if known.count(one) > 1}):
        raise ValueError(f"each class has one output of its own, but {', '.join(repeated)} is there twice")


OutputNames = Annotated[list[ClassName | None], Field(min_length=2)]


def _by_name(named: Any) -> Any:
    """The number of each class's output; turns a map by number, {0: HP, 1: SSA}, into one by name."""
    if not isinstance(named, dict) or not any(isinstance(name, str) for name in named.values()):
        return named
    is_by_number = all(type(number) is int for number in named)
    if not is_by_number or not all(name is None or isinstance(name, str) for name in named.values()):
        raise ValueError("a map goes from each class to the number of its output, {HP: 0}, or back, {0: HP}; not both")
    _refuse_repeated(named.values())  # here, since the map by name below would lose all but the last
    return {name: number for number, name in named.items() if name is not None}


OutputNumbers = Annotated[
    dict[ClassName, Annotated[int, Field(ge=0, strict=True)]], BeforeValidator(_by_name), Field(min_length=2)
]


def _form_of_classes(value: Any) -> str:
    return "$map" if isinstance(value, dict) else "$list"


Classes = Annotated[
    Annotated[OutputNames, Tag("$list")] | Annotated[OutputNumbers, Tag("$map")], Discriminator(_form_of_classes)
]


@dataclass(frozen=True)
class GivenTeacher:
    """A teacher that is already trained, and what its file does not say.

    Attributes:
        model: the path of a `.keras` or `.onnx` file, or of the weights (`.weights.h5`) of a model that is described;
            or "keras.applications:NAME", a classifier of ImageNet's 1,000 classes; or "keras_hub:PRESET", an image
            classifier of keras_hub, by its name, address or folder.
        weights_of: that model, if `model` is a file of weights.
        preprocessing: what was done to pixels, 0 to 255, before they entered the model; "none" if the model does that
            itself, or is of keras.applications or keras_hub, which know their own.
        classes: the names of the model's outputs in their order, None for an output without a class; or the number of
            each class's output. None: the order that the file records, if this program wrote it, else the data set's.
        accuracy: the share of images that it classified correctly elsewhere, 0 to 1, if that is known.
        input_shape: the images that an `.onnx` file takes, (height, width, channels), if the file does not say it.
    """

    model: Annotated[str, Field(min_length=1)]
    weights_of: Model | None = None
    preprocessing: Preprocessing = "none"
    classes: Classes | None = None
    accuracy: Share | None = None
    input_shape: tuple[Positive, Positive, Channels] | None = None

    def __post_init__(self) -> None:
        """Refuses a file of another format, and what cannot be stated of the file.

        Raises:
            ValueError: says what to change.
        """
        _refuse_repeated(self.classes.values() if isinstance(self.classes, dict) else self.classes or ())
        if self.application is not None:
            self._refuse_what_keras_knows(self.application)
            return
        if self.preset is not None:
            if not self.preset or self.weights_of is not None or self.input_shape is not None:
                raise ValueError(
                    "a teacher of keras_hub is keras_hub:PRESET, and has weights and size: leave weights_of and "
                    "input_shape out"
                )
            return
        is_weights = self.file.name.endswith(".weights.h5")
        if not is_weights and not self.is_onnx and not self.file.name.endswith(".keras"):
            raise ValueError(
                "the file of a trained teacher ends in .keras or .onnx, or in .weights.h5 for weights alone; "
                f"{self.model} {conversion_of(self.model)}"
            )
        if is_weights != (self.weights_of is not None):
            raise ValueError(
                "weights_of describes the model of a .weights.h5 file, and of no other: "
                + ("add it, with the keys of a model" if is_weights else "leave it out")
            )
        if self.input_shape is not None and not self.is_onnx:
            raise ValueError("input_shape is for an .onnx file; any other file says itself which images it takes")
        if is_weights and self.preprocessing != "none":
            raise ValueError("weights_of has a preprocessing of its own: state it there, and leave it out here")
        if is_weights and isinstance(self.classes, dict):
            raise ValueError("beside weights_of, classes is a list: one name for each of the model's outputs")

    def _refuse_what_keras_knows(self, name: str) -> None:
        if name not in applications():
            near = nearest(name, applications())
            raise ValueError(
                f"keras.applications has no {name!r}; `softlabel models` lists what it has."
                + (f" Did you mean {near!r}?" if near else "")
            )
        if self.weights_of is not None or self.input_shape is not None or self.preprocessing != "none":
            raise ValueError(
                "a teacher of keras.applications has weights, size and preprocessing: leave weights_of, input_shape "
                "and preprocessing out"
            )

    @property
    def application(self) -> str | None:
        """The name of a classifier of keras.applications; None if `model` is a file."""
        return self.model.removeprefix(APPLICATION) if self.model.startswith(APPLICATION) else None

    @property
    def preset(self) -> str | None:
        """The preset of keras_hub, by its name, address or folder; None if `model` is something else."""
        return self.model.removeprefix(HUB) if self.model.startswith(HUB) else None

    @property
    def is_file(self) -> bool:
        """Whether `model` is a file."""
        return self.application is None and self.preset is None

    @property
    def is_onnx(self) -> bool:
        """Whether `model` is an ONNX file."""
        return self.is_file and self.file.suffix.lower() == ".onnx"

    @property
    def file(self) -> Path:
        """The path of `model`; of a preset, the folder, if it is one."""
        return Path(self.model.removeprefix(HUB))


@dataclass(frozen=True)
class GivenLogits:
    """A teacher of which only the answers are known: another program computed them.

    Attributes:
        logits: the path of a table of logits or probabilities by image and view: `.npz`, `.csv` or `.parquet`.
        classes: the names of the table's classes in their order, None for one that the data set does not have; or the
            number of each class's column. None: as the table names them, else in the data set's order.
        accuracy: the share of images that the teacher classified correctly elsewhere, 0 to 1, if that is known.
    """

    logits: Annotated[str, Field(min_length=1)]
    classes: Classes | None = None
    accuracy: Share | None = None

    def __post_init__(self) -> None:
        """Refuses a file of another format, and a class that is named twice.

        Raises:
            ValueError: says what to change.
        """
        _refuse_repeated(self.classes.values() if isinstance(self.classes, dict) else self.classes or ())
        if self.file.suffix.lower() not in TABLES:
            raise ValueError(f"a table of logits ends in {', '.join(TABLES)}; {self.logits} does not")

    @property
    def file(self) -> Path:
        """The path of `logits`, also in messages."""
        return Path(self.logits)


@dataclass(frozen=True)
class Smoothing:
    """How votes become probabilities.

    Attributes:
        smoothing: the votes that each class has beside those of the annotators, above 0: with n of N votes and
            smoothing s, a class has the probability (n + s) / (N + 2 s). The larger, the softer.
    """

    smoothing: Rate


@dataclass(frozen=True)
class Annotators:
    """The people who labelled the images, as a teacher: their votes are its answers.

    Attributes:
        votes: how votes become probabilities.
    """

    votes: Smoothing


NotTrainedHere = GivenTeacher | GivenLogits | Annotators
