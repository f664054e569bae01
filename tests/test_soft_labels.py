"""The soft-label files: their layout as others read it, their numbers, and every way to be broken."""

import hashlib
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.special

from pipeline import soft_labels
from pipeline.checked_hdf5 import open_checked
from pipeline.errors import PipelineError
from pipeline.soft_labels import (
    LOGITS_FORMAT,
    Provenance,
    add_split,
    create_logits,
    read_logits,
    read_provenance,
    read_soft_targets,
    soften_file,
    softmax,
)

ULP = 2.0**-24
PROVENANCE = Provenance(
    class_names=("HP", "SSA", "tumeur à part"),
    teacher="cnn",
    teacher_sha256="ab" * 32,
    dataset="cd" * 32,
    preprocessing={"resize": "bilinear", "input_shape": [28, 28, 1]},
    views={"seed": None, "count": 2, "augmentation": {}},
)
IDS = {
    "train": ["MHIST_aaa.png", "é.png", "図.png", "d d.png", "MHIST_eee.png"],
    "val": ["MHIST_f.png", "g.png"],
    "test": ["h.png", "ü" * 30, "j.png"],
}
LABELS = {"train": [0, 1, 2, 1, 0], "val": [2, 0], "test": [1, 1, 2]}
VIEWS = {"train": 3, "val": 1, "test": 1}


def logits_of(split):
    """(V, N, C) numbers that name their own view, row and class, and so do their softmaxes."""
    views, rows = np.meshgrid(np.arange(VIEWS[split]), np.arange(len(IDS[split])), indexing="ij")
    return ((1 + 6 * views + rows)[..., None] * np.array([0.25, -0.5, 1.0])).astype(np.float32)


def affines_of(split):
    shape = VIEWS[split], len(IDS[split]), 6
    return (np.arange(np.prod(shape)).reshape(shape) / 8).astype(np.float16)


def in_blocks(logits, size):
    for view in logits:
        for start in range(0, len(view), size):
            yield view[start : start + size]


def write_logits(path, provenance=PROVENANCE, block=2):
    with create_logits(path, provenance) as file:
        for split in IDS:
            add_split(file, split, IDS[split], LABELS[split], affines_of(split), in_blocks(logits_of(split), block))
    return path


def write_two_classes(path, logits):
    """A file whose three splits each hold one view of the given rows."""
    provenance = replace(PROVENANCE, class_names=("HP", "SSA"))
    logits = np.asarray(logits, np.float32)
    identity = np.tile(np.array([1, 0, 0, 0, 1, 0], np.float16), (1, len(logits), 1))
    with create_logits(path, provenance) as file:
        for split in IDS:
            ids = [f"{split}{row}" for row in range(len(logits))]
            add_split(file, split, ids, [0] * len(logits), identity, iter([logits]))
    return path


@pytest.fixture
def logits_path(tmp_path):
    return write_logits(tmp_path / "teacher_logits.h5")


@pytest.fixture
def targets_path(tmp_path, logits_path):
    soften_file(logits_path, tmp_path / "soft_targets_T4.h5", 4.0)
    return tmp_path / "soft_targets_T4.h5"


def read_any(path, format_name):
    return read_logits(path, "train") if format_name == LOGITS_FORMAT else read_soft_targets(path, "train")


# Round trips


def test_what_was_written_is_read(logits_path):
    assert read_provenance(logits_path) == PROVENANCE
    for split in IDS:
        ids, logits = read_logits(logits_path, split)
        assert ids == tuple(IDS[split])
        assert logits.dtype == np.float32
        np.testing.assert_array_equal(logits, logits_of(split))


