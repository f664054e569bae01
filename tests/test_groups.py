"""`group_column`: the images of one patient or slide lie in one split."""

import re
from pathlib import Path

import pytest
from layouts import CSV, assert_one_mistake, drawn_split, planned, png, refusal, run, with_key, write_files

from pipeline.runtime.errors import ParameterError

SECTION = with_key(CSV, group_column="patient")
NAMED = with_key(SECTION, validation_ids="val.csv", test_ids="test.csv", val_fraction=None, test_fraction=None)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def patient(number: int) -> str:
    return f"patient {number // 3}"


def make(empty=(), count=60) -> None:
    """Three images of each of 20 patients, of classes a and b; `empty`: images without a patient."""
    write_files({f"raw/images/{number:02}.png": png(number) for number in range(count)})
    rows = [f"{n:02}.png,{'ab'[n % 2]},{' ' if n in empty else patient(n)}" for n in range(count)]
    Path("raw/train.csv").write_text("\n".join(["image,label,patient", *rows]) + "\n")


def write_ids(**tables: range) -> None:
    for name, numbers in tables.items():
        Path(f"raw/{name}.csv").write_text("\n".join(["image", *(f"{number:02}.png" for number in numbers)]) + "\n")


def test_patients_are_drawn_by_their_names(capsys):
    make()
    rows = run(SECTION)
    assert [row["split"] for row in rows.values()] == [drawn_split(patient(n), 0.25, 0.25) for n in range(60)]
    assert {row["split"] for row in rows.values()} == {"train", "val", "test"}
    output = capsys.readouterr().out
    assert re.search("Validation images: 0.25 .* hash of the group.* Test images: 0.25 .* hash of the group", output)
    counts = [sum(row["split"] == split for row in rows.values()) for split in ("train", "val", "test")]
    assert planned(SECTION).endswith(f": {counts[0]} train, {counts[1]} val, {counts[2]} test (raw/train.csv)")


def test_a_patient_is_one_however_the_name_is_written(capsys):
    forms = [("7", "7.0"), ("é 1", "e\u0301 1"), ("ab", "ab "), ("12.0", "12.00"), ("x y", "x y")] * 4
    write_files({f"raw/images/{number}.png": png(number) for number in range(40)})
    rows = [f"{n}.png,{'ab'[n % 2]},{forms[n % 20][n // 20]}" for n in range(40)]
    Path("raw/train.csv").write_text("\n".join(["image,label,patient", *rows]) + "\n")
    section = with_key(SECTION, val_fraction=0.4, test_fraction=0.4)
    drawn = {row["id"]: row["split"] for row in run(section).values()}
    assert len(set(drawn.values())) == 3
    assert [drawn[f"{n}.png"] for n in range(20)] == [drawn[f"{n + 20}.png"] for n in range(20)]
    assert drawn["0.png"] == drawn_split("7", 0.4, 0.4)
    assert drawn["1.png"] == drawn_split("é 1", 0.4, 0.4)
    assert "upper and lower case" not in capsys.readouterr().out


def test_groups_that_differ_only_in_case_are_told(capsys):
    make()
    table = Path("raw/train.csv")
    table.write_text(table.read_text().replace("patient 7", "Patient 7", 1))
    run(SECTION)
    assert re.search(r"groups .* case: 'Patient 7' and 'patient 7'\. ", capsys.readouterr().out)


def test_whole_patients_may_be_named():
    make()
    write_ids(val=range(6), test=range(30, 36))
    rows = run(NAMED)
    assert [number for number in range(60) if rows[f"{number:02}.png"]["split"] == "test"] == [*range(30, 36)]


def test_a_patient_in_two_splits_is_refused():
    make()
    write_ids(val=range(6), test=range(30, 35))
    message = refusal(NAMED)
    assert message.startswith("1 group(s) of the column 'patient' ")
    assert ": 'patient 11'. " in message
    assert "split.validation_ids" in message
    assert "split.test_ids" in message


def test_empty_fields_are_counted_and_the_first_named():
    make(empty=range(40, 47))
    message = refusal(SECTION)
    assert message.startswith("raw/train.csv ")
    assert "the column 'patient' (split.group_column) for 7 image(s): " in message
    assert "40.png, 41.png, 42.png, 43.png, 44.png and 2 more (all in .work/names.txt)." in message


def test_too_few_groups_are_told_as_groups():
    make(count=6)
    message = refusal(with_key(SECTION, val_fraction=1e-9, test_fraction=1e-9))
    assert "test/a, test/b" in message
    assert "A class with 3 groups " in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"group_column": "label"}, ["split.group_column: ", "split.image_column and split.label_column"]),
        ({"group_column": "image"}, ["split.group_column: ", "split.image_column and split.label_column"]),
        ({"group_column": ""}, ["split.group_column: ", "at least 1 character"]),
        ({"group_colum": "x"}, ["split.group_colum: unknown key; did you mean 'group_column'?"]),
        ({"limit": 0}, ["split.limit: Input should be greater than or equal to 1 (got 0)"]),
        ({"limit": 1.5}, ["split.limit: "]),
        (
            {"duplicates": "keep"},
            ["split.duplicates: Input should be 'warn', 'refuse' or 'keep_in_train'"],
        ),
    ],
    ids=str,
)
def test_mistakes_in_the_section_are_named(changes, expected):
    assert_one_mistake(with_key(SECTION, **changes), expected)


def test_a_column_that_is_not_there_is_refused():
    make()
    assert "raw/train.csv lacks the column 'Patient'" in refusal(with_key(SECTION, group_column="Patient"))


def test_a_limit_is_told_and_planned(capsys):
    make()
    section = with_key(SECTION, limit=12)
    rows = run(section)
    assert len(rows) == 12
    assert "split.limit: 12 of 60 images are used" in capsys.readouterr().out
    assert planned(section).startswith("12 images in 2 classes: ")
    assert "split.limit is 5, but 6 images are needed" in refusal(with_key(SECTION, limit=5), ParameterError)
