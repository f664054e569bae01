"""Tables as people write them: names of images, separators, headers, one-hot columns, names and order of classes.

The images are empty files: a reader decodes none.
"""

import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from layouts import FOLDER, INDEX, assert_one_mistake, files_below, png, run, with_key, write_files

from pipeline.datasets.class_folders import read_folders
from pipeline.datasets.csv_tables import read_csv, read_mhist
from pipeline.datasets.labelled import DataSet
from pipeline.images.index import in_order, read_index
from pipeline.runtime.errors import (
    DamagedError,
    MismatchError,
    MissingError,
    ParameterError,
    PipelineError,
    UnusableError,
)

DRAWN = {
    "layout": "csv",
    "data": "raw",
    "annotations": "t.csv",
    "images": "img",
    "image_column": "image",
    "label_column": "label",
    "validation_ids": None,
    "test_ids": None,
    "val_fraction": 0.25,
    "test_fraction": 0.25,
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def make(lines: list[str], names: list[str] = ("a.png", "b.png"), encoding: str = "utf-8") -> None:
    """Writes raw/t.csv and empty files of these names below raw/img."""
    Path("raw").mkdir(exist_ok=True)
    write_files({f"raw/img/{name}": b"" for name in names})
    Path("raw/t.csv").write_text("\n".join([*lines, ""]), encoding=encoding)


def read(**changes: Any) -> DataSet:
    """Reads raw/t.csv; the values are those that a valid section gives."""
    keys = {name: Path(value) if name in {"data", "annotations", "images"} else value for name, value in DRAWN.items()}
    return read_csv(**{name: value for name, value in (keys | changes).items() if name != "layout"})


def labels(**changes: Any) -> dict[str, str]:
    return {row.id: row.class_name for row in read(**changes).rows}


def refusal(error: type[PipelineError] = UnusableError, /, **changes: Any) -> str:
    with pytest.raises(error) as refused:
        read(**changes)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


# Names of images


@pytest.mark.parametrize(
    ("written", "file", "name", "copy"),
    [
        ("x.png", "x.png", "x.png", "x.png"),
        ("x", "x.jpeg", "x", "x.jpeg"),
        ("x.y", "x.y.png", "x.y", "x.y.png"),
        ("scan.1", "scan.1", "scan.1", "scan.1"),
        ("s/t/x.png", "s/t/x.png", "s/t/x.png", "s__t__x.png"),
        ("s/x", "s/x.PNG", "s/x", "s__x.PNG"),
        ("s\\x.png", "s/x.png", "s/x.png", "s__x.png"),
        ("./s//x.png", "s/x.png", "s/x.png", "s__x.png"),
        ("né.png", nfd("né.png"), "né.png", "né.png"),
        (nfd("é/ü"), "é/ü.png", "é/ü", "é__ü.png"),
        (nfd("né.png"), nfd("né.png"), "né.png", "né.png"),
        ('"a, b.png"', "a, b.png", "a, b.png", "a, b.png"),
    ],
)
def test_names_are_found_as_people_write_them(written, file, name, copy):
    make(["image,label", f"{written},0", "b.png,1"], [file, "b.png"])
    row = next(row for row in read().rows if row.id == name)
    assert row.image == f"raw/img/{file}"
    assert row.file_name == copy
    assert read().left_out == []


@pytest.mark.parametrize("above", ["img/", "raw/img/", "./raw//img/", "img\\\\"])
def test_names_may_begin_with_the_path_of_the_folder(above):
    make(["image,label", f"{above}a.png,0", f"{above}é,1"], ["a.png", "é.png"])
    assert {row.id: (Path(row.image).name, row.file_name) for row in read().rows} == {
        "a.png": ("a.png", "a.png"),
        "é": ("é.png", "é.png"),
    }


def test_the_exact_name_precedes_other_forms_of_it():
    names = [nfd("é.png"), "é.png", "x", "x.png"]
    make(["image,label", "é.png,0", f"{nfd('é.png')},1", "x,2", "x.png,3"], names)
    assert {row.id for row in read().rows} == set(names)
    files = {row.class_name: Path(row.image).name for row in read().rows}
    assert files == {"0": "é.png", "1": nfd("é.png"), "2": "x", "3": "x.png"}


def test_an_image_comes_before_a_file_of_notes_with_its_name():
    make(["image,label", "a,0", "b,1"], ["a.png", "a.txt", "b.png", "b.json"])
    assert [Path(row.image).name for row in read().rows] == ["a.png", "b.png"]
    assert read().left_out == ["a.txt", "b.json"]


def test_names_without_folders_are_found_in_a_folder_of_folders():
    """As HAM10000 lies: two folders of images, and a table that names neither folders nor extensions."""
    make(["image,label", "a,0", "b,1", "part_2/c,1"], ["part_1/a.jpg", "part_2/b.jpg", "part_2/c.jpg"])
    assert [row.image[8:] for row in read().rows] == ["part_1/a.jpg", "part_2/b.jpg", "part_2/c.jpg"]
    assert [row.file_name for row in read().rows] == ["a.jpg", "b.jpg", "part_2__c.jpg"]


def test_equal_names_of_two_sub_folders_are_two_images():
    write_files({f"raw/img/{folder}/{number}.png": png(number) for folder in "ab" for number in range(40)})
    lines = [f"{folder}/{number},{number % 2}" for folder in "ab" for number in range(40)]
    Path("raw/t.csv").write_text("\n".join(["image,label", *lines]))
    rows = run(DRAWN)
    assert len(rows) == len(files_below(FOLDER)) == 80
    assert rows["a/7"]["path"].endswith("/1/a__7.png")
    assert Path(rows["b/7"]["path"]).read_bytes() == png(7)


@pytest.mark.parametrize(
    ("rows", "names", "expected", "error"),
    [
        (
            ["a.jpg,0", "b.jpg,1"],
            ["a.png", "b.png"],
            ["2 of 2", "nearest to 'a.jpg' is 'a.png'. ", "split.images"],
            MissingError,
        ),
        (
            ["A.png,0", "b.png,1"],
            ["a.png", "b.png"],
            ["1 of 2", "'A.png' (line 2). ", "'A.png' is 'a.png'"],
            MissingError,
        ),
        (
            ["/home/me/x/a.png,0", "b.png,1"],
            ["x/a.png", "b.png"],
            ["1 image name(s)", "'/home/me/x/a.png' (line 2)", "Write 'x/a.png' instead of '/home/me/x/a.png'."],
            UnusableError,
        ),
        (["C:\\\\x\\\\a.png,0", "b.png,1"], ["a.png", "b.png"], ["Write 'a.png' instead of 'C:"], UnusableError),
        (["c.png,0", "b.png,1"], ["b.png", "x/c.png"], ["'c.png' may be 'x/c.png'"], MissingError),
        (["a,0", "b.png,1"], ["a.png", "a.jpg", "b.png"], ["'a' can mean 'a.jpg', 'a.png'. "], UnusableError),
        (
            ["a,0", "b,1"],
            ["x/a.png", "y/a.png", "x/b.png"],
            ["1 image name(s)", "'a' can mean 'x/a.png', 'y/a.png'"],
            UnusableError,
        ),
        (["a.png,0", "a,1"], ["a.png", "b.png"], ["1 image(s)", ": 'a.png' (line 2), 'a' (line 3). "], UnusableError),
        (["a.png,0", ",1", " ,1"], ["a.png"], ["2 of 3 rows", "the column 'image': lines 3, 4."], UnusableError),
        (["._a.png,0", "b.png,1"], ["._a.png", "b.png"], ["1 row(s)", "hidden", "'._a.png' (line 2)"], UnusableError),
        (
            ["__MACOSX/a.png,0", "b.png,1"],
            ["__MACOSX/a.png", "b.png"],
            ["1 row(s)", "hidden", "(line 2)"],
            UnusableError,
        ),
        (["deep/a.png,0", "b.png,1"], ["b.png"], ["1 image(s)", "link", "'deep/a.png' (line 2). "], UnusableError),
        (["a.png,0"], [], ["raw holds no folders"], MissingError),
    ],
)
def test_a_mismatch_is_told_with_what_the_folder_holds(rows, names, expected, error):
    make(["image,label", *rows], names)
    write_files({"raw/other/a.png": b""} if names else {})
    if "b.png" in names:
        Path("raw/img/deep").symlink_to(Path("raw/other").resolve(), target_is_directory=True)
    message = refusal(error)
    assert [words for words in expected if words not in message] == []


def test_what_systems_leave_behind_is_neither_read_nor_told():
    left = [".DS_Store", "._a.png", "__MACOSX/a.png", "__MACOSX/._a.png", "Thumbs.db", ".git/x", "x/desktop.ini"]
    make(["image,label", "a.png,0", "b,1"], ["a.png", "b.png", "notes.txt", *left])
    assert read().left_out == ["notes.txt"]


def test_the_table_beside_the_images_is_no_stray_file():
    make(["image,label", "img/a.png,0", "img/b.png,1"])
    assert read(images=Path()).left_out == []


@pytest.mark.parametrize(
    "ids",
    [
        ["image", "s/a", "b.png"],
        ['"image",fold', '"s/a.png",1', "b,2"],
        ["image,fold", '"s/a",1', "b,2"],
        ["image;fold", "s\\a.png;1", "b;2"],
    ],
)
def test_named_splits_may_be_written_unlike_the_rows(ids):
    make(["image,label", "s/a.png,0", "b,1", "c,0"], ["s/a.png", "b.png", "c.png"])
    Path("raw/val.csv").write_text("\n".join(ids))
    data_set = read(validation_ids=Path("val.csv"), val_fraction=None)
    assert {row.id: row.partition for row in data_set.rows} == {"s/a.png": "val", "b": "val", "c": "train"}
    Path("raw/val.csv").write_text("image\nb.png\nbb.png\n")
    message = refusal(MismatchError, validation_ids=Path("val.csv"), val_fraction=None)
    assert re.match(r"raw/val\.csv names 1 .*raw/t\.csv .*: 'bb\.png' \(line 3\)\. ", message)
    assert "nearest to 'bb.png' there is 'b.png'" in message


@pytest.mark.parametrize("content", ["a.png\nb, 2\n", "img/a.png \n\n'b'\n".replace("'b'", '"b, 2.png"'), "b, 2\na"])
@pytest.mark.parametrize("header", [None, True])
def test_names_of_a_split_may_be_a_list_without_a_header(content, header):
    make(["image,label", "a.png,0", '"b, 2.png",1', "c.png,0"], ["a.png", "b, 2.png", "c.png"])
    Path("raw/val.txt").write_text(content)
    data_set = read(validation_ids=Path("val.txt"), val_fraction=None, header=header)
    assert {row.id: row.partition for row in data_set.rows} == {"a.png": "val", "b, 2.png": "val", "c.png": "train"}


def test_a_list_of_names_may_go_with_a_table_without_header():
    make(["0,a.png", "1,b.png"])
    Path("raw/val.txt").write_text("b.png\n")
    changes = {"validation_ids": Path("val.txt"), "val_fraction": None, "image_column": "2", "label_column": "1"}
    assert {row.id: row.partition for row in read(**changes).rows} == {"a.png": "train", "b.png": "val"}


@pytest.mark.parametrize(
    ("ids", "expected", "error"),
    [
        ("image\nother/a.png\n", "nearest to 'other/a.png' there is 'a.png'. ", MismatchError),
        ("z9.jpg\n", "write a header with 'image'", UnusableError),
        ("a.png;1\nb.png;1\n", "write a header with 'image'", UnusableError),
    ],
)
def test_no_advice_about_the_names_of_a_split_breaks_the_table(ids, expected, error):
    make(["image,label", "a.png,0", "b.png,1"])
    Path("raw/val.csv").write_text(ids)
    message = refusal(error, validation_ids=Path("val.csv"), val_fraction=None)
    assert expected in message
    assert "remove" not in message
    assert "split.header" not in message


# Separators and headers


@pytest.mark.parametrize(
    ("lines", "changes"),
    [
        (["image;label;", "a.png;0;", "b.png;1;", ";;"], {}),
        (["label\tnote\timage", "0\tx, y; z\ta.png", "1\t\tb.png"], {}),
        (["image|label", "a.png|0", "b.png|1"], {}),
        (["image  label", "a.png   0", "", "b.png 1 "], {}),
        (["image, label", "a.png, 0", 'b.png, "1"'], {}),
        (["image ,label ", "a.png,0", "b.png,1"], {}),
        ([" image ; label", "a.png;0", "b.png;1"], {}),
        (["image:label", "a.png:0", "b.png:1"], {"separator": ":"}),
        (["a.png,0", "b.png,1"], {"image_column": "1", "label_column": "2"}),
        (["0 x a.png", "1 x b.png"], {"image_column": "3", "label_column": "1"}),
        (["a.png;0", "b.png;1"], {"image_column": "1", "label_column": "2", "header": False}),
        (["2,1", "0,a.png", "1,b.png"], {"image_column": "1", "label_column": "2"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_separator_and_header_are_found_or_stated(lines, changes):
    make(lines)
    assert labels(**changes) == {"a.png": "0", "b.png": "1"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_excel_writes_is_read(encoding):
    make(["image;label", "a.png;é", "b.png;f"], encoding=encoding)
    assert labels() == {"a.png": "é", "b.png": "f"}


@pytest.mark.parametrize(
    ("lines", "changes", "expected", "error"),
    [
        (
            ["image;label", "a.png;0"],
            {"separator": ","},
            ["it has 'image;label'. ", "separated by semicolons", "split.separator is ','", "split.separator: null"],
            UnusableError,
        ),
        (
            ["a.png;0", "b.png;1"],
            {"separator": ",", "header": False, "image_column": "1", "label_column": "2"},
            ["lacks the column '2'; it has '1'. ", "separated by semicolons", "split.separator is ','"],
            UnusableError,
        ),
        (["a.png;0", "b.png;1"], {}, ["it has 'a.png', '0'. ", "split.header: false", "numbers"], UnusableError),
        (
            ["a.png;0", "b.png;1"],
            {"header": False},
            ["columns 1, 2, ...", "first line is 'a.png', '0'. "],
            UnusableError,
        ),
        (
            ["image,label", "a.png,0"],
            {"header": False},
            ["split.header: null"],
            UnusableError,
        ),
        (
            ["picture,label", "a.png,0", "b.png,1"],
            {"image_column": "1", "label_column": "2"},
            ["no image 'picture'", "line 1 of raw/t.csv", "split.header: true"],
            MissingError,
        ),
        (
            ["Image,label", "a.png,0"],
            {},
            ["it has 'Image', 'label'. ", "'Image' by 'image'?", "split.image_column and split.label_column"],
            UnusableError,
        ),
        (["image,label,label", "a.png,0,1"], {}, ["the column 'label' more than once"], UnusableError),
        (
            ["image,label", "a.png,0", "b, c.png,1"],
            {},
            ["separated by commas", "1 row(s)", "2 columns", "line 3 has 3"],
            DamagedError,
        ),
        (["image,label"], {}, ["no rows"], UnusableError),
        (["i" * 10_000 + ",label", "a.png,0"], {}, [f"it has '{'i' * 55} ..., 'label'."], UnusableError),
    ],
)
def test_a_wrong_separator_or_header_is_named_as_the_cause(lines, changes, expected, error):
    make(lines)
    message = refusal(error, **changes)
    assert [words for words in expected if words not in message] == []


def test_lines_are_those_that_an_editor_shows():
    make(["image,note,label", 'a.png,"two', 'lines",0', "", "b.png,x,", ",,", "c.png,x,"], ["a.png", "b.png", "c.png"])
    message = refusal()
    assert message.startswith("2 of 3 rows of raw/t.csv ")
    assert "the column 'label': 'b.png' (line 5), 'c.png' (line 7). " in message


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "null", "none", "None", "<NA>"])
def test_what_programs_write_for_no_label_is_no_class(word):
    make(["image,label", "a.png,x", f"b.png,{word}", "c.png,y"], ["a.png", "b.png", "c.png"])
    message = refusal()
    assert message.startswith("1 of 3 rows of raw/t.csv ")
    assert "the column 'label': 'b.png' (line 3). " in message
    assert f"If {word!r} is a class, " in message
    assert "split.class_names" in message
    Path("raw/names.txt").write_text(f"x\n{word}\ny\n")
    for class_names in ([word, "x", "y"], {"x": "1", "y": "2", word: "3"}, Path("names.txt")):
        assert len(read(class_names=class_names).class_names) == 3


# One-hot columns

ONE_HOT = ["image,MEL,NV,BCC", "a,1.0,0.0,0.0", "b,0,1,0", "c,false,false,TRUE", "d,0,0,1"]
OF_ONE_HOT = {"label_column": None, "label_columns": ["NV", "BCC", "MEL"]}
FOUR = ["a.png", "b.png", "c.png", "d.png"]


def test_one_hot_columns_are_the_classes_in_their_order():
    make(ONE_HOT, FOUR)
    assert labels(**OF_ONE_HOT) == {"a": "MEL", "b": "NV", "c": "BCC", "d": "BCC"}
    assert read(**OF_ONE_HOT).class_names == ["NV", "BCC", "MEL"]
    merged = read(**OF_ONE_HOT, class_names={"MEL": "malignant", "NV": "benign", "BCC": "malignant"})
    assert [row.class_name for row in merged.rows] == ["malignant", "benign", "malignant", "malignant"]
    assert merged.class_names == ["malignant", "benign"]


@pytest.mark.parametrize(
    ("line", "columns", "expected"),
    [
        (
            "b,0,1,1",
            ["MEL", "NV", "BCC"],
            ["1 of 5 rows of raw/t.csv have 2 ones in split.label_columns", ": 'e' (line 6). "],
        ),
        ("b,0,0,0", ["MEL", "NV", "BCC"], ["1 of 5 rows of raw/t.csv have 0 ones in split.label_columns"]),
        (
            "b,0,1,0",
            ["MEL", "NV"],
            ["2 of 5 rows of raw/t.csv have 0 ones in split.label_columns", ": 'c' (line 4)"],
        ),
        ("b,0,0.9,0.1", ["MEL", "NV", "BCC"], ["other than 0 and 1 in split.label_columns: '0.1', '0.9'"]),
        ("b,0,,1", ["MEL", "NV", "BCC"], ["other than 0 and 1 in split.label_columns: ''"]),
        ("b,0,1,0", ["MEL", "SCC", "NV"], ["lacks the column 'SCC'; it has 'image', 'MEL', 'NV', 'BCC'"]),
    ],
)
def test_refuses_columns_that_are_not_one_hot(line, columns, expected):
    make([*ONE_HOT, line.replace("b,", "e,")], [*FOUR, "e.png"])
    message = refusal(label_column=None, label_columns=columns)
    assert [words for words in expected if words not in message] == []


def test_one_column_of_one_hot_is_not_taken_for_the_labels():
    make(ONE_HOT, FOUR)
    message = refusal(ParameterError, label_column="NV")
    assert message.startswith("the column 'NV' of raw/t.csv is one of 3 columns ")
    assert "set split.label_columns: [MEL, NV, BCC] and split.label_column: null." in message
    make([ONE_HOT[0], "a,1,0,0", "b,0,1,0"], FOUR)
    assert labels(label_column="NV", class_names=["other", "nevus"]) == {"a": "other", "b": "nevus"}


@pytest.mark.parametrize(
    ("header", "row", "listed"),
    [
        ("image,MEL,patient,NV,BCC", "{a},{n},{b},{c}", "[MEL, NV, BCC]"),
        ("image,NV,male,MEL,lesion,BCC", "{b},{male},{a},{lesion},{c}", "[NV, MEL, BCC]"),
        ("image,male,MEL,other", "{male},{a},{not_a}", "[MEL, other]"),
    ],
)
def test_one_hot_columns_need_not_be_adjacent(header, row, listed):
    lines = []
    for n in range(40):
        kind = n % 4  # MEL in a quarter of the rows, so that flags may cover more rows than any other class
        bits = {"a": kind == 0, "b": kind == 1, "c": kind > 1, "not_a": kind != 0}
        flags = {"male": n % 5 < 4, "lesion": n % 3 == 0}
        lines.append(f"{n}," + row.format(n=n + 100, **{name: int(bit) for name, bit in (bits | flags).items()}))
    make([header, *lines], [f"{n}.png" for n in range(40)])
    assert f"set split.label_columns: {listed} and split.label_column: null" in refusal(
        ParameterError, label_column="MEL"
    )
    assert set(labels(label_column="MEL", class_names=["other", "melanoma"]).values()) == {"other", "melanoma"}
    assert listed in refusal(ParameterError, label_column="MEL", class_names=["MEL", "NV", "BCC"])


def test_one_hot_columns_with_wrong_rows_are_not_read_as_labels():
    rows = [[float(n % 3 == place) for place in range(3)] for n in range(60)]
    rows[2], rows[7], rows[9] = [0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]
    lines = ["image,MEL,NV,BCC", *(f"{n},{','.join(map(str, row))}" for n, row in enumerate(rows))]
    make(lines, [f"{n}.png" for n in range(60)])
    message = refusal(ParameterError, label_column="MEL")
    assert message.startswith("the column 'MEL' of raw/t.csv is one of 3 columns ")
    assert "all but 3 of 60 rows" in message
    assert "split.label_columns: [MEL, NV, BCC] and split.label_column: null" in message
    assert " '2' (line 4), '7' (line 9), '9' (line 11). " in message
    assert "split.class_names" in message
    message = refusal(label_column=None, label_columns=["MEL", "NV", "BCC"])
    assert message.startswith("3 of 60 rows of raw/t.csv have 0, 2, 3 ones in split.label_columns")
    assert ": '2' (line 4), '7'" in message


def test_flags_beside_a_column_of_0_and_1_do_not_make_it_one_hot():
    make(["image,male,label,biopsy", "a,1,0,0", "b,1,1,0", "c,0,1,1", "d,0,0,1"], FOUR)
    assert labels() == {"a": "0", "b": "1", "c": "1", "d": "0"}
    make(["image,male,x,y,biopsy", "a,1,0,1,1", "b,1,1,0,0", "c,0,1,0,1", "d,1,0,1,0"], FOUR)
    assert "split.label_columns: [x, y]" in refusal(ParameterError, label_column="y")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"label_columns": ["a", "b"]}, "both are given"),
        ({"label_column": None}, "both are null"),
        ({"label_column": None, "label_columns": ["a"]}, "split.label_columns: expected two or more different columns"),
        ({"label_column": None, "label_columns": ["a", "image"]}, "expected two or more different columns"),
        ({"label_column": None, "label_columns": ["a", "a"]}, "expected two or more different columns"),
        ({"separator": ";;"}, "split.separator: expected null or one character"),
        ({"header": "no"}, "split.header: "),
        ({"class_names": [1, 2]}, "split.class_names: expected null"),
    ],
    ids=str,
)
def test_mistakes_in_the_section_are_named(changes, expected):
    assert_one_mistake(with_key(DRAWN, **changes), [expected])


