"""What an exported file says of itself: one JSON object, which stands in the file."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pipeline.runtime.errors import DamagedError, MismatchError
from pipeline.runtime.plain_names import is_plain_name
from pipeline.runtime.text_files import parsed_json

FORMAT, VERSION = "softlabel-export", 1
KEY = "softlabel"
"""The name of the entry that holds the JSON text: of TFLite's `metadata`, and of ONNX's `metadata_props`."""

NO_DIGEST = "0" * 64
"""Stands for the digest while it is computed."""

Output = Literal["logits", "probabilities"]
FilePrecision = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class Metadata:
    """What an exported file says of itself.

    Attributes:
        student: the name of the student, as in `results/metrics.json`: "student_kl_T4_seed1".
        sha256: the SHA-256 of the student's `.keras` file.
        class_names: C names, in the order of the outputs.
        preprocessing: how an image file becomes the input: input_shape (height, width, channels), decoder and resize.
        output: what the file answers.
        precision: of its weights; int8 also of its activations.
        temperature: T > 0 for softmax(logits / T) (Guo et al., arXiv:1706.04599), fitted on the validation images.
        digest: of the file that it was read from; see `seal`.
    """

    student: str
    sha256: str
    class_names: tuple[str, ...]
    preprocessing: Mapping[str, Any]
    output: Output
    precision: FilePrecision
    temperature: float
    digest: str = NO_DIGEST

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the input, in pixels; channels is 1 (grey) or 3 (RGB)."""
        height, width, channels = self.preprocessing["input_shape"]
        return height, width, channels

    def as_json(self) -> str:
        """The JSON object, in ASCII, with sorted keys."""
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, sort_keys=True)


def from_json(text: str, file: Path) -> Metadata:
    """Reads what `Metadata.as_json` wrote.

    Args:
        text: the JSON object.
        file: where it stands, for messages.

    Raises:
        MismatchError: another version of this program wrote it.
        DamagedError: it is not such an object.
    """
    try:
        values = parsed_json(text)
        told = values.pop("format"), values.pop("version")
    except (ValueError, LookupError, AttributeError, TypeError):
        raise DamagedError(f"{file}: what it says of itself cannot be read. {REMEDY}") from None
    if told != (FORMAT, VERSION):
        raise MismatchError(
            f"{file} has the format {told[0]!r}, version {told[1]!r}; this program reads {FORMAT!r}, version "
            f"{VERSION}. Install the version of softlabel that wrote the file, or export the student again."
        )
    try:
        if not isinstance(values["class_names"], list):
            raise TypeError
        metadata = Metadata(**{**values, "class_names": tuple(values["class_names"])})
        faults = _faults(metadata)
    except (LookupError, TypeError, ValueError):
        raise DamagedError(f"{file}: what it says of itself has other keys than expected. {REMEDY}") from None
    if faults:
        raise DamagedError(f"{file}: what it says of itself cannot be true: {'; '.join(faults)}. {REMEDY}")
    return metadata


REMEDY = "Copy the file again from where it was made, or export the student again: `dvc repro export`."
"""What to do with a damaged file."""


def _faults(metadata: Metadata) -> list[str]:
    shape, temperature = metadata.input_shape, metadata.temperature
    names = metadata.class_names
    found = {
        "names that are no texts": all(isinstance(text, str) for text in (metadata.student, metadata.sha256, *names)),
        f"input_shape {shape}": min(shape) >= 1 and shape[2] in (1, 3),
        "classes whose names no data set may have": all(is_plain_name(str(name)) for name in names),
        f"{len(names)} class(es)": len(set(names)) == len(names) >= 2,
        f"output {metadata.output!r}": metadata.output in get_args(Output),
        f"precision {metadata.precision!r}": metadata.precision in get_args(FilePrecision),
        f"temperature {temperature!r}": math.isfinite(temperature) and temperature > 0,
        f"digest {metadata.digest!r}": re.fullmatch("[0-9a-f]{64}", metadata.digest) is not None,
    }
    return [fault for fault, is_right in found.items() if not is_right]
