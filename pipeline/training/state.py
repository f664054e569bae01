"""The state of a training: one file, replaced in one step after each epoch.

Keras' callbacks write weights, best weights and history to several files. A kill between two of them would leave these
files at different epochs.
"""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from keras import ops
from pydantic import TypeAdapter

from pipeline.measures.best_epoch import COLUMNS, SelectBy, best_epoch
from pipeline.runtime.errors import DamagedError, ParameterError
from pipeline.runtime.npz_files import read_npz
from pipeline.runtime.publish import replace_whole

Kind = Literal["weight", "optimizer", "best"]
"""What an array holds; its name begins with it."""

HISTORY = TypeAdapter(tuple[list[dict[str, int | float]], int])
"""A row for each epoch, and the number of the last epoch's phase."""


class TrainingState:
    """Everything that a training needs to continue: weights, optimizer, best weights, history.

    Args:
        path: the `.npz` file; if it exists, the training continues from it.
        select_by: the measure on the validation images that decides which epoch is the best.

    Attributes:
        history: a dict for each epoch.
        phase: the number of the last epoch's phase, from 1; 0 before the first epoch.
    """

    def __init__(self, path: Path, select_by: SelectBy = "accuracy") -> None:
        self.path, self.select_by = path, select_by
        self.history: list[dict[str, Any]] = []
        self.phase = 0
        self.arrays: dict[str, npt.NDArray[Any]] = {}
        if path.is_file():
            self._load()

    def _load(self) -> None:
        try:
            arrays = read_npz(self.path, example="...", plain="none in it: remove it, and run again")
            self.history, self.phase = HISTORY.validate_python(json.loads(str(arrays.pop("history"))))
            _ = self.history and self.best()
        except (DamagedError, LookupError, ValueError, RecursionError):
            print(f"{self.path} is damaged; starting at the first epoch again", file=sys.stderr)
            self.history, self.phase = [], 0
            return
        self.arrays = arrays

    def restore_weights(self, model: Any) -> None:
        """Assigns the kept weights to the model."""
        if self.phase:
            self._assign(model.weights, "weight")

    def restore_optimizer(self, optimizer: Any, phase: int) -> None:
        """Assigns the kept variables to the optimizer if they belong to this phase: each begins with a new one."""
        if self.phase == phase:
            self._assign(optimizer.variables, "optimizer")

    def keep(self, model: Any, optimizer: Any, row: dict[str, Any]) -> None:
        """Adds one epoch to the history and writes the file."""
        self.history.append(row)
        self.phase = row["phase"]
        best = {name: array for name, array in self.arrays.items() if name.startswith("best")}
        if self.best() is row:
            best = _arrays(model.weights, "best")
        self.arrays = _arrays(model.weights, "weight") | _arrays(optimizer.variables, "optimizer") | best
        with replace_whole(self.path) as partial, partial.open("xb") as file:
            np.savez(file, allow_pickle=False, history=np.array(json.dumps([self.history, self.phase])), **self.arrays)

    def best(self) -> dict[str, Any]:
        """The history's row of the best epoch."""
        return best_epoch(self.history, self.select_by)

    def has_lost_patience(self, phase: int, patience: int | None) -> bool:
        """Whether the last `patience` epochs of a phase are no better than its best one."""
        rows = [row for row in self.history if row["phase"] == phase]
        if patience is None or not rows:
            return False
        return bool(rows[-1]["epoch"] - best_epoch(rows, self.select_by)["epoch"] >= patience)

    def restore_best(self, model: Any) -> None:
        """Assigns the weights of the best epoch to the model."""
        best = self.best()
        columns = dict.fromkeys((COLUMNS[self.select_by], "val_accuracy", "val_cross_entropy"))
        values = ", ".join(f"{column} {best[column]:.4f}" for column in columns)
        print(f"best epoch {best['epoch']}: {values}", file=sys.stderr)
        self._assign(model.weights, "best")

    def _assign(self, variables: Sequence[Any], kind: Kind) -> None:
        arrays = [self.arrays.get(f"{kind}{number}") for number in range(len(variables))]
        for variable, array in zip(variables, arrays, strict=True):
            if array is None or array.shape != tuple(variable.shape):
                raise DamagedError(
                    f"{self.path} does not hold the weights of this model, such as those of {variable.path}. Remove "
                    "it, and run again: the training then starts at the first epoch."
                )
            variable.assign(array)


def _arrays(variables: Sequence[Any], kind: Kind) -> dict[str, npt.NDArray[Any]]:
    return {f"{kind}{number}": ops.convert_to_numpy(variable) for number, variable in enumerate(variables)}


class KeepState(keras.callbacks.Callback):
    """Keeps the state after each epoch, and ends a phase that has lost its patience.

    Args:
        state: the state.
        whole: the model whose weights are kept; the one that is fitted may be a part of it.
        phase: the number of the phase, from 1.
        learning_rates: the learning rate of the last step of each epoch that is to come.
        patience: as in `Phase`.
    """

    def __init__(
        self,
        state: TrainingState,
        whole: Any,
        phase: int,
        learning_rates: Iterable[float],
        patience: int | None = None,
    ) -> None:
        super().__init__()
        self.state, self.whole, self.phase, self.patience = state, whole, phase, patience
        self.learning_rates = iter(learning_rates)

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
        row = {"epoch": epoch + 1, "phase": self.phase, "learning_rate": next(self.learning_rates), **values}
        self.state.keep(self.whole, self.model.optimizer, row)
        if self.state.has_lost_patience(self.phase, self.patience):
            print(f"phase {self.phase} ends: {self.patience} epochs were no better than its best", file=sys.stderr)
            self.model.stop_training = True
