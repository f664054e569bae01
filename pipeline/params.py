"""`params.yaml`: its types, its ranges, and which part of it a stage may see.

DVC runs a stage again only when a parameter changed that `dvc.yaml` declares for it. So a stage is given
exactly those: reading any other one fails.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import PipelineError

Flag = Annotated[bool, Field(strict=True)]
Positive = Annotated[int, Field(ge=1, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
Temperature = Annotated[int, Field(gt=0, strict=True)] | Annotated[float, Field(gt=0, strict=True)]
Rate = Annotated[float, Field(gt=0, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
Channels = Literal[1, 3]
Distinct = TypeVar("Distinct", int, float)


class Section(BaseModel):
    """A part of params.yaml: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __getattr__(self, name: str) -> Any:
        """Explains why a declared field is not there: `restrict` has taken it away."""
        if name in type(self).model_fields:
            raise PipelineError(
                f"this stage reads the parameter {name!r} of {type(self).__name__}, but dvc.yaml does not declare "
                "it for the stage. Add it to the stage's params, so that DVC knows when to run it again."
            )
        raise AttributeError(name)


class Split(Section):
    """Where the data set lies, and how it is divided."""

    layout: Literal["mhist"]
    annotations: Path
    images: Path
    val_fraction: Annotated[float, Field(gt=0, lt=1, strict=True)]


class _Model(Section):
    input_shape: tuple[Positive, Positive, Channels]
    weights: str | None
    pooling: Literal["avg", "max", "flatten"]
    batch_normalization: Flag
    dropout: Fraction

    @model_validator(mode="after")
    def _imagenet_has_three_channels(self) -> "_Model":
        if self.weights is not None and self.input_shape[2] != 3:
            raise ValueError("pretrained weights need images of 3 channels: set input_shape: [height, width, 3]")
        return self


class Cnn(_Model):
    """A small convolutional network."""

    architecture: Literal["cnn"]
    weights: None
    filters: Annotated[list[Positive], Field(min_length=1)]
    downsampling: Literal["stride", "max_pooling"]


class MobileNetV2(_Model):
    """MobileNetV2 of a given width."""

    architecture: Literal["mobilenetv2"]
    alpha: Rate


class Application(_Model):
    """A backbone of keras.applications without options of its own."""

    architecture: Literal["resnet50v2", "resnet50", "resnet152", "efficientnetb0"]


Model = Annotated[Cnn | MobileNetV2 | Application, Field(discriminator="architecture")]


class Phase(Section):
    """Epochs with one learning rate and one set of trained layers."""

    epochs: Positive
    learning_rate: Rate
    trainable_from: Annotated[int, Field(ge=0, strict=True)] | str | None


Phases = Annotated[list[Phase], Field(min_length=1)]


class Augmentation(Section):
    """How far a view may depart from its image; what is not named is off."""

    horizontal_flip: Flag = False
    vertical_flip: Flag = False
    rotation: Annotated[float, Field(ge=0, le=0.5, strict=True)] = 0.0
    translation: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.0
    shear: Annotated[float, Field(ge=0, le=60, strict=True)] = 0.0
    zoom: Annotated[float, Field(ge=0, le=0.9, strict=True)] = 0.0
    fill_mode: Literal["reflect", "nearest", "constant"] = "reflect"


class TrainTeacher(Section):
    """The teacher and its training."""

    model: Model
    seed: Seed
    batch_size: Positive
    augmentation: Augmentation
    phases: Phases


class Precompute(Section):
    """The teacher's one pass."""

    batch_size: Positive


class Distill(Section):
    """The soft labels and the loss."""

    temperatures: Annotated[list[Temperature], Field(min_length=1)]
    hard_label_weight: Annotated[float, Field(ge=0, le=1, strict=True)]
    scale_by_temperature_squared: Flag

    @model_validator(mode="after")
    def _distinct(self) -> "Distill":
        _refuse_repeated("temperatures", self.temperatures)
        return self


class Student(Section):
    """The student and its training, with and without soft labels."""

    model: Model
    seeds: Annotated[list[Seed], Field(min_length=1)]
    batch_size: Positive
    phases: Phases

    @model_validator(mode="after")
    def _distinct(self) -> "Student":
        _refuse_repeated("seeds", self.seeds)
        return self


class Evaluate(Section):
    """The comparison on the test images."""

    batch_size: Positive


