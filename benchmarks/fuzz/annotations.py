"""What says which images a data set has: tables of labels, names of classes, and `data/index.csv`."""

from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

from benchmarks.fuzz.structure import changed_json, changed_table
from benchmarks.fuzz.target import Target
from pipeline.datasets.class_names import name_classes
from pipeline.datasets.csv_tables import COLUMNS, read_csv, read_mhist
from pipeline.datasets.unlabelled import Unlabelled
from pipeline.images.index import read_index
from pipeline.runtime.csv_rows import csv_rows
from pipeline.tools.layout_detection import detect

IMAGES = [f"{number}.png" for number in range(8)] + ["a b.png", "ä.png", "sub/9.png"]
WORDS = (
    b'"',
    b",",
    b";",
    b"\t",
    b"\r\n",
    b"\n\n",
    b"\0",
    b"\xff\xfe",
    b"PK\x03\x04",
    b"..",
    b"/",
    b"0.png",
    b"1.0",
    b"nan",
)
DIGEST = "a" * 64


def written(rows: Sequence[Sequence[object]]) -> bytes:
    """A table of these rows."""
    return "".join(csv_rows(rows)).encode()


def with_images(folder: Path) -> Path:
    """Makes the images, which are empty: no reader of annotations decodes them."""
    for name in IMAGES:
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / name).touch()
    return folder


def run_csv(path: Path) -> None:
    """Reads a table of the layout `csv` by one column, and by several."""
    is_one_hot = b"one" in path.read_bytes()[:200]
    read_csv(
        data=with_images(path.parent),
        annotations=Path(path.name),
        images=Path("images"),
        image_column="image",
        label_column=None if is_one_hot else "label",
        label_columns=["zero", "one"] if is_one_hot else None,
        group_column=None if is_one_hot else "patient",
        unlabelled=Unlabelled(rows=None if is_one_hot else True),
        validation_ids=None,
        test_ids=None,
        val_fraction=0.25,
        test_fraction=0.25,
    )


def run_any(path: Path) -> None:
    """Looks for the layout of a folder with a table, as `softlabel init` does."""
    detect(with_images(path.parent))


def run_mhist(path: Path) -> None:
    """Reads a table of the layout `mhist`."""
    read_mhist(data=with_images(path.parent), annotations=Path(path.name), images=Path("images"), val_fraction=0.2)


def run_class_names(path: Path) -> None:
    """Reads names of classes."""
    labels = ["0", "1", "0"]
    name_classes(labels, Path(path.name), data=path.parent, source=path, place="the column 'label'")


def run_index(path: Path) -> None:
    """Reads an index."""
    read_index(path).fingerprint()


def csv_seeds() -> list[bytes]:
    """Labels as numbers and as texts; separators; one-hot columns; other encodings."""
    numbers = range(len(IMAGES))
    plain = written([["image", "label", "patient"], *([IMAGES[n], n % 2, n // 2] for n in numbers)])
    texts = written([["image", "label", "patient"], *([IMAGES[n], "ab"[n % 2], "p"] for n in numbers)])
    bits = written([["image", "zero", "one"], *([IMAGES[n], n % 2, 1 - n % 2] for n in numbers)])
    return [plain, texts, bits, plain.replace(b",", b";"), plain.decode().encode("utf-16"), b"\xef\xbb\xbf" + plain]


def mhist_seeds() -> list[bytes]:
    """A table as MHIST's."""
    votes = [0, 7, 3, 5, 6, 1, 2, 4]
    rows = [
        [IMAGES[n], "SSA" if vote > 3 else "HP", vote, "train" if vote % 3 else "test"] for n, vote in enumerate(votes)
    ]
    return [written([COLUMNS, *rows])]


def index_seeds() -> list[bytes]:
    """An index of four images, one of them without a label."""
    header = ["id", "path", "class_name", "split", "votes", "sha256", "label"]
    rows = [
        [f"{n}.png", f"data/split/{s}/{c}/{n}.png", c, s, n, DIGEST, "01"[c == "b"]]
        for n, (s, c) in enumerate([("train", "a"), ("train", "b"), ("val", "a"), ("test", "b")])
    ]
    return [written([header, *rows]), written([header, *rows, ["9", "data/9.png", "", "train", "", DIGEST, ""]])]


def tables(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Rows of any length, and other fields."""
    usual = [*IMAGES, "0", "1", "1.0", "", "nan", "train", "=1+1", "\x1b[2J", "x" * 5000]
    return changed_table(seeds, st.text(max_size=20) | st.sampled_from(usual))


TARGETS = {
    "annotations": Target(seeds=csv_seeds, run=run_csv, inputs=tables, file="annotations.csv", words=WORDS),
    "any_table": Target(seeds=csv_seeds, run=run_any, inputs=tables, file="annotations.csv", words=WORDS),
    "mhist": Target(seeds=mhist_seeds, run=run_mhist, inputs=tables, file="annotations.csv", words=WORDS),
    "class_names": Target(
        seeds=lambda: [b'["healthy", "ill"]', b'{"0": "healthy", "1": "ill"}'],
        run=run_class_names,
        inputs=lambda _: changed_json([["healthy", "ill"], {"0": "healthy", "1": "ill"}]),
        file="names.json",
        words=(b"[", b"{", b'"', b"\\ud800", b"1e999"),
    ),
    "index": Target(
        seeds=index_seeds, run=lambda path: read_index(path).fingerprint(), inputs=tables, file="index.csv", words=WORDS
    ),
}
