"""Layout `folders`: a folder for each split, which holds a folder of images for each class."""

import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from layouts import (
    assert_every_key_must_be_there,
    assert_one_mistake,
    check_copies,
    drawn_split,
    files_below,
    planned,
    png,
    refusal,
    run,
    with_key,
    write_files,
)

from pipeline.runtime.errors import MissingError, UnusableError

NAMED = {
    "layout": "folders",
    "data": "raw",
    "train": "train",
    "val": "val",
    "test": "test",
    "val_fraction": None,
    "test_fraction": None,
}
DRAWN = NAMED | {"train": ".", "val": None, "test": None, "val_fraction": 0.25, "test_fraction": 0.25}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def make(folder: str, numbers=range(20), classes=("cat", "dog")) -> dict[str, bytes]:
    """Writes <number>.png, of other pixels in each class, into the class folders; returns them by class and name."""
    files = {
        f"{label}/{number}.png": png(1000 * place + number + 10_000 * sum(map(ord, folder)))
        for place, label in enumerate(classes)
        for number in numbers
    }
    write_files({f"{folder}/{name}": content for name, content in files.items()})
    return files


def make_three() -> dict[str, dict[str, bytes]]:
    counts = {"train": 6, "val": 3, "test": 4}
    return {split: make(f"raw/{split}", range(count)) for split, count in counts.items()}


def test_given_folders_are_the_splits_though_file_names_repeat(capsys):
    files = make_three()
    rows = run(NAMED)
    copies = check_copies(rows)
    expected = files["train"] | {f"{split}/{n}": c for split in ("val", "test") for n, c in files[split].items()}
    assert copies == expected
    assert len(set(expected.values())) == 26
    assert list(rows) == sorted(expected)
    for name, row in rows.items():
        *split, label, _ = name.split("/")
        assert (row["split"], row["class_name"], row["votes"]) == (*(split or ["train"]), label, "")
    assert capsys.readouterr().out.splitlines()[-1].count("as the data say") == 2


def test_the_source_is_left_as_it_was():
    make_three()
    before = files_below(Path("raw"))
    run(NAMED)
    assert files_below(Path("raw")) == before


def test_two_plain_names_that_make_a_formula_are_refused():
    make("raw", classes=("+1", "="))
    run(DRAWN)
    Path("raw/+1/0.png").rename("raw/+1/cmd|' -C calc'!A0.png")
    shown = repr("+1/cmd|' -C calc'!A0.png")
    assert f"1 image(s) of raw have names that a spreadsheet takes for a formula: {shown}" in refusal(DRAWN)


def test_class_folders_alone_are_drawn_from_by_the_stated_rule(capsys):
    files = make("raw")
    rows = run(DRAWN)
    assert check_copies(rows) == files
    for name, row in rows.items():
        assert row["split"] == drawn_split(name.split("/")[1], val=0.25, test=0.25)
    assert {row["split"] for row in rows.values()} == {"train", "val", "test"}
    assert re.search("Test images: 0.25 .* hash of the name", capsys.readouterr().out)


def test_other_images_and_classes_move_none():
    make("raw", range(20))
    few = run(DRAWN)
    make("raw", range(30), ("ant", "cat", "dog"))
    make("raw", range(20))
    many = run(DRAWN)
    assert len(many) == 90
    assert {name: many[name]["split"] for name in few} == {name: row["split"] for name, row in few.items()}


def test_a_test_folder_beside_the_classes_is_no_class():
    make("raw", range(20))
    make("raw/test", range(5))
    rows = run(with_key(DRAWN, test="test", test_fraction=None))
    check_copies(rows)
    assert {row["class_name"] for row in rows.values()} == {"cat", "dog"}
    assert [name for name, row in rows.items() if row["split"] == "test"] == sorted(
        f"test/{label}/{number}.png" for label in ("cat", "dog") for number in range(5)
    )
    assert {row["split"] for name, row in rows.items() if not name.startswith("test/")} == {"train", "val"}


def test_classes_may_be_called_like_splits():
    """Then ids of training images look like those of a split, but have one part fewer."""
    for split in ("train", "val", "test"):
        make(f"raw/{split}", range(3), ("val", "test"))
    rows = run(NAMED)
    check_copies(rows)
    assert len(rows) == 18
    assert rows["val/0.png"]["path"] == "data/split/train/val/0.png"
    assert rows["val/val/0.png"]["path"] == "data/split/val/val/0.png"
    assert rows["test/val/0.png"]["path"] == "data/split/test/val/0.png"