def test_softened_rows_keep_ids_labels_and_origin(targets_path):
    for split in IDS:
        targets = read_soft_targets(targets_path, split)
        assert targets.temperature == 4.0
        assert targets.dataset == PROVENANCE.dataset
        assert targets.class_names == PROVENANCE.class_names
        assert targets.ids == tuple(IDS[split])
        assert targets.hard.dtype == np.uint8
        assert targets.hard.tolist() == [[int(label == k) for k in range(3)] for label in LABELS[split]]
        assert targets.soft.dtype == np.float32
        expected = scipy.special.softmax(logits_of(split).astype(np.float64) / 4.0, axis=-1)
        np.testing.assert_allclose(targets.soft, expected, rtol=2 * ULP)


@pytest.mark.parametrize("block", [1, 2, 5])
def test_rows_land_in_their_view_and_place_whatever_the_block(tmp_path, block):
    path = write_logits(tmp_path / "a.h5", block=block)
    np.testing.assert_array_equal(read_logits(path, "train")[1], logits_of("train"))


def test_uneven_blocks(tmp_path):
    rows = logits_of("val")[0]
    with create_logits(tmp_path / "a.h5", PROVENANCE) as file:
        blocks = iter([rows[:0], rows[:1], rows[1:]])
        add_split(file, "val", IDS["val"], LABELS["val"], affines_of("val"), blocks)
        for split in ("train", "test"):
            add_split(file, split, IDS[split], LABELS[split], affines_of(split), iter(logits_of(split)))
    np.testing.assert_array_equal(read_logits(tmp_path / "a.h5", "val")[1], logits_of("val"))


def test_a_file_without_one_of_the_splits_is_refused(tmp_path):
    with create_logits(tmp_path / "a.h5", PROVENANCE) as file:
        add_split(file, "val", IDS["val"], LABELS["val"], affines_of("val"), iter(logits_of("val")))
    with pytest.raises(
        PipelineError, match=r"holds \['class_names', 'val'\], expected \['class_names', 'test', 'train', 'val'\]"
    ):
        read_logits(tmp_path / "a.h5", "val")


def test_a_file_may_be_renamed(tmp_path, logits_path, targets_path):
    elsewhere = tmp_path / "shared" / "by a friend.hdf5"
    elsewhere.parent.mkdir()
    logits_path.rename(elsewhere)
    targets_path.rename(elsewhere.with_suffix(".soft"))
    assert read_logits(elsewhere, "val")[0] == tuple(IDS["val"])
    assert read_soft_targets(elsewhere.with_suffix(".soft"), "val").ids == tuple(IDS["val"])


# The layout, read as anyone with h5py and NumPy would


def test_a_thousand_long_class_names_fit(tmp_path):
    names = tuple(f"class {number} {'of a kind with a long name ' * 5}" for number in range(1000))
    with create_logits(tmp_path / "a.h5", replace(PROVENANCE, class_names=names)) as file:
        for split in IDS:
            add_split(file, split, ["a"], [0], np.zeros((1, 1, 6), np.float16), iter([np.zeros((1, 1000), np.float32)]))
    soften_file(tmp_path / "a.h5", tmp_path / "b.h5", 1.0)
    assert read_soft_targets(tmp_path / "b.h5", "val").class_names == names


def test_a_tiny_temperature_gives_the_one_hot_largest():
    np.testing.assert_array_equal(softmax(np.array([[1.0, 3.0, 2.0]]), 1e-310), [[0.0, 1.0, 0.0]])


def test_files_keep_to_the_oldest_hdf5(logits_path, targets_path):
    # Byte 8 is the superblock's version: 0 is what every HDF5 library reads, and what stays the same bytes.
    for path in (logits_path, targets_path):
        assert path.read_bytes()[:9] == b"\x89HDF\r\n\x1a\n\x00"


