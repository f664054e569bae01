"""The card of a pack that replaces an earlier one: what people wrote into the earlier card is never lost."""

import html
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pipeline.runtime.errors import DamagedError, MismatchError, MissingError
from pipeline.runtime.text_files import read_bytes
from pipeline.soft_labels.reading import SoftLabelFile, open_logits, open_soft_targets
from pipeline.tools.pack_card import IS_OF_SOFT_LABELS, Stated, card
from pipeline.tools.pack_files import CARD, LOGITS, soft_label_files
from pipeline.tools.verify_pack import metadata_in, of_card

REMEDY = "Move it to another folder, and run again."


def next_card(folder: Path, logits: SoftLabelFile, targets: Sequence[SoftLabelFile], stated: Stated) -> bytes:
    """The card of a pack of these files.

    A card that is as `card` wrote it is written anew, and keeps its licence and its title where `stated` has none.
    A card that a person edited is kept, byte for byte.

    Args:
        folder: where the pack is to be; it may hold an earlier one.
        logits: the file of logits to pack.
        targets: the files of soft labels to pack.
        stated: licence and title.

    Raises:
        MismatchError: an edited card tells of other files, or of another licence or title than `stated`.
    """
    path = folder / CARD
    if not path.is_file():
        return card(logits, targets, stated).encode()
    text = read_bytes(path, REMEDY).decode("utf-8", "replace")
    earlier = _stated_in(text, logits, targets) or _stated_in_pack(text, folder)
    if earlier is not None:
        both = Stated(stated.license.strip() or earlier.license, stated.title.strip() or earlier.title)
        return card(logits, targets, both).encode()
    wishes = stated.license.strip() or stated.title.strip()
    check = of_card(path, logits, targets)
    if wishes or not check.ok:
        reason = "--license and --title would write a new one" if wishes else f"no longer fits: {check.detail}"
        advice = "Change licence and title in it by hand, or move" if wishes else "Move"
        raise MismatchError(
            f"{path} was edited, and {reason}. The pack was left as it is. {advice} the card to another folder, run "
            "again, and put your texts into the new card."
        )
    return path.read_bytes()


def _stated_in_pack(text: str, folder: Path) -> Stated | None:
    """As `_stated_in`, with the files of the earlier pack; None also if these cannot be read."""
    with ExitStack() as stack:
        try:
            logits, *targets = (
                stack.enter_context(open_logits(path) if path.name == LOGITS else open_soft_targets(path))
                for path in soft_label_files(folder)
            )
        except (MissingError, DamagedError):
            return None
        return _stated_in(text, logits, targets) if targets else None


def _stated_in(text: str, logits: SoftLabelFile, targets: Sequence[SoftLabelFile]) -> Stated | None:
    """What was stated when a card of these files was written; None if it is no card that `card` writes of them."""
    license_ = re.search(rf"^(.+){re.escape(IS_OF_SOFT_LABELS)}$", text, re.MULTILINE)
    titles = ("", str((metadata_in(text) or {}).get("pretty_name", "")))
    possible = (Stated(html.unescape(license_[1]) if license_ else "", title) for title in titles)
    return next((stated for stated in possible if card(logits, targets, stated) == text), None)
