"""Layouts `arrays` and `cifar10`: images and labels in one .npz file."""

import os
import re
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from layouts import (
    INDEX,
    assert_every_key_must_be_there,
    assert_one_mistake,
    check_copies,
    drawn_split,
    planned,
    refusal,
    run,
    with_key,
)

from pipeline.datasets.arrays import read_arrays
from pipeline.images.index import read_index
from pipeline.runtime.errors import (
    DamagedError,
    MismatchError,
    MissingError,
    ParameterError,
    PipelineError,
    UnusableError,
)

DRAWN = {"layout": "arrays", "data": "raw.npz", "class_names": None, "val_fraction": 0.25, "test_fraction": 0.25}
NAMED = DRAWN | {"val_fraction": None, "test_fraction": None}
CIFAR10 = {"layout": "cifar10", "data": "raw.npz", "val_fraction": 0.25}
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PARTS = {"train": 40, "val": 8, "test": 12}
KERAS = {name: (f"x_{name}", f"y_{name}") for name in PARTS}
MEDMNIST = {name: (f"{name}_images", f"{name}_labels") for name in PARTS}
GREY, GREY_OF_ONE, RGB = (4, 6), (4, 6, 1), (4, 6, 3)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def pixels(count: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def make(parts=("train", "val", "test"), names=KERAS, shape=RGB, classes=2, **changes) -> dict[str, np.ndarray]:
    """Writes raw.npz with labels 0, 1, ..., 0, 1, ...; None leaves an array out."""
    arrays = {}
    for seed, part in enumerate(parts):
        arrays[names[part][0]] = pixels(PARTS[part], shape, seed)
        arrays[names[part][1]] = np.arange(PARTS[part]) % classes
    arrays |= changes
    kept = {name: array for name, array in arrays.items() if array is not None}
    np.savez("raw.npz", **kept)
    return kept


def decoded(content: bytes) -> np.ndarray:
    return tf.io.decode_png(content).numpy()


@pytest.mark.parametrize("shape", [GREY, GREY_OF_ONE, RGB], ids=str)
@pytest.mark.parametrize("names", [KERAS, MEDMNIST], ids=["Keras", "MedMNIST"])
@pytest.mark.parametrize("column", [False, True], ids=["N", "N, 1"])
def test_files_hold_the_pixels_of_the_arrays(names, shape, column, capsys):
    labels = {names[part][1]: (np.arange(count) % 2).astype(np.uint8) for part, count in PARTS.items()}
    if column:
        labels = {name: array[:, None] for name, array in labels.items()}
    arrays = make(names=names, shape=shape, **labels)
    rows = run(NAMED)
    copies = check_copies(rows)
    assert len(rows) == 60
    for part, count in PARTS.items():
        for number in range(count):
            name = f"{part}_{number:05}.png"
            image = decoded(copies[name])
            np.testing.assert_array_equal(image, arrays[names[part][0]][number].reshape(4, 6, -1))
            assert (rows[name]["split"], rows[name]["class_name"], rows[name]["votes"]) == (part, str(number % 2), "")
    assert capsys.readouterr().out.splitlines()[-1].count("as the data say") == 2


def test_splits_that_the_file_lacks_are_drawn_by_the_stated_rule(capsys):
    make(["train"])
    rows = run(DRAWN)
    check_copies(rows)
    for name, row in rows.items():
        assert row["split"] == drawn_split(name, val=0.25, test=0.25)
    assert {row["split"] for row in rows.values()} == {"train", "val", "test"}
    assert re.search("Test images: 0.25 .* hash of the name", capsys.readouterr().out)


def test_a_given_test_split_stays_beside_drawn_validation_images():
    make(["train", "test"])
    rows = run(with_key(DRAWN, test_fraction=None))
    assert {name.split("_")[0] for name, row in rows.items() if row["split"] == "test"} == {"test"}
    assert {name.split("_")[0] for name, row in rows.items() if row["split"] != "test"} == {"train"}
    for name, row in rows.items():
        if name.startswith("train"):
            assert row["split"] == drawn_split(name, val=0.25)


def test_images_added_at_the_end_move_none(monkeypatch):
    make(["train"])
    few = run(DRAWN)
    monkeypatch.setitem(PARTS, "train", 150)
    make(["train"], x_train=np.concatenate([pixels(40, RGB), pixels(110, RGB, 9)]))
    many = run(DRAWN)
    assert len(many) == 150
    assert {name: many[name] for name in few} == few


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 9], ["0", "9"]),
        ([10, 0], ["10", "0"]),
        ([2, 100, 10], ["2", "100", "10"]),
    ],
)
def test_unnamed_classes_are_numbers_in_numeric_order(labels, names):
    arrays = {KERAS[part][1]: np.array(labels)[np.arange(count) % len(labels)] for part, count in PARTS.items()}
    make(**arrays)
    rows = run(NAMED)
    assert read_index(INDEX).class_names == [str(number) for number in sorted(labels)]
    assert [rows[f"train_0000{number}.png"]["class_name"] for number in range(len(names))] == names


