"""Images and their labels, into which every layout is read, and the checks that all layouts share.

The reader of a layout takes the values of the section `split` and returns a `DataSet`. It decodes no image.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.images.index import SplitName
from pipeline.runtime.errors import ParameterError, UnusableError, all_named, quoted
from pipeline.runtime.plain_names import LONGEST, is_formula, is_plain_name
from pipeline.runtime.publish import overlap


@dataclass(frozen=True, slots=True)  # there may be millions of them
class Annotation:
    """One image, before it has a split.

    Attributes:
        id: the image's name, unique in the data set.
        class_name: the name of its class; "" for an image without a label.
        partition: "val" or "test" if the data name it so, "train" for all others.
        votes: how many annotators chose the positive class, or None if nobody voted.
        image: where the image file lies (`images.places`), a text because a `Path` takes five times the memory; or its
            pixels: (H, W), (H, W, 1) or (H, W, 3).
        drawn_by: the text whose hash decides the split, if the data name none; the class is no part of it. None means
            its id.
        group: what it has in common with all images that must lie in the same split, such as a patient. Its split is
            then drawn by the group. None means no group.
        file_name: the name of its copy in the class folder. None means the last part of its id.
    """

    id: str
    class_name: str
    partition: SplitName
    votes: int | None
    image: str | npt.NDArray[np.uint8]
    drawn_by: str | None = None
    group: str | None = None
    file_name: str | None = None

    @property
    def is_labelled(self) -> bool:
        """Whether its class is known."""
        return self.class_name != ""

    @property
    def own_name(self) -> str:
        """The image's name without its class."""
        return self.id if self.drawn_by is None else self.drawn_by

    @property
    def name(self) -> str:
        """The text by which its split is drawn."""
        return self.own_name if self.group is None else self.group

    @property
    def unit(self) -> str:
        """What is drawn as a whole: the image's group, or the image alone."""
        return self.id if self.group is None else self.group


@dataclass(frozen=True)
class DataSet:
    """The content of a data set.

    Attributes:
        source: the file or folder that names the images.
        rows: the images.
        drawn: the share to draw for each of "val" and "test" that the data do not name.
        left_out: names of files, folders or arrays that are not used.
        because: why they are not used.
        class_names: the names of the classes of the rows, in the order of the class axis.
        hints: lines that say what the user may have meant instead.
    """

    source: Path
    rows: Sequence[Annotation]
    drawn: Mapping[SplitName, float]
    left_out: list[str]
    because: str
    class_names: Sequence[str]
    hints: Sequence[str] = ()

    @property
    def is_grouped(self) -> bool:
        """Whether images that have something in common, such as a patient, stay in one split."""
        return any(row.group is not None for row in self.rows)


def shares_to_draw(val: float | None, test: float | None) -> dict[SplitName, float]:
    """The share of each split that has one."""
    shares: dict[SplitName, float | None] = {"val": val, "test": test}
    return {split: share for split, share in shares.items() if share is not None}


def refuse_data_among(data: Path, outputs: Sequence[Path]) -> None:
    """Refuses data that an output would replace, even where only a part of them would be lost.

    Raises:
        ParameterError: data and an output are one place, or one lies in the other.
    """
    for output in outputs:
        if overlap(data, output):
            raise ParameterError(
                f"split.data is {data}, and the stages replace {output}, so your data could be lost. Nothing was "
                "written. Expected data that neither lie in an output nor contain one: move them to a place of their "
                "own, such as data/raw/NAME, and set split.data to it."
            )


def refuse_leaving(data: Path, path: Path, key: str) -> None:
    """Refuses a link that leads from `path` out of the folder of the data set: DVC would not see a change there.

    Raises:
        UnusableError: there is such a link.
    """
    try:
        inside = path.resolve().is_relative_to(data.resolve())
    except (OSError, RuntimeError):  # a loop of links
        inside = False
    if not inside:
        raise UnusableError(
            f"{path} leads outside {data} by a link, and DVC does not see changes there. Replace the link with the "
            f"data themselves, or set split.data to the folder that holds them; split.{key} is relative to it."
        )


def refuse_labels(labels: Iterable[str], source: Path, place: str) -> None:
    """Refuses labels that cannot name a folder, and a data set of one class.

    Args:
        labels: the labels of all images.
        source: the file or folder that holds the labels, for messages.
        place: where the user can change the labels, for messages: "correct them in <place>".

    Raises:
        UnusableError: a label cannot be used, or there is only one.
    """
    names = sorted(set(labels))
    refuse_unsafe_labels(names, source, place)
    if len(names) < 2:
        has = f"only the class {quoted(names)}" if names else "no class"
        raise UnusableError(
            f"{source} has {has}; a classifier needs at least two. Add images of another class in {place}."
        )


def refuse_unsafe_labels(labels: Iterable[str], source: Path, place: str) -> None:
    """Refuses labels that cannot name a folder; the arguments are those of `refuse_labels`.

    Raises:
        UnusableError: a label cannot be used.
    """
    unsafe = [name for name in labels if not is_plain_name(name) or name != name.strip()]
    if unsafe:
        raise UnusableError(
            f"{source} has labels that cannot name a folder: {quoted(unsafe)}. "
            f"Use names without separators, outer blanks and control characters, of at most {LONGEST} bytes, that no "
            f"spreadsheet takes for a formula, in {place}."
        )


def refuse_escapes(entries: Iterable[os.DirEntry[str]], folder: Path) -> None:
    """Refuses names that are not plain, and links that lead out of the folder whose entries they are.

    Raises:
        UnusableError: there is one.
    """
    inside = folder.resolve()
    outside = [entry.name for entry in entries if not is_plain_name(entry.name) or not _lies_in(inside, entry)]
    if outside:
        raise UnusableError(
            f"{len(outside)} image name(s) lead outside the image folder {folder}, or are not plain: "
            f"{all_named([*map(repr, outside)])}. A name must be a plain file name in that folder, and no link that "
            f"leaves it (no separators, no control characters, at most {LONGEST} bytes, no formula of a spreadsheet)."
        )


def refuse_formulas(ids: Iterable[str], source: Path) -> None:
    """Refuses ids that are formulas of a spreadsheet: those of paths whose parts are plain names may be.

    Raises:
        UnusableError: there is one.
    """
    formulas = [image_id for image_id in ids if is_formula(image_id)]
    if formulas:
        raise UnusableError(
            f"{len(formulas)} image(s) of {source} have names that a spreadsheet takes for a formula: "
            f"{all_named([*map(repr, formulas)])}. Rename them, or the folders that they lie in."
        )


def composed(text: str) -> str:
    """The text in NFC, where a letter and its accent are one character. macOS writes file names in NFD, as two."""
    return unicodedata.normalize("NFC", text)


def ids_of(names: Sequence[str]) -> list[str]:
    """The ids of images with these names: the names in NFC, or unchanged if two of them would become one."""
    counts = Counter(map(composed, names))
    return [composed(name) if counts[composed(name)] == 1 else name for name in names]


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ only in upper and lower case."""
    spellings: dict[str, set[str]] = {}
    for name in names:
        spellings.setdefault(name.casefold(), set()).add(name)
    return [sorted(same) for _, same in sorted(spellings.items()) if len(same) > 1]


def _lies_in(inside: Path, entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder, which is `inside` without links, leads to something in that folder."""
    if not entry.is_symlink():  # to resolve it would take ten times as long
        return True
    try:
        return Path(entry.path).resolve().parent == inside
    except (OSError, RuntimeError):  # a loop of links, a name that the system refuses
        return False
