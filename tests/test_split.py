"""Stage `split`: copies, index and counts of a small data set, and what is refused before anything is written."""

import errno
import hashlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import mhist_in
from layouts import drawn_split, files_below

from pipeline.datasets import copying
from pipeline.datasets.labelled import Annotation, DataSet
from pipeline.images.index import in_order, read_index
from pipeline.runtime.errors import ParameterError, UnusableError
from pipeline.stages import split

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
        layout="mhist",
        settings=mhist_in(Path("raw"), val_fraction),
        split_folder=FOLDER,
        index=INDEX,
    )


def stated_split(name: str, partition: str, val_fraction: float) -> str:
    """The rule as the docstring of `assign_splits` states it; no class of `make` is so small that it is filled up."""
    return "test" if partition == "test" else drawn_split(name, val_fraction)


def test_images_are_copied_and_listed(capsys):
    make(range(40))
    run()
    images = read_index(INDEX).images
    assert [image.id for image in images] == [f"{number:03}.png" for number in range(40)]
    copies = {}
    for number, image in enumerate(images):
        name, label, partition = row_of(number)
        content = Path("raw/images", name).read_bytes()
        assert image.class_name == label
        assert image.split == stated_split(name, partition, 0.3)
        assert image.path == f"data/split/{image.split}/{label}/{name}"
        assert image.votes == ("" if number % 5 == 0 else str(number % 8))
        assert image.sha256 == hashlib.sha256(content).hexdigest()
        copies[f"{image.split}/{label}/{name}"] = content
    assert files_below(FOLDER) == copies
    assert sorted(path.name for path in Path("data").iterdir()) == ["index.csv", "split"]
    assert {image.split for image in images} == {"train", "val", "test"}

    *lines, origins = capsys.readouterr().out.splitlines()
    printed = [line.split() for line in lines]
    assert re.match("Validation images: 0.3 .* hash of the name.* Test images: as the data say", origins)
    counts = Counter((image.split, image.class_name) for image in images)
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


def folders_in(data: Path) -> dict[str, object]:
    """Writes 20 images of each of two classes into `data`; returns the arguments of its reader."""
    for label in ("a", "b"):
        (data / label).mkdir(parents=True)
        for number in range(20):
            (data / label / f"{number}.png").write_bytes(tf.io.encode_png(pixels_of(number)).numpy())
    nothing = {"val": None, "test": None, "class_names": None}
    return {"data": data, "train": Path(), "val_fraction": 0.3, "test_fraction": 0.3, **nothing}


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ("data/split", "data/split"),
        ("data", "data"),
        ("data/split/mine", "data/split/mine"),
        ("data/split", "link/split"),
        (".", "."),
        ("data/index.csv", "data/index.csv"),
        ("results/plots", "results/plots"),
    ],
)
def test_data_among_the_outputs_are_refused_and_stay(data, named):
    """The raw folders were once replaced by the copies, without the images that split.limit leaves out."""
    settings = folders_in(Path(data)) | {"data": Path(named)}
    Path("link").symlink_to("data")
    before = files_below(Path())
    with pytest.raises(ParameterError, match=rf"split\.data is {re.escape(named)}, .*data/raw/NAME"):
        split.run(
            layout="folders",
            settings=settings,
            split_folder=FOLDER,
            index=INDEX,
            limit=10,
            other_outputs=[Path("results/plots")],
        )
    assert files_below(Path()) == before


def test_an_npz_file_among_the_outputs_is_refused():
    file = Path("data/split/mine.npz")
    file.parent.mkdir(parents=True)
    images, labels = np.stack([pixels_of(number) for number in range(40)]), np.arange(40) % 2
    np.savez(file, x_train=images, y_train=labels)
    before = file.read_bytes()
    settings = {"data": file, "val_fraction": 0.3, "test_fraction": 0.3}
    with pytest.raises(ParameterError, match=r"split\.data is data/split/mine\.npz, .* data/split"):
        split.run(layout="arrays", settings=settings, split_folder=FOLDER, index=INDEX)
    assert file.read_bytes() == before