def test_system_files_are_skipped_and_other_files_are_told(capsys):
    make_three()
    left = [
        "test/.\udcff",
        "test/cat/desktop.ini",
        "train/.git/x",
        "train/cat/.DS_Store",
        "train/cat/Thumbs.db",
        "train/cat/._1.png",
        "train/__MACOSX/cat/._1.png",
        "val/readme.txt",
    ]
    write_files({f"raw/{name}": b"?" for name in left} | {"raw/outside.txt": b"?"})
    assert len(run(NAMED)) == 26
    assert re.search("1 left out, because .* raw: 'val/readme.txt'\n", capsys.readouterr().out)


@pytest.mark.parametrize("above", ["", "images/"])
def test_labelled_folders_that_no_key_names_are_told(above, capsys):
    for folder, count in {"train": 12, "test": 4, "Validation": 3, "extra": 2}.items():
        make(f"raw/{above}{folder}", range(count))
    write_files({"raw/notes/a.txt": b"?", "raw/.hidden/cat/1.png": b"?"})
    run(with_key(NAMED, train=f"{above}train", test=f"{above}test", val=None, val_fraction=0.4))
    left_out, hint = capsys.readouterr().out.splitlines()[-2:]
    assert left_out.startswith("2 left out, ")
    assert "split.train, split.test" in left_out
    assert left_out.endswith(f"raw: '{above}Validation/ (6 images)', '{above}extra/ (4 images)'")
    assert f"set split.val: {above}Validation and split.val_fraction: null." in hint


def test_a_class_without_validation_images_is_told(capsys):
    make_three()
    shutil.rmtree("raw/val/dog")
    run(NAMED)
    out = capsys.readouterr().out
    assert "1 class(es) have no validation image: val/dog. " in out


def test_the_plan_counts_what_split_makes_without_decoding():
    make_three()
    Path("raw/train/cat/0.png").write_bytes(b"no image")
    assert planned(NAMED) == "26 images in 2 classes: 12 train, 6 val, 8 test (raw)"
    assert "1 of 26 image files cannot be used: cat/0.png (not an image" in refusal(NAMED)
    assert files_below(Path("data")) == {}


def test_the_plan_counts_drawn_splits():
    files = make("raw")
    counts = Counter(drawn_split(name.split("/")[1], val=0.25, test=0.25) for name in files)
    assert planned(DRAWN) == (
        f"40 images in 2 classes: {counts['train']} train, {counts['val']} val, {counts['test']} test (raw)"
    )


def link(target: str, name: str) -> None:
    os.symlink(Path(target).resolve(), name, target_is_directory=Path(target).is_dir())


def elsewhere() -> None:
    make("elsewhere", range(3), ("eel", "fox"))


def link_folder_of_a_split() -> None:
    elsewhere()
    shutil.rmtree("raw/test")
    link("elsewhere", "raw/test")


def link_folder_of_a_class() -> None:
    elsewhere()
    link("elsewhere/eel", "raw/train/eel")


def link_class_to_another() -> None:
    link("raw/train/cat", "raw/train/dog2")


def link_image() -> None:
    elsewhere()
    link("elsewhere/eel/1.png", "raw/train/cat/eel.png")


def link_one_split_to_another() -> None:
    shutil.rmtree("raw/test")
    link("raw/train", "raw/test")


def write(name: str, content: bytes = b"?"):
    return lambda: write_files({name: content})