@pytest.mark.parametrize("class_names", [["zebra", "ant", "unused"], {1: "ant", 0: "zebra", 7: "unused"}], ids=str)
def test_classes_get_their_names(class_names):
    make()
    rows = run(with_key(NAMED, class_names=class_names))
    check_copies(rows)
    assert [rows[f"test_0000{number}.png"]["class_name"] for number in range(4)] == ["zebra", "ant", "zebra", "ant"]
    assert read_index(INDEX).class_names == ["zebra", "ant"]


def test_an_array_of_the_file_may_name_the_classes(capsys):
    make(names_of_labels=np.array(["zebra", "ant"]), numbers=np.array([1, 2]))
    rows = run(with_key(NAMED, class_names="names_of_labels"))
    assert {rows[f"test_0000{number}.png"]["class_name"] for number in (0, 2)} == {"zebra"}
    assert read_index(INDEX).class_names == ["zebra", "ant"]
    assert re.search("1 left out, .* raw.npz .*: 'numbers'", capsys.readouterr().out)
    unknown = refusal(with_key(NAMED, class_names="names.json"), ParameterError)
    assert "split.class_names is 'names.json'" in unknown
    assert "has 'names_of_labels', 'numbers', " in unknown
    no_texts = refusal(with_key(NAMED, class_names="numbers"), ParameterError)
    assert "split.class_names is 'numbers'" in no_texts
    assert "type int64 and shape (2,)" in no_texts


def test_labels_with_one_name_are_one_class():
    make(classes=3)
    run(with_key(NAMED, class_names={0: "plant", 1: "animal", 2: "plant"}))
    index = read_index(INDEX)
    assert index.class_names == ["plant", "animal"]
    assert Counter(image.class_name for image in index.split("test")) == {"plant": 8, "animal": 4}


def test_arrays_that_are_neither_images_nor_labels_are_told(capsys):
    make(note=np.array(["by hand"]))
    assert len(run(NAMED)) == 60
    assert re.search("1 left out, .* raw.npz .*: 'note'", capsys.readouterr().out)


def test_the_plan_counts_what_split_makes():
    make()
    assert planned(NAMED) == "60 images in 2 classes: 40 train, 8 val, 12 test (raw.npz)"
    make(["train"])
    counts = Counter(drawn_split(f"train_{n:05}.png", val=0.25, test=0.25) for n in range(40))
    assert planned(DRAWN) == (
        f"40 images in 2 classes: {counts['train']} train, {counts['val']} val, {counts['test']} test (raw.npz)"
    )


