"""Soft-label files whose inside was changed and sealed again, so that their digest is right."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from benchmarks.fuzz.forks import try_in_a_fork
from benchmarks.fuzz.structure import VALUES
from benchmarks.fuzz.target import Target

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
SEAL_BYTES = 128


def seeds() -> list[bytes]:
    """The golden files of both formats, without their seals."""
    return [path.read_bytes()[:-SEAL_BYTES] for path in sorted(GOLDEN.glob("*.h5"))]


def run(path: Path) -> None:
    """Seals the file, and reads all of it as the stages do."""
    from pipeline.images.index import SPLITS
    from pipeline.soft_labels.reading import open_soft_labels

    _seal(path)
    with mock.patch("pipeline.soft_labels.reading.try_once", try_in_a_fork), open_soft_labels(path) as file:
        for split in SPLITS:
            file.labels(split)
            for view in range(file.views(split).count):
                file.transforms(split, view)
                file.soft_labels(split, view, slice(None))


def _seal(path: Path) -> None:
    """Seals whatever the file holds, by other code than the program's."""
    content = path.read_bytes()
    seal = f"softlabel sha256 {hashlib.sha256(content).hexdigest()} of {len(content)} bytes\n"
    path.write_bytes(content + seal.encode().rjust(SEAL_BYTES, b"\n"))


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """A seed in which an attribute, or a dataset, is another one, by HDF5 itself."""
    place, values = st.integers(0, 2**16), VALUES | st.sampled_from([2.5, 7, b"bytes"])
    return st.builds(_changed, st.sampled_from(seeds), place, st.sampled_from((*CHANGES,)), values)


def _changed(seed: bytes, place: int, how: str, value: Any) -> bytes:
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.h5")
        path.write_bytes(seed)
        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            CHANGES[how](file, names[place % len(names)], place, value)
        return path.read_bytes()


def _attribute(file: Any, name: str, place: int, value: Any) -> None:
    key = sorted(file.attrs)[place % len(file.attrs)]
    text = value if isinstance(value, bytes | float | int) else json.dumps(value).replace("\\u0000", "")
    if isinstance(text, int) and abs(text) >= 2**63:
        text = str(text)
    file.attrs[key] = text


def _in_an_attribute(file: Any, name: str, place: int, value: Any) -> None:
    """Another value inside the JSON of an attribute."""
    key = ("preprocessing", "views", "storage")[place % 3]
    document = json.loads(file.attrs[key])
    inner = sorted(document)[place % len(document)]
    file.attrs[key] = json.dumps(document | {inner: None if isinstance(value, bytes) else value})


def _another_type(file: Any, name: str, place: int, value: Any) -> None:
    import h5py

    del file[name]
    types = ("f8", "i1", "S3", h5py.string_dtype(), h5py.vlen_dtype("i4"), h5py.ref_dtype, "V7", [("a", "i4")])
    shapes = ((), (0,), (3,), (2, 3), (2, 0, 3))
    file.create_dataset(name, shapes[place % len(shapes)], types[place % len(types)])


def _elsewhere(file: Any, name: str, place: int, value: Any) -> None:
    import h5py

    links = (
        h5py.SoftLink("/train/id"),
        h5py.SoftLink("/"),
        h5py.ExternalLink("/dev/zero", "/x"),
        h5py.ExternalLink("input", "/"),
        file["/"],
        file["train"],
    )
    del file[name]
    file[name] = links[place % len(links)]


def _stored_otherwise(file: Any, name: str, place: int, value: Any) -> None:
    import h5py

    if not isinstance(file[name], h5py.Dataset) or not file[name].shape:
        return
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    if place % 3 == 0:
        file.create_dataset(name, shape, dtype, external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])
    elif place % 3 == 1:
        file.create_dataset(name, shape, dtype, chunks=True, compression="gzip")
    else:
        file.create_virtual_dataset(name, h5py.VirtualLayout(shape, dtype))


CHANGES: dict[str, Callable[[Any, str, int, Any], None]] = {
    "attribute": _attribute,
    "in an attribute": _in_an_attribute,
    "type": _another_type,
    "link": _elsewhere,
    "storage": _stored_otherwise,
}

TARGETS = {"hdf5_soft_labels": Target(seeds=seeds, run=run, inputs=inputs, file="soft_labels.h5")}
