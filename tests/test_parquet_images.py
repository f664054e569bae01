"""Layout `parquet`: files as Hugging Face Datasets writes them, others that fit, and those that do not."""

import sys
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from layouts import assert_one_mistake, png
from shard_files import as_structs, write_parquet

from pipeline.datasets import parquet_images
from pipeline.datasets.parquet_images import read_parquet
from pipeline.datasets.unlabelled import Unlabelled
from pipeline.images.parquet_rows import read_row
from pipeline.images.places import read_bytes
from pipeline.runtime import limits
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, UnusableError

FILE = "raw/train-00000-of-00002.parquet"
OTHER = "raw/train-00001-of-00002.parquet"
NAMES = {"label": ["healthy", "ill"]}
IMAGES = [png(number) for number in range(5)]
SECTION = {
    "layout": "parquet",
    "data": "raw",
    "train": "train-*.parquet",
    "val": None,
    "test": None,
    "label_column": "label",
    "val_fraction": 0.25,
    "test_fraction": 0.25,
}


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def read(**changes):
    settings = {key: value for key, value in SECTION.items() if key != "layout"}
    return read_parquet(**{**settings, "data": Path("raw"), "train": ["train-*.parquet"], **changes})


def refusal(error=UnusableError, **changes):
    with pytest.raises(error) as refused:
        read(**changes)
    return str(refused.value)


def write_two(images=as_structs, **settings):
    write_parquet(FILE, {"image": images(IMAGES[:3]), "label": [1, 0, 1]}, NAMES, **settings)
    write_parquet(OTHER, {"image": images(IMAGES[3:]), "label": [0, 1]}, NAMES, **settings)


# What is read


@pytest.mark.parametrize(
    "images",
    [as_structs, pa.array, lambda images: pa.array(images, pa.large_binary())],
    ids=["structs", "bytes", "large bytes"],
)
def test_rows_have_ids_labels_and_places_of_their_bytes(images):
    write_two(images, row_group_size=2)
    data = read()
    assert [row.id for row in data.rows] == [
        "train-00000-of-00002/000000", "train-00000-of-00002/000001", "train-00000-of-00002/000002",
        "train-00001-of-00002/000000", "train-00001-of-00002/000001",
    ]  # fmt: skip
    assert [row.class_name for row in data.rows] == ["ill", "healthy", "ill", "healthy", "ill"]
    assert data.class_names == ["healthy", "ill"]
    assert data.rows[2].image == f"{FILE}//row=2"
    assert [read_bytes(row.image) for row in data.rows] == IMAGES


def test_other_columns_give_the_image_the_id_and_the_group():
    columns = {"image": ["x"] * 3, "a photo": IMAGES[:3], "name": ["b", "c", "a"], "patient": [7.0, 7.0, 8.0]}
    write_parquet(FILE, columns | {"label": ["x", "y", "x"]})
    rows = read(image_column="a photo", id_column="name", group_column="patient").rows
    assert [(row.id.rpartition("/")[2], row.class_name, row.group) for row in rows] == [
        ("a", "x", "8"), ("b", "x", "7"), ("c", "y", "7"),
    ]  # fmt: skip
    assert [read_bytes(row.image) for row in rows] == [IMAGES[2], IMAGES[0], IMAGES[1]]
    assert rows[0].image == f"{FILE}//row=2&column=a photo"


@pytest.mark.parametrize(
    ("labels", "class_names", "classes", "order"),
    [
        ([10, 9, 10], None, ["10", "9", "10"], ["9", "10"]),
        ([1, 0, 1], ["a", "b"], ["b", "a", "b"], ["a", "b"]),
        (["y", "x", "y"], None, ["y", "x", "y"], ["x", "y"]),
        (["y", "x", "y"], ["y", "x"], ["y", "x", "y"], ["y", "x"]),
        ([Decimal("1.00"), Decimal("0.00"), Decimal("1.00")], ["a", "b"], ["b", "a", "b"], ["a", "b"]),
        ([True, False, True], None, ["true", "false", "true"], ["false", "true"]),
    ],
)
def test_labels_without_stated_names_are_as_in_other_layouts(labels, class_names, classes, order):
    write_parquet(FILE, {"image": IMAGES[:3], "label": labels})
    data = read(class_names=class_names)
    assert [row.class_name for row in data.rows] == classes
    assert data.class_names == order


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["00000", "00001", "10"], ["00000", "00001", "10"]),
        (["007", "7", "7.0"], ["007", "7", "7.0"]),
        ([7, 10, 8], ["10", "7", "8"]),
        ([7.0, 10.0, 8.0], ["10", "7", "8"]),
    ],
)
def test_ids_that_are_texts_stay_as_they_are(names, ids):
    write_parquet(FILE, {"image": IMAGES[:3], "label": ["x", "y", "x"], "name": names})
    assert [row.id.rpartition("/")[2] for row in read(id_column="name").rows] == ids