@pytest.mark.parametrize(
    ("change", "expected", "error"),
    [
        (lambda: shutil.rmtree("raw/test"), ["there is no folder raw/test", "split.data and split.test"], MissingError),
        (lambda: shutil.rmtree("raw"), ["there is no folder raw/train", "split.data and split.train"], MissingError),
        (lambda: shutil.rmtree("raw/train/dog"), ["raw/train has only the class 'cat'", "two"], UnusableError),
        (
            lambda: make("raw/val", range(1), ("eel",)),
            ["raw/val has the class(es) 'eel', which raw/train lacks; it has 'cat', 'dog'"],
            UnusableError,
        ),
        (
            lambda: make("raw/test", range(1), ("Cat",)),
            ["raw/test has the class(es) 'Cat', which raw/train lacks", "is 'cat'"],
            UnusableError,
        ),
        (
            lambda: make("raw/train", range(1), ("eel",)),
            ["1 split(s)", ": test/eel. "],
            UnusableError,
        ),
        (lambda: Path("raw/train/eel").mkdir(), ["raw/train/eel holds no images"], UnusableError),
        (
            write("raw/train/cat/more/1.png"),
            ["raw/train/cat holds what is no file: 'more'"],
            UnusableError,
        ),
        (write("raw/train/ a/1.png"), ["raw/train has labels that cannot name a folder: ' a'"], UnusableError),
        (write("raw/train/a\nb/1.png"), ["cannot name a folder: 'a\\nb'"], UnusableError),
        (write("raw/train/a\\b/1.png"), ["cannot name a folder: 'a\\\\b'"], UnusableError),
        (write("raw/train/\udcff/1.png"), ["cannot name a folder: '\\udcff'"], UnusableError),
        (
            write("raw/train/cat/a\nb.png"),
            ["1 image name(s) lead outside the image folder raw/train/cat, or are not plain: 'a\\nb.png'"],
            UnusableError,
        ),
        (write("raw/train/cat/\udcff.png"), ["1 image name(s) lead outside", "'\\udcff.png'"], UnusableError),
        (
            write("raw/test/dog/9.png"),
            ["1 of 27 image files cannot be used: test/dog/9.png (", "Replace"],
            UnusableError,
        ),
        (link_folder_of_a_split, ["raw/test leads outside raw by a link", "split.data", "split.test"], UnusableError),
        (
            link_folder_of_a_class,
            ["1 folder(s) of classes in raw/train are links: 'eel'"],
            UnusableError,
        ),
        (link_class_to_another, ["1 folder(s) of classes in raw/train are links: 'dog2'"], UnusableError),
        (link_image, ["lead outside the image folder raw/train/cat, or are not plain: 'eel.png'"], UnusableError),
        (link_one_split_to_another, ["'raw/test' are the same folder by a link"], UnusableError),
    ],
)
def test_refuses_what_makes_no_sense_and_writes_nothing(change, expected, error):
    make_three()
    change()
    message = refusal(NAMED, error)
    assert [words for words in expected if words not in message] == []
    assert files_below(Path("data")) == {}


def test_a_refusal_leaves_the_older_output():
    """Whether it comes while the folders are read or while the images are."""
    make_three()
    run(NAMED)
    write_files({"raw/test/dog/9.png": b"?"})
    assert "test/dog/9.png" in refusal(NAMED)
    shutil.rmtree("raw/test")
    assert "raw/test" in refusal(NAMED, MissingError)
    assert len(files_below(Path("data/split"))) == 26


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train": "/train"}, ["split.train: expected a path relative to split.data"]),
        ({"test": "../test"}, ["split.test: expected a path relative to split.data"]),
        ({"train": None}, ["split.train: "]),
        ({"val": "train"}, ["split.val: expected another folder than 'train'"]),
        ({"train": ".", "val": "."}, ["split.val: expected another folder than '.'"]),
        ({"test": "./val"}, ["split.test: expected another folder than 'val'"]),
        ({"test": "train/cat/test"}, ["split.test: expected another folder than 'train'"]),
        ({"val_fraction": 0.1}, ["split.val_fraction: expected null, because split.val "]),
        ({"val": None}, ["split.val_fraction: expected a fraction, because split.val is null"]),
        ({"test_fraction": 0.1}, ["split.test_fraction: expected null, because split.test "]),
        ({"test": None}, ["split.test_fraction: expected a fraction, because split.test is null"]),
        ({"test": None, "test_fraction": 1.5}, ["split.test_fraction: Input should be less than 1 (got 1.5)"]),
        ({"tset": "test"}, ["split.tset: unknown key; did you mean 'test'?"]),
    ],
    ids=str,
)
def test_mistakes_in_the_section_are_named(changes, expected):
    assert_one_mistake(with_key(NAMED, **changes), expected)


def test_every_key_must_be_there():
    assert_every_key_must_be_there(NAMED)
