"""NumPy files: data sets, tables of logits, and the state of a training."""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from benchmarks.fuzz.target import Target

HISTORY = [[{"epoch": 1, "phase": 1, "learning_rate": 0.1, "val_accuracy": 0.5, "val_cross_entropy": 0.7}], 1]
DTYPES = (
    "'<f4'",
    "'|u1'",
    "'<U3'",
    "'<U1000000'",
    "'|O'",
    "'|V0'",
    "[('a', '<f4')]",
    "('<f4', (3, 3))",
    "'<M8[ns]'",
    "7",
)
SIDES = (0, 1, 3, 4, -1, 2**31, 2**62, 2**70)
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def seeds() -> list[bytes]:
    """One of each kind of file."""
    pixels, labels = np.zeros((6, 4, 4), np.uint8), np.arange(6) % 2
    logits = {"ids": np.array(["a", "b"]), "logits": np.zeros((2, 3), np.float32), "views": np.array([0, 0])}
    state = {"history": np.array(json.dumps(HISTORY)), "best0": np.zeros((3, 2), np.float32)}
    return [
        *(_written(write, {"x_train": pixels, "y_train": labels}) for write in (np.savez, np.savez_compressed)),
        _written(np.savez, logits),
        _written(np.savez, state),
    ]


def _written(write: Any, arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    write(file, **arrays)
    return file.getvalue()


def run(path: Path) -> None:
    """Reads it as what its arrays say that it is."""
    from pipeline.datasets.arrays import read_arrays
    from pipeline.models.logit_tables import read_logit_table
    from pipeline.training.state import TrainingState

    content = path.read_bytes()
    if b"logits" in content:
        read_logit_table(path)
    elif b"history" in content:
        state = TrainingState(path)
        if state.history:
            state.restore_best(_Model())
    else:
        read_arrays(data=path, val_fraction=0.2, test_fraction=0.2)


class _Weight:
    path, shape = "weight", (3, 2)

    def assign(self, value: Any) -> None:
        """Takes any value."""


class _Model:
    weights = (_Weight(),)


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """A seed with another array in the place of one: its header, content and compression are any."""
    shape = st.lists(st.sampled_from(SIDES), max_size=4).map(tuple)
    header = st.builds("{{'descr': {}, 'fortran_order': False, 'shape': {}, }}".format, st.sampled_from(DTYPES), shape)
    array = st.builds(_array, header | st.text(max_size=20), st.sampled_from((1, 2, 3, 9)), st.binary(max_size=100))
    return st.builds(
        _replaced, st.sampled_from(seeds), st.integers(0, 5), array, st.sampled_from(COMPRESSIONS), st.booleans()
    )


def _array(header: str, version: int, content: bytes) -> bytes:
    text = header.encode(errors="replace").ljust(117) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text + content


def _replaced(seed: bytes, place: int, array: bytes, compression: int, twice: bool) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(seed)) as old, zipfile.ZipFile(made, "w", compression) as new:
        names = old.namelist()
        for name in names:
            new.writestr(name, array if name == names[place % len(names)] else old.read(name))
        if twice:
            new.writestr(f"folder/../{names[0]}", array)
    return made.getvalue()


TARGETS = {
    "npz": Target(seeds=seeds, run=run, inputs=inputs, file="arrays.npz", words=(b"PK\1\2", b"PK\3\4", b"(" * 200))
}
