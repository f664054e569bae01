"""Command `pack`: writes the soft labels into one folder for others, with a card, and without images."""

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipeline.images.index import read_index
from pipeline.runtime.errors import MismatchError, MissingError, first_few, quoted
from pipeline.runtime.publish import publish
from pipeline.soft_labels.reading import open_logits, open_soft_targets
from pipeline.tools.pack_card import card
from pipeline.tools.pack_files import CARD, CHECKSUMS, INDEX, is_part, write_checksums, write_pack_index
from pipeline.tools.verify import Parameters, verify


@dataclass(frozen=True)
class Stated:
    """What a person says of a pack.

    Attributes:
        license: an SPDX identifier or a sentence; "" if it is not known yet.
        title: the title of the card; "" for one that names teacher and classes.
    """

    license: str
    title: str


def pack(
    folder: Path,
    *,
    index: Path,
    teacher: Path,
    logits: Path,
    targets: Sequence[Path],
    params: Parameters,
    stated: Stated,
    replace: bool,
) -> list[str]:
    """Writes a pack, whole or not at all. The same inputs give the same bytes.

    Args:
        folder: the folder to write.
        index: `data/index.csv`.
        teacher: the teacher's `.keras` file; compared if it exists.
        logits: `teacher_logits.h5`.
        targets: the soft labels of each temperature.
        params: what the files should agree with.
        stated: licence and title.
        replace: whether a pack in `folder` is replaced.

    Returns:
        The names of the files that were written.

    Raises:
        MissingError: an input does not exist.
        DamagedError: the index cannot be read.
        MismatchError: a soft-label file is damaged or belongs to something else, or `folder` holds other files.
    """
    refuse_taken(folder, replace)
    images = read_index(index)
    for path in (logits, *targets):
        _refuse_unsound(path, index, teacher, logits, params)
    with publish(folder) as partial, ExitStack() as stack:
        partial.mkdir()
        for path in (logits, *targets):
            _link(path, partial / path.name)
        write_pack_index(partial / INDEX, images)
        of_logits = stack.enter_context(open_logits(logits))
        softened = [stack.enter_context(open_soft_targets(path)) for path in targets]
        (partial / CARD).write_text(card(of_logits, softened, stated.license, stated.title), encoding="utf-8")
        write_checksums(partial)
        return sorted(path.name for path in partial.iterdir())


def refuse_taken(folder: Path, replace: bool) -> None:
    """Refuses a folder with content, unless that is a pack which shall be replaced.

    Raises:
        MismatchError: `folder` is a file, holds other files, or a pack that nobody wishes to replace.
    """
    if folder.exists() and not folder.is_dir():
        raise MismatchError(f"{folder} is a file; expected a new folder. Name another.")
    held = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in held if not is_part(name)]
    if others or (held and CHECKSUMS not in held):
        raise MismatchError(f"{folder} holds files that are no pack: {quoted(others or held)}. Name a new folder.")
    if held and not replace:
        raise MismatchError(f"{folder} holds a pack already. Replace it with --force, or name another folder.")


def _refuse_unsound(path: Path, index: Path, teacher: Path, logits: Path, params: Parameters) -> None:
    if not path.is_file():
        raise MissingError(f"there is no {path}, which the pack needs. Make it with `dvc repro soften`.")
    wrong = [check for check in verify(path, index, teacher, logits, params) if check.ok is False]
    if wrong:
        found = first_few([f"{check.name}: {check.detail}" for check in wrong], 2)
        raise MismatchError(
            f"{path} is not packed, since it is not sound: {found}. Bring it up to date with `dvc repro soften`; "
            f"`softlabel verify {path}` shows all findings."
        )


def _link(path: Path, place: Path) -> None:
    """The same file at another place, without a second copy of its bytes where the file system can do that."""
    try:
        os.link(path.resolve(), place)
    except OSError:
        shutil.copyfile(path, place)