class Params(Section):
    """The whole of params.yaml."""

    split: Split
    train_teacher: TrainTeacher
    precompute: Precompute
    distill: Distill
    student: Student
    evaluate: Evaluate


def load_params(stage: str, params_file: Path = Path("params.yaml"), dvc_file: Path = Path("dvc.yaml")) -> Params:
    """Reads and checks the whole of params.yaml, then keeps what `stage` declares in dvc.yaml.

    Raises:
        PipelineError: a value is missing, unknown or out of range; says which and what was expected.
    """
    return restrict(read_params(params_file), _declared(stage, dvc_file))


def read_params(path: Path) -> Params:
    """Reads and checks the whole of params.yaml.

    Raises:
        PipelineError: a value is missing, unknown or out of range; says which and what was expected.
    """
    try:
        return Params.model_validate(_read_yaml(path))
    except ValidationError as error:
        problems = "\n".join(f"  {_explain(problem)}" for problem in error.errors())
        raise PipelineError(f"{path} is not valid:\n{problems}") from None


def restrict(params: Params, declared: list[str]) -> Params:
    """A copy of `params` in which only the declared paths, such as "student.model", can be read."""
    restricted: Params = _restrict(params, [path.split(".") for path in declared])
    return restricted


def _restrict(section: Any, paths: list[list[str]]) -> Any:
    if not isinstance(section, Section) or [] in paths:
        return section
    copy = section.model_copy()
    for name in type(section).model_fields:
        below = [path[1:] for path in paths if path[0] == name]
        if below:
            copy.__dict__[name] = _restrict(getattr(section, name), below)
        else:
            del copy.__dict__[name]
    return copy


def _declared(stage: str, dvc_file: Path) -> list[str]:
    stages = _read_yaml(dvc_file).get("stages", {})
    if stage not in stages:
        raise PipelineError(f"{dvc_file} has no stage {stage!r}. Run this in the folder that holds the pipeline.")
    return [str(name) for name in stages[stage].get("params", [])]


def _read_yaml(path: Path) -> dict[str, Any]:
    """Reads YAML with the parser that DVC uses, so that both see the same values."""
    if not path.is_file():
        raise PipelineError(f"there is no {path} here. Run this in the folder that holds the pipeline.")
    try:
        content = YAML(typ="safe").load(path)
    except (YAMLError, ValueError) as error:
        raise PipelineError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise PipelineError(f"{path} holds no sections. Compare it with a file in presets/.")
    return content


def _refuse_repeated(name: str, values: list[Distinct]) -> None:
    if len(set(values)) < len(values):
        raise ValueError(f"{name} must differ from each other, got {values}")


def _explain(problem: Any) -> str:
    parts, known = _walk(problem["loc"])
    location = ".".join(map(str, parts))
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(parts[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
        return f"{location}: unknown key; {hint}"
    if problem["type"] == "missing":
        return f"{location}: missing; every key must be there."
    if problem["type"] == "union_tag_not_found":
        return f"{location}.architecture: missing; every key must be there."
    if problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        expected = context["expected_tags"].replace("'", "").split(", ")
        near = difflib.get_close_matches(context["tag"], expected, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return (
            f"{location}.architecture: unknown architecture {context['tag']!r}; known are {', '.join(expected)}.{hint}"
        )
    return f"{location}: {problem['msg']} (got {problem['input']!r})"


def _walk(location: tuple[str | int, ...]) -> tuple[list[str | int], list[str]]:
    """Follows the location of a problem through the sections.

    Returns:
        The location as in the file, and the known keys of the section that holds its last part.
    """
    sections: list[type[Section]] = [Params]
    parts: list[str | int] = []
    for number, part in enumerate(location):
        of_architecture = [section for section in sections if part in _architectures(section)]
        if of_architecture and number < len(location) - 1:
            sections = of_architecture  # pydantic's tag of a union's member, no key of the file
            continue
        parts.append(part)
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        if fields and number < len(location) - 1:
            sections = _sections(fields[0].annotation)
    return parts, sorted({name for section in sections for name in section.model_fields})


def _architectures(section: type[Section]) -> tuple[Any, ...]:
    field = section.model_fields.get("architecture")
    return get_args(field.annotation) if field else ()


def _sections(annotation: Any) -> list[type[Section]]:
    """Every section class inside a type such as `list[Phase]` or a union."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _sections(inner)]
