"""One-hot labels of many images, made row by row: of a million images and a thousand classes they would take 4 GB."""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

Floats32 = npt.NDArray[np.float32]

ROWS_AT_ONCE = 4096


class OneHot:
    """Stands for an array (N, C) float32 of which some rows are asked for at a time; NumPy takes it as that array.

    Args:
        labels: N class indices; the row of any other number is 0.
        classes: C.
    """

    def __init__(self, labels: npt.ArrayLike, classes: int) -> None:
        self._labels, self._classes = np.asarray(labels, np.int32), np.arange(classes, dtype=np.int32)

    def __len__(self) -> int:
        """N."""
        return len(self._labels)

    def __getitem__(self, rows: Any) -> Floats32:
        """Some rows, as the array's index gives them: (R, C)."""
        return np.asarray(self._labels[rows][..., None] == self._classes, np.float32)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """All rows."""
        return self[:].astype(dtype or np.float32, copy=False)


def digest_of(one_hot: OneHot | Floats32) -> str:
    """SHA-256 of the bytes of the whole array."""
    digest = hashlib.sha256()
    for start in range(0, len(one_hot), ROWS_AT_ONCE):
        digest.update(one_hot[start : start + ROWS_AT_ONCE].tobytes())
    return digest.hexdigest()
