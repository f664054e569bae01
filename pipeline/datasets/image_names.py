"""The names of images as people write them in a table, and the files below a folder that they mean."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from pipeline.datasets.labelled import composed, is_plain_name, refuse_leaving
from pipeline.datasets.table_files import Table
from pipeline.runtime.errors import MissingError, UnusableError, nearest, quoted

LEFT_BY_SYSTEMS = {"__macosx", "thumbs.db", "desktop.ini"}
IMAGE_EXTENSIONS = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def is_left_by_a_system(name: str) -> bool:
    """Whether a file or folder is hidden, or what macOS and Windows leave behind: neither an image nor a class."""
    return name.startswith(".") or name.lower() in LEFT_BY_SYSTEMS


class ImageFolder:
    """The files below the folder of images, by their names relative to it, with forward slashes.

    Hidden files and what systems leave behind are left out. Links to folders are not followed, as DVC follows none.

    Args:
        data: the folder of the data set.
        images: the folder of images, relative to `data`.

    Raises:
        MissingError: there is no such folder.
        UnusableError: a link leads from it out of `data`.
    """

    def __init__(self, data: Path, images: Path) -> None:
        self.images, self.folder = images, data / images
        refuse_leaving(data, self.folder, "images")
        if not self.folder.is_dir():
            raise MissingError(
                f"there is no folder {self.folder}; {data} holds {_folders_in(data)}. "
                "Put the images there, or correct split.data and split.images."
            )
        self.files = files_below(self.folder)
        self._all = set(self.files)
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        self._by_stem: defaultdict[str, list[str]] = defaultdict(list)
        only_folders = all("/" in file for file in self.files)
        for file in self.files:
            for name in {file, file.rpartition("/")[2]} if only_folders else {file}:
                self._by_name[composed(name)].append(file)
                self._by_stem[composed(os.path.splitext(name)[0])].append(file)

    def find(self, name: str) -> list[str]:
        """The files that a name can mean, best first.

        That very file; else the same letters in the other Unicode form; else files that have an extension more, images
        before others. In a folder of folders alone, a name without a folder is looked for in each of them.
        """
        if name in self._all:
            return [name]
        letters = composed(name)
        found = self._by_name.get(letters, self._by_stem.get(letters, []))
        return [file for file in found if os.path.splitext(file)[1].lower() in IMAGE_EXTENSIONS] or found

    def knows(self, written: str) -> bool:
        """Whether a text, as people write names, is that of a file."""
        parts = _parts(written)
        return bool(parts) and bool(self.find(self._inside("/".join(parts))))

    def _inside(self, name: str) -> str:
        """A name that begins with the path of the folder itself, without that; any other one as it is."""
        if self.find(name):
            return name
        parts = self.folder.parts
        above = [composed("/".join(parts[place:])) + "/" for place in range(len(parts))]
        letters = composed(name)
        found = {letters[len(path) :] for path in above if letters.startswith(path) and self.find(letters[len(path) :])}
        return found.pop() if len(found) == 1 else name

    def names(self, table: Table, column: str) -> list[str]:
        """The names of every row, relative to the folder, with "/" between folders.

        Raises:
            UnusableError: a name is empty, leads outside the folder, or is that of something hidden.
        """
        written = table.column(column)
        empty = [row for row, name in enumerate(written) if not name.strip()]
        if empty:
            raise UnusableError(
                f"{len(empty)} of {len(written)} rows of {table.path} have no image name in the column {column!r}: "
                f"{table.lines_of(empty)}. Write the names, or remove these rows."
            )
        parts = [_parts(name) for name in written]
        outside = [row for row, found in enumerate(parts) if not found]
        if outside:
            raise UnusableError(
                f"{len(outside)} image name(s) of {table.path} lead outside the image folder {self.folder}: "
                f"{table.places(outside, written)}. A name is relative to that folder: no absolute path, no '..', "
                f"no control characters, and no link that leaves the folder.{self._relative(written[outside[0]])}"
            )
        hidden = [row for row, found in enumerate(parts) if any(map(is_left_by_a_system, found))]
        if hidden:
            raise UnusableError(
                f"{len(hidden)} row(s) of {table.path} name what is hidden or left behind by a system, not an image: "
                f"{table.places(hidden, written)}. Remove these rows, or rename the image if it is one."
            )
        return [self._inside("/".join(found)) for found in parts]

    def _relative(self, written: str) -> str:
        """What to write instead of an absolute path, if its end is the name of a file."""
        parts = re.split(r"[/\\\\]+", written)
        ends = ["/".join(parts[place:]) for place in range(1, len(parts))]
        found = next((end for end in ends if self.find(end)), None)
        return f" Write {found!r} instead of {written!r}." if found else ""

    def files_of(self, table: Table, column: str) -> list[tuple[str, str]]:
        """Finds the image of every row.

        Args:
            table: the table that names the images.
            column: of their names: relative to the folder, with or without the extension.

        Returns:
            For each of N rows the name with "/" between folders, and the file, relative to the folder.

        Raises:
            MissingError: an image is not there.
            UnusableError: a name is empty, leads outside the folder, or can mean several files; or two rows name one
                image.
        """
        names = self.names(table, column)
        found = [self.find(name) for name in names]
        self._refuse_missing(table, names, found)
        self._refuse_several(table, names, found)
        files = [candidates[0] for candidates in found]
        self._refuse_links(table, names, files)
        _refuse_repeated(table, names, files)
        return list(zip(names, files, strict=True))

    def _refuse_missing(self, table: Table, names: list[str], found: list[list[str]]) -> None:
        missing = [row for row, files in enumerate(found) if not files]
        linked = [row for row in missing if (self.folder / names[row]).is_file()]
        if linked:
            raise UnusableError(
                f"{len(linked)} image(s) of {table.path} lie behind a link to a folder: {table.places(linked, names)}. "
                f"DVC follows no such link: put that folder itself into {self.folder}."
            )
        if missing == [0] and not table.has_header and len(names) > 1:
            raise MissingError(
                f"{self.folder} has no image {names[0]!r}, which line {table.lines[0]} of {table.path} names. "
                "If that line is a header, set split.header: true, and name the columns as it does."
            )
        if missing:
            told = self._advice(names, [names[row] for row in missing]) if self.files else "It holds no files. "
            raise MissingError(
                f"{len(missing)} of {len(names)} annotated images are not in {self.folder}: "
                f"{table.places(missing, names)}. {told}"
                + ("" if self.files else "Put the images there, or correct split.images.")
            )

    def _advice(self, names: list[str], missing: list[str]) -> str:
        """What the folder does hold, and what to do about the names that it lacks."""
        holds = f"It holds {len(self.files)} file(s), such as {quoted(self.files[:2])}. "
        none_fits = len(missing) == len(names)
        deeper = _by_last_part(self.files, missing[0])
        if len(deeper) == 1:
            return f"{holds}{missing[0]!r} may be {deeper[0]!r}: write names with their folders, as in the latter."
        near = nearest_file(missing[0], self.files)
        said = f"The name nearest to {missing[0]!r} is {near!r}. " if near else ""
        if none_fits:
            return f"{holds}{said}Write the names as the files have them, or correct split.images."
        return f"{holds}{said}Correct the names, or put these images there; remove rows only where an image is lost."

    def _refuse_several(self, table: Table, names: list[str], found: list[list[str]]) -> None:
        several = [row for row, files in enumerate(found) if len(files) > 1]
        if several:
            first = several[0]
            raise UnusableError(
                f"{len(several)} image name(s) of {table.path} can mean more than one file of {self.folder}: "
                f"{table.places(several, names)}; {names[first]!r} can mean {quoted(found[first])}. "
                "Write them in full, with the extension."
            )

    def _refuse_links(self, table: Table, names: list[str], files: list[str]) -> None:
        inside = self.folder.resolve()
        links = [row for row, file in enumerate(files) if (self.folder / file).is_symlink()]
        outside = [row for row in links if not (self.folder / files[row]).resolve().is_relative_to(inside)]
        if outside:
            raise UnusableError(
                f"{len(outside)} image name(s) of {table.path} lead outside the image folder {self.folder} by a link: "
                f"{table.places(outside, names)}. DVC would not see a change there: put the images there themselves."
            )


def copied_as(name: str, file: str) -> str:
    """The name of an image's copy in its class folder: `a/1` of the file a/1.png is `a__1.png`."""
    extension = os.path.splitext(file)[1]
    joined = name.replace("/", "__")
    return joined if composed(joined).endswith(composed(extension)) else joined + extension


