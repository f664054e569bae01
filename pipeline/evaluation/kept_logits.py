"""The logits of many models, in a file, so that memory holds those of one or two models at a time."""

import os
import tempfile
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Generic, TypeVar

import numpy as np

from pipeline.evaluation.metrics import Floats

Key = TypeVar("Key", bound=Hashable)


@contextmanager
def kept_logits(folder: Path) -> Iterator["KeptLogits"]:
    """A place for logits on the disk of a folder, which is made.

    The file has no name, so it is gone when the process ends, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        yield KeptLogits(file)


class KeptLogits(Mapping[str, Floats]):
    """The logits of each model by its name; they are read whenever they are asked for.

    Args:
        file: where they are written, one behind the other.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._starts = file, dict[str, int]()

    def keep(self, name: str, logits: Floats) -> None:
        """Writes those of a model."""
        self._starts[name] = self._file.seek(0, os.SEEK_END)
        np.save(self._file, logits)

    def __getitem__(self, name: str) -> Floats:
        """Those of a model: (N, C)."""
        self._file.seek(self._starts[name])
        logits: Floats = np.load(self._file)
        return logits

    def __iter__(self) -> Iterator[str]:
        """The names, in the order in which they were kept."""
        return iter(self._starts)

    def __len__(self) -> int:
        """The number of models."""
        return len(self._starts)


class Renamed(Mapping[Key, Floats], Generic[Key]):
    """Some of the logits under other names.

    Args:
        kept: all logits.
        names: the name of each in `kept`, by the other name.
    """

    def __init__(self, kept: Mapping[str, Floats], names: Mapping[Key, str]) -> None:
        self._kept, self._names = kept, names

    def __getitem__(self, key: Key) -> Floats:
        """Those of a model: (N, C)."""
        return self._kept[self._names[key]]

    def __iter__(self) -> Iterator[Key]:
        """The other names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Their number."""
        return len(self._names)