def test_layout_of_the_logits_file(logits_path):
    with h5py.File(logits_path, "r") as file:
        assert sorted(file) == ["class_names", "test", "train", "val"]
        assert sorted(file.attrs) == [
            "dataset",
            "dtype",
            "format",
            "preprocessing",
            "sha256",
            "storage",
            "teacher",
            "teacher_sha256",
            "version",
            "views",
        ]
        assert file.attrs["format"] == "teacher-logits"
        assert file.attrs["version"] == 1
        assert file.attrs["storage"] == "dense"
        assert file.attrs["dtype"] == "float32"
        assert file.attrs["teacher"] == "cnn"
        assert file.attrs["teacher_sha256"] == "ab" * 32
        assert file.attrs["dataset"] == "cd" * 32
        assert [name.decode("utf-8") for name in file["class_names"][:]] == ["HP", "SSA", "tumeur à part"]
        # The keys in order, so that the same settings are the same bytes.
        assert file.attrs["preprocessing"] == '{"input_shape": [28, 28, 1], "resize": "bilinear"}'
        assert file.attrs["views"] == '{"augmentation": {}, "count": 2, "seed": null}'
        for split in IDS:
            group, count, views = file[split], len(IDS[split]), VIEWS[split]
            assert sorted(group) == ["affine", "id", "label", "logits"]
            assert list(group.attrs) == ["sha256"]
            expected = {
                "logits": ((views, count, 3), np.float32, (1, count, 3)),
                "affine": ((views, count, 6), np.float16, (1, count, 6)),
                "label": ((count,), np.int32, (count,)),
            }
            for name, (shape, dtype, chunks) in expected.items():
                assert (group[name].shape, group[name].dtype, group[name].chunks) == (shape, dtype, chunks)
            assert group["id"].shape == (count,)
            assert h5py.check_string_dtype(group["id"].dtype).encoding == "utf-8"
            assert group["id"].dtype.itemsize == max(len(name.encode()) for name in IDS[split])
            assert [name.decode("utf-8") for name in group["id"][:]] == IDS[split]
            assert group["label"][:].tolist() == LABELS[split]
            np.testing.assert_array_equal(group["affine"][:], affines_of(split))
            np.testing.assert_array_equal(group["logits"][:], logits_of(split))
            assert all(dataset.fletcher32 and dataset.compression is None for dataset in group.values())


def test_layout_of_the_targets_file(logits_path, targets_path):
    with h5py.File(targets_path, "r") as file, h5py.File(logits_path, "r") as source:
        assert sorted(file) == ["class_names", "test", "train", "val"]
        assert sorted(file.attrs) == ["dataset", "format", "logits", "sha256", "temperature", "version"]
        assert file.attrs["format"] == "soft-targets"
        assert file.attrs["version"] == 1
        assert file.attrs["temperature"] == 4.0
        assert file.attrs["logits"] == source.attrs["sha256"]
        assert file.attrs["dataset"] == "cd" * 32
        assert [name.decode("utf-8") for name in file["class_names"][:]] == ["HP", "SSA", "tumeur à part"]
        for split in IDS:
            group, count, views = file[split], len(IDS[split]), VIEWS[split]
            assert sorted(group) == ["hard", "id", "soft"]
            assert (group["hard"].shape, group["hard"].dtype) == ((count, 3), np.uint8)
            assert (group["soft"].shape, group["soft"].dtype) == ((views, count, 3), np.float32)
            assert group["soft"].chunks == (1, count, 3)
            assert h5py.check_string_dtype(group["id"].dtype).encoding == "utf-8"
            assert all(dataset.fletcher32 and dataset.compression is None for dataset in group.values())


def group_digest_as_documented(group):
    """docs/format.md, without the project's code."""
    digest = hashlib.sha256()
    for name in sorted(group):
        values = group[name][...]
        digest.update(f"{name} {values.dtype.str} {values.shape}\0".encode() + values.tobytes())
    return digest.hexdigest()