# Names and order of the classes


def make_labels(written: list[str]) -> None:
    make(
        ["image,label", *(f"{number},{label}" for number, label in enumerate(written))], [f"{n}.png" for n in range(99)]
    )


ELEVEN = [str(number) for number in (10, 2, 1, 0, 9, 3, 8, 4, 7, 5, 6)]


@pytest.mark.parametrize(
    ("written", "class_names", "order"),
    [
        (ELEVEN, None, [str(number) for number in range(11)]),
        (["1.0", "10.0", "2", "1"], None, ["1", "2", "10"]),
        (["-1", "02", "10"], None, ["-1", "02", "10"]),
        (["2.5", "10", "0.5"], None, ["0.5", "2.5", "10"]),
        (["b", "10", "9"], None, ["10", "9", "b"]),
        (["1.0", "b", "1"], None, ["1", "1.0", "b"]),
        (["TVA", "HP", "TA"], ["TA", "unused", "TVA", "HP"], ["TA", "TVA", "HP"]),
        (["TVA", "HP", "TA"], {"TVA": "adenoma", "HP": "polyp", "TA": "adenoma"}, ["adenoma", "polyp"]),
        (["TVA", "HP", "TA"], {"HP": "polyp", "TVA": "adenoma", "TA": "adenoma"}, ["polyp", "adenoma"]),
        (["0", "2", "1"], ["zebra", "ant", "bee"], ["zebra", "ant", "bee"]),
        (["1", "2", "3"], ["3", "1", "2"], ["3", "1", "2"]),
        (["10", "2", "1"], {"10": "x", "1": "z", "2": "y"}, ["z", "y", "x"]),
        (["01", "2.0"], {"1": "ill", "2": "healthy"}, ["ill", "healthy"]),
        (["2", "0", "1"], {"0": "no", "1": "yes", "2": "no"}, ["no", "yes"]),
        (["é", "f"], {nfd("é"): "tree", "f": "bush"}, ["tree", "bush"]),
        (["x", "y", "z"], {"x": nfd("é"), "y": "é", "z": "f"}, ["é", "f"]),
        (["0", "1"], [nfd("é"), "f"], ["é", "f"]),
        (["é", "f"], ["f", nfd("é")], ["f", "é"]),
    ],
)
def test_the_order_of_the_class_axis(written, class_names, order):
    make_labels(written)
    data_set = read(class_names=class_names)
    assert data_set.class_names == order
    assert {row.class_name for row in data_set.rows} == set(order)


