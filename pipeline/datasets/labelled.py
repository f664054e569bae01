"""What a layout is read into: labelled images, and what is refused whichever layout they come from.

A reader of a layout takes the values of the section `split` and returns a `DataSet`; it decodes no image.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.runtime.errors import UnusableError, all_named, quoted

CONTROL_CHARACTERS = {chr(code) for code in (*range(32), 127)}


@dataclass(frozen=True)
class Annotation:
    """One labelled image, before it is assigned to a split.

    Attributes:
        id: unique in the data set.
        class_name: of its class.
        partition: "val" or "test" if the data name it so, "train" for all others.
        votes: how many annotators chose the positive class, or None where nobody voted.
        image: the image file, or its pixels: (H, W), (H, W, 1) or (H, W, 3).
        drawn_by: its name, without its class, by which its split is drawn where the data name none; None is its id.
        group: what it shares with all images that must lie in its split, such as a patient; it is drawn by this. None
            where it has no such group.
        file_name: the name of its copy in the class folder. None is the last part of its id.
    """

    id: str
    class_name: str
    partition: str
    votes: int | None
    image: Path | npt.NDArray[np.uint8]
    drawn_by: str | None = None
    group: str | None = None
    file_name: str | None = None

    @property
    def own_name(self) -> str:
        """Its name, in which its class takes no part."""
        return self.id if self.drawn_by is None else self.drawn_by

    @property
    def name(self) -> str:
        """What its split is drawn by."""
        return self.own_name if self.group is None else self.group

    @property
    def unit(self) -> str:
        """What is drawn as one: its group, or itself."""
        return self.id if self.group is None else self.group


@dataclass(frozen=True)
class DataSet:
    """What a reader found.

    Attributes:
        source: the file or folder that names the images.
        rows: the images.
        drawn: of "val" and "test", those that the data do not name, with the share to draw for each.
        left_out: names of what lies there and is not used.
        because: why it is not used.
        class_names: the labels of the rows, each once, in the order of the class axis.
        hints: what the user may have meant otherwise, a line each.
    """

    source: Path
    rows: Sequence[Annotation]
    drawn: Mapping[str, float]
    left_out: list[str]
    because: str
    class_names: Sequence[str]
    hints: Sequence[str] = ()


def shares_to_draw(val: float | None, test: float | None) -> dict[str, float]:
    """The fractions that are numbers, by the split that they give."""
    return {split: share for split, share in (("val", val), ("test", test)) if share is not None}


def refuse_leaving(data: Path, path: Path, key: str) -> None:
    """DVC watches what lies in the folder of the data set and follows no link to another folder.

    Raises:
        UnusableError: a link leads from `path` out of `data`.
    """
    try:
        inside = path.resolve().is_relative_to(data.resolve())
    except (OSError, RuntimeError):  # a loop of links
        inside = False
    if not inside:
        raise UnusableError(
            f"{path} leads outside {data} by a link, where DVC would not see a change. Put the data there "
            f"themselves, or set split.data to the folder that holds them; split.{key} is relative to it."
        )


def refuse_labels(labels: Iterable[str], source: Path, place: str) -> None:
    """Every label names a folder, and there are two or more.

    Args:
        labels: of all images.
        source: what names them.
        place: where the user can change them, as in "correct them in ...".

    Raises:
        UnusableError: a label cannot be used, or there is only one.
    """
    names = sorted(set(labels))
    refuse_unsafe_labels(names, source, place)
    if len(names) < 2:
        raise UnusableError(
            f"{source} has only the class {quoted(names)}; a classifier needs at least two. "
            f"Add images of another class in {place}."
        )


def refuse_unsafe_labels(labels: Iterable[str], source: Path, place: str) -> None:
    """Every label names a folder; the arguments are those of `refuse_labels`.

    Raises:
        UnusableError: a label cannot be used.
    """
    unsafe = [name for name in labels if not is_plain_name(name) or name != name.strip()]
    if unsafe:
        raise UnusableError(
            f"{source} has labels that cannot name a folder: {quoted(unsafe)}. "
            f"Use names without separators and outer blanks in {place}."
        )


def refuse_escapes(names: Sequence[str], folder: Path) -> None:
    """Every name is a plain one, of something that lies in the folder itself.

    Raises:
        UnusableError: a name, or the link that it names, leads elsewhere.
    """
    inside = folder.resolve()
    bad = [name for name in names if not is_plain_name(name) or not _lies_in(folder / name, inside)]
    if bad:
        raise UnusableError(
            f"{len(bad)} image name(s) lead outside the image folder {folder}: {all_named([*map(repr, bad)])}. "
            "A name must be a plain file name in that folder, and no link that leaves it "
            "(no separators, no control characters)."
        )


def is_plain_name(name: str) -> bool:
    """Whether a name can be that of one file or folder, on any system, and be written as UTF-8."""
    return (
        not CONTROL_CHARACTERS & set(name)
        and not any("\ud800" <= character <= "\udfff" for character in name)  # bytes that are no UTF-8
        and name not in {"", ".", ".."}
        and not set(name) & set("/\\")
        and not os.path.isabs(name)
    )


def composed(text: str) -> str:
    """Letters and their accents as one (NFC): macOS writes them apart (NFD)."""
    return unicodedata.normalize("NFC", text)


def ids_of(names: Sequence[str]) -> list[str]:
    """The ids of images with these names, all different: the names in NFC, but where two would be one, as they are."""
    counts = Counter(map(composed, names))
    return [composed(name) if counts[composed(name)] == 1 else name for name in names]


def alike(names: Iterable[str]) -> list[list[str]]:
    """The names that differ only in upper and lower case, those of each word together."""
    of_word: dict[str, set[str]] = {}
    for name in names:
        of_word.setdefault(name.casefold(), set()).add(name)
    return [sorted(same) for _, same in sorted(of_word.items()) if len(same) > 1]


def _lies_in(file: Path, folder: Path) -> bool:
    try:
        return file.resolve().parent == folder
    except (OSError, RuntimeError):  # a loop of links, a name that the system refuses
        return False
