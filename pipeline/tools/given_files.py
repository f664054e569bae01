"""Whether the files that params.yaml names as teachers are still those that were taken in; DVC does not watch them."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.models.records import given_in, read_record
from pipeline.models.teacher_file import GivenLogits, GivenTeacher, NotTrainedHere
from pipeline.runtime.digests import sha256_file


def files_of(given: Sequence[NotTrainedHere]) -> list[Path]:
    """The files of given teachers that are here; not those of weights alone, which no record names."""
    files = [
        teacher.file
        for teacher in given
        if isinstance(teacher, GivenLogits)
        or (isinstance(teacher, GivenTeacher) and teacher.is_file and teacher.weights_of is None)
    ]
    return [file for file in files if file.is_file()]


def changed_since(teacher: Path, files: Sequence[Path]) -> list[str]:
    """Those of some files from which a teacher's `.keras` file was not made."""
    record = read_record(teacher)
    members = (record or {}).get("members", [])
    taken = {sha256_file(teacher), *(given.get("sha256") for given in given_in(record))}
    taken |= {member["sha256"] for member in members}
    return [str(file) for file in files if _sha256(file) not in taken]


def _sha256(file: Path) -> str:
    if file.suffix.lower() != ".onnx":
        return sha256_file(file)
    from pipeline.models.onnx_files import sha256_with_external_data  # loads Keras

    return sha256_with_external_data(file)
