"""Finished files of a training that its stage finds in `.work/`, and publishes without starting TensorFlow.

They carry a note that names what decides the result of the training within one run of DVC, and thus on one machine.
The name of a workspace, which also tells machines apart, cannot be computed without TensorFlow.
"""

import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from pipeline.runtime.digests import fingerprint, sha256_file
from pipeline.runtime.errors import DamagedError, MismatchError
from pipeline.runtime.publish import publish_copy
from pipeline.runtime.workspace import AT_START, noted, notes_on

if TYPE_CHECKING:
    from pipeline.params.sections import Params


@dataclass(frozen=True)
class Training:
    """A training whose stage runs.

    Attributes:
        output: the `.keras` file that it writes.
        history: the CSV file that it writes.
        item: the values of its dimensions in the matrix.
        index: `data/index.csv`.
        soft_labels: the files of soft labels and logits that it may read, or none.
    """

    output: Path
    history: Path
    item: Mapping[str, str]
    index: Path
    soft_labels: Sequence[Path] = ()

    def note(self, params: "Params", dvc: psutil.Process, source: Mapping[str, str] = AT_START) -> str | None:
        """The note of this training in one run of DVC; None if a file that it needs is missing or damaged.

        Args:
            params: the parameters of its stage.
            dvc: the process of DVC.
            source: the code, as `workspace.source` gives it; that which this process runs.
        """
        from pipeline.params.reading import with_effect
        from pipeline.soft_labels.hdf5 import sealed_sha256

        try:
            return _of(dvc) + fingerprint(
                packages=[sys.executable, Path(sysconfig.get_path("purelib")).stat().st_mtime_ns],
                code=dict(source),
                params=with_effect(params),
                item=dict(self.item),
                index=sha256_file(self.index),
                soft_labels=[sealed_sha256(file) for file in self.soft_labels if file.is_file()],
                files=[sha256_file(file) for file in params.student.model.files],
            )
        except (OSError, DamagedError):
            return None

    def take(self, note: str) -> bool:
        """Publishes the files that were left with this note; returns whether there are any that can be used."""
        from pipeline.images.index import read_index, refuse_changed

        with noted(self.output, note) as folder:
            if folder is None:
                return False
            index = read_index(self.index)
            try:
                refuse_changed([*index.split("train"), *index.split("val")])
            except MismatchError:
                return False
            publish_copy(folder / "finished.csv", self.history)
            publish_copy(folder / "finished.keras", self.output)
        print(f"{self.output}: trained beside an earlier stage, taken from {folder}", file=sys.stderr, flush=True)
        return True


def is_left(output: Path, dvc: psutil.Process) -> bool:
    """Whether the finished files of an output lie in `.work/` for this run of DVC."""
    return any(note.startswith(_of(dvc)) for note in notes_on(output).values())


def _of(dvc: psutil.Process) -> str:
    """What the notes of one run of DVC begin with."""
    return f"{dvc.pid} {hash(dvc)} "  # of the number and the start since the machine's; `create_time` follows the clock
