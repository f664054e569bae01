"""Images without a label in every layout: what `split` makes of them, and what it refuses."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from layouts import (
    CSV,
    FOLDER,
    as_read,
    documented_sections,
    drawn_split,
    files_below,
    invalid,
    png,
    refusal,
    run,
    with_key,
    write_files,
)

from pipeline.images.index import read_index
from pipeline.runtime.errors import MissingError, ParameterError
from pipeline.tools.image_counts import count_images

ROWS = {"rows": True}
SECTION = with_key(CSV, unlabelled=ROWS)
COUNT = 40
MHIST = {"layout": "mhist", "data": "raw", "annotations": "train.csv", "images": "images", "val_fraction": 0.25}
FOLDERS = {
    "layout": "folders",
    "data": "raw",
    "train": ".",
    "val": None,
    "test": None,
    "val_fraction": 0.25,
    "test_fraction": 0.25,
    "unlabelled": {"folder": "more"},
}
ARRAYS = {"layout": "arrays", "data": "raw/a.npz", "val_fraction": 0.25, "test_fraction": 0.25, "unlabelled": ROWS}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def label_of(number):
    return "ab"[number % 2]


def without(numbers, blank=""):
    """The labels of all images, of which these numbers have none."""
    return [blank if number in numbers else label_of(number) for number in range(COUNT)]


def table(labels, header="image,label", name="{}.png,{}"):
    """Writes the table and its images."""
    lines = [header, *(name.format(number, label) for number, label in enumerate(labels))]
    write_files({f"raw/images/{number}.png": png(number) for number in range(len(labels))})
    write_files({"raw/train.csv": "\n".join([*lines, ""]).encode()})


def splits_of(rows):
    return {name: row["split"] for name, row in rows.items()}


# Rows


def test_rows_without_a_label_become_training_images(capsys):
    table(without(range(12)))
    rows = run(SECTION)
    said = capsys.readouterr().out
    assert "are equal to labelled" not in said
    for number in range(12):
        row, content = rows[f"{number}.png"], png(number)
        assert (row["class_name"], row["label"], row["split"]) == ("", "", "train")
        assert row["path"] == f"data/split/unlabelled/{number}.png"
        assert Path(row["path"]).read_bytes() == content
    assert len(rows) == COUNT
    printed = [line.split() for line in said.splitlines()]
    counts = Counter(row["split"] for row in rows.values())
    assert ["no", "label", "12", "0", "0"] in printed
    assert ["all", *(str(counts[name]) for name in ("train", "val", "test"))] in printed


def test_the_folders_of_classes_hold_labelled_images_alone():
    """So that other programs find classes there and nothing else, a class called as the other folder included."""
    table([{"a": "unlabelled"}.get(label, label) for label in without(range(12))])
    run(SECTION)
    assert {path.name for path in FOLDER.iterdir()} == {"train", "val", "test", "unlabelled"}
    for name in ("train", "val", "test"):
        assert {path.name for path in (FOLDER / name).iterdir()} == {"unlabelled", "b"}
    assert {path.name for path in (FOLDER / "unlabelled").iterdir()} == {f"{number}.png" for number in range(12)}


def test_the_index_reads_what_split_wrote():
    table(without(range(12)))
    run(SECTION)
    index = read_index(Path("data/index.csv"))
    assert index.class_names == ["a", "b"]
    unlabelled = [image.id for image in index.split("train") if not image.is_labelled]
    assert sorted(unlabelled) == sorted(f"{number}.png" for number in range(12))
    assert len(index.labelled("train")) == len(index.split("train")) - 12


def test_no_image_changes_its_split_when_labels_are_taken_away():
    """An image that would be drawn becomes a training image; those that keep their label stay where they were."""
    table(without(()))
    before = splits_of(run(CSV))
    removed = range(0, COUNT, 3)
    assert {before[f"{number}.png"] for number in removed} == {"train", "val", "test"}
    table(without(removed))
    after = splits_of(run(SECTION))
    for number in range(COUNT):
        name = f"{number}.png"
        assert after[name] == ("train" if number in removed else before[name])
        assert before[name] == drawn_split(name, 0.25, 0.25)


def test_images_without_a_label_fill_up_no_class():
    """Class c has three labelled images, one for each split, however many others there are."""
    table([*without(range(20)), "c", "c", "c"])
    rows = run(SECTION)
    assert sorted(row["split"] for row in rows.values() if row["class_name"] == "c") == ["test", "train", "val"]
    assert {row["split"] for row in rows.values() if not row["class_name"]} == {"train"}


@pytest.mark.parametrize("blank", ["", " ", "nan", "NA", "None"])
def test_every_way_to_write_no_label_is_known(blank):
    table(without(range(12), blank))
    assert sum(not row["class_name"] for row in run(SECTION).values()) == 12


def test_a_label_that_class_names_knows_is_one():
    table(without(range(12), "NA"))
    rows = run(with_key(SECTION, class_names=["a", "b", "NA"]))
    assert Counter(row["class_name"] for row in rows.values())["NA"] == 12


def test_whole_numbers_beside_empty_fields_are_numbers():
    """As pandas writes them: 1.0 where some fields of the column are empty."""
    table([{"a": "0.0", "b": "1.0"}.get(label, label) for label in without(range(12))])
    assert {row["class_name"] for row in run(SECTION).values()} == {"0", "1", ""}


def test_of_one_hot_columns_a_row_of_nothing_has_no_label():
    bits = {"": ",", "a": "1,0", "b": "0,1"}
    table([bits[label] for label in without(range(12))], header="image,a,b")
    section = with_key(SECTION, label_column=None, label_columns=["a", "b"])
    assert [row["class_name"] for row in run(section).values()].count("") == 12
    message = refusal(with_key(section, unlabelled=None))
    assert "12 of 40 rows" in message
    assert "split.unlabelled: {rows: true}" in message


def test_of_one_hot_columns_a_row_of_zeros_is_refused():
    """It may mean another class that has no column."""
    table([*(["0,0"] * 3), *(["1,0", "0,1"] * 10)], header="image,a,b")
    section = with_key(SECTION, label_column=None, label_columns=["a", "b"])
    assert "3 of 23 rows" in refusal(section)


def test_one_hot_columns_are_found_beside_unlabelled_rows():
    bits = {"": ",", "a": "1,0", "b": "0,1"}
    table([bits[label] for label in without(range(12))], header="image,a,b")
    assert "[a, b]" in refusal(with_key(SECTION, label_column="a"), ParameterError)


@pytest.mark.parametrize("unlabelled", [None, {}, {"rows": None}, {"folder": None}])
def test_without_the_key_a_row_without_a_label_is_refused(unlabelled):
    table(without(range(3)))
    message = refusal(with_key(SECTION, unlabelled=unlabelled))
    assert "3 of 40 rows" in message
    assert "'0.png' (line 2)" in message
    assert "split.unlabelled: {rows: true}" in message


def test_rows_false_leaves_them_out_and_changes_nothing_else(capsys):
    table(without(range(12)))
    used = run(SECTION)
    capsys.readouterr()
    rows = run(with_key(SECTION, unlabelled={"rows": False}))
    assert rows == {name: row for name, row in used.items() if row["class_name"]}
    said = capsys.readouterr().out
    assert "12 image(s) without a label are left out, because split.unlabelled.rows is false." in said
    assert "no row names" not in said


def test_a_table_without_any_label_is_refused():
    table(without(range(COUNT)))
    assert "no row of raw/train.csv has a label in 'label'" in refusal(SECTION)


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize(("key", "split"), [("validation_ids", "val"), ("test_ids", "test")])
def test_a_named_image_of_another_split_needs_a_label(key, split, rows):
    table(without([3]))
    write_files({"raw/ids.txt": b"".join(b"%d.png\n" % number for number in range(12))})
    fraction = {"val": "val_fraction", "test": "test_fraction"}[split]
    message = refusal(with_key(SECTION, **{key: "ids.txt", fraction: None}, unlabelled={"rows": rows}))
    assert f"1 validation or test image(s) that have no label: 3.png ({split})" in message


# MHIST


def mhist(labels, partitions):
    header = "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition"
    fields = [f"{label},3,{partition}" for label, partition in zip(labels, partitions, strict=True)]
    table(fields, header=header)


def test_mhist_keeps_the_votes_of_an_image_without_a_label():
    mhist(without(range(12)), ["train" if number < 30 else "test" for number in range(COUNT)])
    rows = run(with_key(MHIST, unlabelled=ROWS))
    assert [rows[f"{number}.png"]["split"] for number in range(12)] == ["train"] * 12
    assert {row["votes"] for row in rows.values()} == {"3"}
    assert "split.unlabelled" in refusal(MHIST)


def test_mhists_test_images_need_a_label():
    mhist(without([35]), ["train" if number < 30 else "test" for number in range(COUNT)])
    assert "35.png (test)" in refusal(with_key(MHIST, unlabelled=ROWS))


# What models are tested on


def test_a_copy_of_a_validation_or_test_image_is_left_out(capsys):
    """Images 0 to 5 are copies of two images of each split; copies of training images stay."""
    table(without(range(12)))
    rows = run(SECTION)
    same = {
        split: [name for name, row in rows.items() if row["class_name"] and row["split"] == split][:2]
        for split in ("train", "val", "test")
    }
    for number, name in enumerate([*same["train"], *same["val"], *same["test"]]):
        Path(f"raw/images/{number}.png").write_bytes(Path(f"raw/images/{name}").read_bytes())
    for duplicates in ("warn", "refuse", "keep_in_train"):
        capsys.readouterr()
        left = run(with_key(SECTION, duplicates=duplicates))
        assert rows.keys() - left.keys() == {"2.png", "3.png", "4.png", "5.png"}
        assert splits_of(left) == {name: split for name, split in splits_of(rows).items() if name in left}
        said = capsys.readouterr().out
        assert "4 image(s) without a label are left out, because they are equal to a validation or test image" in said
        assert "'2.png', '3.png', '4.png', '5.png'" in said
        assert "2 image(s) without a label are equal to labelled training images" in said
        for number, name in enumerate(same["train"]):
            assert f"{number}.png = {name} (train/{rows[name]['class_name']})" in said
        assert "Warning" not in said


def grouped(labels, groups):
    fields = [f"{label},{group}" for label, group in zip(labels, groups, strict=True)]
    table(fields, header="image,label,patient")
    return with_key(SECTION, group_column="patient")


def test_images_of_a_patient_who_is_tested_are_left_out(capsys):
    """Ten patients of four images; the first image of each has no label."""
    rows = run(grouped(without(range(10)), [f"p{number % 10}" for number in range(COUNT)]))
    splits = {number: rows[f"{number}.png"]["split"] for number in range(10, COUNT)}
    tested = [number for number in range(10) if splits[number + 10] != "train"]
    assert 0 < len(tested) < 10
    assert [number for number in range(10) if f"{number}.png" not in rows] == tested
    said = capsys.readouterr().out
    assert f"{len(tested)} image(s) without a label are left out, because they belong to a group with val" in said


def test_a_patient_without_any_label_is_not_drawn():
    rows = run(grouped(without(range(20)), [f"p{number // 4}" for number in range(COUNT)]))
    assert {rows[f"{number}.png"]["split"] for number in range(20)} == {"train"}


def test_named_test_images_and_others_of_their_patient():
    """The patient's labelled images are named test images; those without a label are left out, and not refused."""
    section = grouped(without(range(10)), [f"p{number // 2 % 5}" for number in range(COUNT)])
    write_files({"raw/ids.txt": b"10.png\n11.png\n20.png\n21.png\n30.png\n31.png\n"})
    rows = run(with_key(section, test_ids="ids.txt", test_fraction=None))
    assert not {"0.png", "1.png"} & rows.keys()
    assert [name for name, row in rows.items() if row["split"] == "test"] == [
        f"{n}.png" for n in (10, 11, 20, 21, 30, 31)
    ]


