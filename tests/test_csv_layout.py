"""Layout `csv`: a table with any two columns beside a folder of images, as Cassava has it."""

import csv
import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from layouts import (
    CSV,
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

from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, UnusableError

DRAWN = with_key(CSV, images="train_images", image_column="image_id")
NAMED = with_key(DRAWN, validation_ids="val.csv", test_ids="test.csv", val_fraction=None, test_fraction=None)
NAMES = {"0": "CBB", "1": "healthy", "2": "CMD"}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def label_of(number: int) -> str:
    return str(number % 3)


def make(numbers=range(60), lines=()) -> None:
    """Writes train.csv, with another column, and train_images; every image with its own pixels."""
    rows = [f"{number},{label_of(number)},{number:03}.png" for number in numbers]
    write_files({f"raw/train_images/{number:03}.png": png(number) for number in numbers})
    Path("raw/train.csv").write_text("\n".join(["fold,label,image_id", *rows, *lines]) + "\n")


def write_ids(**tables: list[str]) -> None:
    for name, ids in tables.items():
        Path(f"raw/{name}.csv").write_text("\n".join(["image_id", *ids]) + "\n")


def write_names(content) -> dict:
    """Writes the JSON file, and returns the section that names it."""
    Path("raw/names.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return with_key(DRAWN, class_names="names.json")


def test_images_are_copied_unchanged_and_drawn_by_the_given_rule(capsys):
    make()
    rows = run(DRAWN)
    copies = check_copies(rows)
    assert list(rows) == [f"{number:03}.png" for number in range(60)]
    for number, (name, row) in enumerate(rows.items()):
        assert copies[name] == png(number)
        assert (row["class_name"], row["votes"]) == (label_of(number), "")
        assert row["split"] == drawn_split(name, val=0.25, test=0.25)
    assert {row["split"] for row in rows.values()} == {"train", "val", "test"}
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.match("Validation images: 0.25 .* hash of the name.* Test images: 0.25 .* hash of the name", last)


def test_other_images_move_none():
    make(range(60))
    few = run(DRAWN)
    make(range(90))
    many = run(DRAWN)
    assert len(many) == 90
    assert {name: many[name] for name in few} == few


def test_only_named_images_are_validation_and_test_images(capsys):
    make()
    validation, test = ([f"{number:03}.png" for number in numbers] for numbers in (range(9), range(20, 35)))
    write_ids(val=validation, test=test)
    rows = run(NAMED)
    check_copies(rows)
    assert [name for name in rows if rows[name]["split"] == "val"] == validation
    assert [name for name in rows if rows[name]["split"] == "test"] == test
    assert capsys.readouterr().out.count("as the data say") == 2


def test_of_one_named_split_only_the_other_is_drawn():
    make()
    test = [f"{number:03}.png" for number in range(20, 35)]
    write_ids(test=test)
    rows = run(with_key(DRAWN, test_ids="test.csv", test_fraction=None))
    for name, row in rows.items():
        assert row["split"] == ("test" if name in test else drawn_split(name, val=0.25))


def test_the_json_names_the_classes():
    make()
    rows = run(write_names(NAMES | {"3": "unused"}))
    check_copies(rows)
    assert all(row["class_name"] == NAMES[label_of(number)] for number, row in enumerate(rows.values()))
    assert rows["000.png"]["split"] == drawn_split("000.png", val=0.25, test=0.25)


def test_labels_may_be_texts_and_columns_any():
    names = [f"{letter}.png" for letter in "abcdefghijklmnopqrstuvwxyz"]
    write_files({f"raw/train_images/{name}": png(7) for name in names})
    lines = [f"{'leaf rot' if name[0] in 'aeiou' else 'é'},{name}" for name in names]
    Path("raw/train.csv").write_text("\n".join(['"Its, Label",The File', *lines]) + "\n", encoding="utf-8")
    Path("raw/test.csv").write_text("The File\na.png\nb.png\n")
    columns = {"image_column": "The File", "label_column": "Its, Label"}
    rows = run(with_key(DRAWN, **columns, test_ids="test.csv", test_fraction=None))
    assert rows["a.png"]["path"] == "data/split/test/leaf rot/a.png"
    assert Counter(row["class_name"] for row in rows.values()) == {"leaf rot": 5, "é": 21}


def test_files_that_no_row_names_are_told_and_left_out(capsys):
    make()
    write_files({"raw/train_images/z.png": b"?", "raw/train_images/.DS_Store": b"?"})
    assert len(run(DRAWN)) == 60
    assert re.search("1 left out, .* raw/train_images: 'z.png'", capsys.readouterr().out)


def test_the_plan_counts_what_split_makes_without_decoding():
    make()
    Path("raw/train_images/017.png").write_bytes(b"no image")
    counts = Counter(drawn_split(f"{n:03}.png", val=0.25, test=0.25) for n in range(60))
    assert planned(DRAWN) == (
        f"60 images in 3 classes: {counts['train']} train, {counts['val']} val, {counts['test']} test (raw/train.csv)"
    )
    assert "017.png" in refusal(DRAWN)
    assert files_below(Path("data")) == {}


@pytest.mark.parametrize(
    ("change", "expected", "error"),
    [
        pytest.param(
            lambda: write_ids(val=["000.png", "x.png"]),
            ["raw/val.csv names 1 image(s)", "'x.png' (line 3)", "raw/train.csv", "split.validation_ids"],
            MismatchError,
            id="unknown validation id",
        ),
        pytest.param(
            lambda: write_ids(test=["y.png", "x.png"]),
            ["raw/test.csv names 2 image(s)", "'y.png' (line 2), 'x.png' (line 3)", "split.test_ids"],
            MismatchError,
            id="unknown test ids",
        ),
        pytest.param(
            lambda: write_ids(test=["003.png", "004.png"]),
            ["1 image(s)", "split.validation_ids", "split.test_ids", ": '003.png'. "],
            UnusableError,
            id="an id in both",
        ),
        pytest.param(
            lambda: Path("raw/val.csv").unlink(),
            ["no validation_ids file at raw/val.csv", "split.validation_ids"],
            MissingError,
            id="no table of ids",
        ),
        pytest.param(
            lambda: Path("raw/test.csv").write_text("id\n004.png\n"),
            ["raw/test.csv lacks the column 'image_id'; it has 'id'", "split.image_column"],
            UnusableError,
            id="ids in another column",
        ),
        pytest.param(lambda: write_ids(val=[]), ["raw/val.csv has its header but no rows"], UnusableError, id="no ids"),
    ],
)
def test_refuses_ids_that_make_no_sense(change, expected, error):
    """Each beside ids that make sense: as many are taken by `test_only_named_images_are_validation_and_test_images`."""
    make()
    write_ids(val=["003.png"], test=["004.png", "005.png", "006.png"])
    change()
    message = refusal(NAMED, error)
    assert [words for words in expected if words not in message] == []


@pytest.mark.parametrize(
    ("content", "expected", "error"),
    [
        (
            {"0": "CBB", "1": "healthy"},
            ["raw/train.csv has 1 label(s)", "split.class_names", ": '2'; known are '0', '1'. "],
            MismatchError,
        ),
        (
            ["a", "b"],
            ["split.class_names", ": '2'; known are '0', '1'. A list names labels from 0 on", "a map"],
            MismatchError,
        ),
        (["a", "b", "a"], ["raw/names.json uses 'a' more than once"], UnusableError),
        (
            '{"0": "a", "1": "b", "2": "c", "0": "d"}',
            ["raw/names.json cannot be read", "key '0' stands more than once"],
            DamagedError,
        ),
        ("{0: 1", ["raw/names.json cannot be read as JSON", '["healthy", "ill"]'], DamagedError),
        ("[" * 100_000, ["raw/names.json cannot be read as JSON", '["healthy", "ill"]'], DamagedError),
        ([0, 1, 2], ["raw/names.json holds no list or map of texts"], UnusableError),
        ("3", ["raw/names.json holds no list or map of texts"], UnusableError),
        ({"healthy": 0, "ill": 1}, ["raw/names.json maps labels to", '{"0": "healthy", "1": "ill"}'], UnusableError),
        ({"0": "a", "1": {"b": "c"}, "2": "d"}, ["raw/names.json maps labels to"], UnusableError),
        (
            {"0": "../a", "1": "b", "2": "c"},
            ["cannot name a folder: '../a'", "raw/names.json and the column 'label'"],
            UnusableError,
        ),
        ({"0": "\ud800", "1": "b", "2": "c"}, ["raw/names.json cannot be read", "half a character"], DamagedError),
        ({"0": "a ", "1": "b", "2": "c"}, ["cannot name a folder: 'a '"], UnusableError),
    ],
)
def test_refuses_names_of_classes_that_make_no_sense(content, expected, error):
    make()
    message = refusal(write_names(content), error)
    assert [words for words in expected if words not in message] == []
    assert files_below(Path("data")) == {}


def test_refuses_names_that_are_no_text_or_not_there():
    make()
    section = write_names("")
    Path("raw/names.json").write_bytes(b'{"0": "\xff"}')
    assert "raw/names.json cannot be read as text in UTF-8" in refusal(section, DamagedError)
    Path("raw/names.json").unlink()
    message = refusal(section, MissingError)
    assert "no class_names file at raw/names.json" in message
    assert "split.class_names: null" in message


@pytest.mark.parametrize(
    ("lines", "expected", "error"),
    [
        (
            ["0,1,000.png"],
            ["1 image(s)", ": '000.png' (line 2), '000.png' (line 62). "],
            UnusableError,
        ),
        (
            ["0,1,zz.png"],
            ["1 of 61 ", "raw/train_images: 'zz.png' (line 62). ", "63 file(s), such as '000.png', '000b.png'. "],
            MissingError,
        ),
        (
            ["0,1,../train.csv"],
            ["1 image name(s)", "raw/train_images, or are not plain: '../train.csv' (line 62)"],
            UnusableError,
        ),
        (['0,1,"a\rb.png"'], ["1 image name(s) of raw/train.csv ", "'a\\rb.png'", "control characters"], UnusableError),
        (["0,1,link.png"], ["1 image name(s)", "raw/train_images by a link: 'link.png' (line 62)"], UnusableError),
        (
            ["0,,001b.png", "1,,000b.png"],
            ["2 of 62 rows of raw/train.csv", "the column 'label': '001b.png' (line 62), '000b.png'"],
            UnusableError,
        ),
        (["0,a/b,001b.png"], ["cannot name a folder: 'a/b'", "the column 'label'"], UnusableError),
        (["0,1,x.png,4"], ["cannot be read as a CSV file", "line 62"], DamagedError),
    ],
    ids=["twice", "missing", "outside", "control character", "link", "no label", "separator", "long row"],
)
def test_refuses_rows_that_make_no_sense(lines, expected, error):
    make(lines=lines)
    write_files({"elsewhere.png": png(1), "raw/train_images/001b.png": png(2), "raw/train_images/000b.png": b"?"})
    os.symlink(Path("elsewhere.png").resolve(), "raw/train_images/link.png")
    message = refusal(DRAWN, error)
    assert [words for words in expected if words not in message] == []
    assert files_below(Path("data")) == {}


@pytest.mark.parametrize(
    ("changes", "expected", "error"),
    [
        (
            {"image_column": "Image"},
            [
                "raw/train.csv lacks the column 'Image'; it has 'fold', 'label', 'image_id'",
                "split.image_column and split.label_column",
            ],
            UnusableError,
        ),
        ({"image_column": "a", "label_column": "b"}, ["lacks the columns 'a', 'b'"], UnusableError),
        ({"label_column": "Label"}, ["lacks the column 'Label'"], UnusableError),
        (
            {"annotations": "none.csv"},
            ["no annotations file at raw/none.csv", "split.data and split.annotations"],
            MissingError,
        ),
        ({"images": "none"}, ["no folder raw/none; raw holds the folder(s) 'train_images'"], MissingError),
    ],
    ids=str,
)
def test_refuses_what_is_not_there(changes, expected, error):
    make()
    message = refusal(with_key(DRAWN, **changes), error)
    assert [words for words in expected if words not in message] == []
    assert files_below(Path("data")) == {}


def test_refuses_classes_that_are_too_small_for_three_splits():
    make(range(6))
    tiny = with_key(DRAWN, val_fraction=1e-9, test_fraction=1e-9)
    message = refusal(tiny)
    assert message.startswith("3 split(s) ")
    assert ": test/0, test/1, test/2. " in message
    assert "split.val_fraction" in message
    assert "split.test_fraction" in message
    assert "A class with 3 images " in message
    make(range(9))
    assert Counter(row["split"] for row in run(tiny).values()) == {"train": 3, "val": 3, "test": 3}


def test_refuses_one_class():
    make()
    path = Path("raw/train.csv")
    path.write_text(path.read_text().replace(",1,", ",0,").replace(",2,", ",0,"))
    message = refusal(DRAWN)
    assert message.startswith("raw/train.csv has only the class '0'")
    assert "the column 'label'" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"images": "/images"}, ["split.images: expected a path relative to split.data", "'..'"]),
        ({"images": "../images"}, ["split.images: expected a path relative to split.data"]),
        ({"annotations": "a/../../b.csv"}, ["split.annotations: expected a path relative"]),
        ({"class_names": "..\\names.json"}, ["split.class_names: expected a path relative"]),
        ({"class_names": "C:names.json"}, ["split.class_names: expected a path relative"]),
        ({"validation_ids": "/x.csv", "val_fraction": None}, ["split.validation_ids: expected a path relative"]),
        ({"val_fraction": None}, ["split.val_fraction: expected a fraction, because split.validation_ids is null"]),
        ({"test_fraction": None}, ["split.test_fraction: expected a fraction, because split.test_ids is null"]),
        ({"validation_ids": "x.csv"}, ["split.val_fraction: expected null, because split.validation_ids "]),
        ({"test_ids": "x.csv"}, ["split.test_fraction: expected null, because split.test_ids ", "got 0.25"]),
        ({"val_fraction": 1}, ["split.val_fraction: Input should be less than 1 (got 1)"]),
        ({"test_fraction": 0.0}, ["split.test_fraction: Input should be greater than 0 (got 0.0)"]),
        ({"label_column": "image_id"}, ["split.label_column: expected another column than split.image_column"]),
        ({"label_column": ""}, ["split.label_column: ", "at least 1 character"]),
        ({"label_colunm": "label"}, ["split.label_colunm: unknown key; did you mean 'label_column'?"]),
        ({"layout": "cvs"}, ["split.layout: unknown layout 'cvs'", "Did you mean 'csv'?"]),
    ],
    ids=str,
)
def test_mistakes_in_the_section_are_named(changes, expected):
    assert_one_mistake(with_key(DRAWN, **changes), expected)


def test_every_key_must_be_there():
    assert_every_key_must_be_there(DRAWN, but=["label_column", "class_names"])


def test_split_reads_the_real_images_of_leaves():
    shared = os.environ.get("SOFTLABEL_SHARED_DATA")
    data = Path(shared or ".") / "leaves_cassava_format"
    if not shared or not data.is_dir():
        pytest.skip("SOFTLABEL_SHARED_DATA names no folder with leaves_cassava_format")
    section = with_key(DRAWN, data=str(data), class_names="label_num_to_disease_map.json", test_fraction=0.2)
    rows = run(section)
    copies = check_copies(rows)
    names = json.loads((data / "label_num_to_disease_map.json").read_text())
    with (data / "train.csv").open(newline="") as file:
        expected = {row["image_id"]: names[row["label"]] for row in csv.DictReader(file)}
    assert {name: row["class_name"] for name, row in rows.items()} == expected
    originals = files_below(data / "train_images")
    assert all(copies[name] == originals[name] for name in rows)
    counts = Counter(row["split"] for row in rows.values())
    of_each = ", ".join(f"{counts[name]} {name}" for name in ("train", "val", "test"))
    assert planned(section).startswith(f"{len(expected)} images in 5 classes: {of_each}")
