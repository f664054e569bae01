"""Reading MHIST's table of annotations: what is kept, and every way in which a table is refused."""

from pathlib import Path

import pytest

from pipeline.datasets.csv_tables import read_mhist
from pipeline.datasets.labelled import Annotation, DataSet
from pipeline.runtime.errors import DamagedError, MissingError, PipelineError, UnusableError

HEADER = "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition"
GOOD = ("a.png,HP,1,train", "b.png,SSA,6,test")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    monkeypatch.delenv("DVC_ROOT", raising=False)


def make(folder: Path, lines: tuple[str, ...], header: str = HEADER, names: tuple[str, ...] = ("a.png", "b.png")):
    """Writes an annotations file and empty image files of the given names; returns both paths."""
    images = folder / "images"
    images.mkdir()
    for name in names:
        (images / name).touch()
    table = folder / "annotations.csv"
    table.write_bytes("\n".join((header, *lines, "")).encode())
    return table, images


def read(table: Path, images: Path) -> DataSet:
    """Reads a table and the images beside it."""
    data = table.parent
    return read_mhist(data=data, annotations=table.relative_to(data), images=images.relative_to(data), val_fraction=0.3)


def rows_of(table: Path, images: Path) -> list[Annotation]:
    return list(read(table, images).rows)


def refusal(table: Path, images: Path, error: type[PipelineError] = UnusableError) -> str:
    with pytest.raises(error) as refused:
        read(table, images)
    return str(refused.value)


def test_rows_become_annotations_sorted_by_id(tmp_path):
    lines = ("c.png,SSA,7,test", "a.png,HP,0,train", "B.png,HP,,train")
    table, images = make(tmp_path, lines, names=("a.png", "B.png", "c.png"))
    assert rows_of(table, images) == [
        Annotation("B.png", "HP", "train", None, (images / "B.png").as_posix(), file_name="B.png"),
        Annotation("a.png", "HP", "train", 0, (images / "a.png").as_posix(), file_name="a.png"),
        Annotation("c.png", "SSA", "test", 7, (images / "c.png").as_posix(), file_name="c.png"),
    ]


def test_names_and_labels_stay_as_they_are_written(tmp_path):
    names = ("007", "NA", "null", 'say "é", twice.png')
    lines = ("007,0,1,train", "NA,inf,,train", "null,1e3,2,test", '"say ""é"", twice.png",TRUE,3,test')
    rows = rows_of(*make(tmp_path, lines, names=names))
    assert [(row.id, row.class_name) for row in rows] == list(zip(names, ("0", "inf", "1e3", "TRUE"), strict=True))


def test_columns_are_found_by_name_and_others_are_ignored(tmp_path):
    header = "Partition,Note,Majority Vote Label,Image Name,Number of Annotators who Selected SSA (Out of 7)"
    table, images = make(tmp_path, ("train,blurred,HP,a.png,1", "test,,SSA,b.png,6"), header)
    assert rows_of(table, images) == [
        Annotation("a.png", "HP", "train", 1, (images / "a.png").as_posix(), file_name="a.png"),
        Annotation("b.png", "SSA", "test", 6, (images / "b.png").as_posix(), file_name="b.png"),
    ]


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path):
    table, images = make(tmp_path, GOOD)
    plain = rows_of(table, images)
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    assert rows_of(table, images) == plain
    assert [row.id for row in plain] == ["a.png", "b.png"]


