"""The index of images: its file, its order, its class axis and its fingerprint."""

import gc
import hashlib
import tracemalloc
from itertools import permutations

import numpy as np
import pytest

from pipeline.images.index import Image, Index, apart, fingerprint_of, in_order, read_index, write_index
from pipeline.images.one_hot import OneHot, digest_of
from pipeline.runtime.errors import DamagedError, MissingError

ONE = Image("a.png", "data/split/train/SSA/a.png", "SSA", "train", "6", "11" * 32)
TWO = Image("b.png", "data/split/test/HP/b.png", "HP", "test", "", "22" * 32)
THREE = Image("c.png", "data/split/val/HP/c.png", "HP", "val", "0", "33" * 32)
IMAGES = (ONE, TWO, THREE)
HEADER = "id,path,class_name,split,votes,sha256,label"


def test_file_is_plain_csv_sorted_by_id(tmp_path):
    file = tmp_path / "index.csv"
    odd = Image('b,"é".png', "data/split/train/H P/b.png", "H P", "train", "", "44" * 32)
    write_index(file, Index([TWO, odd, ONE]))
    assert file.read_bytes().decode() == (
        f"{HEADER}\n"
        f"a.png,data/split/train/SSA/a.png,SSA,train,6,{'11' * 32},2\n"
        f'"b,""é"".png",data/split/train/H P/b.png,H P,train,,{"44" * 32},0\n'
        f"b.png,data/split/test/HP/b.png,HP,test,,{'22' * 32},1\n"
    )


@pytest.mark.parametrize(
    "name",
    [
        "a,b.png",
        'a "b".png',
        '"',
        "ÄÖ ß 图像.png",
        "\U0001f52c.png",
        " a.png ",
        "a\nb.png",
        "a\rb.png",
        "'; --",
        "NA",
    ],
)
def test_odd_names_survive_the_file(tmp_path, name):
    file = tmp_path / "index.csv"
    images = [ONE._replace(id=name, path=f"data/split/train/SSA/{name}", class_name=name), TWO]
    write_index(file, Index(images))
    assert len(read_index(file).images) == 2
    assert set(read_index(file).images) == set(images)


def test_order_given_changes_neither_file_nor_fingerprint(tmp_path):
    for number, order in enumerate(permutations(IMAGES)):
        assert [image.id for image in Index(order).images] == ["a.png", "b.png", "c.png"]
        assert Index(order).fingerprint() == Index(IMAGES).fingerprint()
        write_index(tmp_path / str(number), Index(order))
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1


def test_rows_of_a_shuffled_file_are_sorted(tmp_path):
    file = tmp_path / "index.csv"
    file.write_text(f"{HEADER}\nc,p,l,train,,s,0\na,p,l,train,,s,0\nb,p,l,train,,s,0\n")
    assert [image.id for image in read_index(file).images] == ["a", "b", "c"]


def test_writing_never_overwrites(tmp_path):
    file = tmp_path / "index.csv"
    file.write_text("older")
    with pytest.raises(FileExistsError):
        write_index(file, Index(IMAGES))
    assert file.read_text() == "older"


def test_fingerprint_is_the_hash_that_the_format_states():
    text = "a.png\0train\0SSA\0" + "11" * 32 + "\0" + "b.png\0test\0HP\0" + "22" * 32 + "\0"
    assert Index([TWO, ONE]).fingerprint() == hashlib.sha256(text.encode()).hexdigest()


def test_fingerprint_of_some_images_is_that_of_an_index_of_them():
    index = Index(IMAGES)
    assert fingerprint_of(index.split("val")) == Index([THREE]).fingerprint()
    assert fingerprint_of(index.images) == index.fingerprint()
    assert fingerprint_of([]) == hashlib.sha256().hexdigest()
    assert fingerprint_of([TWO, ONE]) != fingerprint_of([ONE, TWO])


@pytest.mark.parametrize(
    "changed",
    [{"id": "bb.png"}, {"id": "B.png"}, {"class_name": "SSA"}, {"split": "train"}, {"sha256": "23" + "22" * 31}],
    ids=str,
)
def test_fingerprint_sees_every_change_of_identity(changed):
    assert Index([ONE, TWO._replace(**changed), THREE]).fingerprint() != Index(IMAGES).fingerprint()