def test_a_limit_takes_the_same_share_of_images_without_a_label():
    table(without(range(20)))
    whole = run(SECTION)
    rows = run(with_key(SECTION, limit=20))
    assert len(rows) == 20
    assert sum(not row["class_name"] for row in rows.values()) == 10
    assert splits_of(rows).items() <= splits_of(whole).items()
    assert "7 images are needed" in refusal(with_key(SECTION, limit=6), ParameterError)


def test_an_image_without_a_label_must_be_an_image():
    table(without(range(12)))
    Path("raw/images/3.png").write_bytes(png(3)[:40])
    assert "3.png" in refusal(SECTION)


@pytest.mark.parametrize("rows", [True, False])
def test_a_plan_counts_what_split_makes(rows):
    table(without(range(12)))
    section = with_key(SECTION, unlabelled={"rows": rows})
    before = count_images(Path("data/index.csv"), **as_read(section))
    made = run(section)
    assert before.unlabelled == sum(not row["class_name"] for row in made.values()) == 12 * rows
    assert before.counts == Counter(splits_of(made).values())
    Path("raw").rename("away")
    assert count_images(Path("data/index.csv"), **as_read(section)).unlabelled == before.unlabelled


# A folder


@pytest.mark.parametrize("layout", ["csv", "mhist", "folders"])
def test_a_folder_of_any_depth_is_used(layout):
    if layout == "folders":
        write_files({f"raw/{label_of(n)}/{n}.png": png(n) for n in range(COUNT)})
        section = FOLDERS
    elif layout == "csv":
        table(without(()))
        section = with_key(CSV, unlabelled={"folder": "more"})
    else:
        mhist([label_of(n // 2) for n in range(COUNT)], ["train", "test"] * (COUNT // 2))
        section = with_key(MHIST, unlabelled={"folder": "more"})
    before = run(with_key(section, unlabelled=None))
    inside = {"more/1.png": png(101), "more/deep/er/1.png": png(102), "more/deep/2.PNG": png(103)}
    write_files({f"raw/{name}": content for name, content in inside.items()})
    write_files({"raw/more/.hidden.png": png(104), "raw/more/__MACOSX/5.png": png(105)})
    rows = run(section)
    found = {name: row for name, row in rows.items() if not row["class_name"]}
    assert {name: Path(row["path"]).read_bytes() for name, row in found.items()} == inside
    assert {row["path"] for row in found.values()} == {
        f"data/split/unlabelled/{name.replace('/', '__')}" for name in inside
    }
    assert before == {name: row for name, row in rows.items() if row["class_name"]}
    assert set(read_index(Path("data/index.csv")).class_names) == {"a", "b"}


@pytest.mark.parametrize(("train", "folder"), [(".", "more"), ("train", "more"), ("train", "train/more")])
def test_the_folder_is_no_class_and_no_unknown_folder(capsys, train, folder):
    write_files({f"raw/{train}/{label_of(n)}/{n}.png": png(n) for n in range(COUNT)})
    write_files({f"raw/{folder}/{n}.png": png(100 + n) for n in range(3)} | {f"raw/{folder}/notes.txt": b"n"})
    rows = run(with_key(FOLDERS, train=train, unlabelled={"folder": folder}))
    assert sum(not row["class_name"] for row in rows.values()) == 3
    said = capsys.readouterr().out
    assert f"1 left out, because they are in no folder of a class, in raw: '{folder}/notes.txt'" in said


def test_the_folder_of_all_images_gives_those_without_a_row(capsys):
    """Images and a table of labels for some of them: a common form."""
    table(without(()))
    write_files({f"raw/images/more{number}.png": png(100 + number) for number in range(3)})
    write_files({"raw/images/notes.txt": b"of mine"})
    rows = run(with_key(CSV, unlabelled={"folder": "images"}))
    assert [name for name, row in rows.items() if not row["class_name"]] == [f"images/more{n}.png" for n in range(3)]
    said = capsys.readouterr().out
    assert "1 file(s) of split.unlabelled.folder are no images: images/notes.txt" in said
    assert said.count("more") == 0


def test_rows_and_a_folder_together():
    table(without(range(12)))
    write_files({"raw/more/0.png": png(100), "raw/more/0/1.png": png(101)})
    rows = run(with_key(SECTION, unlabelled={"rows": True, "folder": "more"}))
    assert sum(not row["class_name"] for row in rows.values()) == 14
    left = run(with_key(SECTION, unlabelled={"rows": False, "folder": "more"}))
    assert sum(not row["class_name"] for row in left.values()) == 2


def test_rows_that_are_left_out_do_not_come_back_by_the_folder():
    table(without(range(12)))
    write_files({"raw/images/more.png": png(100)})
    rows = run(with_key(SECTION, unlabelled={"rows": False, "folder": "images"}))
    assert [name for name, row in rows.items() if not row["class_name"]] == ["images/more.png"]


def test_a_copy_in_the_folder_of_a_test_image_is_left_out():
    table(without(()))
    rows = run(CSV)
    write_files({f"raw/more/{name}": png(int(name[:-4])) for name in rows})
    found = run(with_key(CSV, unlabelled={"folder": "more"}))
    kept = [name for name, row in found.items() if not row["class_name"]]
    assert kept == [f"more/{name}" for name in rows if rows[name]["split"] == "train"]


def test_of_a_folder_beside_groups_the_groups_are_not_known(capsys):
    section = grouped(without(()), [f"p{number % 10}" for number in range(COUNT)])
    write_files({"raw/more/1.png": png(100)})
    run(with_key(section, unlabelled={"folder": "more"}))
    assert "The 1 images of split.unlabelled.folder have no group." in capsys.readouterr().out


def test_a_missing_folder_is_refused():
    table(without(()))
    message = refusal(with_key(CSV, unlabelled={"folder": "mroe"}), MissingError)
    assert "there is no folder raw/mroe" in message
    assert "split.unlabelled.folder" in message


@pytest.mark.parametrize("files", [{"raw/more/notes.txt": b"n"}, {"raw/more/.hidden.png": png(1)}])
def test_a_folder_without_images_is_refused(files):
    table(without(()))
    write_files(files)
    assert "raw/more holds no image" in refusal(with_key(CSV, unlabelled={"folder": "more"}), MissingError)


def test_a_folder_of_rows_alone_is_refused():
    table(without(()))
    assert "raw/images holds no image" in refusal(with_key(CSV, unlabelled={"folder": "images"}), MissingError)


def test_a_name_that_another_image_has_is_refused():
    """The row more/1.png of raw/images, and 1.png of raw/more."""
    write_files({f"raw/images/more/{number}.png": png(number) for number in range(COUNT)})
    table(without(()), name="more/{}.png,{}")
    write_files({"raw/more/1.png": png(100), "raw/more/x.png": png(101)})
    message = refusal(with_key(CSV, unlabelled={"folder": "more"}))
    assert "1 image(s) of raw/more" in message
    assert "'more/1.png'" in message


def test_links_that_leave_the_data_are_refused(tmp_path):
    table(without(()))
    write_files({"outside/1.png": png(100), "raw/more/2.png": png(101)})
    Path("raw/link").symlink_to(tmp_path / "outside")
    assert "leads outside raw" in refusal(with_key(CSV, unlabelled={"folder": "link"}))
    Path("raw/more/1.png").symlink_to(tmp_path / "outside/1.png")
    assert "raw/more/1.png leads outside raw" in refusal(with_key(CSV, unlabelled={"folder": "more"}))


def test_a_name_that_no_file_may_have_is_refused():
    table(without(()))
    write_files({"raw/more/a\nb.png": png(100)})
    assert "'more/a\\nb.png'" in refusal(with_key(CSV, unlabelled={"folder": "more"}))


def test_two_names_of_one_copy_are_refused():
    table(without(()))
    write_files({"raw/more/a__b.png": png(100), "raw/more/a/b.png": png(101), "data/mine": b""})
    assert "would overwrite" in refusal(with_key(CSV, unlabelled={"folder": "more"}))


def test_accents_are_one_letter_in_ids():
    table(without(()))
    write_files({"raw/more/u\u0308.png": png(100)})
    assert "more/\u00fc.png" in run(with_key(CSV, unlabelled={"folder": "more"}))


@pytest.mark.parametrize(
    "changes",
    [
        {"unlabelled": {"folder": ".."}},
        {"unlabelled": {"folder": os.sep + "more"}},
        {"unlabelled": {"folders": "more"}},
        {"unlabelled": {"rows": True}},
        {"unlabelled": True},
        {"unlabelled": {"folder": "."}},
        {"train": "train", "unlabelled": {"folder": "train"}},
        {"train": "a/train", "unlabelled": {"folder": "a"}},
        {"train": "train", "unlabelled": {"folder": "train/dog/more"}},
        {"train": "train", "test": "test", "test_fraction": None, "unlabelled": {"folder": "test"}},
    ],
    ids=str,
)
def test_keys_that_cannot_be_are_refused(changes):
    assert "split.unlabelled" in invalid(with_key(FOLDERS, **changes))


@pytest.mark.parametrize("section", documented_sections(), ids=lambda section: section["layout"])
def test_a_layout_takes_the_keys_that_it_can_use(section):
    can = {"csv": {"rows", "folder"}, "mhist": {"rows", "folder"}, "folders": {"folder"}}
    can |= {"webdataset": {"rows"}, "parquet": {"rows"}}
    for key, value in {"rows": True, "folder": "more", "array": "x_more"}.items():
        changed = with_key(section, unlabelled={key: value})
        if key in can.get(section["layout"], {"rows", "array"}):
            assert getattr(as_read(changed)["settings"]["unlabelled"], key) == (
                Path("more") if key == "folder" else value
            )
        else:
            assert f"split.unlabelled.{key}" in invalid(changed)


@pytest.mark.parametrize("place", ["unlabelled", "Unlabeled", "test/UNLABELLED", "train/unlabelled"])
@pytest.mark.parametrize("inside", ["1.png", "deep/1.png"])
def test_a_class_of_that_name_must_be_meant(place, inside):
    """It holds images without a label, unless class_names says that it is a class."""
    of_test, _, name = place.rpartition("/")
    train = of_test and "train"
    for folder in filter(None, {train, of_test}):
        write_files({f"raw/{folder}/{label_of(n)}/{n}.png": png(n + 100 * len(folder)) for n in range(COUNT)})
    if not train:
        write_files({f"raw/{label_of(n)}/{n}.png": png(n) for n in range(COUNT)})
    write_files({f"raw/{place}/{inside}": png(1000)})
    named = {"train": train or ".", "test": "test" if of_test == "test" else None, "unlabelled": None}
    section = with_key(FOLDERS, **named, test_fraction=None if named["test"] else 0.25)
    message = refusal(section)
    assert f"raw/{place} would be a class called '{name}'" in message
    assert f"set split.unlabelled: {{folder: {place}}}" in message
    assert len(run(with_key(section, unlabelled={"folder": place}))) == COUNT * len({train, of_test}) + 1


def test_a_class_of_that_name_is_one_if_class_names_says_so():
    classes = ["a", "unlabeled"]
    write_files({f"raw/{classes[n % 2]}/{n}.png": png(n) for n in range(COUNT)})
    section = with_key(FOLDERS, unlabelled=None)
    assert "split.class_names" in refusal(section)
    rows = run(with_key(section, class_names=classes))
    assert Counter(row["class_name"] for row in rows.values()) == {"a": 20, "unlabeled": 20}


def test_an_empty_folder_of_that_name_is_no_class():
    write_files({f"raw/{label_of(n)}/{n}.png": png(n) for n in range(COUNT)})
    Path("raw/Unlabelled/deep").mkdir(parents=True)
    assert {row["class_name"] for row in run(with_key(FOLDERS, unlabelled=None)).values()} == {"a", "b"}


def test_a_folder_of_that_name_beside_the_splits_is_told(capsys):
    write_files({f"raw/train/{label_of(n)}/{n}.png": png(n) for n in range(COUNT)})
    write_files({"raw/Unlabeled/1.png": png(100)})
    section = with_key(FOLDERS, train="train", unlabelled=None)
    run(section)
    hint = "If 'Unlabeled' holds images without a label, set split.unlabelled: {folder: Unlabeled}."
    assert hint in capsys.readouterr().out
    run(with_key(section, unlabelled={"folder": "Unlabeled"}))
    assert "If 'Unlabeled'" not in capsys.readouterr().out


# Arrays


def pixels(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 5, 5), dtype=np.uint8)


def arrays(labels, **others):
    Path("raw").mkdir(exist_ok=True)
    np.savez("raw/a.npz", x_train=pixels(len(labels)), y_train=np.array(labels), **others)


def test_arrays_have_no_label_where_it_is_minus_one():
    arrays([-1] * 12 + [0, 1] * 14)
    rows = run(ARRAYS)
    assert [name for name, row in rows.items() if not row["class_name"]] == [f"train_{n:05}.png" for n in range(12)]
    assert {row["class_name"] for row in rows.values()} == {"0", "1", ""}
    left = run(with_key(ARRAYS, unlabelled={"rows": False}))
    assert left == {name: row for name, row in rows.items() if row["class_name"]}


@pytest.mark.parametrize("class_names", [None, ["a", "b"]])
def test_minus_one_without_the_key_is_refused(class_names):
    arrays([-1] * 12 + [0, 1] * 14)
    message = refusal(with_key(ARRAYS, unlabelled=None, class_names=class_names))
    assert "has the label -1" in message
    assert "split.unlabelled: {rows: true}" in message


def test_minus_one_is_a_label_if_class_names_knows_it():
    arrays([-1] * 12 + [1] * 28)
    rows = run(with_key(ARRAYS, class_names={-1: "left", 1: "right"}))
    assert {row["class_name"] for row in rows.values()} == {"left", "right"}


def test_another_array_may_hold_images_without_a_label():
    arrays([0, 1] * 20, x_more=pixels(3, seed=1), names=np.arange(3))
    rows = run(with_key(ARRAYS, unlabelled={"array": "x_more"}))
    assert [name for name, row in rows.items() if not row["class_name"]] == [f"unlabelled_{n:05}.png" for n in range(3)]
    assert len(rows) == 43


def test_of_arrays_a_copy_of_a_test_image_is_left_out():
    arrays([0, 1] * 20)
    rows = run(with_key(ARRAYS, unlabelled=None))
    arrays([0, 1] * 20, x_more=pixels(40)[..., None])  # the same pixels, as grey images are written elsewhere
    found = run(with_key(ARRAYS, unlabelled={"array": "x_more"}))
    kept = [name.replace("unlabelled", "train") for name, row in found.items() if not row["class_name"]]
    assert kept == [name for name, row in rows.items() if row["split"] == "train"]


@pytest.mark.parametrize("name", ["x_train", "y_train", "x_mroe"])
def test_an_array_that_there_is_not_is_refused(name):
    arrays([0, 1] * 20, x_more=pixels(3, seed=1))
    message = refusal(with_key(ARRAYS, unlabelled={"array": name}), ParameterError)
    assert f"split.unlabelled.array is '{name}'" in message
    assert "'x_more'" in message


def test_an_array_of_no_images_is_refused():
    arrays([0, 1] * 20, x_more=np.zeros((3, 5, 5)))
    assert "x_more is of type float64" in refusal(with_key(ARRAYS, unlabelled={"array": "x_more"}))


def test_test_arrays_need_labels():
    arrays([0, 1] * 20, x_test=pixels(4, seed=2), y_test=np.array([0, 1, -1, 0]))
    message = refusal(with_key(ARRAYS, test_fraction=None))
    assert "test_00002.png (test)" in message


def test_arrays_without_any_label_are_refused():
    arrays([-1] * 40)
    assert "has no class" in refusal(ARRAYS)


def test_everything_that_is_written_has_a_row():
    table(without(range(12)))
    rows = run(SECTION)
    assert files_below(FOLDER).keys() == {row["path"].removeprefix("data/split/") for row in rows.values()}


# Left out for a comparison


def as_rows():
    table(without(range(12)))
    return SECTION


def as_folder():
    write_files({f"raw/{label_of(n)}/{n}.png": png(n) for n in range(COUNT)})
    write_files({f"raw/more/{n}.png": png(100 + n) for n in range(12)})
    return FOLDERS


def as_rows_and_folder():
    table(without(range(12)))
    write_files({f"raw/more/{n}.png": png(100 + n) for n in range(12)})
    return with_key(SECTION, unlabelled={"rows": True, "folder": "more"})


def as_array():
    arrays([0, 1] * 20, x_more=pixels(12, seed=1))
    return with_key(ARRAYS, unlabelled={"array": "x_more"})


def as_minus_one():
    arrays([-1] * 12 + [0, 1] * 14)
    return ARRAYS


def as_patients():
    return with_key(grouped(without(range(10)), [f"p{number % 10}" for number in range(COUNT)]), unlabelled=ROWS)


@pytest.mark.parametrize(
    ("write", "count", "limit"),
    [
        (as_rows, 12, 20),
        (as_folder, 12, None),
        (as_rows_and_folder, 24, None),
        (as_array, 12, 20),
        (as_minus_one, 12, None),
        (as_patients, 10, None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_use_false_leaves_all_out_and_changes_nothing_else(capsys, write, count, limit):
    """Training images of teacher and baseline, validation and test images: the same rows of the index."""
    section = with_key(write(), limit=limit)
    used = run(section)
    labelled = {name: row for name, row in used.items() if row["class_name"]}
    assert len(labelled) < len(used)
    capsys.readouterr()
    without_use = with_key(section, unlabelled=section["unlabelled"] | {"use": False})
    assert run(without_use) == labelled
    said = capsys.readouterr().out
    assert f"{count} image(s) without a label are left out, because split.unlabelled.use is false." in said
    assert said.count("left out") == 1
    assert "no label" not in said
    assert count_images(Path("data/nowhere.csv"), **as_read(without_use)).unlabelled == 0


@pytest.mark.parametrize("section", [SECTION, MHIST, FOLDERS, ARRAYS], ids=lambda section: section["layout"])
def test_use_is_true_or_false(section):
    assert "split.unlabelled.use" in invalid(with_key(section, unlabelled={"use": "no"}))
    assert as_read(with_key(section, unlabelled={"use": False}))["use_unlabelled"] is False
    assert as_read(with_key(section, unlabelled={}))["use_unlabelled"] is True


def test_the_plan_says_how_many_are_left_out():
    """Copies of validation and test images, members of their groups, and all of them with use: false."""
    section = with_key(CSV, unlabelled={"folder": "more"})
    table(without(()))
    rows = run(CSV)
    copied = sum(row["split"] != "train" for row in rows.values())
    write_files({f"raw/more/{name}": png(int(name[:-4])) for name in rows})
    images = count_images(Path("data/index.csv"), **as_read(section))
    assert (images.unlabelled, images.unused) == (COUNT - copied, copied)
    unused = with_key(section, unlabelled=section["unlabelled"] | {"use": False})
    images = count_images(Path("data/index.csv"), **as_read(unused))
    assert (images.unlabelled, images.unused) == (0, COUNT)
    section = with_key(grouped(without(range(10)), [f"p{number % 10}" for number in range(COUNT)]), unlabelled=ROWS)
    used = sum(not row["class_name"] for row in run(section).values())
    images = count_images(Path("data/index.csv"), **as_read(section))
    assert (images.unlabelled, images.unused) == (used, 10 - used)