def test_the_index_keeps_the_order():
    names = {"10": "zebra", "2": "bee"}
    write_files({f"raw/img/{number}.png": png(number) for number in range(30)})
    Path("raw/t.csv").write_text("\n".join(["image,label", *(f"{n},{10 if n % 2 else 2}" for n in range(30))]))
    rows = run(with_key(DRAWN, class_names=names))
    assert read_index(INDEX).class_names == ["bee", "zebra"]
    assert (rows["1"]["class_name"], rows["1"]["label"]) == ("zebra", "1")


@pytest.mark.parametrize(
    ("file", "content", "order"),
    [
        ("names.txt", "HP\r\n\r\n TA \nTVA\n", ["HP", "TA", "TVA"]),
        ("names", '["TVA", "TA", "HP"]', ["TVA", "TA", "HP"]),
        ("names.json", '{"TVA": "b", "HP": "a", "TA": "b"}', ["b", "a"]),
    ],
)
def test_class_names_may_be_a_file(file, content, order):
    make_labels(["TVA", "HP", "TA"])
    Path("raw", file).write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert read(class_names=Path(file)).class_names == order


@pytest.mark.parametrize(
    ("written", "class_names", "expected", "error"),
    [
        (
            ["TVA", "HP"],
            {"TVAA": "a", "HP": "b"},
            ": 'TVA'; known are 'TVAA', 'HP'; the nearest to 'TVA' is 'TVAA'. ",
            MismatchError,
        ),
        (["TVA", "HP"], ["adenoma", "polyp"], "A list puts the labels themselves in order", MismatchError),
        (["1", "2"], ["adenoma", "polyp"], ": '2'; known are '0', '1'. A list names labels from 0 on", MismatchError),
        (["TVA", "HP"], {"TVA": "a", "HP": "a"}, "only the class 'a'", UnusableError),
        (["1", "01"], None, "the column 'label': '01', '1'", UnusableError),
        (
            [f"l{number}" for number in range(90)],
            {"x": "a"},
            "'l0', 'l1', 'l10', 'l11', 'l12' and 85 more; known",
            MismatchError,
        ),
    ],
)
def test_refuses_labels_without_a_name(written, class_names, expected, error):
    make_labels(written)
    assert expected in refusal(error, class_names=class_names)