def file_digest_as_documented(file):
    """docs/format.md, without the project's code."""
    content = {f"/{name}": file[name].attrs["sha256"] for name in ("train", "val", "test")}
    content["/class_names"] = [text.decode() for text in file["class_names"][:]]
    for name, value in file.attrs.items():
        if name != "sha256":
            content[name] = value.decode() if isinstance(value, bytes) else np.asarray(value).tolist()
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def test_digests_are_as_documented(logits_path, targets_path):
    for path in (logits_path, targets_path):
        with h5py.File(path, "r") as file:
            assert file.attrs["sha256"] == file_digest_as_documented(file)
            for split in IDS:
                assert file[split].attrs["sha256"] == group_digest_as_documented(file[split])


@pytest.mark.parametrize(
    "value",
    [
        "CC-BY",
        7,
        0.5,
        pytest.param(np.array([1.5, 2.5]), id="numbers"),
        pytest.param(np.bytes_(b"fixed"), id="fixed-length string"),
    ],
)
def test_a_file_with_an_attribute_more_is_read(logits_path, value):
    # docs/format.md: a writer MAY add attributes; readers ignore them.
    with h5py.File(logits_path, "r+") as file:
        file.attrs["note"] = value
        file.attrs["sha256"] = file_digest_as_documented(file)
    assert read_logits(logits_path, "val")[0] == tuple(IDS["val"])


def test_a_chunk_holds_a_mebibyte_of_one_views_rows(tmp_path):
    # 2 classes of 4 bytes are 8 bytes a row: 2^20 / 8 = 131,072 rows a chunk.
    count = 131_072 + 10
    logits = np.zeros((count, 2), np.float32)
    provenance = replace(PROVENANCE, class_names=("a", "b"))
    with create_logits(tmp_path / "a.h5", provenance) as file:
        ids = [str(row) for row in range(count)]
        add_split(file, "train", ids, np.zeros(count, int), np.zeros((2, count, 6), np.float16), iter([logits] * 2))
        for split in ("val", "test"):
            add_split(file, split, ["a"], [0], np.zeros((1, 1, 6), np.float16), iter([logits[:1]]))
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert file["train/logits"].chunks == (1, 131_072, 2)
        assert file["train/logits"].shape == (2, count, 2)
    # Rows beyond the first chunk are softened and checked too.
    soften_file(tmp_path / "a.h5", tmp_path / "b.h5", 1.0)
    np.testing.assert_array_equal(read_soft_targets(tmp_path / "b.h5", "train").soft, np.full((2, count, 2), 0.5))


# Softening


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        # v = (0, ln 16): p = (1, 16^(1/T)) over their sum.
        (1.0, [1 / 17, 16 / 17]),
        (4.0, [1 / 3, 2 / 3]),  # 16^(1/4) = 2
        (2.0, [1 / 5, 4 / 5]),
        (0.5, [1 / 257, 256 / 257]),
        (0.3, [1 / (1 + 2 ** (40 / 3)), 1 / (1 + 2 ** (-40 / 3))]),  # 16^(10/3) = 2^(40/3)
        (40.0, [1 / (1 + 2**0.1), 1 / (1 + 2**-0.1)]),  # 16^(1/40) = 2^0.1
    ],
)
def test_softening_two_classes_by_hand(tmp_path, temperature, expected):
    write_two_classes(tmp_path / "v.h5", [[0.0, math.log(16.0)]])
    soften_file(tmp_path / "v.h5", tmp_path / "p.h5", temperature)
    targets = read_soft_targets(tmp_path / "p.h5", "test")
    assert targets.temperature == temperature
    # ln 16 = 2.77 is stored as float32: an error of 2.8 ULP in v is one of 2.8 / T ULP in p, relative.
    np.testing.assert_allclose(targets.soft[0, 0], expected, rtol=(1 + 3 / temperature) * ULP)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0, 40.0])
