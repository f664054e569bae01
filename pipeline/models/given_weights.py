"""Loads a file of weights into the model that it was saved from, and refuses it for any other."""

import tempfile
from pathlib import Path
from typing import Any

import h5py

from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import DamagedError, MismatchError, first_few, one_line
from pipeline.runtime.separate_process import MEMORY
from pipeline.runtime.tried_files import try_once

REMEDY = "Save it again."


def load_weights(model: Any, file: Path) -> None:
    """Loads a `.weights.h5` file.

    Keras silently skips what does not fit, so the file's arrays are first compared with the model's, one by one.

    Raises:
        DamagedError: the file cannot be read.
        MismatchError: it was saved from another model.
    """
    memory = MEMORY + file.stat().st_size
    try_once(read_whole, file, sha256=sha256_file(file), remedy=REMEDY, memory=memory)
    with tempfile.TemporaryDirectory() as folder:
        expected = Path(folder, "expected.weights.h5")
        model.save_weights(expected)
        of_model, of_file = _arrays_in(expected), _arrays_in(file)
    lacking, unknown = sorted(of_model - of_file), sorted(of_file - of_model)
    if lacking or unknown:
        faults = [f"lacks {first_few(lacking)}"] * bool(lacking) + [f"also has {first_few(unknown)}"] * bool(unknown)
        raise MismatchError(
            f"the weights {file} are not those of the model that train_teacher.weights_of describes: the file "
            f"{' and '.join(faults)}. Describe the model that it was saved from, layer by layer."
        )
    model.load_weights(file)


def _arrays_in(file: Path) -> set[str]:
    """The name and shape of every array of a weights file, except an optimizer's."""
    arrays: set[str] = set()

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
            arrays.add(f"{name} {item.shape}")

    with h5py.File(file, "r") as weights:
        weights.visititems(note)
    return arrays


def read_whole(path: str, remedy: str = REMEDY) -> None:
    """Reads all that Keras may read in a file of weights, of which no part may lie elsewhere.

    Args:
        path: the file.
        remedy: what the user can do if it cannot be read, as a sentence.

    Raises:
        DamagedError: it cannot be read, or a part of it lies elsewhere.
    """

    def name_if_elsewhere(name: str, link: Any) -> str | None:
        return None if isinstance(link, h5py.HardLink) else name  # h5py lets no error out of here

    def read(name: str, item: Any) -> None:
        _ = dict(item.attrs)
        if isinstance(item, h5py.Dataset):
            if item.nbytes and item.id.get_offset() is None:
                raise ValueError(f"{name} does not lie in one run of the file's bytes")
            _ = item[()]

    try:
        with h5py.File(path, "r") as weights:
            if name := weights.visititems_links(name_if_elsewhere):
                raise ValueError(f"{name} is a link to another place or file")
            weights.visititems(read)
    except (OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedError(f"{path} cannot be read as a file of weights (HDF5): {one_line(error)}. {remedy}") from None