OBJECTS = np.array([np.zeros((2, 2)), "x"], dtype=object)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"x_train": pixels(40, RGB) / 255},
            ["x_train is of type float64; expected uint8", "0 to 255"],
        ),
        ({"x_val": pixels(8, RGB).astype(np.int64)}, ["x_val is of type int64; expected uint8"]),
        ({"x_train": pixels(40, (4, 6, 4))}, ["x_train is of shape (40, 4, 6, 4); expected (N, height, width)"]),
        ({"x_train": pixels(40, (24,))}, ["x_train is of shape (40, 24)"]),
        ({"x_train": pixels(40, (3, 0, 3))}, ["x_train is of shape (40, 3, 0, 3)", "side of 0"]),
        ({"x_test": pixels(0, RGB), "y_test": np.zeros(0, int)}, ["x_test is of shape (0, 4, 6, 3)"]),
        ({"y_train": np.zeros((40, 14), int)}, ["y_train is of shape (40, 14)", "(N,) or (N, 1)"]),
        ({"y_train": np.zeros((40, 0), int)}, ["y_train is of shape (40, 0)"]),
        ({"y_train": np.zeros((40, 1, 1), int)}, ["y_train is of type int64 and shape (40, 1, 1)"]),
        ({"y_train": np.arange(40) % 2 / 1}, ["y_train is of type float64", "expected integers"]),
        ({"y_train": np.array(["a", "b"] * 20)}, ["y_train is of type <U1", "expected integers"]),
        ({"y_train": np.array([True, False] * 20)}, ["y_train is of type bool", "expected integers"]),
        ({"y_train": np.arange(39) % 2}, ["x_train has 40 images and y_train has 39 labels"]),
        ({"y_train": np.array(3)}, ["y_train is of type int64 and shape ()"]),
        ({"y_train": np.arange(40) % 2 - 1}, ["has the label -1; expected numbers from 0"]),
        ({"y_train": np.arange(40) % 3}, ["1 split(s)", ": test/2. "]),
        ({"y_test": np.arange(12) % 3}, ["1 split(s)", ": train/2. "]),
        ({"y_train": None}, ["raw.npz lacks 'y_train'; it has 'x_test', 'x_train'"]),
        ({"x_test": None}, ["raw.npz lacks 'x_test'"]),
        ({"x_train": None, "y_train": None}, ["no training images", "train_images, train_labels", "(MedMNIST)"]),
        ({"train_images": pixels(40, RGB)}, ["Keras and MedMNIST", "'train_images', 'x_test'"]),
        ({"x_train": OBJECTS}, ["Python objects", "uint8"]),
        ({"note": OBJECTS}, ["Python objects"]),
        (
            {"y_train": np.zeros(40, int), "y_val": np.zeros(8, int), "y_test": np.zeros(12, int)},
            ["only the class '0'"],
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_refuses_arrays_that_make_no_sense(changes, expected):
    make(**changes)
    message = refusal(NAMED)
    assert [words for words in expected if words not in message] == []
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("class_names", "expected", "error"),
    [
        (["a"], ["raw.npz has 1 label(s)", "split.class_names", ": '1'; known are '0'", "a map"], MismatchError),
        ({0: "a", 2: "b"}, ["split.class_names", ": '1'; known are '0', '2'. "], MismatchError),
        (["a/b", "c"], ["cannot name a folder: 'a/b'", "in split.class_names"], UnusableError),
        (["..", "c"], ["cannot name a folder: '..'"], UnusableError),
        ([" a", "c"], ["cannot name a folder: ' a'"], UnusableError),
    ],
    ids=str,
)
def test_refuses_names_that_do_not_fit(class_names, expected, error):
    make()
    message = refusal(with_key(NAMED, class_names=class_names), error)
    assert [words for words in expected if words not in message] == []


@pytest.mark.parametrize(
    ("held", "section", "expected"),
    [
        (
            ["train", "val", "test"],
            NAMED | {"val_fraction": 0.1},
            ["val images (x_val)", "split.val_fraction is 0.1", "et split.val_fraction: null"],
        ),
        (["train", "test"], DRAWN, ["test images (x_test)", "split.test_fraction is 0.25"]),
        (["train", "test"], NAMED, ["no val images", "et split.val_fraction to a number between 0 and 1"]),
        (["train"], DRAWN | {"test_fraction": None}, ["no test images", "et split.test_fraction to a number"]),
        (["train"], CIFAR10, ["no test images", "(layout arrays)"]),
        (["train", "val", "test"], CIFAR10, ["val images (x_val)", "(layout arrays)"]),
    ],
)
def test_a_split_is_either_held_or_drawn(held, section, expected):
    make(held)
    message = refusal(section, ParameterError)
    assert [words for words in expected if words not in message] == []


def test_refuses_what_is_no_npz_file():
    missing = refusal(NAMED, MissingError)
    assert "no file raw.npz" in missing
    assert "split.data" in missing
    Path("raw.npz").write_bytes(b"")
    damaged = refusal(NAMED, DamagedError)
    assert damaged.startswith("raw.npz is no .npz file")
    assert "numpy.savez(" in damaged
    with Path("raw.npz").open("wb") as file:
        np.save(file, pixels(3, RGB))
    assert "raw.npz is no .npz file" in refusal(NAMED, DamagedError)


