"""Stage `split`: copies, index and counts of a small data set, and what is refused before anything is written."""

import errno
import hashlib
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import mhist_in

from pipeline import split
from pipeline.annotations import Annotation, DataSet
from pipeline.errors import PipelineError
from pipeline.index import in_order, read_index
from pipeline.split import assign_split

HEADER = "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition"
FOLDER, INDEX = Path("data/split"), Path("data/index.csv")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def row_of(number: int) -> tuple[str, str, str]:
    """(name, class, partition) of image `number`: every third is HP, every fourth a test image."""
    return f"{number:03}.png", "HP" if number % 3 == 0 else "SSA", "test" if number % 4 == 0 else "train"


def pixels_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)


def make(numbers: range) -> None:
    """Writes the annotations and images of these numbers below raw/."""
    Path("raw/images").mkdir(parents=True, exist_ok=True)
    lines = [HEADER]
    for number in numbers:
        name, label, partition = row_of(number)
        Path("raw/images", name).write_bytes(tf.io.encode_png(pixels_of(number)).numpy())
        lines.append(f"{name},{label},{number % 8 if number % 5 else ''},{partition}")
    Path("raw/annotations.csv").write_text("\n".join(lines) + "\n")


def run(val_fraction: float = 0.3) -> None:
    split.run(
        picture=Path("samples.png"),
        layout="mhist",
        settings=mhist_in(Path("raw"), val_fraction),
        split_folder=FOLDER,
        index=INDEX,
    )


def stated_split(name: str, label: str, partition: str, val_fraction: float) -> str:
    """The rule as the docstring of `assign_split` states it."""
    number = int(hashlib.sha256(label.encode() + b"\0" + name.encode()).hexdigest(), 16) / 2**256
    return "test" if partition == "test" else "val" if number < val_fraction else "train"


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder: its name and its content."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_images_are_copied_and_listed(capsys):
    make(range(40))
    run()
    images = read_index(INDEX).images
    assert [image.id for image in images] == [f"{number:03}.png" for number in range(40)]
    copies = {}
    for number, image in enumerate(images):
        name, label, partition = row_of(number)
        content = Path("raw/images", name).read_bytes()
        assert image.label == label
        assert image.split == stated_split(name, label, partition, 0.3)
        assert image.path == f"data/split/{image.split}/{label}/{name}"
        assert image.votes == ("" if number % 5 == 0 else str(number % 8))
        assert image.sha256 == hashlib.sha256(content).hexdigest()
        copies[f"{image.split}/{label}/{name}"] = content
    assert files_below(FOLDER) == copies
    assert sorted(path.name for path in Path("data").iterdir()) == ["index.csv", "split"]
    assert {image.split for image in images} == {"train", "val", "test"}

    *lines, origins = capsys.readouterr().out.splitlines()
    printed = [line.split() for line in lines]
    assert origins == (
        "Validation images: 0.3 of the training images, by a hash of class and id. Test images: as the data say."
    )
    counts = Counter((image.split, image.label) for image in images)
    assert printed == [
        ["class", "train", "val", "test"],
        *([label, *(str(counts[part, label]) for part in ("train", "val", "test"))] for label in ("HP", "SSA")),
        ["all", *(str(sum(counts[part, label] for label in ("HP", "SSA"))) for part in ("train", "val")), "10"],
    ]
    # test images are numbers 0, 4, ..., 36; of them 0, 12, 24 and 36 are HP
    assert (printed[1][3], printed[2][3]) == ("4", "6")


def test_the_source_is_left_as_it_was():
    make(range(40))
    before = files_below(Path("raw"))
    run()
    assert files_below(Path("raw")) == before


def test_adding_images_moves_no_other():
    make(range(40))
    run()
    before = {image.id: image for image in read_index(INDEX).images}
    make(range(90))
    run()
    after = {image.id: image for image in read_index(INDEX).images}
    assert len(after) == 90
    assert {name: after[name] for name in before} == before


def test_an_image_that_leaves_the_table_leaves_the_folder():
    make(range(40))
    run()
    make(range(36))
    run()
    assert len(read_index(INDEX).images) == len(files_below(FOLDER)) == 36


def test_a_second_run_writes_the_same_bytes():
    make(range(40))
    run()
    first = files_below(Path("data"))
    run()
    assert files_below(Path("data")) == first