def test_numbers_are_in_the_order_of_numbers_however_long():
    assert in_order(["123456789012345678901", "9", "123456789012345678900", "-1.5"]) == [
        "-1.5",
        "9",
        "123456789012345678900",
        "123456789012345678901",
    ]


def test_names_and_order_in_the_layout_mhist():
    header = "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition"
    make([header, "a.png,HP,1,train", "b.png,SSA,6,test"])
    places = {"data": Path("raw"), "annotations": Path("t.csv"), "images": Path("img"), "val_fraction": 0.3}
    assert read_mhist(**places).class_names == ["HP", "SSA"]
    assert read_mhist(**places, class_names=["SSA", "HP"]).class_names == ["SSA", "HP"]
    named = read_mhist(**places, class_names={"SSA": "serrated", "HP": "polyp"})
    assert ([row.class_name for row in named.rows], named.class_names) == (["polyp", "serrated"], ["serrated", "polyp"])


def folders(**changes: Any) -> DataSet:
    keys = {"data": Path("raw"), "train": Path(), "val": None, "test": None, "val_fraction": 0.2, "test_fraction": 0.2}
    return read_folders(**(keys | changes))


def test_names_and_order_in_the_layout_folders():
    write_files({f"raw/{name}": b"" for name in ("n10/1.png", "n2/1.png", "n3/1.png", "__MACOSX/n2/._1.png")})
    assert folders().class_names == ["n10", "n2", "n3"]
    assert folders(class_names=["n3", "n2", "n10"]).class_names == ["n3", "n2", "n10"]
    merged = folders(class_names={"n3": "fish", "n10": "bird", "n2": "fish"})
    assert merged.class_names == ["fish", "bird"]
    assert {row.id: (row.class_name, row.file_name, row.drawn_by) for row in merged.rows} == {
        "n10/1.png": ("bird", "1.png", "1.png"),
        "n2/1.png": ("fish", "n2__1.png", "1.png"),
        "n3/1.png": ("fish", "n3__1.png", "1.png"),
    }
    assert merged.left_out == []


def test_folders_with_numbers_are_in_the_order_of_numbers():
    write_files({f"raw/{number}/1.png": b"" for number in range(12)})
    assert folders().class_names == [str(number) for number in range(12)]


def test_folders_above_the_classes_are_not_to_be_moved():
    write_files({f"raw/flowers/{name}/1.png": b"" for name in ("daisy", "rose")} | {"raw/__MACOSX/flowers/x": b""})
    with pytest.raises(UnusableError, match=r"raw/flowers holds only folders: 'daisy', 'rose'\."):
        folders()
    assert folders(train=Path("flowers")).class_names == ["daisy", "rose"]
