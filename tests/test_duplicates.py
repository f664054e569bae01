"""The same picture more than once: told, refused, or kept in training."""

from pathlib import Path

import numpy as np
import pytest
from layouts import CSV, drawn_split, planned, png, refusal, run, with_key, write_files
from shard_files import as_structs, write_parquet, write_tar

from pipeline.datasets import duplicates
from pipeline.runtime.digests import sha256_file

TABLE = with_key(CSV, test_ids="test.csv", test_fraction=None)
ARRAYS = {"layout": "arrays", "data": "raw.npz", "class_names": ["a", "b"], "val_fraction": None, "test_fraction": None}
KEEP = with_key(TABLE, duplicates="keep_in_train")
IN_TRAIN, IN_VAL, IN_TEST = 6, 7, 2
"""An even image of each split, by the stated rule and the table of test images."""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def make(copies=(), labels=None, count=40, groups=None) -> None:
    """Images 0 to 39, of classes a and b in turn; those below 10 are test images; `copies`: (image, the one it is)."""
    same = dict(copies)
    write_files({f"raw/images/{number:02}.png": png(same.get(number, number)) for number in range(count)})
    rows = [
        f"{number:02}.png,{(labels or {}).get(number, 'ab'[number % 2])},{(groups or {}).get(number, f'own{number}')}"
        for number in range(count)
    ]
    Path("raw/train.csv").write_text("\n".join(["image,label,patient", *rows]) + "\n")
    Path("raw/test.csv").write_text("\n".join(["image", *(f"{number:02}.png" for number in range(10))]) + "\n")


def of_split(split: str, label: int) -> list[int]:
    """The images that are not named, of a class (0 or 1), which the stated rule puts into a split."""
    return [number for number in range(10 + label, 40, 2) if drawn_split(f"{number:02}.png", 0.25) == split]


def warned(capsys) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]


def test_copies_in_one_split_and_class_are_nothing_to_tell(capsys):
    first, second, *_ = of_split("train", 0)
    make([(second, first)])
    run(TABLE)
    assert warned(capsys) == []


def test_copies_in_two_splits_are_counted_and_named(capsys):
    train, (val, *_) = of_split("train", 0), of_split("val", 0)
    make([(train[0], 2), (train[1], val)])
    rows = run(TABLE)
    assert rows["02.png"]["sha256"] == rows[f"{train[0]}.png"]["sha256"]
    (line,) = warned(capsys)
    assert line.startswith("Warning: 2 picture(s) lie in more than one split")
    assert f"02.png (test/a) = {train[0]}.png (train/a)" in line
    assert f"{min(val, train[1])}.png" in line
    assert "all in" not in line


def test_copies_in_two_classes_are_counted_and_named(capsys):
    make([(15, 12)], labels={12: "a", 15: "b"})
    run(TABLE)
    lines = warned(capsys)
    assert lines[-1].startswith("Warning: 1 picture(s) have more than one class")
    assert ": 12.png (" in lines[-1]


def test_of_many_copies_all_are_in_a_file(capsys):
    make([(number, 30) for number in range(12, 30)] + [(number, 0) for number in (2, 4, 6)])
    run(TABLE)
    in_splits, _ = warned(capsys)
    assert in_splits.count("12.png") == 1
    assert " = … (all in .work/copies-in-splits.txt)." in in_splits
    assert len(in_splits) < 300
    (told,) = Path(".work/copies-in-classes.txt").read_text().splitlines()
    assert [part.split()[0] for part in told.split(" = ")] == [f"{number}.png" for number in range(12, 31)]


def test_copies_are_refused_where_that_is_asked_for():
    Path("data").mkdir()
    make([(of_split("train", 0)[0], 2)])
    message = refusal(with_key(TABLE, duplicates="refuse"))
    assert message.startswith("1 picture(s) lie in more than one split")
    assert "split.duplicates" in message
    make()
    assert len(run(with_key(TABLE, duplicates="refuse"))) == 40


def test_a_wrong_label_is_refused_too():
    first, second, *_ = of_split("train", 0)
    Path("data").mkdir()
    make([(second, first)], labels={second: "b"})
    assert "1 picture(s) have more than one class" in refusal(with_key(TABLE, duplicates="refuse"))


def test_copies_stay_in_training_drawn_or_named_alike(capsys):
    (train, *_), (val, *_) = of_split("train", 0), of_split("val", 0)
    make([(train, 2), (val, 2), (4, 2)])  # a training image, a validation image and two test images
    plain = run(TABLE)
    rows = run(KEEP)
    assert {rows[name]["split"] for name in ("02.png", "04.png", f"{train}.png", f"{val}.png")} == {"train"}
    others = rows.keys() - {"02.png", "04.png", f"{train}.png", f"{val}.png"}
    assert {name: rows[name]["split"] for name in others} == {name: plain[name]["split"] for name in others}
    output = capsys.readouterr().out
    assert "split.duplicates: 3 image(s) stay in training" in output
    assert output.count("Warning") == 1  # of the first run
    counts = [sum(row["split"] == split for row in rows.values()) for split in ("train", "val", "test")]
    assert planned(KEEP).endswith(f": {counts[0]} train, {counts[1]} val, {counts[2]} test (raw/train.csv)")


def test_copies_in_one_other_split_stay_there():
    make([(4, 2)])
    rows = run(KEEP)
    assert rows["02.png"]["split"] == rows["04.png"]["split"] == "test"