def test_softmax_equals_scipys_and_sums_to_one(temperature):
    logits = np.random.default_rng(3).normal(0, 5, (3, 40, 10)).astype(np.float32)
    found = softmax(logits, temperature)
    assert found.dtype == np.float32
    expected = scipy.special.softmax(logits.astype(np.float64) / temperature, axis=-1)
    # One rounding to float32, and a hair for float64's own.
    np.testing.assert_allclose(found, expected, rtol=1.001 * ULP, atol=1e-45)
    # Each probability misses by at most ULP of itself, so their sum by at most ULP.
    np.testing.assert_allclose(found.astype(np.float64).sum(axis=-1), 1.0, rtol=0, atol=1.001 * ULP)
    np.testing.assert_array_equal(found.argmax(axis=-1), logits.argmax(axis=-1))
    assert np.array_equal(softmax(logits, temperature), found)


def test_softening_ignores_a_constant_on_each_row():
    logits = np.array([[0.5, -1.0, 2.25], [8.0, 7.5, 0.0]])
    np.testing.assert_array_equal(softmax(logits + np.array([[1024.0], [-4096.0]]), 3.0), softmax(logits, 3.0))


def test_a_higher_temperature_is_flatter():
    logits = np.array([[3.0, 1.0, -2.0, 0.5]])
    largest = [softmax(logits, temperature).max() for temperature in (0.3, 1.0, 4.0, 40.0, 1e6)]
    assert largest == sorted(largest, reverse=True)
    assert largest[-1] == pytest.approx(0.25, abs=1e-6)


def test_huge_logits_are_stable(tmp_path):
    # At T = 1: e^-10000 is 0 in any format. At T = 4: (e^-0.25, 1) over their sum for 9,999 against 10,000.
    write_two_classes(tmp_path / "v.h5", [[1e4, 0.0], [-1e4, 1e4], [9999.0, 1e4]])
    soften_file(tmp_path / "v.h5", tmp_path / "p1.h5", 1.0)
    soften_file(tmp_path / "v.h5", tmp_path / "p4.h5", 4.0)
    soft = read_soft_targets(tmp_path / "p1.h5", "train").soft[0]
    assert soft[:2].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    near = read_soft_targets(tmp_path / "p4.h5", "train").soft[0, 2]
    np.testing.assert_allclose(near, [1 / (1 + math.exp(0.25)), 1 / (1 + math.exp(-0.25))], rtol=2 * ULP)


# The same inputs are the same bytes


def test_the_same_inputs_are_the_same_bytes(tmp_path, logits_path, targets_path):
    again = write_logits(tmp_path / "elsewhere" / "other name.h5", block=5)
    assert again.read_bytes() == logits_path.read_bytes()
    soften_file(again, tmp_path / "again.h5", 4.0)
    assert (tmp_path / "again.h5").read_bytes() == targets_path.read_bytes()


def test_another_process_writes_the_same_bytes(tmp_path, logits_path, targets_path):
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import test_soft_labels as here\n"
        "folder = Path(sys.argv[2]); here.write_logits(folder / 'v.h5')\n"
        "here.soften_file(folder / 'v.h5', folder / 'p.h5', 4.0)\n"
    )
    arguments = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)]
    subprocess.run(arguments, check=True)
    assert (tmp_path / "v.h5").read_bytes() == logits_path.read_bytes()
    assert (tmp_path / "p.h5").read_bytes() == targets_path.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ("HP", "SSA", "other")},
        {"teacher": "resnet50v2"},
        {"teacher_sha256": "ac" * 32},
        {"dataset": "ce" * 32},
        {"preprocessing": {"resize": "nearest", "input_shape": [28, 28, 1]}},
        {"views": {"seed": 1, "count": 2, "augmentation": {}}},
    ],
)
def test_another_origin_is_another_digest(tmp_path, logits_path, change):
    other = write_logits(tmp_path / "other.h5", replace(PROVENANCE, **change))
    with h5py.File(logits_path) as file, h5py.File(other) as others:
        assert file.attrs["sha256"] != others.attrs["sha256"]
        assert file["train"].attrs["sha256"] == others["train"].attrs["sha256"]


# Nothing unfinished under the final name