@pytest.mark.parametrize(
    ("class_names", "classes", "order"),
    [
        (["ant", "zebra"], ["zebra", "ant"], ["ant", "zebra"]),
        (["zebra", "ant"], ["zebra", "ant"], ["zebra", "ant"]),
        (["ant", "bee", "zebra"], ["zebra", "ant"], ["ant", "zebra"]),
        (["zebra", "Ameise"], ["zebra", "Ameise"], ["zebra", "Ameise"]),
        ({"ant": "Ameise", "zebra": "Zebra"}, ["Zebra", "Ameise"], ["Ameise", "Zebra"]),
        ({"zebra": "Zebra", "ant": "Ameise"}, ["Zebra", "Ameise"], ["Zebra", "Ameise"]),
        ({"0": "Zebra", "1": "Ameise"}, ["Zebra", "Ameise"], ["Zebra", "Ameise"]),
    ],
)
def test_stated_names_in_another_order_keep_their_images(class_names, classes, order):
    write_parquet(FILE, {"image": IMAGES[:3], "label": [0, 1, -1]}, {"label": ["zebra", "ant"]})
    data = read(class_names=class_names, unlabelled=Unlabelled(rows=True))
    assert [row.class_name for row in data.rows] == [*classes, ""]
    assert data.class_names == order


def test_a_list_that_names_a_stated_class_by_another_number():
    write_parquet(FILE, {"image": IMAGES[:2], "label": [0, 1]}, {"label": ["zebra", "ant"]})
    assert "label(s) that split.class_names does not know: 'ant'" in refusal(MismatchError, class_names=["x", "zebra"])


def test_names_in_params_yaml_come_before_those_of_the_files():
    write_two()
    assert read(class_names=["well", "sick"]).class_names == ["well", "sick"]


@pytest.mark.parametrize("told", [b"no JSON", b"[]", b'{"info": {"features": {"label": {"names": [1, 2]}}}}'])
def test_metadata_that_state_no_names_are_no_fault(told):
    write_parquet(FILE, {"image": IMAGES[:2], "label": [0, 1]})
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(FILE).replace_schema_metadata({b"huggingface": told}), FILE)
    assert read().class_names == ["0", "1"]


def test_rows_without_a_label_are_refused_used_or_left_out():
    write_parquet(FILE, {"image": as_structs(IMAGES), "label": [0, -1, 1, None, 0]}, NAMES)
    message = refusal()
    assert "2 of 5 images in shards of raw have no label in 'label'" in message
    assert "train-00000-of-00002/000001, train-00000-of-00002/000003" in message
    used = read(unlabelled=Unlabelled(rows=True)).rows
    assert [row.class_name for row in used] == ["healthy", "", "ill", "", "healthy"]
    assert len(read(unlabelled=Unlabelled(rows=False)).rows) == 3


def test_a_column_of_dates_holds_no_labels():
    write_parquet(FILE, {"image": IMAGES[:2], "label": pa.array([1, 2], pa.date32())})
    assert f"{FILE} has date32[day] in the column 'label'; expected one text or number in each row" in refusal()


def test_files_name_their_splits():
    for name in ("train-0", "validation-0", "in/test-0"):
        write_parquet(f"raw/{name}.parquet", {"image": IMAGES[:2], "label": [0, 1]}, NAMES)
    Path("raw/README.md").write_text("x")
    data = read(val=["validation-*.parquet"], test=["in/*"], val_fraction=None, test_fraction=None)
    assert [(row.id, row.partition) for row in data.rows[::2]] == [
        ("in/test-0/000000", "test"), ("train-0/000000", "train"), ("validation-0/000000", "val"),
    ]  # fmt: skip
    assert data.left_out == ["README.md"]


