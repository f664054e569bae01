"""The section `split` of `params.yaml`: one class for each layout of a data set.

`data` is the folder or file that holds everything of the data set, the one thing that DVC watches. Every
other path is relative to it and lies inside.
"""

from itertools import permutations
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from pipeline.section import Section


def _inside(path: Path) -> Path:
    parts = PureWindowsPath(path)  # knows the separators and roots of both systems
    if parts.anchor or ".." in parts.parts:
        raise ValueError("expected a path relative to split.data and inside it, without '..'")
    return path


def _names_of_classes(value: Any) -> Any:
    """A list of names becomes a mapping from label to name."""
    names = dict(enumerate(value)) if isinstance(value, list) else value
    if names is None:
        return None
    good = isinstance(names, dict) and all(type(label) is int and isinstance(names[label], str) for label in names)
    if not good or len(set(names.values())) < len(names):
        raise ValueError("expected null, a list of different names, or whole-number labels with different names")
    return names


Share = Annotated[float, Field(gt=0, lt=1, strict=True)]
Inside = Annotated[Path, AfterValidator(_inside)]
Column = Annotated[str, Field(min_length=1)]
ClassNames = Annotated[dict[int, str] | None, BeforeValidator(_names_of_classes)]


def _refuse_both_or_neither(share: float | None, info: ValidationInfo, name: str) -> float | None:
    """A split is either named by the data or drawn: exactly one of the two is null."""
    if name in info.data and (info.data[name] is None) == (share is None):
        expected = "a fraction, because" if share is None else "null, because"
        is_null = "is null" if share is None else "names these images"
        raise ValueError(f"expected {expected} split.{name} {is_null}; give one of the two")
    return share


class DataSection(Section):
    """What every layout has: how equal pictures are treated, and how many images are used."""

    duplicates: Literal["warn", "refuse", "keep_in_train"] = "warn"
    limit: Annotated[int, Field(ge=1, strict=True)] | None = None


class Mhist(DataSection):
    """A table with MHIST's columns beside one folder of images."""

    layout: Literal["mhist"]
    data: Path
    annotations: Inside
    images: Inside
    val_fraction: Share


class Csv(DataSection):
    """A table with a column of image names and a column of labels, beside one folder of images."""

    layout: Literal["csv"]
    data: Path
    annotations: Inside
    images: Inside
    image_column: Column
    label_column: Column
    group_column: Column | None = None
    class_names: Inside | None
    validation_ids: Inside | None
    test_ids: Inside | None
    val_fraction: Share | None
    test_fraction: Share | None

    @field_validator("label_column")
    @classmethod
    def _two_columns(cls, column: str, info: ValidationInfo) -> str:
        if column == info.data.get("image_column"):
            raise ValueError("expected another column than split.image_column")
        return column

    @field_validator("group_column")
    @classmethod
    def _three_columns(cls, column: str | None, info: ValidationInfo) -> str | None:
        if column is not None and column in (info.data.get("image_column"), info.data.get("label_column")):
            raise ValueError("expected another column than split.image_column and split.label_column")
        return column

    @field_validator("val_fraction")
    @classmethod
    def _val_once(cls, share: float | None, info: ValidationInfo) -> float | None:
        return _refuse_both_or_neither(share, info, "validation_ids")

    @field_validator("test_fraction")
    @classmethod
    def _test_once(cls, share: float | None, info: ValidationInfo) -> float | None:
        return _refuse_both_or_neither(share, info, "test_ids")


class Folders(DataSection):
    """A folder for each split, which holds a folder for each class."""

    layout: Literal["folders"]
    data: Path
    train: Inside
    val: Inside | None
    test: Inside | None
    val_fraction: Share | None
    test_fraction: Share | None

    @field_validator("val", "test")
    @classmethod
    def _folders_apart(cls, folder: Path | None, info: ValidationInfo) -> Path | None:
        others = [info.data.get(name) for name in ("train", "val")]
        for one, other in permutations([folder, *others], 2):
            deep = one and other and one.is_relative_to(other) and one.parent != other
            if deep or (one and one == other):
                raise ValueError(f"expected another folder than {str(other)!r}, beside it or directly in it")
        return folder

    @field_validator("val_fraction", "test_fraction")
    @classmethod
    def _once(cls, share: float | None, info: ValidationInfo) -> float | None:
        return _refuse_both_or_neither(share, info, str(info.field_name).removesuffix("_fraction"))


class Arrays(DataSection):
    """An .npz file of images and labels, with the names of Keras or of MedMNIST."""

    layout: Literal["arrays"]
    data: Path
    class_names: ClassNames
    val_fraction: Share | None
    test_fraction: Share | None


class Cifar10(DataSection):
    """CIFAR-10 as an .npz file with Keras' names."""

    layout: Literal["cifar10"]
    data: Path
    val_fraction: Share


Split = Annotated[Mhist | Csv | Folders | Arrays | Cifar10, Field(discriminator="layout")]