def test_fingerprint_does_not_see_where_the_file_lies():
    assert Index([ONE, TWO._replace(path="elsewhere/b.png"), THREE]).fingerprint() == Index(IMAGES).fingerprint()


def test_the_fingerprint_sees_exchanged_and_missing_images():
    exchanged = [ONE._replace(sha256=TWO.sha256), TWO._replace(sha256=ONE.sha256), THREE]
    shifted = [ONE._replace(id="a.pngt", split="rain"), TWO, THREE]
    sets = [IMAGES, exchanged, shifted, IMAGES[:2], IMAGES[1:], ()]
    assert len({Index(images).fingerprint() for images in sets}) == len(sets)


def test_fingerprint_survives_the_file(tmp_path):
    write_index(tmp_path / "index.csv", Index(IMAGES))
    assert read_index(tmp_path / "index.csv").fingerprint() == Index(IMAGES).fingerprint()


def test_classes_are_in_alphabetical_order():
    labels = ["b", "9", "a", "10", "B", "a", "é"]
    index = Index(ONE._replace(id=str(number), class_name=label) for number, label in enumerate(labels))
    assert index.class_names == ["10", "9", "B", "a", "b", "é"]
    assert index.labels(index.images) == [4, 1, 3, 0, 2, 3, 5]


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "9", "0", "1"], ["0", "1", "9", "10"]),
        (["10", "-2", "2", "1.5"], ["-2", "1.5", "2", "10"]),
        (["2", "02", "1", "1.0"], ["1", "1.0", "02", "2"]),
        (["10", "9", "none"], ["10", "9", "none"]),
        (["1e2", "20"], ["1e2", "20"]),
        (["²", "10", "9"], ["10", "9", "²"]),
        ([], []),
    ],
    ids=str,
)
def test_classes_that_are_numbers_are_in_numeric_order(names, order):
    assert in_order(names) == order
    assert in_order([*reversed(names), *names]) == order


