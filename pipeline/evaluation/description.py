"""The description of a teacher, which `evaluate` and `report` read instead of the teacher's large file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipeline.evaluation.result_files import Count, Form, checked_json, reading


@dataclass(frozen=True)
class Description:
    """What is known of a teacher without its weights.

    Attributes:
        sha256: SHA-256 of its `.keras` file.
        cost: parameters (total, trainable), flops of one image's forward pass, and file_bytes; without those that are
            not known.
        architecture: its layers, as Keras serializes a model; None if it is no network of Keras' layers.
        classes: C.
    """

    sha256: str
    cost: dict[str, Any]
    architecture: dict[str, Any] | None
    classes: int


def read_description(path: Path) -> Description:
    """Reads what stage `describe_teacher` wrote.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is damaged.
    """
    remedy = "Make it again with `dvc repro --single-item --force describe_teacher`."
    with reading(path, "size and layers of the teacher", remedy):
        document = checked_json(path, _Form, remedy)
        return Description(**{name: document[name] for name in ("sha256", "cost", "architecture", "classes")})


class _Form(Form):
    sha256: str
    cost: dict[str, Count | dict[str, Count]]
    architecture: dict[str, Any] | None
    classes: Annotated[int, Field(ge=2)]
