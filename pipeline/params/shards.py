"""The section `split` of `params.yaml` where the data are shards: tar files or Parquet files of images."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from pipeline.params.split import (
    ClassNames,
    Column,
    DataSection,
    SplitFraction,
    UsedOrNot,
    drawn_or_named,
    inside,
)
from pipeline.runtime.ranges import Flag


def _shards(value: object) -> object:
    """One pattern stands for a list of it."""
    return [value] if isinstance(value, str) else value


def _patterns(patterns: list[str]) -> list[str]:
    for pattern in patterns:
        if ":" in pattern:
            raise ValueError("expected files in split.data: shards behind an address or a command cannot be read")
        inside(Path(pattern))
    return patterns


Pattern = Annotated[str, Field(min_length=1)]
Shards = Annotated[list[Pattern], Field(min_length=1), BeforeValidator(_shards), AfterValidator(_patterns)]


class UnlabelledSamples(UsedOrNot):
    """Images without a label in shards.

    Attributes:
        rows: what happens to images without a label: true uses them, false leaves them out; null: refused.
    """

    rows: Flag | None = None


class ShardSection(DataSection):
    """The keys of every layout of shards.

    Attributes:
        train: the shards of the training images, and of all that are drawn: a name, or a list of names, relative to
            data; braces as in a-{000..146} and wildcards as in a-* stand for several.
        val: the same of the validation images; null: they are drawn.
        test: the same of the test images; null: they are drawn.
    """

    data: Path
    train: Shards
    val: Shards | None
    test: Shards | None
    class_names: ClassNames = None
    unlabelled: UnlabelledSamples | None = None
    val_fraction: SplitFraction | None
    test_fraction: SplitFraction | None

    @field_validator("val_fraction", "test_fraction")
    @classmethod
    def _once(cls, fraction: float | None, info: ValidationInfo) -> float | None:
        return drawn_or_named(fraction, info, str(info.field_name).removesuffix("_fraction"))


class Webdataset(ShardSection):
    """Tar files of samples, as the library WebDataset reads them.

    Attributes:
        image_column: the extension of the images in a sample, such as jpg; null: any usual one.
        label_column: the extension of the label, such as cls or txt, or json:KEY for a key in a JSON file.
        group_column: the same of what stays in one split, such as the patient; null: none.
    """

    layout: Literal["webdataset"]
    image_column: Column | None = None
    label_column: Column
    group_column: Column | None = None


class Parquet(ShardSection):
    """Parquet files with the bytes of images in a column, as Hugging Face Datasets writes them.

    Attributes:
        image_column: the column of images: bytes, or structs with a field bytes.
        label_column: the column of labels: texts or numbers.
        id_column: the column of names; null: the numbers of the rows.
        group_column: the column whose equal values stay in one split, such as the patient; null: none.
    """

    layout: Literal["parquet"]
    image_column: Column = "image"
    label_column: Column
    id_column: Column | None = None
    group_column: Column | None = None