def test_links_that_stay_in_the_folder_are_images(tmp_path):
    table, images = make(tmp_path, GOOD, names=("b.png",))
    (images / "a.png").symlink_to("b.png")
    linked = tmp_path / "linked"
    linked.symlink_to(images, target_is_directory=True)
    assert [row.image for row in rows_of(table, linked)] == [f"{linked.as_posix()}/{name}.png" for name in "ab"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param((), ["no rows"], id="empty table"),
        pytest.param(
            ("b.png,HP,1,train", "a.png,HP,1,train", "b.png,SSA,1,test", "a.png,SSA,,test"),
            ["2 image(s)", "'b.png' (line 2), 'a.png' (line 3), 'b.png' (line 4)"],
            id="duplicate names",
        ),
        pytest.param(
            ("a.png,HP,1,training", "b.png,SSA,1,test"),
            ["'training'", "'train', 'test'", "the column 'Partition'"],
            id="unknown partition",
        ),
        pytest.param(("a.png,HP,1,", "b.png,SSA,1,test"), ["partition(s) ''", "'train', 'test'"], id="empty partition"),
        pytest.param(("a.png,HP,1", "b.png,SSA,1,test"), ["partition(s) ''", "'train', 'test'"], id="short row"),
        pytest.param(
            ("a.png,HP,1,train", "b.png,HP,1,test"),
            ["only the class 'HP'", "two", "'Majority Vote Label'"],
            id="one class",
        ),
        *(
            pytest.param(
                (f"a.png,HP,{votes},train", "b.png,SSA,1,test"),
                ["0 to 7", repr(votes), "(Out of 7)"],
                id=f"votes {votes}",
            )
            for votes in ("-1", "2.0", "many", "\u00b2", "8", "10", "07", "\u0663")
        ),
        *(
            pytest.param(
                (f"a.png,{label},1,train", "b.png,SSA,1,test"),
                ["cannot name a folder", repr(label), "'Majority Vote Label'"],
                id=f"label {label!r}",
            )
            for label in (".", "..", "HP/x", "/HP", "..\\HP", "HP\0")
        ),
        pytest.param(
            ("a.png,HP,1,train", "b.png,,1,test", "c.png, ,1,test"),
            ["2 of 3 rows", "the column 'Majority Vote Label': 'b.png' (line 3), 'c.png' (line 4)"],
            id="no label",
        ),
    ],
)
def test_refuses_a_table_that_makes_no_sense(tmp_path, lines, expected):
    table, images = make(tmp_path, lines, names=("a.png", "b.png", "c.png"))
    message = refusal(table, images)
    assert [words for words in [str(table), *expected] if words not in message] == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("a.png,HP,1,train", "b.png,SSA,1,test,?"), ["CSV", "line 3"]),
        (("a.png,HP,1,train,?", "b.png,SSA,1,test,?"), ["CSV"]),
        (("a.png,HP,1,train", '"b.png,SSA,1,test', "c.png,SSA,1,test"), ["CSV", "line 3", "quotation mark"]),
    ],
    ids=["long row", "rows longer than the header", "open quote"],
)
def test_refuses_rows_that_are_no_csv(tmp_path, lines, expected):
    table, images = make(tmp_path, lines, names=("a.png", "b.png", "c.png"))
    message = refusal(table, images, DamagedError)
    assert [words for words in [str(table), *expected] if words not in message] == []


def test_refuses_a_missing_table(tmp_path):
    message = refusal(tmp_path / "nowhere.csv", tmp_path, MissingError)
    assert str(tmp_path / "nowhere.csv") in message
    assert "split.annotations" in message


@pytest.mark.parametrize(
    ("old", "new", "missing", "present"),
    [
        ("Partition", "partition", "column 'Partition'", "'partition'"),
        ("Image Name,", "Image,", "column 'Image Name'", "'Image', 'Majority Vote Label'"),
        (",", "/", "columns 'Image Name', 'Majority Vote Label'", repr(HEADER.replace(",", "/"))[:50]),
    ],
    ids=["case", "misnamed", "unknown separator"],
)
def test_refuses_missing_columns_and_says_which_were_found(tmp_path, old, new, missing, present):
    table, images = make(tmp_path, tuple(line.replace(",", new if old == "," else ",") for line in GOOD))
    table.write_text(table.read_text().replace(old, new), encoding="utf-8")
    message = refusal(table, images)
    lacks, has = message.split("; it has ")
    assert missing in lacks
    assert present in has.split("MHIST's")[0]
    assert "'Image Name', 'Majority Vote Label', 'Number of" in has.split("MHIST's")[1]


@pytest.mark.parametrize("separator", [";", "\t", "|", ", "])
def test_finds_what_separates_the_columns(tmp_path, separator):
    table, images = make(tmp_path, GOOD)
    plain = rows_of(table, images)
    table.write_text(table.read_text().replace(",", separator))
    assert rows_of(table, images) == plain


def test_refuses_a_table_without_its_last_column(tmp_path):
    table, images = make(tmp_path, ("a.png,HP,1", "b.png,SSA,6"), HEADER.removesuffix(",Partition"))
    message = refusal(table, images)
    assert "lacks the column 'Partition'" in message
    assert "has 'Image Name', 'Majority Vote Label', 'Number" in message