def test_one_hot_by_hand():
    index = Index([*IMAGES, TWO._replace(id="d.png", class_name="TA")])  # classes HP, SSA, TA
    hot = index.one_hot(index.images)
    np.testing.assert_array_equal(hot, [[0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(hot[np.array([3, 0, 3])], [[0, 0, 1], [0, 1, 0], [0, 0, 1]])
    assert np.asarray(hot).dtype == hot[np.arange(2)].dtype == np.float32
    # the class axis is the data set's, whatever images are asked for, in the order asked for
    np.testing.assert_array_equal(index.one_hot([index.images[3], index.images[0]]), [[0, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize("count", [1, 4096, 4097])
def test_the_digest_of_one_hot_labels_is_that_of_the_array(count):
    labels = np.arange(count) % 4 - 1
    whole = np.zeros((count, 3), np.float32)
    whole[np.flatnonzero(labels >= 0), labels[labels >= 0]] = 1
    expected = hashlib.sha256(whole.tobytes()).hexdigest()
    assert digest_of(OneHot(labels, 3)) == digest_of(whole) == expected


# Images without a label

BARE = Image("d.png", "data/split/unlabelled/d.png", "", "train", "", "44" * 32)


def test_an_image_without_a_label_has_neither_class_nor_label(tmp_path):
    file = tmp_path / "index.csv"
    write_index(file, Index([*IMAGES, BARE]))
    assert file.read_text().splitlines()[-1] == f"d.png,data/split/unlabelled/d.png,,train,,{'44' * 32},"
    read = read_index(file)
    assert read.images == [*IMAGES, BARE]
    assert read.class_names == Index([*IMAGES, BARE]).class_names == ["HP", "SSA"]
    assert [image.is_labelled for image in read.images] == [True, True, True, False]


def test_labels_of_images_without_one_by_hand():
    index = Index([*IMAGES, BARE])
    assert index.labels([BARE, ONE, TWO]) == [-1, 1, 0]
    np.testing.assert_array_equal(index.one_hot([BARE, ONE, TWO]), [[0, 0], [0, 1], [1, 0]])
    assert index.split("train") == [ONE, BARE]
    assert index.labelled("train") == [ONE]
    assert index.labelled("val") == index.split("val")


def test_the_fingerprint_sees_a_label_that_was_taken_away():
    text = "a.png\0train\0\0" + "11" * 32 + "\0" + "b.png\0test\0HP\0" + "22" * 32 + "\0"
    index = Index([TWO, ONE._replace(class_name="")])
    assert index.fingerprint() == hashlib.sha256(text.encode()).hexdigest()
    assert index.fingerprint() != Index([TWO, ONE]).fingerprint()


def test_training_images_without_any_label_are_refused():
    with pytest.raises(DamagedError, match="no image with a label in the split 'train'"):
        Index([TWO, THREE, BARE]).labelled("train")


@pytest.mark.parametrize(
    "row",
    ["d.png,p,,test,,s,", "d.png,p,,val,,s,", "d.png,p,,train,,s,0", "d.png,p,,train,,s,-1", "d.png,p,HP,train,,s,"],
    ids=["test", "validation", "a label and no class", "-1", "a class and no label"],
)
def test_refuses_images_that_lack_half_of_a_label(tmp_path, row):
    rows = ["a.png,p,HP,train,,s,0", "b.png,p,SSA,train,,s,1", row]
    (tmp_path / "index.csv").write_text("\n".join([HEADER, *rows, ""]))
    with pytest.raises(DamagedError, match=r"index\.csv"):
        read_index(tmp_path / "index.csv")


def test_split_lists_its_own_images_by_id():
    index = Index([THREE._replace(id="z.png"), THREE, TWO, ONE])
    assert [image.id for image in index.split("val")] == ["c.png", "z.png"]
    assert index.split("train") == [ONE]
    assert index.split("test") == [TWO]


@pytest.mark.parametrize("name", ["a", "b", "é"])
def test_an_image_is_found_by_its_id(name):
    images = {other: Image(other, f"{other}.png", "x", "train", "", "0") for other in ("b", "é", "a")}
    assert Index(images.values()).find(name) is images[name]


@pytest.mark.parametrize("name", ["", "A", "aa", "z", "ö"])
def test_an_image_that_is_not_there_is_not_found(name):
    images = [Image(other, f"{other}.png", "x", "train", "", "0") for other in ("b", "é", "a")]
    assert Index(images).find(name) is None
    assert Index([]).find(name) is None


def test_rows_that_are_kept_do_not_hold_the_memory_of_others():
    """Python gives back blocks of memory that are wholly free: no text of a kept row may lie in those of the others."""
    rows = [Image(f"id {number}", f"path {number}", "a", "test", "", f"{number:064}") for number in range(3)]
    copies = apart(rows)
    assert copies == rows
    for copy, row in zip(copies, rows, strict=True):
        assert not any(getattr(copy, name) is getattr(row, name) for name in ("id", "path", "sha256"))


def test_refuses_a_missing_index(tmp_path):
    with pytest.raises(MissingError) as refused:
        read_index(tmp_path / "index.csv")
    assert f"{tmp_path / 'index.csv'}. " in str(refused.value)
    assert "`dvc repro split`" in str(refused.value)


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("id,path,class_name,split,votes,sha256", "'votes', 'sha256', "),
        ("id,path,class_name,split,votes,sha256,class", "'class'"),
        ("path,id,class_name,split,votes,sha256,label", "columns 'path', 'id'"),
        ("", "(none)"),
    ],
    ids=["missing", "misnamed", "other order", "empty file"],
)
def test_refuses_other_columns(tmp_path, header, shown):
    file = tmp_path / "index.csv"
    file.write_text(header)
    with pytest.raises(DamagedError) as refused:
        read_index(file)
    has, expected = str(refused.value).split("expected")
    assert str(file) in has
    assert shown in has
    assert "['id', 'path', 'class_name', 'split', 'votes', 'sha256', 'label']" in expected
    assert "dvc repro --single-item --force split" in expected


@pytest.mark.parametrize(
    "rows",
    [
        b"a.png,data/a.png\n",
        b"a.png,p,HP,train,,s\n",
        b"a.png,p,HP,train,,s,0,more\n",
        b"\xe9.png,p,HP,train,,s,0\n",
        b"a.png,p,HP,trian,,s,0\n",
        b"a.png,p,HP,train,,s,0\na.png,p,HP,train,,s,0\n",
    ],
    ids=["short row", "no class index", "long row", "not UTF-8", "unknown split", "duplicate id"],
)
def test_refuses_damaged_rows(tmp_path, rows):
    file = tmp_path / "index.csv"
    file.write_bytes(HEADER.encode() + b"\n" + rows)
    with pytest.raises(DamagedError, match=r"index\.csv"):
        read_index(file)


@pytest.mark.parametrize(
    "order", [["SSA", "HP"], ["HP", "SSA"], ["10", "9", "x"], [str(number) for number in range(11)]], ids=str
)
def test_the_file_keeps_the_order_of_the_class_axis(tmp_path, order):
    """Whatever the order is; with eleven classes, the number 10 comes after 9 and not after 1."""
    images = [ONE._replace(id=f"{number:02}", class_name=label) for number, label in enumerate(reversed(order))]
    write_index(tmp_path / "index.csv", Index(images, order))
    rows = [line.split(",") for line in (tmp_path / "index.csv").read_text().splitlines()[1:]]
    assert {row[2]: int(row[6]) for row in rows} == {label: number for number, label in enumerate(order)}
    read = read_index(tmp_path / "index.csv")
    assert read.class_names == order
    assert read.labels(read.images) == list(range(len(order)))[::-1]


@pytest.mark.parametrize(
    ("numbered", "why"),
    [
        ([("HP", "0"), ("SSA", "")], "a number missing"),
        ([("HP", "1"), ("SSA", "2")], "not from 0"),
        ([("HP", "0"), ("SSA", "2")], "a gap"),
        ([("HP", "0"), ("SSA", "0")], "two classes with one number"),
        ([("HP", "0"), ("HP", "1"), ("SSA", "2")], "one class with two numbers"),
        ([("HP", "0"), ("SSA", "1"), ("SSA", "0")], "one class with two numbers, each taken"),
        ([("HP", "first"), ("SSA", "second")], "texts"),
        ([("HP", "0"), ("SSA", "01")], "not as it is written"),
        ([("HP", "-1"), ("SSA", "0")], "a negative number"),
        ([("HP", "0"), ("SSA", "1.0")], "no whole number"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_numbers_that_are_no_order_of_the_classes(tmp_path, numbered, why):
    rows = [f"{row}.png,p,{label},train,,s,{number}" for row, (label, number) in enumerate(numbered)]
    (tmp_path / "index.csv").write_text("\n".join([HEADER, *rows, ""]))
    with pytest.raises(DamagedError) as refused:
        read_index(tmp_path / "index.csv")
    assert "index.csv" in str(refused.value)
    assert f"{numbered[0][0]!r} has {numbered[0][1]!r}" in str(refused.value)
    assert "dvc repro --single-item --force split" in str(refused.value)


@pytest.mark.parametrize("was_on", [True, False])
def test_reading_leaves_the_search_for_cycles_as_it_was(tmp_path, was_on):
    (tmp_path / "index.csv").write_text(f"{HEADER}\na.png,p,HP,trian,,s,0\n")
    try:
        gc.enable() if was_on else gc.disable()
        with pytest.raises(DamagedError):
            read_index(tmp_path / "index.csv")
        assert gc.isenabled() == was_on
    finally:
        gc.enable()


def test_a_row_takes_little_more_memory_than_its_texts(tmp_path):
    """Three texts of its own, 49 bytes each beyond its characters, and a tuple of 6 places, 8 bytes each."""
    file = tmp_path / "index.csv"
    names = [f"n{number:07}.JPEG" for number in range(20000)]
    images = [Image(name, f"data/split/train/n0{name}", "n0", "train", "", f"{name:064}") for name in names]
    write_index(file, Index(images))
    tracemalloc.start()
    try:
        index = read_index(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    own = sum(map(len, (images[0].id, images[0].path, images[0].sha256))) + 3 * 49 + (40 + 6 * 8 + 16)
    assert index.images == images
    assert peak / len(images) < own + 3 * 8 + 3 * 8 + 50  # lists while it sorts; rounded up to 16; the file's buffer
