"""Writes docs/licences.csv: the licence of every package in the two lock files, as the package itself states it.

Metadata are those of the packages that are installed here. `make lock` runs this. A package that is not installed, or
states no licence, ends it: then look into the package, and write what it says into `STATED`.

python -m benchmarks.licences
"""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from pipeline.runtime.csv_rows import csv_rows

ROOT = Path(__file__).parents[1]
LOCKS = (ROOT / "requirements.lock", ROOT / "checks.lock")
LICENCES = ROOT / "docs/licences.csv"
COLUMNS = ("package", "version", "licence", "note")

STATED = {
    "appnope": ("BSD-2-Clause", "for macOS only"),
    "atheris": ("Apache-2.0", "for fuzzing only"),
    "coverage": ("Apache-2.0", "for `make coverage` only"),
    "httpx2-jsfetch": ("BSD-3-Clause", "for Emscripten only"),
    "namex": ("Apache-2.0", "stated in its file LICENSE alone"),
    "pywin32": ("PSF", "for Windows only"),
    "tzdata": ("Apache-2.0", "for Windows and Emscripten only"),
}
"""What packages state that are not for every system, or have no licence in their metadata, and why it stands here."""

NOTES = {
    "asyncssh": "taken under EPL-2.0; only with the extra ssh",
    "dulwich": "taken under Apache-2.0",
    "grandalf": "taken under EPL-1.0; DVC draws graphs with it",
    "pygit2": "its exception allows every program to link it; DVC reads git with it",
}
"""What holds for packages that the GNU GPL is a licence of."""

SAYS_NOTHING = ("UNKNOWN", "Dual License")
LONGEST = 60
"""Characters of a licence's name; what is longer in a package's metadata is the licence's text."""


def locked() -> str:
    """The text of both lock files."""
    return "".join(lock.read_text(encoding="utf-8") for lock in LOCKS)


def pinned(lock: str) -> list[tuple[str, str]]:
    """Each package of a lock file with its version; a package may have one for each Python."""
    return sorted(set(re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock, re.MULTILINE)))


def rows(packages: Iterable[tuple[str, str]]) -> list[tuple[str, str, str, str]]:
    """A row for each package and version.

    Raises:
        SystemExit: it is not known what a package states.
    """
    return [(name, version, *licence(name, version)) for name, version in packages]


def licence(name: str, version: str) -> tuple[str, str]:
    """The licence of a package in its own words, and a note."""
    if name in STATED:
        return STATED[name]
    try:
        found = metadata(name)
    except PackageNotFoundError:
        raise SystemExit(f"{name} is not installed. Write its licence into STATED of benchmarks/licences.py.") from None
    expressions, texts, classifiers = (found.get_all(key) for key in ("License-Expression", "License", "Classifier"))
    stated = "".join(expressions or [_one_line(texts) or _classified(classifiers)])
    if not stated:
        raise SystemExit(f"{name} states no licence. Look into it, and write it into STATED of benchmarks/licences.py.")
    other = "" if found["Version"] == version else f"as stated by {found['Version']}"
    return stated, NOTES.get(name, other)


def _one_line(texts: list[str] | None) -> str:
    text = "".join(texts or []).strip()
    return text if len(text) <= LONGEST and "\n" not in text and text not in SAYS_NOTHING else ""


def _classified(classifiers: list[str] | None) -> str:
    names = [line.rpartition(" :: ")[2] for line in classifiers or [] if line.startswith("License ::")]
    return " AND ".join(names)


def main() -> None:
    """Writes the file."""
    found = rows(pinned(locked()))
    LICENCES.write_text("".join(csv_rows([COLUMNS, *found])), encoding="utf-8")


if __name__ == "__main__":
    main()