def test_no_image_is_read(monkeypatch):
    write_two(compression="none")
    content = Path(FILE).read_bytes()
    for image in IMAGES[:3]:
        content = content.replace(image, bytes(len(image)))
    assert content != Path(FILE).read_bytes()
    Path(FILE).write_bytes(content)
    assert len(read().rows) == 5


def test_large_row_groups_are_told(monkeypatch):
    write_two()
    assert read().hints == []
    monkeypatch.setattr(parquet_images, "LARGE_GROUP", 100)
    (hint,) = read().hints
    assert f"{FILE} has row groups of up to 0 MiB" in hint
    assert "images.cache: memory or disk" in hint


@pytest.mark.parametrize(("names", "hints"), [(["a", "b", "c"], 0), (["a", "c", "b"], 1)])
def test_ids_that_are_not_in_the_order_of_rows_are_told(monkeypatch, names, hints):
    write_parquet(FILE, {"image": IMAGES[:3], "label": ["x", "y", "x"], "name": names})
    assert read(id_column="name").hints == []
    monkeypatch.setattr(parquet_images, "KEPT_BYTES", 100)
    assert sum("not in the order of split.id_column" in hint for hint in read(id_column="name").hints) == hints


# What is refused


@pytest.mark.parametrize("statistics", [True, False])
def test_rows_that_name_a_file_in_place_of_bytes_are_refused(statistics):
    images = as_structs([IMAGES[0], None, IMAGES[2], None], [None, "/data/1.png", "x.png", "https://x/3.png"])
    write_parquet(FILE, {"image": images, "label": [0, 1, 0, 1]}, NAMES, row_group_size=3, write_statistics=statistics)
    message = refusal()
    assert f"{FILE} has no bytes in the column 'image' in 2 row(s): 1, 3. Files that such a row names" in message


def test_a_whole_image_that_is_missing_is_refused():
    write_parquet(FILE, {"image": pa.array([{"bytes": IMAGES[0]}, None]), "label": [0, 1]})
    assert "in 1 row(s): 1." in refusal()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_column": "photo"}, "has no column(s) 'photo'; it has 'image', 'label'. Correct split.image_column"),
        ({"label_column": "labels"}, "has no column(s) 'labels'"),
        ({"id_column": "id"}, "Correct split.id_column"),
        ({"image_column": "label"}, "has int64 in the column 'label'; expected the bytes of an image file"),
        ({"label_column": "image"}, "in the column 'image'; expected one text or number in each row"),
        ({"id_column": "label"}, "belong to more than one image in the shards of raw: train-00000-of-00002/1"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change, words):
    write_two()
    assert words in refusal(**change)


@pytest.mark.parametrize("name", ["../x", "", "a/../b", "a\nb"])
def test_names_that_lead_outside_are_refused(name):
    write_parquet(FILE, {"image": IMAGES[:2], "label": [0, 1], "name": ["ok", name]})
    assert "1 image(s) in shards of raw have a name that cannot be used" in refusal(id_column="name")


def test_files_that_state_other_classes_are_refused():
    write_two()
    write_parquet(OTHER, {"image": as_structs(IMAGES[:2]), "label": [0, 1]}, {"label": ["ill", "healthy"]})
    assert f"{OTHER} states other classes than {FILE}: 'ill', 'healthy', not" in refusal(MismatchError)
    assert "so a number could mean two classes" in refusal(MismatchError, class_names=["a", "b"])
    write_parquet(OTHER, {"image": as_structs(IMAGES[:2]), "label": [0, 1]})
    assert f"{OTHER} states other classes than {FILE}: no names, not 'healthy', 'ill'" in refusal(MismatchError)
    assert read(class_names=["a", "b"]).class_names == ["a", "b"]


