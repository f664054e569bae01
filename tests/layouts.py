"""What the tests of layouts share: running the stage `split`, and comparing what it writes."""

import csv
import hashlib
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from real_project import ROOT
from ruamel.yaml import YAML

from pipeline.cli import arguments
from pipeline.cli.main import main
from pipeline.params.reading import read_params
from pipeline.runtime.errors import ParameterError, PipelineError, UnusableError
from pipeline.stages import split

FOLDER, INDEX = Path("data/split"), Path("data/index.csv")
CSV = {
    "layout": "csv",
    "data": "raw",
    "annotations": "train.csv",
    "images": "images",
    "image_column": "image",
    "label_column": "label",
    "class_names": None,
    "validation_ids": None,
    "test_ids": None,
    "val_fraction": 0.25,
    "test_fraction": 0.25,
}
"""A section `split` of a table, whose validation and test images are drawn."""

WITHOUT_SPLIT = re.sub(
    r"^split:\n(?: .*\n)*", "", (ROOT / "params.yaml").read_text(encoding="utf-8"), flags=re.MULTILINE
)
"""The other sections of params.yaml."""


@cache
def png(number: int, side: int = 5) -> bytes:
    """A PNG file of random pixels, always the same for a number."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return tf.io.encode_png(pixels).numpy()


def write_files(files: dict[str, bytes]) -> None:
    """Writes files by their path."""
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder: its name and its content."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def run(section: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Runs `split` with the section as params.yaml would have it; returns the rows of the index by id."""
    split.run(**as_read(section), split_folder=FOLDER, index=INDEX)
    with INDEX.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def write_params(section: dict[str, Any]) -> None:
    """Writes params.yaml with this section `split`."""
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        file.write(WITHOUT_SPLIT)
        YAML(typ="safe").dump({"split": section}, file)


def as_read(section: dict[str, Any]) -> dict[str, Any]:
    """What `split.run` is given of a section, read from params.yaml."""
    write_params(section)
    return arguments.data_set(read_params(Path("params.yaml")).split)


def refusal(section: dict[str, Any], error: type[PipelineError] = UnusableError) -> str:
    """What `split` says when it refuses with this error; it must have written nothing."""
    before = files_below(Path("data"))
    with pytest.raises(error) as refused:
        run(section)
    assert files_below(Path("data")) == before
    return str(refused.value)


def invalid(section: dict[str, Any]) -> str:
    """The message about a section that is refused before the data are read."""
    write_params(section)
    with pytest.raises(ParameterError, match=r"params\.yaml is not valid") as refused:
        read_params(Path("params.yaml"))
    return str(refused.value)


def planned(section: dict[str, Any]) -> str:
    """The first line of `softlabel plan`."""
    write_params(section)
    shown = CliRunner().invoke(main, ["plan"])
    assert shown.exit_code == 0, shown.output
    return shown.stdout.splitlines()[0]


def check_copies(rows: dict[str, dict[str, str]]) -> dict[str, bytes]:
    """Compares the index with the class folders, and returns the content of each image by id."""
    contents = {}
    for name, row in rows.items():
        assert row["path"] == f"data/split/{row['split']}/{row['class_name']}/{name.split('/')[-1]}"
        contents[name] = Path(row["path"]).read_bytes()
        assert hashlib.sha256(contents[name]).hexdigest() == row["sha256"]
    assert len(files_below(FOLDER)) == len(rows)
    return contents


def drawn_split(name: str, val: float | None = None, test: float | None = None) -> str:
    """The stated rule: bytes 8 to 15 of the SHA-256 of a name draw test images, then bytes 0 to 7 validation images."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    if int(digest[16:32], 16) / 16**16 < (test or 0):
        return "test"
    return "val" if int(digest[:16], 16) / 16**16 < (val or 0) else "train"


def with_key(section: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The section with other values."""
    return {**section, **changes}


def documented_sections() -> list[dict[str, Any]]:
    """The sections `split` that docs/data.md shows."""
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    blocks = [block.split("```")[0] for block in text.split("```yaml\n")[1:]]
    return [YAML(typ="safe").load(block)["split"] for block in blocks if block.startswith("split:")]


def assert_one_mistake(section: dict[str, Any], expected: list[str]) -> None:
    """The section is refused in one line below the file's name, with these words."""
    message = invalid(section)
    assert [words for words in expected if words not in message] == []
    assert len(message.splitlines()) == 2


def assert_every_key_must_be_there(section: dict[str, Any], but: Collection[str] = ()) -> None:
    """Every key of the section, but these, has no default."""
    for key in set(section) - set(but):
        lacking = {name: value for name, value in section.items() if name != key}
        assert f"split.{key}: missing" in invalid(lacking)