@given(position=st.integers(0, 1499), byte=st.integers(1, 255))
def test_a_file_with_one_other_byte_is_read_or_refused(tmp_path_factory, position, byte):
    """Pixels and labels have checksums, so that what is read is what was written."""
    path = tmp_path_factory.mktemp("damaged") / "raw.npz"
    images, labels = pixels(40, (2, 2)), np.arange(40) % 2
    np.savez(path, x_train=images, y_train=labels)
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= byte
    path.write_bytes(content)
    try:
        rows = read_arrays(data=path, class_names=None, val_fraction=0.2, test_fraction=0.2).rows
    except PipelineError:
        return
    assert [row.class_name for row in rows] == [str(label) for label in labels]
    np.testing.assert_array_equal([row.image for row in rows], images)


def test_refuses_a_damaged_file():
    make()
    whole = Path("raw.npz").read_bytes()
    place = whole.index(b"x_train.npy") + 300  # in the pixels, which the zip file's checksum covers
    Path("raw.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert "raw.npz cannot be read: Bad CRC-32 for file 'x_train.npy'. " in refusal(NAMED, DamagedError)
    assert not Path("data").exists()


def test_refuses_entries_that_are_no_arrays():
    with zipfile.ZipFile("raw.npz", "w") as file:
        file.writestr("x_train", "no array")
        file.writestr("y_train", "no array")
    assert "raw.npz cannot be read: 'x_train' is no array" in refusal(DRAWN, DamagedError)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (NAMED | {"class_names": ["a", "a"]}, "split.class_names: expected null"),
        (NAMED | {"class_names": {}}, "split.class_names: expected null"),
        (NAMED | {"class_names": {1.5: "a"}}, "split.class_names: expected null"),
        (NAMED | {"class_names": {True: "a"}}, "split.class_names: expected null"),
        (NAMED | {"class_names": [0, 1]}, "split.class_names: expected null"),
        (NAMED | {"class_names": {0: ["a"]}}, "split.class_names: expected null"),
        (NAMED | {"class_names": "../names"}, "split.class_names: expected a path relative to split.data"),
        (NAMED | {"val_fraction": 0}, "split.val_fraction: Input should be greater than 0 (got 0)"),
        (NAMED | {"images": "x"}, "split.images: unknown key; known are class_names, data, duplicates, layout, limit,"),
        (CIFAR10 | {"val_fraction": None}, "split.val_fraction: Input should be a valid number (got None)"),
        (CIFAR10 | {"test_fraction": 0.1}, "split.test_fraction: unknown key; did you mean 'val_fraction'?"),
        (
            CIFAR10 | {"layout": "cifar"},
            "unknown layout 'cifar'; known are mhist, csv, folders, arrays, cifar10, webdataset, parquet. Did",
        ),
    ],
    ids=str,
)
def test_mistakes_in_the_section_are_named(section, expected):
    assert_one_mistake(section, [expected])


@pytest.mark.parametrize("section", [NAMED, CIFAR10], ids=["arrays", "cifar10"])
def test_every_key_must_be_there(section):
    assert_every_key_must_be_there(section, but=["class_names"])


def test_cifar10_knows_the_names_of_its_classes():
    arrays = make(["train", "test"], classes=10, y_test=np.arange(12)[:, None] % 10)
    rows = run(CIFAR10)
    copies = check_copies(rows)
    for part in ("train", "test"):
        for number in range(PARTS[part]):
            name = f"{part}_{number:05}.png"
            assert rows[name]["class_name"] == CLASSES[number % 10]
            np.testing.assert_array_equal(decoded(copies[name]), arrays[f"x_{part}"][number])
            if part == "test" or number % 10 < 8:  # of ships and trucks, the share gives none for validation
                assert rows[name]["split"] == (part if part == "test" else drawn_split(name, 0.25))
    assert planned(CIFAR10).startswith("52 images in 10 classes: ")


def test_split_reads_the_real_cifar10():
    shared = os.environ.get("SOFTLABEL_SHARED_DATA")
    data = Path(shared or ".") / "cifar10_subset.npz"
    if not shared or not data.is_file():
        pytest.skip("SOFTLABEL_SHARED_DATA names no folder with cifar10_subset.npz")
    rows = run(with_key(CIFAR10, data=str(data), val_fraction=0.1))
    copies = check_copies(rows)
    with np.load(data) as arrays:
        for part in ("train", "test"):
            images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
            for number in range(0, len(images), 97):
                name = f"{part}_{number:05}.png"
                np.testing.assert_array_equal(decoded(copies[name]), images[number])
                assert rows[name]["class_name"] == CLASSES[int(labels[number])]
        assert len(rows) == len(arrays["x_train"]) + len(arrays["x_test"])
