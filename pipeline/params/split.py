"""The section `split` of `params.yaml`: one class for each layout of a data set.

`data` is the folder or file that holds the whole data set; DVC watches nothing else of it. Every other path is relative
to `data` and lies inside it.
"""

import warnings
from itertools import permutations
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from pipeline.params.section import Section
from pipeline.runtime.ranges import Flag, Positive

# pydantic's models have a method of this name, which is deprecated, and which nobody calls.
warnings.filterwarnings("ignore", 'Field name "copy" in "FilesSection" shadows')


def inside(path: Path) -> Path:
    """The same path.

    Raises:
        ValueError: it may lead out of `split.data`.
    """
    parts = PureWindowsPath(path)  # it knows the separators and roots of Windows and of POSIX
    if parts.anchor or ".." in parts.parts:
        raise ValueError("expected a path relative to split.data and inside it, without '..'")
    return path


def _class_names(value: Any) -> Any:
    """The names of the classes: a file, a list in the order of the class axis, or a map from label to name."""
    if value is None:
        return None
    if isinstance(value, str) and value:
        return inside(Path(value))
    if isinstance(value, list) and all(isinstance(name, str) for name in value) and len(set(value)) == len(value) > 0:
        return value
    is_map = isinstance(value, dict) and all(type(label) in {int, str} for label in value)
    if is_map and value and all(isinstance(name, str) for name in value.values()):
        return {str(label): name for label, name in value.items()}
    raise ValueError(
        "expected null, a file in split.data, a list of different names such as [healthy, ill], or a map from label to "
        "name such as {0: healthy, 1: ill}; put names that YAML takes for numbers in quotation marks"
    )


def _column(value: Any) -> Any:
    # A table without a header has columns 1, 2, ..., which YAML reads as numbers.
    return str(value) if type(value) is int else value


def _separator(value: str | None) -> str | None:
    sign = "\t" if value == "\\t" else value
    if sign is not None and (len(sign) != 1 or sign in '\r\n"'):
        raise ValueError("expected null or one character: ',', ';', '|', '\\t' for tabs, ' ' for any number of blanks")
    return sign


SplitFraction = Annotated[float, Field(gt=0, lt=1, strict=True)]
Inside = Annotated[Path, AfterValidator(inside)]
Column = Annotated[str, Field(min_length=1), BeforeValidator(_column)]
Separator = Annotated[str | None, AfterValidator(_separator)]
ClassNames = Annotated[Any, BeforeValidator(_class_names)]


def drawn_or_named(fraction: float | None, info: ValidationInfo, name: str) -> float | None:
    """The same fraction of a split that is drawn by it, or whose images the key `name` names.

    Raises:
        ValueError: both are null, or neither is.
    """
    if name in info.data and (info.data[name] is None) == (fraction is None):
        expected = "a fraction, because" if fraction is None else "null, because"
        is_null = "is null" if fraction is None else "names these images"
        raise ValueError(f"expected {expected} split.{name} {is_null}; give one of the two")
    return fraction


class UsedOrNot(Section):
    """What every layout states of its images without a label.

    Attributes:
        use: whether the images that the other keys name are used; false leaves them out, for a comparison, and
            changes nothing else.
    """

    use: Flag = True


class UnlabelledFolder(UsedOrNot):
    """A folder of images without a label, beside folders of classes.

    Attributes:
        folder: the folder of images without a label, with any folders inside it; null: none.
    """

    folder: Inside | None = None


class UnlabelledRows(UnlabelledFolder):
    """Images without a label of a data set with a table.

    Attributes:
        rows: what happens to rows without a label: true uses their images, false leaves them out; null: refused.
    """

    rows: Flag | None = None


class UnlabelledArray(UsedOrNot):
    """Images without a label in an .npz file.

    Attributes:
        rows: what happens to images with the label -1: true uses them, false leaves them out; null: refused.
        array: the array of images without a label, such as x_unlabelled; null: none.
    """

    rows: Flag | None = None
    array: Annotated[str, Field(min_length=1)] | None = None


class DataSection(Section):
    """The keys of every layout.

    Attributes:
        layout: how the data are arranged.
        data: the folder or file of the data set, which DVC watches; every other path is relative to it.
        class_names: the names of the classes: a file, a list in their order, or a map from labels; null: the labels.
        val_fraction: the share of the other images that is drawn for validation, above 0 and below 1; null where the
            data name validation images.
        test_fraction: the share of all images that is drawn for testing; null where the data name test images.
        duplicates: what happens to the same picture in two splits.
        limit: the largest number of images that is used, for a quick trial; null: all.
        unlabelled: the images without a label from which students learn, too, such as {rows: true} (docs/data.md);
            null: none.
    """

    duplicates: Literal["warn", "refuse", "keep_in_train"] = "warn"
    limit: Positive | None = None


class FilesSection(DataSection):
    """The keys of every layout of image files.

    Attributes:
        copy: whether images are copied to data/split; false: they are read where they are (docs/data.md).
        links: whether class folders of links to images that are not copied are made in data/links; only with copy:
            false.
    """

    copy: Flag = True  # type: ignore[assignment]
    links: Flag = False

    @field_validator("links")
    @classmethod
    def _instead_of_copies(cls, links: bool, info: ValidationInfo) -> bool:
        if links and info.data.get("copy"):
            raise ValueError("expected false, because split.copy is true: the copies lie in class folders themselves")
        return links


