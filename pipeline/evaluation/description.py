"""The description of a teacher: its size, its FLOPs and its layers, without its weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.runtime.errors import DamagedError, MissingError


@dataclass(frozen=True)
class Description:
    """A teacher without its weights.

    Attributes:
        sha256: of its `.keras` file.
        cost: parameters (total, trainable), flops of one image's forward pass, and file_bytes.
        architecture: of its layers, as Keras serializes a model.
    """

    sha256: str
    cost: dict[str, Any]
    architecture: dict[str, Any]


def read_description(path: Path) -> Description:
    """Reads what stage `describe_teacher` wrote.

    Raises:
        PipelineError: there is no such file, or it is damaged.
    """
    remedy = "Make it again with `dvc repro --single-item --force describe_teacher`."
    if not path.is_file():
        raise MissingError(f"there is no description of the teacher at {path}. {remedy}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Description(document["sha256"], document["cost"], document["architecture"])
    except (ValueError, LookupError, TypeError) as error:
        raise DamagedError(f"{path} is damaged ({error!r}). {remedy}") from None