def nearest_file(name: str, files: Sequence[str]) -> str | None:
    """The one file of that name in another folder, else the file whose name looks most like it, extensions apart."""
    elsewhere = _by_last_part(files, name)
    if len(elsewhere) == 1:
        return elsewhere[0]
    stems = {os.path.splitext(file)[0]: file for file in files}
    near = nearest(os.path.splitext(name)[0], stems)
    return None if near is None else stems[near]


def _parts(name: str) -> list[str]:
    """The folders and the file of a name that Windows or another system writes; none if it leads out of its folder."""
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", name):
        return []
    parts = [part for part in re.split(r"[/\\]+", name) if part != "."]
    return parts if all(map(is_plain_name, parts)) else []


def files_below(folder: Path) -> list[str]:
    """The files below a folder, relative to it, sorted, without what systems leave behind; links are not followed."""
    files = []
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_left_by_a_system(name)]
        inner = Path(above).relative_to(folder)
        kept = [name for name in names if not is_left_by_a_system(name) and Path(above, name).is_file()]
        files += [(inner / name).as_posix() for name in kept]
    return sorted(files)


def _folders_in(data: Path) -> str:
    if not data.is_dir():
        return "nothing, because it is no folder"
    names = sorted(entry.name for entry in data.iterdir() if entry.is_dir() and not is_left_by_a_system(entry.name))
    return f"the folder(s) {quoted(names)}" if names else "no folders"


def _by_last_part(files: Sequence[str], name: str) -> list[str]:
    last = composed(name.rpartition("/")[2])
    ends = [(file, composed(file.rpartition("/")[2])) for file in files]
    return [file for file, end in ends if last in (end, os.path.splitext(end)[0])]


def _refuse_repeated(table: Table, names: list[str], files: list[str]) -> None:
    """An image has one label and stands in one split."""
    counts = Counter(files)
    twice = [row for row, file in enumerate(files) if counts[file] > 1]
    if twice:
        raise UnusableError(
            f"{table.path} names {len({files[row] for row in twice})} image(s) more than once: "
            f"{table.places(twice, names)}. An image may have one row only: keep the right one of each."
        )