@pytest.mark.parametrize("rows", [[2, 2], [2, 2, 1, 2, 2, 1, 2, 2], [5, 5, 5, 1], [2, 2, 2], [5, 5, 5, 5], []])
def test_the_wrong_number_of_rows_is_refused(tmp_path, rows):
    # 3 views of 5 rows are wanted; [2, 2, 2] runs over the end of a view.
    def write():
        with create_logits(tmp_path / "a.h5", PROVENANCE) as file:
            blocks = (np.zeros((count, 3), np.float32) for count in rows)
            add_split(file, "train", IDS["train"], LABELS["train"], affines_of("train"), blocks)

    # ValueError is ours; h5py's own for rows outside of the data set are these.
    with pytest.raises((ValueError, TypeError, IndexError)):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("labels", "affines", "logits"),
    [
        pytest.param(2, (3, 5, 6), (3, 5, 3), id="labels of two rows"),
        pytest.param(5, (3, 4, 6), (3, 5, 3), id="affines of four rows"),
        pytest.param(5, (3, 5, 5), (3, 5, 3), id="affines of five numbers"),
        pytest.param(5, (3, 5, 6), (3, 5, 1), id="logits of one class"),  # h5py repeats the column
        pytest.param(5, (3, 5, 6), (3, 5, 4), id="logits of four classes"),
    ],
)
def test_columns_that_do_not_match_the_ids_are_refused(tmp_path, labels, affines, logits):
    def write():
        with create_logits(tmp_path / "a.h5", PROVENANCE) as file:
            blocks = iter(np.ones(logits, np.float32))
            add_split(file, "train", IDS["train"], [0] * labels, np.zeros(affines, np.float16), blocks)

    with pytest.raises((ValueError, TypeError)):
        write()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_pass_leaves_no_file(tmp_path):
    def blocks():
        yield logits_of("train")[0, :2]
        raise KeyboardInterrupt

    def write():
        with create_logits(tmp_path / "a.h5", PROVENANCE) as file:
            add_split(file, "train", IDS["train"], LABELS["train"], affines_of("train"), blocks())

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_softening_leaves_the_older_file(tmp_path, logits_path, targets_path, monkeypatch):
    before = targets_path.read_bytes()

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(soft_labels, "softmax", fail)
    with pytest.raises(MemoryError):
        soften_file(logits_path, targets_path, 2.0)
    assert targets_path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["soft_targets_T4.h5", "teacher_logits.h5"]


def test_what_was_not_written_is_not_a_number(tmp_path):
    # A crash must not leave rows that look valid: the fill value is NaN.
    with create_logits(tmp_path / "a.h5", PROVENANCE) as file:
        add_split(file, "val", IDS["val"], LABELS["val"], affines_of("val"), in_blocks(logits_of("val"), 2))
    with h5py.File(tmp_path / "a.h5") as file:
        assert math.isnan(file["val/logits"].fillvalue)


# Damage


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x40
    path.write_bytes(content)


def flip_in_bytes(pattern):
    """Flips a bit of the first stored byte of `pattern`, behind HDF5's back."""

    def damage(path):
        flip(path, path.read_bytes().index(pattern))

    return damage


def truncate(part):
    def damage(path):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * part)])

    return damage


def change_value(name, change):
    """Changes one value through h5py, which keeps its own checksums right: only the digest can tell."""

    def damage(path):
        with h5py.File(path, "r+") as file:
            values = file[name][...]
            values.reshape(-1)[1] = change(values.reshape(-1)[1])
            file[name][...] = values

    return damage


def change_attribute(name, value):
    def damage(path):
        with h5py.File(path, "r+") as file:
            file.attrs[name] = value

    return damage


def edit(change):
    def damage(path):
        with h5py.File(path, "r+") as file:
            change(file)

    return damage


def swap_rows(name):
    def change(file):
        values = file[name][...]
        file[name][...] = values[:, ::-1] if values.ndim == 3 else values[::-1]

    return edit(change)


