"""Readers of HDF5 that share no code with ours: they must find in the golden files what h5py finds."""

import re
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pyfive
import pytest

FILES = sorted((Path(__file__).parent / "golden").glob("*.h5"))

of_each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def datasets(path: Path) -> dict[str, np.ndarray]:
    """What h5py finds, by name."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[...]} if isinstance(item, h5py.Dataset) else {}))
    return found


def as_text(value):
    """pyfive gives texts as bytes."""
    return value.decode() if isinstance(value, bytes) else value


def test_there_are_golden_files_of_both_formats():
    assert [path.stem.split("_T2")[0] for path in FILES].count("soft_targets") == 3
    assert [path.stem.rsplit("_", 1)[0] for path in FILES].count("teacher_logits") == 3


@of_each_file
def test_pyfive_reads_every_dataset_as_h5py_does(path):
    expected = datasets(path)
    assert len(expected) > 15
    with pyfive.File(path) as file:
        for name, values in expected.items():
            found = file[name][...]
            assert (found.shape, found.dtype) == (values.shape, values.dtype), name
            np.testing.assert_array_equal(found, values, err_msg=name)


@of_each_file
def test_pyfive_reads_every_attribute_as_h5py_does(path):
    with h5py.File(path) as file, pyfive.File(path) as other:
        expected = dict(file.attrs)
        found = {name: as_text(other.attrs[name]) for name in other.attrs}
    assert len(expected) >= 9
    assert found == expected


@of_each_file
def test_pyfive_finds_the_groups_and_no_others(path):
    with pyfive.File(path) as file:
        assert sorted(file) == ["class_names", "test", "train", "val"]
        for split in ("train", "val", "test"):
            names = {name.split("/")[1] for name in datasets(path) if name.startswith(f"{split}/")}
            assert set(file[split]) == names


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="needs h5dump (Debian: hdf5-tools)")
@of_each_file
def test_h5dump_prints_every_float_dataset_without_a_warning(path):
    expected = {name: values for name, values in datasets(path).items() if values.dtype.kind == "f"}
    for name, values in expected.items():
        command = ["h5dump", "-m", "%.9g", "-y", "-w", "1", "-d", name, path]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert done.stderr == ""
        printed = re.search(r"DATA \{(.*?)\}", done.stdout, re.DOTALL)[1].replace(",", " ").split()
        np.testing.assert_array_equal(np.array(printed, values.dtype), values.ravel(), err_msg=name)