def test_damaged_files_are_named():
    write_two()
    content = Path(OTHER).read_bytes()
    for damaged in (b"", content[:-5], content[: len(content) // 2], b"PAR1" + bytes(100) + b"PAR1"):
        Path(OTHER).write_bytes(damaged)
        assert f"{OTHER} cannot be read as a Parquet file" in refusal(DamagedError)


def test_an_encrypted_file_is_told(monkeypatch):
    """pyarrow says `Cannot decrypt ParquetFile that is encrypted`, or names the footer's mark PARE."""
    write_two()
    content = Path(FILE).read_bytes()
    Path(FILE).write_bytes(content[:-4] + b"PARE")
    assert f"{FILE} is encrypted, and no key is used here" in refusal()


@pytest.mark.slow
def test_no_flipped_bit_in_a_footer_ends_python():
    """pyarrow lets a C++ exception through where a footer names a column without a description."""
    write_parquet(FILE, {"image": as_structs(IMAGES), "label": [0, 1, 0, 1, 0]}, NAMES)
    content = Path(FILE).read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for place in range(footer, len(content)):
        Path(FILE).write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        with suppress(DamagedError, UnusableError, MismatchError):
            read()


def test_a_missing_package_is_named(monkeypatch):
    write_two()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install -e '.[parquet]'" in refusal(MissingError)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": "train.csv", "id_column": ""}, ["split.id_column"]),
        ({"test": "test-*.parquet"}, ["split.test_fraction", "expected null"]),
        ({"val_fraction": None}, ["split.val_fraction", "expected a fraction"]),
    ],
)
def test_impossible_settings_are_refused(change, words):
    assert_one_mistake(SECTION | change, words)


def repeated(value, count):
    """A column that says a value many times, and takes room for one."""
    numbers = pa.array(np.zeros(count, np.int32))
    return pa.DictionaryArray.from_arrays(numbers, pa.array([value]))


def write_repeated(rows=2000, label="a", image=b"image", **settings):
    columns = {"image": repeated(image, rows), "label": repeated(label, rows)}
    write_parquet(
        "raw/train-1.parquet", columns, store_schema=False, compression="zstd", row_group_size=rows, **settings
    )


def test_more_rows_than_bytes_are_refused():
    write_repeated(rows=2000)
    assert Path("raw/train-1.parquet").stat().st_size < 2000
    assert "announces 2,000 rows in fewer bytes" in refusal(DamagedError)


def test_a_long_label_is_refused_before_it_is_repeated():
    write_repeated(rows=100, label="a" * 131_073)
    told = refusal(DamagedError)
    assert "has a text of 131,073 characters" in told
    assert "limits.field_characters" in told
    assert len(told) < 500


def test_an_image_that_is_repeated_fills_no_memory(monkeypatch):
    monkeypatch.setenv(limits.VARIABLE, limits.in_environment(limits.Limits(row_group_bytes=2**20))[limits.VARIABLE])
    write_repeated(rows=100, image=b"i" * 2**17, dictionary_pagesize_limit=2**20)
    with pytest.raises(UnusableError, match=r"more than 1 MiB in the column 'image' of row group 0.*row_group_mega"):
        read_row(Path("raw/train-1.parquet"), "image", 3)


@pytest.mark.parametrize(
    "label", [pa.array([["a"], ["b"]]), pa.array([b"a" * 65, b"b" * 65], pa.binary(65)), pa.array([{"x": 1}, {"x": 2}])]
)
def test_labels_that_may_repeat_what_is_large_are_not_read(label):
    write_parquet("raw/train-1.parquet", {"image": [b"a", b"b"], "label": label})
    assert "in the column 'label'; expected one text or number in each row" in refusal()


def test_fewer_rows_than_announced_are_damage():
    write_parquet("raw/train-1.parquet", {"image": [b"a", b"b", b"c"], "label": ["x", "y", "x"]}, use_dictionary=False)
    content = Path("raw/train-1.parquet").read_bytes()
    footer = content.index(b"schema")
    changed = content[footer:].replace(bytes([0x16, 6]), bytes([0x16, 8]))  # each number 3, as Thrift writes it
    assert changed != content[footer:]
    Path("raw/train-1.parquet").write_bytes(content[:footer] + changed)
    assert "raw/train-1.parquet" in refusal(DamagedError)