COMMON_DAMAGE = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "truncated to half": truncate(0.5),
    "truncated to the start": truncate(0.01),
    "no HDF5 file": lambda path: path.write_text("id,HP,SSA\na.png,0.1,0.9\n"),
    "flipped signature": lambda path: flip(path, 0),
    "newer version": change_attribute("version", 2),
    "older version": change_attribute("version", 0),
    "version missing": edit(lambda file: file.attrs.__delitem__("version")),
    "format missing": edit(lambda file: file.attrs.__delitem__("format")),
    "other format": change_attribute("format", "something-else"),
    "class name changed": change_value("class_names", lambda name: b"SSX"),
    "other data set": change_attribute("dataset", "ce" * 32),
    "attribute added": change_attribute("note", "mine"),
    "attribute missing": edit(lambda file: file.attrs.__delitem__("dataset")),
    "digest of the file missing": edit(lambda file: file.attrs.__delitem__("sha256")),
    "digest of the file changed": change_attribute("sha256", "0" * 64),
    "digest of a split missing": edit(lambda file: file["val"].attrs.__delitem__("sha256")),
    "split missing": edit(lambda file: file.__delitem__("val")),
    "splits exchanged": edit(lambda file: (file.move("val", "x"), file.move("test", "val"), file.move("x", "test"))),
    "split added": edit(lambda file: file.copy("val", "more")),
    "dataset missing": edit(lambda file: file["val"].__delitem__("id")),
    "dataset added": edit(lambda file: file["val"].create_dataset("extra", data=np.zeros(3))),
    "id changed": change_value("train/id", lambda value: b"X" + value[1:]),
    "ids exchanged": swap_rows("train/id"),
    "flipped byte of an id": flip_in_bytes(b"d d.png"),
}
LOGITS_DAMAGE = COMMON_DAMAGE | {
    "logit changed": change_value("train/logits", lambda value: np.nextafter(value, np.float32(np.inf))),
    "logit of the last split changed": change_value("val/logits", lambda value: -value),
    "views exchanged": edit(lambda file: file["train/logits"].write_direct(logits_of("train")[::-1].copy())),
    "label changed": change_value("test/label", lambda value: (value + 1) % 3),
    "affine changed": change_value("train/affine", lambda value: value + np.float16(0.125)),
    "rows exchanged": swap_rows("train/logits"),
    "flipped byte of a logit": flip_in_bytes(logits_of("train")[1].tobytes()),
    "flipped byte of a label": flip_in_bytes(np.array(LABELS["train"], np.int32).tobytes()),
    "flipped byte of an affine": flip_in_bytes(affines_of("train")[1].tobytes()),
    "flipped byte of a digest": flip_in_bytes(b"ab" * 32),
    "other teacher": change_attribute("teacher", "resnet50v2"),
    "other weights": change_attribute("teacher_sha256", "ac" * 32),
    "other views": change_attribute("views", "{}"),
    "other preprocessing": change_attribute("preprocessing", "{}"),
}
TARGETS_DAMAGE = COMMON_DAMAGE | {
    "probability changed": change_value("train/soft", lambda value: np.nextafter(value, np.float32(1))),
    "one-hot label changed": change_value("test/hard", lambda value: 1 - value),
    "rows exchanged": swap_rows("train/soft"),
    "other temperature": change_attribute("temperature", 1.0),
    "other logits": change_attribute("logits", "0" * 64),
    "flipped byte of a label": flip_in_bytes(np.eye(3, dtype=np.uint8)[LABELS["train"]].tobytes()),
}


@pytest.mark.parametrize("kind", LOGITS_DAMAGE)
def test_a_damaged_logits_file_is_refused_by_name_with_the_remedy(logits_path, kind):
    LOGITS_DAMAGE[kind](logits_path)
    for read in (lambda: read_logits(logits_path, "train"), lambda: read_provenance(logits_path)):
        with pytest.raises(PipelineError) as refusal:
            read()
        assert str(logits_path) in str(refusal.value)
        assert f"`dvc repro {'' if kind == 'missing' else '--single-item --force '}precompute`" in str(refusal.value)


