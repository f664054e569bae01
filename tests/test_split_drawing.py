"""How splits are drawn: the rule, what it does for small classes, what moves an image and what does not, the limit."""

import math
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import drawn_split, write_files

from pipeline.datasets.arrays import read_arrays
from pipeline.datasets.class_folders import read_folders
from pipeline.datasets.csv_tables import COLUMNS, read_csv, read_mhist
from pipeline.datasets.labelled import Annotation, DataSet
from pipeline.datasets.split_drawing import draw
from pipeline.images.index import in_order
from pipeline.runtime.errors import ParameterError

BOTH = {"val": 0.2, "test": 0.2}


def image(name, label, partition="train", group=None) -> Annotation:
    return Annotation(name, label, partition, None, name, group=group)


def data_of(rows, shares=BOTH) -> DataSet:
    return DataSet(Path("raw"), rows, shares, [], "", in_order(row.class_name for row in rows))


def drawn(rows, shares=BOTH, **options) -> dict[str, str]:
    """The split of every image by its id."""
    result = draw(data_of(rows, shares), **options)
    return {row.id: split for row, split in zip(result.rows, result.splits, strict=True)}


def classes(count, images) -> list[Annotation]:
    """Images with names of their own: class 3's fifth of twelve is image 40."""
    return [image(f"{number * images + place}.png", f"c{number}") for number in range(count) for place in range(images)]


@pytest.mark.parametrize("shares", [{"val": 0.3, "test": 0.4}, {"test": 0.4}, {"val": 0.3}, {}], ids=str)
def test_large_classes_follow_the_stated_rule(shares):
    rows = [image(f"dog/{number}.png", "dog") for number in range(300)]
    assert drawn(rows, shares) == {row.id: drawn_split(row.id, shares.get("val"), shares.get("test")) for row in rows}


@pytest.mark.parametrize("share", [0.05, 0.15, 0.5])
def test_every_class_gives_about_its_share(share):
    """The count of n independent draws lies within 4 sqrt(p (1 - p) / n) of p but for 6 in 100,000 cases."""
    rows = [image(f"MHIST_{number:05}.png", "SSA" if number % 5 else "HP") for number in range(10_000)]
    splits = drawn(rows, {"val": share})
    for label, count in (("HP", 2000), ("SSA", 8000)):
        counts = Counter(splits[row.id] for row in rows if row.class_name == label)
        assert counts["train"] + counts["val"] == count
        assert abs(counts["val"] / count - share) < 4 * math.sqrt(share * (1 - share) / count)


def test_the_validation_share_is_of_what_testing_leaves():
    """Of 10,000: 0.2 test, 0.25 of the other 8,000 validation; four standard deviations of each count are allowed."""
    splits = Counter(drawn(classes(1, 10_000), {"val": 0.25, "test": 0.2}).values())
    assert abs(splits["test"] - 2000) < 4 * math.sqrt(10_000 * 0.2 * 0.8)
    assert abs(splits["val"] - 2000) < 4 * math.sqrt(10_000 * 0.2 * 0.8)


def test_a_larger_fraction_only_adds_validation_images():
    drawings = [drawn(classes(1, 500), {"val": share}) for share in (0.1, 0.2, 0.6)]
    validation = [{name for name, split in drawing.items() if split == "val"} for drawing in drawings]
    assert all(fewer < more for fewer, more in pairwise(validation))


def test_a_split_that_the_data_name_is_kept_whatever_is_drawn():
    rows = [image(f"{number}", "a", ("val", "test")[number % 2]) for number in range(50)]
    assert drawn(rows, {"val": 0.999, "test": 0.999}) == {row.id: row.partition for row in rows}


# Small classes


@pytest.mark.parametrize(("count", "images"), [(20, 12), (200, 10), (300, 3)])
def test_small_classes_have_an_image_in_each_split(count, images):
    rows = classes(count, images)
    splits = drawn(rows)
    assert {(row.class_name, splits[row.id]) for row in rows} == {
        (f"c{number}", split) for number in range(count) for split in ("train", "val", "test")
    }
    by_share = {row.id: drawn_split(row.id, 0.2, 0.2) for row in rows}
    assert sum(splits[name] != by_share[name] for name in splits) <= 2 * count  # one for each split at most


def test_the_smallest_number_fills_up_a_class():
    """By hand, from the digests: of 12 images none has a number below 0.01, so those of the smallest ones are taken."""
    rows = classes(1, 12)
    by_test = min(rows, key=lambda row: smallest_share(row.id, "test")).id
    by_val = min((row for row in rows if row.id != by_test), key=lambda row: smallest_share(row.id, "val")).id
    shares = {"val": 0.01, "test": 0.01}
    assert {drawn_split(row.id, 0.01, 0.01) for row in rows} == {"train"}
    assert drawn(rows, shares) == {row.id: "train" for row in rows} | {by_test: "test", by_val: "val"}