@pytest.mark.parametrize("val_fraction", [0.05, 0.15, 0.5])
def test_every_class_gives_about_its_share(val_fraction):
    """The count of n independent draws lies within 4 sqrt(p (1 - p) / n) of p but for 6 in 100,000 cases."""
    rows = [Annotation(f"MHIST_{n:05}.png", "SSA" if n % 5 else "HP", "train", None, Path()) for n in range(10_000)]
    for label, count in (("HP", 2000), ("SSA", 8000)):
        splits = Counter(assign_split(row, {"val": val_fraction}) for row in rows if row.label == label)
        assert splits["train"] + splits["val"] == count
        tolerance = 4 * math.sqrt(val_fraction * (1 - val_fraction) / count)
        assert abs(splits["val"] / count - val_fraction) < tolerance


def test_assignment_follows_the_stated_rule():
    for number in range(300):
        name, label, partition = row_of(number)
        got = assign_split(Annotation(name, label, partition, number % 8, Path(str(number))), {"val": 0.4})
        assert got == stated_split(name, label, partition, 0.4)


def test_a_larger_fraction_only_adds_validation_images():
    rows = [Annotation(f"{number}", "HP", "train", None, Path()) for number in range(500)]
    validation = [
        {row.id for row in rows if assign_split(row, {"val": share}) == "val"} for share in (0.1, 0.2, 0.6, 0.999999)
    ]
    assert all(fewer < more for fewer, more in pairwise(validation))
    assert all(assign_split(Annotation(row.id, "HP", "test", None, Path()), {"val": 0.6}) == "test" for row in rows)


@pytest.mark.parametrize("drawn", [{"val": 0.3, "test": 0.4}, {"test": 0.4}, {"val": 0.3}, {}], ids=str)
def test_test_images_are_drawn_before_validation_images(drawn):
    """By the digest in hexadecimal: digits 16 to 31 make a test image, digits 0 to 15 a validation image."""
    for number in range(300):
        row = Annotation(f"dog/{number}.png", "dog", "train", None, Path())
        digest = hashlib.sha256(b"dog\0" + row.id.encode()).hexdigest()
        test, val = (int(digits, 16) / 16**16 for digits in (digest[16:32], digest[:16]))
        expected = "test" if test < drawn.get("test", 0) else "val" if val < drawn.get("val", 0) else "train"
        assert assign_split(row, drawn) == expected


def test_the_share_of_validation_images_is_one_of_what_testing_leaves():
    """Of 10,000: 0.2 test, 0.25 of the other 8,000 validation; four standard deviations of each count are allowed."""
    rows = [Annotation(f"{number}.png", "HP", "train", None, Path()) for number in range(10_000)]
    splits = Counter(assign_split(row, {"val": 0.25, "test": 0.2}) for row in rows)
    assert abs(splits["test"] - 2000) < 4 * math.sqrt(10_000 * 0.2 * 0.8)
    assert abs(splits["val"] - 2000) < 4 * math.sqrt(10_000 * 0.2 * 0.8)


def test_a_split_that_the_data_name_is_kept_whatever_is_drawn():
    for name in ("val", "test"):
        rows = [Annotation(f"{number}", "HP", name, None, Path()) for number in range(50)]
        assert {assign_split(row, {"val": 0.999, "test": 0.999}) for row in rows} == {name}


def test_two_images_of_one_name_on_this_disk_are_refused(monkeypatch):
    """As "A.png" and "a.png" are on disks that do not tell them apart."""
    make(range(40))
    rows = [
        Annotation(f"{folder}/{name}.png", label, "train" if number % 2 else "test", None, Path("raw/images/001.png"))
        for number, name in enumerate("abcdefgh")
        for label in ("HP", "SSA")
        for folder in (["x", "y"] if name == "d" else ["x"])
    ]
    data_set = DataSet(Path("raw"), rows, {"val": 0.3}, [], "", in_order(row.label for row in rows))
    monkeypatch.setitem(split.LAYOUTS, "mhist", lambda **_: data_set)
    with pytest.raises(PipelineError, match=r"the image y/d\.png would overwrite another one at d\.png\. Rename it"):
        run()
    assert files_below(Path("data")) == {}


def text() -> bytes:
    return b"a text, whatever its name says"


