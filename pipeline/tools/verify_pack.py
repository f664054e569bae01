"""`softlabel verify FOLDER`: whether a pack of soft labels is whole, and its files belong together."""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.images.index import SPLITS
from pipeline.report.licences import UNKNOWN
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import DamagedError, MissingError, first_few, quoted
from pipeline.runtime.text_files import read_text
from pipeline.runtime.yaml_files import parsed_yaml
from pipeline.soft_labels.reading import SoftLabelFile, open_logits, open_soft_targets
from pipeline.tools import pack_card
from pipeline.tools.pack_files import (
    AGAIN,
    CARD,
    CHECKSUMS,
    INDEX,
    LOGITS,
    is_part,
    read_checksums,
    read_pack_index,
    soft_label_files,
)
from pipeline.tools.verify import WARNING, Check, by_itself, of_data_set, softened_from


def verify_pack(folder: Path) -> list[Check]:
    """Checks a folder of `softlabel pack`: its checksums, each file by itself, and that they belong together.

    Nothing outside of the folder is read. Files whose names begin with a dot belong to git, DVC or the Hub.
    """
    checks = [_names(folder), _checksums(folder)]
    opened: list[SoftLabelFile] = []
    with ExitStack() as stack:
        for path in soft_label_files(folder):
            open_it = open_logits if path.name == LOGITS else open_soft_targets
            try:
                opened.append(stack.enter_context(open_it(path)))
            except (MissingError, DamagedError) as error:
                checks.append(Check(f"{path.name}: file", False, str(error)))
        largest = max((file.temperature or 1.0 for file in opened), default=1.0)
        for file in opened:
            found = [*by_itself(file, None, largest), *_together(file, folder)]
            checks += [replace(check, name=f"{file.path.name}: {check.name}") for check in found]
        if any(check.ok is False for check in checks):
            checks.append(Check("card", None, f"not compared: the files that {CARD} tells of are not sound"))
        else:
            checks.append(of_card(folder / CARD, opened[0], opened[1:]))
    return [
        *checks,
        Check("teacher", None, "not compared: it is not in a pack"),
        Check("images", None, f"not compared: they are not in a pack; {INDEX} has the SHA-256 of each"),
    ]


def _names(folder: Path) -> Check:
    """Whether the folder has every file of a pack, and no other."""
    held = [path for path in folder.iterdir() if not path.name.startswith(".")]
    names = {path.name for path in held if path.is_file()}
    missing = [name for name in (LOGITS, INDEX, CARD, CHECKSUMS) if name not in names]
    others = sorted(path.name for path in held if not (path.name in names and is_part(path.name)))
    targets = soft_label_files(folder)[1:]
    problems = [
        *([f"there is no {first_few(missing)}"] if missing else []),
        *([] if targets else ["there is no soft_targets_T<T>.h5"]),
        *([f"files of others: {quoted(others)}"] if others else []),
    ]
    return Check("pack", not problems, "; ".join(problems) or f"{len(names)} files, all of a pack")


def _checksums(folder: Path) -> Check:
    try:
        expected = read_checksums(folder / CHECKSUMS)
    except (MissingError, DamagedError) as error:
        return Check("checksums", False, str(error))
    held = {path.name for path in folder.iterdir() if is_part(path.name) and path.is_file()} - {CARD, CHECKSUMS}
    problems = [
        (f"{CHECKSUMS} names what is not there", sorted(expected.keys() - held)),
        (f"{CHECKSUMS} does not name", sorted(held - expected.keys())),
        (
            "other bytes than were packed",
            [n for n in sorted(held & expected.keys()) if not _is(folder / n, expected[n])],
        ),
    ]
    wrong = [f"{what}: {first_few(names)}" for what, names in problems if names]
    return Check(
        "checksums", not wrong, "; ".join(wrong) or f"the bytes of {len(expected)} files are those of {CHECKSUMS}"
    )


def _is(path: Path, sha256: str) -> bool:
    return sha256_file(path) == sha256


def _together(file: SoftLabelFile, folder: Path) -> list[Check]:
    """Whether a soft-label file belongs to the pack's table of images and to its logits."""
    read = partial(read_pack_index, class_names=file.provenance.class_names)
    return [of_data_set(file, folder / INDEX, read), *softened_from(file, folder / LOGITS)]


def of_card(path: Path, logits: SoftLabelFile, targets: Sequence[SoftLabelFile]) -> Check:
    """Whether the card's metadata and tables are those of the files; everything else in it may be written anew."""
    text = read_text(path, AGAIN, errors="replace")
    stated = metadata_in(text)
    if stated is None:
        return Check("card", False, f"{CARD} does not begin with metadata, a YAML mapping between two lines ---")
    category = pack_card.size_category(sum(map(logits.count, SPLITS)))
    expected = {"task_categories": [pack_card.TASK], "size_categories": [category]}
    problems = [
        f"{name} is {stated.get(name)!r}, expected {value}"
        for name, value in expected.items()
        if stated.get(name) != value
    ]
    lines = set(text.splitlines())
    untold = [line for line in (*pack_card.facts(logits, targets), *pack_card.classes(logits)) if line not in lines]
    if untold:
        problems.append(f"lacks {len(untold)} line(s) of its tables: {quoted(untold, 2)}")
    licenses = licenses_in(stated)
    if licenses is None:
        problems.append(f"license is {stated['license']!r}, expected the Hub's name of a licence, or several")
    if problems:
        return Check("card", False, f"{CARD}: {'; '.join(problems)}")
    if not licenses:
        return Check("card", True, f"{WARNING}{CARD} states no licence")
    return Check("card", True, f"the metadata and the tables of {CARD} are those of the files")


def licenses_in(stated: Mapping[str, Any]) -> list[str] | None:
    """The licences that a card's metadata states: the Hub takes one name, or a list; None if it is neither."""
    value = stated.get("license")
    names = value if isinstance(value, list) else [value]
    if not all(name is None or isinstance(name, str) for name in names):
        return None
    return [name for name in names if name not in (None, "", UNKNOWN)]


def metadata_in(text: str) -> dict[str, Any] | None:
    """The metadata at the head of a card; None if there is none that can be read."""
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    try:
        stated = parsed_yaml(found[1]) if found else None
    except ValueError:
        return None
    return stated if isinstance(stated, dict) else None
