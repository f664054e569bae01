"""Finds the files that the names in a table mean, however people write these names."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from pipeline.datasets.folders import IMAGE_EXTENSIONS, files_below, is_left_by_a_system
from pipeline.datasets.labelled import composed, refuse_leaving
from pipeline.datasets.table_files import Table
from pipeline.runtime.errors import MissingError, UnusableError, nearest, quoted
from pipeline.runtime.plain_names import LONGEST, is_plain_name


class ImageFolder:
    """The files below the folder of images, by their names relative to it, with forward slashes.

    Hidden files and files left behind by systems are left out. Links to folders are not followed, as DVC follows none.

    Args:
        data: the folder of the data set.
        images: the folder of images, relative to `data`.

    Raises:
        MissingError: there is no such folder.
        UnusableError: a link leads from it out of `data`.
    """

    def __init__(self, data: Path, images: Path) -> None:
        self.folder = data / images
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

    def place(self, file: str) -> str:
        """Where one of the files lies (`images.places`)."""
        return (self.folder / file).as_posix()

    def find(self, name: str) -> list[str]:
        """The files that a name can mean: one file if the name is clear.

        It means the file of exactly this name; else a file whose name differs only in the Unicode form; else the files
        that have this name and an extension, images before others. If the image folder holds only folders, a name
        without a folder is looked for in each of them.
        """
        if name in self._all:
            return [name]
        letters = composed(name)
        files = self._by_name.get(letters, self._by_stem.get(letters, []))
        return [file for file in files if os.path.splitext(file)[1].lower() in IMAGE_EXTENSIONS] or files

    def knows(self, written: str) -> bool:
        """Whether a text is a name of a file, as people write names."""
        parts = _parts(written)
        return bool(parts) and bool(self.find(self._inside("/".join(parts))))

    def _inside(self, name: str) -> str:
        """The name without the path of the folder itself, if it begins with that; any other name unchanged."""
        if self.find(name):
            return name
        parts = self.folder.parts
        above = [composed("/".join(parts[place:])) + "/" for place in range(len(parts))]
        letters = composed(name)
        shorter = {letters.removeprefix(path) for path in above if letters.startswith(path)}
        matching = [short for short in shorter if self.find(short)]
        return matching[0] if len(matching) == 1 else name

    def names(self, table: Table, column: str) -> list[str]:
        """The name of each row, relative to the folder, with "/" between folders.

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
        outside = [row for row, parts_of_row in enumerate(parts) if not parts_of_row]
        if outside:
            raise UnusableError(
                f"{len(outside)} image name(s) of {table.path} lead outside the image folder {self.folder}, or are not "
                f"plain: {table.places(outside, written)}. A name is relative to that folder: no absolute path, no "
                f"'..', no control characters, no part of more than {LONGEST} bytes, no formula of a spreadsheet, and "
                "no link that leaves the folder."
                f"{self._relative(written[outside[0]])}"
            )
        hidden = [row for row, parts_of_row in enumerate(parts) if any(map(is_left_by_a_system, parts_of_row))]
        if hidden:
            raise UnusableError(
                f"{len(hidden)} row(s) of {table.path} name files that are hidden or left behind by a system: "
                f"{table.places(hidden, written)}. Remove these rows, or rename the image if it is one."
            )
        return [self._inside("/".join(parts_of_row)) for parts_of_row in parts]

    def _relative(self, written: str) -> str:
        """What to write instead of an absolute path, if its end is the name of a file."""
        parts = re.split(r"[/\\]+", written)
        ends = ["/".join(parts[place:]) for place in range(1, len(parts))]
        name = next((end for end in ends if self.find(end)), None)
        return f" Write {name!r} instead of {written!r}." if name else ""

    def files_of(self, table: Table, column: str) -> list[tuple[str, str]]:
        """Finds the image of every row.

        Args:
            table: the table that names the images.
            column: of their names: relative to the folder, with or without the extension.

        Returns:
            (name, file) of each of N rows: both relative to the folder, with "/" between folders.

        Raises:
            MissingError: an image is missing.
            UnusableError: a name is empty, leads outside the folder or can mean several files; or two rows name the
                same image.
        """
        names = self.names(table, column)
        candidates = [self.find(name) for name in names]
        self._refuse_missing(table, names, candidates)
        self._refuse_several(table, names, candidates)
        files = [files_of_row[0] for files_of_row in candidates]
        self._refuse_links(table, names, files)
        _refuse_repeated(table, names, files)
        return list(zip(names, files, strict=True))

    def _refuse_missing(self, table: Table, names: list[str], candidates: list[list[str]]) -> None:
        missing = [row for row, files in enumerate(candidates) if not files]
        linked = [row for row in missing if (self.folder / names[row]).is_file()]
        if linked:
            raise UnusableError(
                f"{len(linked)} image(s) of {table.path} lie behind a link to a folder: {table.places(linked, names)}. "
                f"DVC follows no such link: replace it with the folder itself, in {self.folder}."
            )
        if missing == [0] and not table.has_header and len(names) > 1:
            raise MissingError(
                f"{self.folder} has no image {names[0]!r}, which line {table.lines[0]} of {table.path} names. "
                "If that line is a header, set split.header: true, and name the columns as it does."
            )
        if missing:
            advice = (
                self._advice(names, [names[row] for row in missing])
                if self.files
                else "It holds no files. Put the images there, or correct split.images."
            )
            raise MissingError(
                f"{len(missing)} of {len(names)} annotated images are not in {self.folder}: "
                f"{table.places(missing, names)}. {advice}"
            )

    def _advice(self, names: list[str], missing: list[str]) -> str:
        """What the folder holds, and what to do about the missing names."""
        holds = f"It holds {len(self.files)} file(s), such as {quoted(self.files[:2])}. "
        deeper = _by_last_part(self.files, missing[0])
        if len(deeper) == 1:
            return f"{holds}{missing[0]!r} may be {deeper[0]!r}: write names with their folders, like that one."
        near = nearest_file(missing[0], self.files)
        hint = f"The name nearest to {missing[0]!r} is {near!r}. " if near else ""
        if len(missing) == len(names):
            return f"{holds}{hint}Write the names as the files have them, or correct split.images."
        return f"{holds}{hint}Correct the names, or put these images there; remove a row only if its image is lost."

    def _refuse_several(self, table: Table, names: list[str], candidates: list[list[str]]) -> None:
        several = [row for row, files in enumerate(candidates) if len(files) > 1]
        if several:
            first = several[0]
            raise UnusableError(
                f"{len(several)} image name(s) of {table.path} can mean more than one file of {self.folder}: "
                f"{table.places(several, names)}; {names[first]!r} can mean {quoted(candidates[first])}. "
                "Write them in full, with the extension."
            )

    def _refuse_links(self, table: Table, names: list[str], files: list[str]) -> None:
        inside = self.folder.resolve()
        links = [row for row, file in enumerate(files) if (self.folder / file).is_symlink()]
        outside = [row for row in links if not (self.folder / files[row]).resolve().is_relative_to(inside)]
        if outside:
            raise UnusableError(
                f"{len(outside)} image name(s) of {table.path} lead outside the image folder {self.folder} by a link: "
                f"{table.places(outside, names)}. DVC does not see changes there: replace each link with its image."
            )


