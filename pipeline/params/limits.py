"""The section `limits` of `params.yaml`: how large the files of a user may be."""

from typing import Annotated

from pydantic import Field

from pipeline.params.section import Section
from pipeline.runtime.limits import Limits, default_of, of_keys

Limit = Annotated[int, Field(ge=1, le=10**9, strict=True)]


class LimitsSection(Section):
    """How large files may be before they are refused; a limit changes no result.

    Attributes:
        image_megabytes: of an image file, in MiB.
        image_megapixels: height times width of an image, in millions of pixels.
        model_megaparameters: the parameters of a model, in millions.
        model_layers: the layers of a model.
        layer_megaoutputs: the numbers that a layer of a model gives for one image, in millions.
        yaml_megabytes: of a YAML file such as dvc.lock, not of params.yaml, in MiB.
        text_megabytes: of a JSON file, or of another text, in MiB.
        table_megabytes: of a table in a text file, in MiB.
        table_columns: the columns of a table.
        table_megacells: rows times columns of a table, in millions.
        row_group_megabytes: of the images in a row group of a Parquet file, in MiB.
        field_characters: of a field of a table.
    """

    image_megabytes: Limit = default_of("image_megabytes")
    image_megapixels: Limit = default_of("image_megapixels")
    model_megaparameters: Limit = default_of("model_megaparameters")
    model_layers: Limit = default_of("model_layers")
    layer_megaoutputs: Limit = default_of("layer_megaoutputs")
    yaml_megabytes: Limit = default_of("yaml_megabytes")
    text_megabytes: Limit = default_of("text_megabytes")
    table_megabytes: Limit = default_of("table_megabytes")
    table_columns: Limit = default_of("table_columns")
    table_megacells: Limit = default_of("table_megacells")
    row_group_megabytes: Limit = default_of("row_group_megabytes")
    field_characters: Limit = default_of("field_characters")

    @property
    def in_force(self) -> Limits:
        """The limits, each in its own unit."""
        return of_keys(self.model_dump())