def smallest_share(name: str, split: str) -> float:
    """The number of a name, by bisection: the share at which the stated rule begins to take it."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if drawn_split(name, **{split: middle}) == split else (middle, high)
    return high


@given(st.lists(st.integers(0, 99), min_size=4, max_size=30, unique=True), st.sampled_from([0.01, 0.2, 0.5, 0.9]))
def test_the_fraction_that_is_named_would_have_been_enough(numbers, share):
    """Drawn with a share above it, no class of a small data set needs to be filled up; below it, one does."""
    rows = [image(f"{number}.png", "ab"[place % 2]) for place, number in enumerate(numbers)]
    enough = draw(data_of(rows, {"test": share})).enough["test"]
    smallest = [min(smallest_share(row.id, "test") for row in rows if row.class_name == label) for label in "ab"]
    assert enough == pytest.approx(max(smallest))
    assert draw(data_of(rows, {"test": min(enough + 1e-9, 1)})).filled == {"test": []}
    assert draw(data_of(rows, {"test": enough - 1e-9})).filled == {"test": ["ab"[smallest.index(max(smallest))]]}


@given(
    st.sets(st.integers(0, 199), min_size=1, max_size=40),
    st.sets(st.integers(0, 199), max_size=8),
    st.sampled_from([BOTH, {"val": 0.05}, {"test": 0.05}, {"val": 0.5, "test": 0.5}, {"val": 0.9, "test": 0.9}]),
)
def test_added_images_move_only_those_that_filled_up_a_class(before, added, shares):
    if len(before) <= len(shares):
        return  # too few to fill up
    old = drawn([image(f"{number}.png", "a") for number in before], shares)
    new = drawn([image(f"{number}.png", "a") for number in before | added], shares)
    moved = {name for name in old if new[name] != old[name]}
    by_share = {name: drawn_split(name, shares.get("val"), shares.get("test")) for name in old}
    chosen = {name for name in old if old[name] != by_share[name]}
    left_out = {name for name in chosen if old[name] == "train" or by_share[name] == "test"}
    assert not moved or chosen
    assert left_out or moved <= chosen


def test_other_classes_move_no_image_of_a_small_class():
    few = drawn(classes(3, 4))
    many = drawn(classes(40, 4))
    assert {name: many[name] for name in few} == few


def test_named_test_images_are_neither_filled_up_nor_taken_away():
    rows = [*classes(2, 5), image("x.png", "c0", "test"), image("y.png", "c0", "test")]
    splits = drawn(rows, {"val": 0.01})
    assert [name for name, split in splits.items() if split == "test"] == ["x.png", "y.png"]
    assert Counter(splits[row.id] for row in rows if row.class_name == "c1") == {"train": 4, "val": 1}


# Renaming


def write_csv(labels: list[str]) -> DataSet:
    Path("raw/images").mkdir(parents=True, exist_ok=True)
    for number in range(len(labels)):
        Path(f"raw/images/{number}.png").touch()
    rows = [f"{number}.png,{label}" for number, label in enumerate(labels)]
    Path("raw/train.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    return read_table()


def read_table() -> DataSet:
    return read_csv(
        data=Path("raw"), annotations=Path("train.csv"), images=Path("images"), image_column="image",
        label_column="label", class_names=None, validation_ids=None, test_ids=None, val_fraction=0.3, test_fraction=0.3,
    )  # fmt: skip


def write_mhist(labels: list[str]) -> DataSet:
    write_csv(labels)
    rows = [f"{number}.png,{label},,{'test' if number % 5 == 0 else 'train'}" for number, label in enumerate(labels)]
    Path("raw/train.csv").write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return read_mhist(data=Path("raw"), annotations=Path("train.csv"), images=Path("images"), val_fraction=0.3)


def write_folders(labels: list[str]) -> DataSet:
    for file in Path().glob("raw/*/*.png"):
        file.unlink()
    for folder in Path().glob("raw/*/"):
        folder.rmdir()
    for number, label in enumerate(labels):
        Path("raw", label).mkdir(parents=True, exist_ok=True)
        Path("raw", label, f"{number}.png").touch()
    return read_class_folders()


def read_class_folders() -> DataSet:
    return read_folders(data=Path("raw"), train=Path(), val=None, test=None, val_fraction=0.3, test_fraction=0.3)


def write_arrays(labels: list[str]) -> DataSet:
    names = list(dict.fromkeys(labels))
    numbers = [names.index(label) for label in labels]
    np.savez("raw.npz", x_train=np.zeros((len(labels), 2, 2), np.uint8), y_train=numbers)
    return read_arrays(data=Path("raw.npz"), class_names=names, val_fraction=0.3, test_fraction=0.3)


def splits_by_file(data_set: DataSet) -> dict[str, str]:
    result = draw(data_set)
    return {row.id.split("/")[-1]: split for row, split in zip(result.rows, result.splits, strict=True)}


@pytest.mark.parametrize("write", [write_csv, write_mhist, write_folders, write_arrays], ids=lambda w: w.__name__)
def test_renamed_classes_and_corrected_labels_move_no_image(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = ["cat", "dog"] * 40
    before = splits_by_file(write(labels))
    assert set(before.values()) == {"train", "val", "test"}
    assert len(before) == 80
    assert splits_by_file(write(["cat" if label == "cat" else "wolf" for label in labels])) == before
    corrected = ["dog" if number in (6, 12, 33) else label for number, label in enumerate(labels)]
    assert splits_by_file(write(corrected)) == before


@pytest.mark.parametrize("layout", ["csv", "folders"])
def test_the_unicode_form_of_names_changes_neither_split_nor_id(layout, tmp_path, monkeypatch):
    """Linux and Windows write é as one character, macOS as two."""
    results = []
    for form in ("NFC", "NFD"):
        (tmp_path / form).mkdir()
        monkeypatch.chdir(tmp_path / form)
        names = [unicodedata.normalize(form, f"é{number}.png") for number in range(60)]
        labels = [unicodedata.normalize(form, "äb"[number % 2]) for number in range(60)]
        if layout == "csv":
            write_files({f"raw/images/{name}": b"" for name in names})
            rows = [f"{name},{label}" for name, label in zip(names, labels, strict=True)]
            Path("raw/train.csv").write_text("\n".join(["image,label", *rows]) + "\n")
            data_set = read_table()
        else:
            write_files({f"raw/{label}/{name}": b"" for name, label in zip(names, labels, strict=True)})
            data_set = read_class_folders()
        drawn = draw(data_set, limit=30)
        results.append([(row.id, row.class_name, split) for row, split in zip(drawn.rows, drawn.splits, strict=True)])
        assert Path(data_set.rows[0].image).is_file()
    assert results[0] == results[1]
    assert {label for _, label, _ in results[0]} == {"ä", "b"}


# A limit


def test_a_limit_keeps_every_class_and_a_larger_one_only_adds():
    rows = [image(f"{number}.png", "rare" if number % 20 == 0 else "common") for number in range(1000)]
    whole = drawn(rows)
    chosen = {limit: drawn(rows, limit=limit) for limit in (6, 7, 50, 200, 999)}
    for limit, found in chosen.items():
        assert len(found) == limit
        assert found.items() <= whole.items()
        assert len({(name in rare(rows), split) for name, split in found.items()}) == 6
    assert all(fewer.items() < more.items() for fewer, more in pairwise(chosen.values()))
    # of 1,000 images 50 are rare, so of 200 about 10; what each class and split keeps is its share, give or take one
    counts, of_all = (Counter((name in rare(rows), s) for name, s in found.items()) for found in (chosen[200], whole))
    assert all(abs(counts[cell] - 0.2 * of_all[cell]) <= 1.2 for cell in of_all)
    assert drawn(rows, limit=1000) == drawn(rows, limit=10**9) == whole


def rare(rows) -> set[str]:
    return {row.id for row in rows if row.class_name == "rare"}


def test_a_limit_does_not_hang_on_the_classes_names():
    def chosen(label):
        rows = [Annotation(f"{label}/{n}", label, "train", None, "", drawn_by=str(n)) for n in range(60)]
        return draw(data_of(rows), limit=9)

    one, other = chosen("cat"), chosen("wolf")
    assert [row.drawn_by for row in one.rows] == [row.drawn_by for row in other.rows]


def test_a_limit_too_small_is_refused_with_the_number_needed():
    with pytest.raises(ParameterError) as refused:
        drawn(classes(4, 10), limit=11)
    assert str(refused.value).startswith("split.limit is 11, ")
    assert "to 12 or more" in str(refused.value)
    assert len(drawn(classes(4, 10), limit=12)) == 12


# Groups


def patients(count=60, images=3) -> list[Annotation]:
    """Patients of one class each, but for every seventh, who has images of two."""
    return [
        image(f"{number}_{place}.png", f"c{(number + (place == 0 and number % 7 == 0)) % 2}", group=f"p{number}")
        for number in range(count)
        for place in range(images)
    ]


def test_a_group_lies_in_one_split_and_is_drawn_by_its_name():
    rows = patients()
    splits = drawn(rows)
    assert {row.id: drawn_split(row.group, 0.2, 0.2) for row in rows} == splits
    assert set(splits.values()) == {"train", "val", "test"}


def test_a_whole_group_fills_up_a_class():
    rows = [image(f"{label}{n}.png", label, group=f"{label}{n % 3}") for label in "ab" for n in range(30)]
    splits = drawn(rows, {"val": 1e-9, "test": 1e-9})
    assert Counter((row.class_name, splits[row.id]) for row in rows) == {
        (label, split): 10 for label in "ab" for split in ("train", "val", "test")
    }
    assert len({(row.group, splits[row.id]) for row in rows}) == 6


def test_two_groups_are_too_few_to_fill_three_splits():
    rows = [image(f"{number}.png", "ab"[number % 2], group=f"{number % 4}") for number in range(40)]
    assert set(drawn(rows, {"val": 1e-9, "test": 1e-9}).values()) == {"train"}