def copied_as(name: str, file: str) -> str:
    """The name of an image's copy in its class folder: `a__1.png` for the name a/1 and the file a/1.png."""
    extension = os.path.splitext(file)[1]
    # Always joined, not only if two names meet: otherwise an added image would rename another one's copy.
    joined = name.replace("/", "__")
    return joined if composed(joined).endswith(composed(extension)) else joined + extension


def nearest_file(name: str, files: Sequence[str]) -> str | None:
    """The only file of that name in another folder; else the file whose name, without its extension, is most alike."""
    elsewhere = _by_last_part(files, name)
    if len(elsewhere) == 1:
        return elsewhere[0]
    stems = {os.path.splitext(file)[0]: file for file in files}
    near = nearest(os.path.splitext(name)[0], stems)
    return None if near is None else stems[near]


def _parts(name: str) -> list[str]:
    """The parts of a path in the style of any system; none if the path is absolute or leads out of its folder."""
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", name):
        return []
    parts = [part for part in re.split(r"[/\\]+", name) if part != "."]
    return parts if all(map(is_plain_name, parts)) else []


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
    counts = Counter(files)
    repeated = [row for row, file in enumerate(files) if counts[file] > 1]
    if repeated:
        raise UnusableError(
            f"{table.path} names {len({files[row] for row in repeated})} image(s) more than once: "
            f"{table.places(repeated, names)}. An image can have one row only: keep the right one of each."
        )