class Mhist(FilesSection):
    """A table with MHIST's columns beside one folder of images.

    Attributes:
        annotations: the table.
        images: the folder of images.
    """

    layout: Literal["mhist"]
    data: Path
    annotations: Inside
    images: Inside
    class_names: ClassNames = None
    unlabelled: UnlabelledRows | None = None
    val_fraction: SplitFraction


class Csv(FilesSection):
    """A table beside one folder of images: a column of image names, and one or several columns of labels.

    Attributes:
        annotations: the table.
        images: the folder of images.
        image_column: the column of the images' names.
        label_column: the column of labels; null with label_columns.
        label_columns: the columns of 0 and 1, one for each class; null with label_column.
        group_column: the column whose equal values stay in one split, such as the patient; null: none.
        separator: the character between columns; null: it is found.
        header: whether the first line names the columns; null: that is found.
        validation_ids: the table or list of the validation images; null: they are drawn.
        test_ids: the table or list of the test images; null: they are drawn.
    """

    layout: Literal["csv"]
    data: Path
    annotations: Inside
    images: Inside
    image_column: Column
    label_column: Column | None = None
    label_columns: Annotated[list[Column] | None, Field(validate_default=True)] = None
    group_column: Column | None = None
    separator: Separator = None
    header: Flag | None = None
    class_names: ClassNames = None
    unlabelled: UnlabelledRows | None = None
    validation_ids: Inside | None
    test_ids: Inside | None
    val_fraction: SplitFraction | None
    test_fraction: SplitFraction | None

    @field_validator("label_column")
    @classmethod
    def _two_columns(cls, column: str | None, info: ValidationInfo) -> str | None:
        if column is not None and column == info.data.get("image_column"):
            raise ValueError("expected another column than split.image_column")
        return column

    @field_validator("label_columns")
    @classmethod
    def _one_form_of_labels(cls, columns: list[str] | None, info: ValidationInfo) -> list[str] | None:
        if "label_column" in info.data and (info.data["label_column"] is None) == (columns is None):
            is_given = "null" if columns is None else "given"
            raise ValueError(f"expected one of split.label_column and split.label_columns; both are {is_given}")
        named = [*(columns or []), info.data.get("image_column")]
        if columns is not None and (len(columns) < 2 or len(set(named)) < len(named)):
            raise ValueError("expected two or more different columns, and none of them split.image_column")
        return columns

    @field_validator("group_column")
    @classmethod
    def _another_column(cls, column: str | None, info: ValidationInfo) -> str | None:
        taken = (info.data.get("image_column"), info.data.get("label_column"), *(info.data.get("label_columns") or []))
        if column is not None and column in taken:
            raise ValueError("expected another column than split.image_column and split.label_column")
        return column

    @field_validator("val_fraction", "test_fraction")
    @classmethod
    def _once(cls, fraction: float | None, info: ValidationInfo) -> float | None:
        return drawn_or_named(fraction, info, "test_ids" if info.field_name == "test_fraction" else "validation_ids")


class Folders(FilesSection):
    """A folder for each split, which holds a folder for each class.

    Attributes:
        train: the folder of the training images, and of all that are drawn; "." is the data set itself.
        val: the folder of the validation images; null: they are drawn.
        test: the folder of the test images; null: they are drawn.
    """

    layout: Literal["folders"]
    data: Path
    train: Inside
    val: Inside | None
    test: Inside | None
    class_names: ClassNames = None
    unlabelled: UnlabelledFolder | None = None
    val_fraction: SplitFraction | None
    test_fraction: SplitFraction | None

    @field_validator("val", "test")
    @classmethod
    def _folders_apart(cls, folder: Path | None, info: ValidationInfo) -> Path | None:
        others = [info.data.get(name) for name in ("train", "val")]
        for one, other in permutations([folder, *others], 2):
            deep = one and other and one.is_relative_to(other) and one.parent != other
            if deep or (one and one == other):
                raise ValueError(f"expected another folder than {str(other)!r}, beside it or directly in it")
        return folder

    @field_validator("unlabelled")
    @classmethod
    def _no_class(cls, unlabelled: UnlabelledFolder | None, info: ValidationInfo) -> UnlabelledFolder | None:
        if unlabelled is not None and unlabelled.folder is not None:
            for other in (info.data.get(name) for name in ("train", "val", "test")):
                deep = other and unlabelled.folder.is_relative_to(other) and unlabelled.folder.parent != other
                if other and (deep or other.is_relative_to(unlabelled.folder)):
                    raise ValueError(
                        f"expected a folder beside {str(other)!r} or directly in it, and not one around it"
                    )
        return unlabelled

    @field_validator("val_fraction", "test_fraction")
    @classmethod
    def _once(cls, fraction: float | None, info: ValidationInfo) -> float | None:
        return drawn_or_named(fraction, info, str(info.field_name).removesuffix("_fraction"))


class Arrays(DataSection):
    """An .npz file of images and labels, with the names of Keras or of MedMNIST."""

    layout: Literal["arrays"]
    data: Path
    class_names: ClassNames = None
    unlabelled: UnlabelledArray | None = None
    val_fraction: SplitFraction | None
    test_fraction: SplitFraction | None


class Cifar10(DataSection):
    """CIFAR-10 as an .npz file with Keras' names."""

    layout: Literal["cifar10"]
    data: Path
    class_names: ClassNames = None
    unlabelled: UnlabelledArray | None = None
    val_fraction: SplitFraction