def truncated_png() -> bytes:
    content = tf.io.encode_png(pixels_of(1)).numpy()
    return content[: len(content) * 2 // 3]


def truncated_jpeg() -> bytes:
    content = tf.io.encode_jpeg(pixels_of(1)).numpy()
    return content[: len(content) - 20]


@pytest.mark.parametrize("damage", [text, truncated_png, truncated_jpeg, bytes], ids=lambda make: make.__name__)
@pytest.mark.parametrize("older", [False, True], ids=["no output yet", "older output"])
def test_refuses_what_is_no_image_and_writes_nothing(damage, older):
    make(range(40))
    if older:
        run()
    before = files_below(Path("data"))
    assert len(before) == (41 if older else 0)
    Path("raw/images/017.png").write_bytes(damage())
    with pytest.raises(PipelineError) as refused:
        run()
    assert str(refused.value).startswith(
        "1 of 40 image files cannot be decoded as PNG (8 bits), JPEG, BMP (24 bits) or GIF: 017.png. "
    )
    assert "Replace them with intact images, or remove them from the data set." in str(refused.value)
    assert files_below(Path("data")) == before
    assert Path("data").exists() == older


def test_counts_the_files_that_no_row_names(capsys):
    make(range(40))
    for name in ("x.png", "Thumbs.db"):
        Path("raw/images", name).write_bytes(b"?")
    run()
    assert "2 left out, because no row names these files of raw/images: 'Thumbs.db', 'x.png'" in capsys.readouterr().out
    assert not [name for name in files_below(FOLDER) if "x.png" in name or "Thumbs" in name]
    for name in ("x.png", "Thumbs.db"):
        Path("raw/images", name).unlink()
    run()
    assert "left out" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("partition", "val_fraction", "empty"),
    [
        ("train", 0.3, "2 split(s) would have no image of a class: test/HP, test/SSA."),
        ("test", 0.3, "2 split(s) would have no image of a class: train/HP, train/SSA."),
        (None, 1 - 1e-9, "2 split(s) would have no image of a class: train/HP, train/SSA."),
    ],
)
def test_refuses_a_split_without_images_of_a_class(partition, val_fraction, empty):
    make(range(40))
    if partition:
        table = Path("raw/annotations.csv")
        table.write_text(table.read_text().replace(",test\n", f",{partition}\n").replace(",train\n", f",{partition}\n"))
    with pytest.raises(PipelineError) as refused:
        run(val_fraction)
    assert str(refused.value).startswith(empty)
    assert "add images, or change split.val_fraction" in str(refused.value)
    assert not Path("data").exists()


def test_refuses_an_empty_validation_split():
    make(range(40))
    with pytest.raises(PipelineError, match=r"no image would be a validation image\. Raise split\.val_fraction"):
        run(1e-9)
    assert not Path("data").exists()


def test_says_which_classes_have_no_validation_image(capsys):
    """Of many small classes some will have none; training needs only some validation images."""
    make(range(40))
    table = Path("raw/annotations.csv")
    header, *lines = table.read_text().splitlines()
    validating = {row_of(n)[0] for n in range(40) if stated_split(*row_of(n), 0.3) == "val" and row_of(n)[1] == "HP"}
    table.write_text("\n".join([header, *(line for line in lines if line.split(",")[0] not in validating)]) + "\n")
    run()
    assert "1 class(es) have no validation image: val/HP. Raise split.val_fraction" in capsys.readouterr().out


def test_refuses_one_class_missing_from_one_split():
    make(range(40))
    table = Path("raw/annotations.csv")
    lines = [line for line in table.read_text().splitlines() if not (",HP," in line and line.endswith(",test"))]
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(PipelineError, match=r"^1 split\(s\) would have no image of a class: test/HP\. "):
        run()


@pytest.mark.parametrize("older", [False, True], ids=["no output yet", "older output"])
def test_an_interrupted_run_leaves_nothing_under_the_final_name(monkeypatch, older):
    make(range(40))
    if older:
        run()
    before = files_below(Path("data"))
    make(range(60))
    copied = []

    def copy_three(source, target):
        if len(copied) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        copied.append(Path(target))
        copied[-1].write_bytes(Path(source).read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.split.shutil.copyfile", copy_three)
        with pytest.raises(OSError, match="No space left"):
            run()
    assert len(copied) == 3
    assert not [target for target in copied if FOLDER in target.parents]
    assert files_below(Path("data")) == before
    assert FOLDER.exists() == INDEX.exists() == older
    run()
    assert len(read_index(INDEX).images) == len(files_below(FOLDER)) == 60