def test_a_class_that_would_lose_its_test_images_is_refused():
    train = of_split("train", 0)
    make(list(zip(train[:5], (0, 2, 4, 6, 8), strict=True)))
    message = refusal(KEEP)
    assert message.startswith("1 split(s) ")
    assert ": test/a. " in message
    assert "split.duplicates: keep_in_train has put 5 image(s) into training" in message


def test_a_small_class_is_filled_up_with_images_without_copies():
    """Four images of which none is drawn by its share; those with a copy elsewhere must not be the ones."""
    make([(2, 0), (4, 0), (6, 0)], count=12)
    rows = run(with_key(KEEP, test_ids=None, val_fraction=1e-9, test_fraction=1e-9))
    assert {rows[f"{number:02}.png"]["split"] for number in (0, 2, 4, 6)} == {"train"}
    assert {rows[f"{number:02}.png"]["split"] for number in (8, 10)} == {"val", "test"}


def test_a_group_stays_whole_when_a_copy_keeps_it_in_training():
    train, (val, *_) = of_split("train", 0), of_split("val", 0)
    names = [f"g{number}" for number in range(200) if drawn_split(f"g{number}", 0.25) == "val"]
    groups = {val: names[0], train[0]: names[0], train[1]: names[0]}
    make([(val, train[2])], groups=groups | {train[2]: "kept" + "x" * next_in_train("kept")})
    section = with_key(KEEP, group_column="patient")
    drawn = run(with_key(section, duplicates="warn"))
    assert {drawn[f"{number}.png"]["split"] for number in groups} == {"val"}
    kept = run(section)
    assert {kept[f"{number}.png"]["split"] for number in (*groups, train[2])} == {"train"}


def next_in_train(name: str) -> int:
    return next(count for count in range(99) if drawn_split(name + "x" * count, 0.25) == "train")


def test_of_arrays_what_would_be_written_is_compared(capsys):
    """A grey image of one channel and one without are the same file; an RGB image of the same grey is another."""
    images = np.random.default_rng(1).integers(0, 256, (8, 3, 4), np.uint8)
    test = np.stack([images[0], 255 - images[1]])
    labels = {"y_train": np.arange(8) % 2, "y_val": np.arange(2), "y_test": np.arange(2)}
    np.savez("raw.npz", x_train=images, x_val=images[:2, ::-1], x_test=test[..., None], **labels)
    run(ARRAYS)
    assert len(warned(capsys)) == 1
    np.savez("raw.npz", x_train=images, x_val=images[:2, ::-1], x_test=np.stack([test] * 3, -1), **labels)
    run(ARRAYS)
    assert warned(capsys) == []


def test_of_arrays_copies_are_kept_in_training():
    images = np.random.default_rng(1).integers(0, 256, (8, 3, 4), np.uint8)
    more = {"y_train": np.arange(8) % 2, "y_val": np.arange(2), "y_test": np.arange(4) % 2}
    test = np.concatenate([images[:1], 255 - images[1:4]])[..., None]
    np.savez("raw.npz", x_train=images, x_val=images[:2, ::-1], x_test=test, **more)
    rows = run(with_key(ARRAYS, duplicates="keep_in_train"))
    assert [rows[f"test_0000{number}.png"]["split"] for number in range(4)] == ["train", "test", "test", "test"]


def test_only_files_of_a_size_that_others_have_are_read(monkeypatch, tmp_path):
    """Of three images, one is equal to another one, one has only its size, and one not even that."""
    contents = {"image 1": b"same", "image 2": b"size", "image 3": b"longer", "other 1": b"same", "other 2": b"no"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    read = []
    monkeypatch.setattr(duplicates, "sha256_of", lambda path: read.append(Path(path).name) or sha256_file(Path(path)))
    images, others = (
        [f"{tmp_path}/{name}" for name in contents if name.startswith(kind)] for kind in ("image", "other")
    )
    assert duplicates.equal_to_any(images, others) == [True, False, False]
    assert sorted(read) == ["image 1", "image 2", "other 1"]


@pytest.mark.parametrize(
    ("layout", "extension", "column", "kept"),
    [
        ("webdataset", "tar", "cls", ["train/3.png", "train/4.png"]),
        ("parquet", "parquet", "label", ["train/000003", "train/000004"]),
    ],
)
def test_an_unlabelled_copy_in_a_shard_is_left_out(layout, extension, column, kept, capsys):
    """Without a label: a copy of a test image, one of a training image, and an image that is there once."""
    pictures = {"train": [(0, "a"), (1, "b"), (9, ""), (0, ""), (7, "")], "val": [(2, "a"), (3, "b")]}
    pictures["test"] = [(9, "a"), (5, "b")]
    for part, of_part in pictures.items():
        images, labels = [png(number) for number, _ in of_part], [label for _, label in of_part]
        members = {f"{number}.png": image for number, image in enumerate(images)}
        members |= {f"{number}.cls": label.encode() for number, label in enumerate(labels) if label}
        write_tar(f"raw/{part}.tar", members)
        write_parquet(f"raw/{part}.parquet", {"image": as_structs(images), "label": labels})
    section = {"layout": layout, "data": "raw", "label_column": column, "unlabelled": {"rows": True}}
    section |= {part: f"{part}.{extension}" for part in pictures}
    rows = run(section | {"val_fraction": None, "test_fraction": None})
    assert sorted(name for name, row in rows.items() if not row["class_name"]) == kept
    said = capsys.readouterr().out
    assert "1 image(s) without a label are left out, because they are equal to a validation or test image" in said
    assert "1 image(s) without a label are equal to labelled training images" in said