def test_a_table_of_the_users_at_the_index_is_refused():
    """`annotations: index.csv` in `data: data` names the very file that the stage writes."""
    make(range(40))
    Path("raw").rename("data")
    Path("data/annotations.csv").rename(INDEX)
    before = files_below(Path("data"))
    with pytest.raises(ParameterError, match=r"split\.data is data, "):
        split.run(
            layout="mhist",
            settings=mhist_in(Path("data"), 0.3) | {"annotations": Path("index.csv")},
            split_folder=FOLDER,
            index=INDEX,
        )
    assert files_below(Path("data")) == before


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


def test_two_images_of_one_name_on_this_disk_are_refused(monkeypatch):
    """As "A.png" and "a.png" are on disks that do not tell them apart."""
    make(range(40))
    rows = [
        Annotation(f"{folder}/{name}.png", label, "train" if number % 2 else "test", None, "raw/images/001.png")
        for number, name in enumerate("abcdefgh")
        for label in ("HP", "SSA")
        for folder in (["x", "y"] if name == "d" else ["x"])
    ]
    data_set = DataSet(Path("raw"), rows, {"val": 0.3}, [], "", in_order(row.class_name for row in rows))
    monkeypatch.setitem(split.LAYOUTS, "mhist", lambda **_: data_set)
    with pytest.raises(UnusableError, match=r"y/d\.png .* at d\.png\."):
        run()
    assert files_below(Path("data")) == {}


@pytest.mark.parametrize("older", [False, True], ids=["no output yet", "older output"])
def test_refuses_what_is_no_image_and_writes_nothing(older):
    make(range(40))
    if older:
        run()
    before = files_below(Path("data"))
    assert len(before) == (41 if older else 0)
    Path("raw/images/017.png").write_bytes(b"a text, whatever its name says")
    with pytest.raises(UnusableError) as refused:
        run()
    assert str(refused.value).startswith("1 of 40 image files ")
    assert ": 017.png (" in str(refused.value)
    assert files_below(Path("data")) == before


def test_counts_the_files_that_no_row_names(capsys):
    make(range(40))
    for name in ("x.png", "Thumbs.db"):
        Path("raw/images", name).write_bytes(b"?")
    run()
    assert re.search("1 left out, .* raw/images: 'x.png'", capsys.readouterr().out)
    assert not [name for name in files_below(FOLDER) if "x.png" in name or "Thumbs" in name]
    for name in ("x.png", "Thumbs.db"):
        Path("raw/images", name).unlink()
    run()
    assert "left out" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("partition", "empty"),
    [
        ("train", ": test/HP, test/SSA."),
        ("test", ": train/HP, train/SSA."),
    ],
)
def test_refuses_a_split_without_images_of_a_class(partition, empty):
    make(range(40))
    table = Path("raw/annotations.csv")
    table.write_text(table.read_text().replace(",test\n", f",{partition}\n").replace(",train\n", f",{partition}\n"))
    with pytest.raises(UnusableError) as refused:
        run()
    assert str(refused.value).startswith("2 split(s) ")
    assert empty in str(refused.value)
    assert "split.val_fraction" in str(refused.value)
    assert "A class with 2 images " in str(refused.value)
    assert files_below(Path("data")) == {}


@pytest.mark.parametrize("val_fraction", [1e-9, 1 - 1e-9])
def test_every_class_has_training_and_validation_images(val_fraction):
    make(range(40))
    run(val_fraction)
    counts = Counter((image.split, image.class_name) for image in read_index(INDEX).images)
    small, large = ("val", "train") if val_fraction < 0.5 else ("train", "val")
    # of numbers 0 to 39, 14 are HP and 26 SSA; the test images are numbers 0, 4, ..., 36: 4 HP and 6 SSA
    assert counts == {
        (small, "HP"): 1, (large, "HP"): 9, ("test", "HP"): 4,
        (small, "SSA"): 1, (large, "SSA"): 19, ("test", "SSA"): 6,
    }  # fmt: skip


