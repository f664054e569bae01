"""The state of a training: one file, replaced in one step after each epoch.

Keras' callbacks write weights, best weights and history to several files. A kill between two of them would leave these
files at different epochs.
"""

import json
import math
import sys
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from pipeline.runtime.errors import ParameterError
from pipeline.runtime.publish import replace_whole
from pipeline.training.best_epoch import best_epoch

Kind = Literal["weight", "optimizer", "best"]
"""What an array holds; its name begins with it."""


class TrainingState:
    """Everything that a training needs to continue: weights, optimizer, best weights, history.

    Args:
        path: the `.npz` file; if it exists, the training continues from it.

    Attributes:
        history: a dict for each epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.history: list[dict[str, Any]] = []
        self.phase = 0
        self.arrays: dict[str, npt.NDArray[Any]] = {}
        if path.is_file():
            self._load()

    def _load(self) -> None:
        try:
            with self.path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files if name != "history"}
                self.history, self.phase = json.loads(str(file["history"]))
        # What NumPy, `zipfile` and `json` raise for a file that is cut off or changed.
        except (zipfile.BadZipFile, zlib.error, OSError, LookupError, ValueError):
            print(f"{self.path} is damaged; starting at the first epoch again", file=sys.stderr)
            return
        self.arrays = arrays

    def restore(self, model: Any, phase: int) -> int:
        """Assigns the kept weights to the model, and the kept optimizer if it belongs to this phase.

        Returns:
            The number of finished epochs.
        """
        if self.phase:
            _assign(model.weights, self.arrays, "weight")
        if self.phase == phase:  # every phase begins with a new optimizer
            _assign(model.optimizer.variables, self.arrays, "optimizer")
        return len(self.history)

    def keep(self, model: Any, row: dict[str, Any]) -> None:
        """Adds one epoch to the history and writes the file."""
        self.history.append(row)
        self.phase = row["phase"]
        best = {name: array for name, array in self.arrays.items() if name.startswith("best")}
        if self.best() is row:
            best = _arrays(model.weights, "best")
        self.arrays = _arrays(model.weights, "weight") | _arrays(model.optimizer.variables, "optimizer") | best
        with replace_whole(self.path) as partial, partial.open("xb") as file:
            np.savez(file, allow_pickle=False, history=np.array(json.dumps([self.history, self.phase])), **self.arrays)

    def best(self) -> dict[str, Any]:
        """The history's row of the best epoch."""
        return best_epoch(self.history)

    def restore_best(self, model: Any) -> None:
        """Assigns the weights of the best epoch to the model."""
        best = self.best()
        print(
            f"best epoch {best['epoch']}: val_accuracy {best['val_accuracy']:.4f}, "
            f"val_cross_entropy {best['val_cross_entropy']:.4f}",
            file=sys.stderr,
        )
        _assign(model.weights, self.arrays, "best")


def _arrays(variables: Sequence[Any], kind: Kind) -> dict[str, npt.NDArray[Any]]:
    return {f"{kind}{number}": ops.convert_to_numpy(variable) for number, variable in enumerate(variables)}


def _assign(variables: Sequence[Any], arrays: dict[str, npt.NDArray[Any]], kind: Kind) -> None:
    for number, variable in enumerate(variables):
        variable.assign(arrays[f"{kind}{number}"])


class KeepState(keras.callbacks.Callback):
    """Keeps the state after each epoch, with the numbers of the epoch and of its phase."""

    def __init__(self, state: TrainingState, phase: int, learning_rate: float) -> None:
        super().__init__()
        self.state, self.phase, self.learning_rate = state, phase, learning_rate

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds one row to the history and writes the state.

        Raises:
            ParameterError: a loss or metric is not finite.
        """
        values = {name: float(value) for name, value in sorted((logs or {}).items())}
        if not all(map(math.isfinite, values.values())):
            raise ParameterError(
                f"training diverged in epoch {epoch + 1}: {values}. Lower the learning_rate of phase {self.phase}."
            )
        row = {"epoch": epoch + 1, "phase": self.phase, "learning_rate": self.learning_rate, **values}
        self.state.keep(self.model, row)
