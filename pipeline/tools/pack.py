"""Command `pack`: writes the soft labels into one folder for others, with a card, and without images."""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pipeline.images.index import read_index
from pipeline.runtime.errors import MismatchError, MissingError, first_few, quoted
from pipeline.runtime.publish import publish
from pipeline.soft_labels.reading import open_logits, open_soft_targets
from pipeline.tools.earlier_card import next_card
from pipeline.tools.pack_card import Stated
from pipeline.tools.pack_files import CARD, CHECKSUMS, INDEX, is_part, write_checksums, write_pack_index
from pipeline.tools.verify import Parameters, verify


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
        replace: whether a pack in `folder` is replaced; what people wrote into its card is kept (`next_card`).

    Returns:
        The names of the files that were written.

    Raises:
        MissingError: an input does not exist.
        DamagedError: the index cannot be read.
        MismatchError: a soft-label file is damaged or belongs to something else, `folder` holds other files, or an
            edited card of an earlier pack does not fit.
    """
    refuse_taken(folder, replace)
    images = read_index(index)
    for path in (logits, *targets):
        _refuse_unsound(path, index, teacher, logits, params)
    with ExitStack() as stack:
        of_logits = stack.enter_context(open_logits(logits))
        softened = [stack.enter_context(open_soft_targets(path)) for path in targets]
        card = next_card(folder, of_logits, softened, stated)
    with publish(folder) as partial:
        partial.mkdir()
        for path in (logits, *targets):
            shutil.copyfile(path, partial / path.name)
        write_pack_index(partial / INDEX, images)
        (partial / CARD).write_bytes(card)
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
    others = [name for name in held if not (is_part(name) and (folder / name).is_file())]
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
