"""A teacher that is already trained, as params.yaml describes it; `given_teacher` loads and completes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from pipeline.models.descriptions import Model
from pipeline.models.parts import Preprocessing
from pipeline.runtime.ranges import Share

Average = Literal["logits", "probabilities"]
"""What an ensemble averages."""


def _as_text(name: Any) -> Any:
    """Takes a whole number for a class name, so that YAML needs no quotation marks."""
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else name


ClassName = Annotated[str, BeforeValidator(_as_text), Field(min_length=1)]
OutputNames = Annotated[list[ClassName | None], Field(min_length=2)]


def _by_name(named: Any) -> Any:
    """The number of each class's output; turns a map by number, {0: HP, 1: SSA}, into one by name."""
    if not isinstance(named, dict) or not any(isinstance(name, str) for name in named.values()):
        return named
    is_by_number = all(type(number) is int for number in named)
    if not is_by_number or not all(name is None or isinstance(name, str) for name in named.values()):
        raise ValueError("a map goes from each class to the number of its output, {HP: 0}, or back, {0: HP}; not both")
    names = [name for name in named.values() if name is not None]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"each class has one output of its own, but {', '.join(repeated)} is there twice")
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
        model: the path of a `.keras` file, or of the weights (`.weights.h5`) of a model that is described.
        weights_of: that model, if `model` is a file of weights.
        preprocessing: what was done to pixels, 0 to 255, before they entered the model; "none" if the model does that
            itself.
        classes: the names of the model's outputs in their order, None for an output without a class; or the number of
            each class's output. None: the order that the file records, if this program wrote it, else the data set's.
        accuracy: the share of images that it classified correctly elsewhere, 0 to 1, if that is known.
    """

    model: Annotated[str, Field(min_length=1)]
    weights_of: Model | None = None
    preprocessing: Preprocessing = "none"
    classes: Classes | None = None
    accuracy: Share | None = None

    @property
    def file(self) -> Path:
        """The path of `model`."""
        return Path(self.model)