@pytest.mark.parametrize("kind", TARGETS_DAMAGE)
def test_a_damaged_targets_file_is_refused_by_name_with_the_remedy(targets_path, kind):
    TARGETS_DAMAGE[kind](targets_path)
    with pytest.raises(PipelineError) as refusal:
        read_soft_targets(targets_path, "train")
    assert str(targets_path) in str(refusal.value)
    assert f"`dvc repro {'' if kind == 'missing' else '--single-item --force '}soften`" in str(refusal.value)


@pytest.mark.parametrize("kind", ["missing", "logit changed", "newer version", "no HDF5 file"])
def test_nothing_is_softened_from_a_damaged_file(tmp_path, logits_path, kind):
    LOGITS_DAMAGE[kind](logits_path)
    with pytest.raises(PipelineError, match="precompute"):
        soften_file(logits_path, tmp_path / "soft_targets_T4.h5", 4.0)
    assert not list(tmp_path.glob("soft_targets*"))


def test_one_format_is_not_taken_for_the_other(logits_path, targets_path):
    with pytest.raises(PipelineError, match=r"'soft-targets', version 1; expected 'teacher-logits'.*precompute`"):
        read_logits(targets_path, "train")
    with pytest.raises(PipelineError, match=r"'teacher-logits', version 1; expected 'soft-targets'.*soften`"):
        read_soft_targets(logits_path, "train")


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(PipelineError, match="precompute"):
        read_logits(tmp_path, "train")


def test_a_newer_version_is_told_from_damage(logits_path):
    change_attribute("version", 2)(logits_path)
    with pytest.raises(PipelineError, match=r"version 2; expected 'teacher-logits', version 1") as refusal:
        read_logits(logits_path, "train")
    assert "damaged" not in str(refusal.value)


def test_the_damaged_split_is_named(logits_path):
    change_value("val/logits", lambda value: -value)(logits_path)
    with pytest.raises(PipelineError, match="/val does not match its digest"):
        read_logits(logits_path, "train")


STRUCTURE = {
    "root B-tree": b"TREE",
    "root heap": b"HEAP",
    "root symbol table": b"SNOD",
    "attribute name": b"dataset\0",
    "split name": b"train",
}


@pytest.mark.parametrize("part", STRUCTURE)
@pytest.mark.parametrize("format_name", ["teacher-logits", "soft-targets"])
def test_damaged_structure_is_refused_with_the_remedy(logits_path, targets_path, part, format_name):
    path = logits_path if format_name == LOGITS_FORMAT else targets_path
    content = bytearray(path.read_bytes())
    position = content.index(STRUCTURE[part])
    content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(PipelineError, match="dvc repro --single-item --force"):
        read_any(path, format_name)


def test_a_target_that_cannot_be_written_is_not_blamed_on_the_source(tmp_path, logits_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        soften_file(logits_path, tmp_path / "file" / "soft_targets_T4.h5", 4.0)


def test_reading_changes_nothing(logits_path, targets_path):
    before = logits_path.read_bytes(), targets_path.read_bytes()
    read_logits(logits_path, "train")
    read_provenance(logits_path)
    read_soft_targets(targets_path, "train")
    with open_checked(logits_path, LOGITS_FORMAT, "precompute") as file:
        assert file.mode == "r"
    assert (logits_path.read_bytes(), targets_path.read_bytes()) == before


def test_settings_survive_as_json(logits_path):
    with h5py.File(logits_path) as file:
        assert json.loads(file.attrs["preprocessing"]) == PROVENANCE.preprocessing
        assert json.loads(file.attrs["views"]) == PROVENANCE.views