@pytest.mark.parametrize(
    ("content", "expected", "error"),
    [
        (b"", "empty", UnusableError),
        (HEADER.encode() + b"\n\xe9.png,HP,1,train\n", "UTF-8", DamagedError),
        (b"PK\x03\x04 a workbook", "workbook", DamagedError),
    ],
    ids=["empty", "latin-1", "workbook"],
)
def test_refuses_what_is_no_csv_in_utf8(tmp_path, content, expected, error):
    table, images = make(tmp_path, GOOD)
    table.write_bytes(content)
    message = refusal(table, images, error)
    assert message.startswith(f"{table} ")
    assert expected in message


def test_says_how_many_images_are_missing_and_names_five(tmp_path):
    lines = (*GOOD, *(f"m{number}.png,HP,1,train" for number in range(7)))
    table, images = make(tmp_path, lines)
    (images / "m0.png").mkdir()  # a folder is no image
    message = refusal(table, images, MissingError)
    assert message.startswith("7 of 9 ")
    assert f"{images}: 'm0.png' (line 4), 'm1.png' (line 5), " in message
    assert "'m4.png' (line 8) and 2 more (all in .work/names.txt). " in message
    assert "2 file(s), such as 'a.png'" in message


def test_refuses_a_missing_image_folder(tmp_path):
    table, _ = make(tmp_path, GOOD)
    message = refusal(table, tmp_path / "elsewhere", MissingError)
    assert message.startswith(f"there is no folder {tmp_path / 'elsewhere'}; ")
    assert "'images'" in message
    assert "split.data and split.images" in message


@pytest.mark.parametrize(
    "name",
    ["..", "../outside.png", "inner/../../outside.png", "..\\outside.png", "{images}/b.png", "C:\\b.png", "link.png"],
)
def test_refuses_names_that_lead_outside_the_folder(tmp_path, name):
    name = name.format(images=tmp_path / "images")
    table, images = make(tmp_path, (f"{name},HP,1,train", *GOOD))
    (tmp_path / "outside.png").touch()
    (images / "inner").mkdir()
    (images / "link.png").symlink_to(tmp_path / "outside.png")
    message = refusal(table, images)
    assert message.startswith(f"1 image name(s) of {table} ")
    assert str(images) in message
    assert f": {name!r}"[:50] in message
    assert " (line 2). " in message


def test_counts_the_names_that_lead_outside(tmp_path):
    table, images = make(tmp_path, (*GOOD, *(f"../{number}.png,HP,1,train" for number in range(7))))
    message = refusal(table, images)
    assert message.startswith(f"7 image name(s) of {table} lead outside")
    assert "'../4.png'" in message
    assert "'../5.png'" not in message


def test_refuses_a_name_with_control_characters(tmp_path):
    table, images = make(tmp_path, ('"a\rb.png",HP,1,train', "b.png,SSA,1,test"))
    assert "'a\\rb.png'" in refusal(table, images)


def test_refuses_a_link_to_itself(tmp_path):
    table, images = make(tmp_path, GOOD, names=("b.png",))
    (images / "a.png").symlink_to("a.png")
    assert "a.png" in refusal(table, images, MissingError)


def test_unnamed_images_are_the_other_files_sorted(tmp_path):
    table, images = make(tmp_path, GOOD, names=("z.png", "b.png", "a.png", ".hidden", "Thumbs.db"))
    (images / "folder").mkdir()
    data_set = read(table, images)
    assert data_set.left_out == ["z.png"]
    assert (data_set.source, data_set.drawn) == (table, {"val": 0.3})


def test_refuses_what_a_link_brings_from_outside_the_data_set(tmp_path):
    """DVC hashes the folder of the data set and follows no link to a folder elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    table, images = make(tmp_path / "elsewhere", GOOD)
    (tmp_path / "data/images").symlink_to(images, target_is_directory=True)
    (tmp_path / "data/annotations.csv").write_bytes(table.read_bytes())
    message = refusal(tmp_path / "data/annotations.csv", tmp_path / "data/images")
    assert message.startswith(f"{tmp_path / 'data/images'} leads outside {tmp_path / 'data'} ")
    assert "split.data" in message
    assert "split.images" in message
    (tmp_path / "data/annotations.csv").unlink()
    (tmp_path / "data/annotations.csv").symlink_to(table)
    assert "annotations.csv leads outside" in refusal(tmp_path / "data/annotations.csv", tmp_path / "data/images")


def test_refuses_an_image_folder_that_is_a_link_to_itself(tmp_path):
    table, _ = make(tmp_path, GOOD)
    (tmp_path / "loop").symlink_to("loop")
    assert f"{tmp_path / 'loop'} leads outside" in refusal(table, tmp_path / "loop")
