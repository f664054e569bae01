"""A file of weights is loaded into the model that it was saved from, and into no other."""

import tempfile
from pathlib import Path
from typing import Any

import h5py

from pipeline.runtime.errors import DamagedError, MismatchError, first_few, one_line


def load_weights(model: Any, file: Path) -> None:
    """Loads a `.weights.h5` file.

    Keras would leave out what does not fit, so the file's arrays are first compared with the model's, one by one.

    Raises:
        DamagedError: the file cannot be read.
        MismatchError: it is not of this model.
    """
    with tempfile.TemporaryDirectory() as folder:
        expected = Path(folder, "expected.weights.h5")
        model.save_weights(expected)
        wanted, found = _arrays_in(expected), _arrays_in(file)
    lacking, unknown = sorted(wanted - found), sorted(found - wanted)
    if lacking or unknown:
        told = [f"lacks {first_few(lacking)}"] * bool(lacking) + [f"also has {first_few(unknown)}"] * bool(unknown)
        raise MismatchError(
            f"the weights {file} are not those of the model that train_teacher.weights_of describes: the file "
            f"{' and '.join(told)}. Describe the model that it was saved from, layer by layer."
        )
    model.load_weights(file)


def _arrays_in(file: Path) -> set[str]:
    """Every array of a weights file with its shape, but for those of an optimizer."""
    found: set[str] = set()

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
            found.add(f"{name} {item.shape}")

    try:
        with h5py.File(file, "r") as weights:
            weights.visititems(note)
    except OSError as error:
        raise DamagedError(
            f"{file} cannot be read as a file of weights (HDF5): {one_line(error)}. Save it again."
        ) from None
    return found
