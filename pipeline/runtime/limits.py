"""How large a file may be, and what it says of itself, before memory is taken or another library is asked.

Each limit lies far above what this program writes and what its users are known to bring, and low enough that a small
hostile file takes neither all memory nor minutes. The section `limits` of params.yaml raises those that an honest file
may reach.
"""

import json
import os
from dataclasses import asdict, dataclass
from functools import cache

from pipeline.runtime.errors import ParameterError

VARIABLE = "SOFTLABEL_LIMITS"
"""Of the environment: the limits in force that are not the default, as JSON. Processes that are started inherit it."""

MEGA = 10**6
MEBI = 2**20


@dataclass(frozen=True)
class Limits:
    """The limits.

    Attributes:
        image_bytes: of an image file; an uncompressed image of `image_pixels` is not larger.
        image_pixels: height times width of an image, in pixels; RGB then takes 300 MB.
        model_parameters: of a model, whatever its file says; float32 then takes 4 GB. ViT-H has 632 million.
        model_layers: of a model, with those of the models in it; Keras builds some hundred layers a second.
        layer_outputs: the numbers that a layer gives for one image; float32 then takes 400 MB. VGG16 gives 3 million.
        params_bytes: of params.yaml, which says the other limits.
        yaml_bytes: of a YAML file: dvc.lock of 2,800 stages; DVC's parser reads 1 MB a second.
        text_bytes: of a JSON document, or of another text that is read whole.
        table_bytes: of a table in a text file: some ten million rows.
        table_columns: of a table in a text file: one-hot labels or logits of 32,765 classes; ImageNet-21k has 21,841.
        table_cells: rows times columns of a table that is kept in memory; each takes up to 70 bytes.
        row_group_bytes: of the images in a row group of a Parquet file, which is read whole.
        field_characters: of a field in a table, or a text in a document; Python's own limit of its CSV reader.
        depth: how many lists and maps of a document lie inside each other; Python's own limit is ten times as much.
        items: of a JSON document: its lists, maps, keys and values.
    """

    image_bytes: int = 512 * MEBI
    image_pixels: int = 100 * MEGA
    model_parameters: int = 1000 * MEGA
    model_layers: int = 3000
    layer_outputs: int = 100 * MEGA
    params_bytes: int = MEBI
    yaml_bytes: int = 4 * MEBI
    text_bytes: int = 32 * MEBI
    table_bytes: int = 2048 * MEBI
    table_columns: int = 32_768
    table_cells: int = 100 * MEGA
    row_group_bytes: int = 4096 * MEBI
    field_characters: int = 131_072
    depth: int = 100
    items: int = 2 * MEGA

    @property
    def yaml_items(self) -> int:
        """Of a YAML document, with those that its aliases repeat; DVC's files take more bytes for each."""
        return self.yaml_bytes // 8


@dataclass(frozen=True)
class Key:
    """The key of params.yaml that raises a limit.

    Attributes:
        name: its name in the section `limits`.
        unit: how many of the limit's own units one of the key's is.
    """

    name: str
    unit: int = 1


KEYS = {
    "image_bytes": Key("image_megabytes", MEBI),
    "image_pixels": Key("image_megapixels", MEGA),
    "model_parameters": Key("model_megaparameters", MEGA),
    "model_layers": Key("model_layers"),
    "layer_outputs": Key("layer_megaoutputs", MEGA),
    "yaml_bytes": Key("yaml_megabytes", MEBI),
    "text_bytes": Key("text_megabytes", MEBI),
    "table_bytes": Key("table_megabytes", MEBI),
    "table_columns": Key("table_columns"),
    "table_cells": Key("table_megacells", MEGA),
    "row_group_bytes": Key("row_group_megabytes", MEBI),
    "field_characters": Key("field_characters"),
}
"""The key of each limit that a user may have a reason to raise."""

DEFAULT = Limits()


def limits() -> Limits:
    """The limits in force in this process.

    Raises:
        ParameterError: the environment holds something else under `VARIABLE`.
    """
    return _read(os.environ.get(VARIABLE, ""))


@cache
def _read(text: str) -> Limits:
    if not text:
        return DEFAULT
    try:
        values = json.loads(text)
        if not all(type(value) is int and value > 0 for value in values.values()):
            raise ValueError(text)
        return Limits(**values)
    except (ValueError, TypeError, AttributeError):
        raise ParameterError(
            f"the environment variable {VARIABLE} holds no limits. This program sets it for the processes that it "
            "starts: remove it, and set the section limits of params.yaml."
        ) from None


def use(chosen: Limits) -> None:
    """Puts limits in force for this process and those that it will start."""
    os.environ.update(in_environment(chosen))
    if chosen == DEFAULT:
        del os.environ[VARIABLE]


def in_environment(chosen: Limits) -> dict[str, str]:
    """The variable that puts limits in force in a process that inherits another environment."""
    return {VARIABLE: json.dumps(asdict(chosen))}


def raised_by(name: str) -> str:
    """What a user can do about a limit, as a sentence; empty if no key raises it.

    Args:
        name: the limit, as `Limits` names it.
    """
    if name not in KEYS:
        return ""
    key = KEYS[name]
    return f"If the file is sound, raise limits.{key.name} in params.yaml, now {getattr(limits(), name) // key.unit}."


def of_keys(raised: dict[str, int]) -> Limits:
    """Limits from the values of keys, in the units of the keys; a key that is left out has its default."""
    units = {key.name: (name, key.unit) for name, key in KEYS.items()}
    return Limits(**{units[name][0]: value * units[name][1] for name, value in raised.items()})


def default_of(key: str) -> int:
    """The default of a key, in the unit of the key."""
    (name,) = (name for name in KEYS if KEYS[name].name == key)
    return int(getattr(DEFAULT, name) // KEYS[name].unit)