def test_the_share_that_is_printed_as_enough_is_the_smallest(capsys):
    make(range(40))
    run(1e-9)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("split.val_fraction")]
    assert line.startswith("split.val_fraction 1e-09 gave no val image to 2 of 2 classes")
    enough = float(re.search(r"; ([0-9.]+) would", line)[1])
    run(enough)
    assert "split.val_fraction" not in capsys.readouterr().out
    run(enough - 0.002)
    assert "gave no val image to 1 of 2 classes" in capsys.readouterr().out


def keep_lines(keep) -> None:
    """Leaves those rows of the table for which `keep`, of (name, label, votes, partition), says so."""
    table = Path("raw/annotations.csv")
    header, *lines = table.read_text().splitlines()
    table.write_text("\n".join([header, *(line for line in lines if keep(*line.split(",")))]) + "\n")


def test_refuses_an_empty_validation_split():
    """One training image of each class: none can be spared."""
    make(range(40))
    trained = [f"{number:03}.png" for number in range(40) if stated_split(*row_of(number)[::2], 0.3) == "train"]
    one = {row_of(int(name[:3]))[1]: name for name in trained}
    keep_lines(lambda name, label, votes, partition: partition == "test" or name in one.values())
    with pytest.raises(UnusableError, match=r"no .*validation image.* split\.val_fraction"):
        run()
    assert not Path("data").exists()


def test_says_which_classes_have_no_validation_image(capsys):
    """Training needs only some validation images."""
    make(range(40))
    trained = [f"{n:03}.png" for n in range(0, 40, 3) if stated_split(*row_of(n)[::2], 0.3) == "train"]
    keep_lines(lambda name, label, votes, partition: label == "SSA" or partition == "test" or name == trained[0])
    run()
    assert "1 class(es) have no validation image: val/HP. Raise split.val_fraction" in capsys.readouterr().out


def test_refuses_one_class_missing_from_one_split():
    make(range(40))
    table = Path("raw/annotations.csv")
    lines = [line for line in table.read_text().splitlines() if not (",HP," in line and line.endswith(",test"))]
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(UnusableError, match=r"^1 split\(s\) .*: test/HP\. "):
        run()


@pytest.mark.parametrize("older", [False, True], ids=["no output yet", "older output"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_an_interrupted_run_leaves_nothing_under_the_final_name(monkeypatch, older, error):
    make(range(40))
    if older:
        run()
    before = files_below(Path("data"))
    make(range(60))
    copied, write = [], copying._write

    def copy_three(content, target, name):
        if len(copied) == 3:
            raise error
        copied.append(target)
        write(content, target, name)

    with monkeypatch.context() as patch:
        patch.setattr(copying, "_write", copy_three)
        with pytest.raises(type(error), match=r"No space left|^$"):
            run()
    assert len(copied) == 3
    assert not [target for target in copied if FOLDER in target.parents]
    assert files_below(Path("data")) == before
    assert FOLDER.exists() == INDEX.exists() == older
    run()
    assert len(read_index(INDEX).images) == len(files_below(FOLDER)) == 60


def test_classes_that_differ_only_in_case_are_told(capsys):
    rows = [
        Annotation(f"{number}.png", name, "train", None, pixels_of(number))
        for number, name in enumerate(["Hp", "hp", "SSA"] * 9)
    ]
    data_set = DataSet(Path("raw"), rows, {"val": 0.3, "test": 0.3}, [], "", ["Hp", "SSA", "hp"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(split.LAYOUTS, "rows", lambda data: data_set)
        split.run(layout="rows", settings={"data": Path("raw")}, split_folder=FOLDER, index=INDEX)
    assert re.search(r"classes .* case: 'Hp' and 'hp'\. ", capsys.readouterr().out)
