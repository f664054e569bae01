"""What `pip` installs: pinned, hashed, and under licences that are listed."""

import csv
import re
from importlib.metadata import PackageNotFoundError, version

import pytest

from benchmarks import licences
from benchmarks.licences import COLUMNS, LICENCES, LOCKS, ROOT, locked, pinned

TEXT = locked()
PLACES = ("*.md", "Makefile", "*.yaml", "presets/*", "docs/*.*", "docs/slurm/*", "pipeline/**/*.*", "benchmarks/*.*")


def listed():
    with LICENCES.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_lock_has_hashes_and_no_places():
    """Each package has at least one SHA-256, and none comes from a URL, a folder or another index."""
    entries = re.split(r"^(?=\S)", TEXT, flags=re.MULTILINE)[1:]
    assert len(entries) > 200
    for entry in entries:
        first, *rest = entry.splitlines()
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; [^\\@]+)? \\", first), first
        hashes = [line for line in rest if not line.lstrip().startswith("#")]
        assert hashes, first
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes), first
    assert "://" not in re.sub(r"#.*", "", TEXT)


def test_nobody_is_told_to_install_us_by_name():
    """No index has this program, so `pip install softlabel` would install what a stranger registers."""
    by_name = re.compile(r"pip install[^`\n]*[\s'\"]softlabel\b(?!-)")
    assert by_name.search("`pip install 'softlabel[onnx]'`")
    assert by_name.search("pip install softlabel onnxruntime")
    files = [file for pattern in PLACES for file in ROOT.glob(pattern)]
    assert {ROOT / "README.md", ROOT / "Makefile", ROOT / "pipeline/cli/main.py"} <= set(files)
    assert [file for file in files if by_name.search(file.read_text(encoding="utf-8", errors="ignore"))] == []


def test_what_is_asked_for_by_the_makefile_is_locked():
    """`make coverage` installs from checks.lock, as `make repro` from requirements.lock."""
    installs = re.findall(r"pip install .*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert [line for line in installs if "--require-hashes" not in line and "--no-deps" not in line] == []
    assert {name for name, _ in pinned(LOCKS[1].read_text(encoding="utf-8"))} == {"atheris", "coverage"}


def test_what_is_pinned_is_read_from_the_lock():
    lock = "a-b==1.0 \\\n    --hash=sha256:00\n    # via c==9\nd.e==2.0.post1 ; python_version < '3.12' \\\nd.e==3 \\\n"
    assert pinned(lock) == [("a-b", "1.0"), ("d.e", "2.0.post1"), ("d.e", "3")]


def test_the_licence_of_every_pinned_package_is_listed():
    rows = listed()
    assert [(row["package"], row["version"]) for row in rows] == pinned(TEXT)
    assert all(row["licence"] for row in rows)
    assert tuple(rows[0]) == COLUMNS


def test_licences_are_what_installed_packages_state():
    for row in listed():
        try:
            installed = version(row["package"])
        except PackageNotFoundError:
            assert row["note"], row
            continue
        if installed == row["version"]:
            assert (row["licence"], row["note"]) == licences.licence(row["package"], row["version"]), row


def test_a_licence_of_the_gnu_family_has_a_note():
    gnu = [row for row in listed() if "GPL" in row["licence"]]
    assert {row["package"] for row in gnu} >= {"dulwich", "pygit2"}
    assert [row for row in gnu if not row["note"]] == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License-Expression": "MIT", "License": "other"}, "MIT"),
        ({"License": "BSD", "Classifier": "License :: OSI Approved :: Apache Software License"}, "BSD"),
        ({"License": "a text\nof lines", "Classifier": "License :: OSI Approved :: MIT License"}, "MIT License"),
        ({"License": "UNKNOWN", "Classifier": "License :: OSI Approved :: MIT License"}, "MIT License"),
        ({"License": "w" * 61, "Classifier": "License :: OSI Approved :: MIT License"}, "MIT License"),
    ],
)
def test_a_licence_is_stated_in_one_of_three_places(fields, expected, monkeypatch):
    monkeypatch.setattr(licences, "metadata", lambda name: Metadata(fields | {"Version": "1"}))
    assert licences.licence("one", "1") == (expected, "")
    assert licences.licence("one", "2") == (expected, "as stated by 1")


def test_a_package_without_a_licence_or_not_installed_is_told(monkeypatch):
    with pytest.raises(SystemExit, match="no_such_package is not installed"):
        licences.licence("no_such_package", "1")
    monkeypatch.setattr(licences, "metadata", lambda name: Metadata({"Version": "1"}))
    with pytest.raises(SystemExit, match="one states no licence"):
        licences.licence("one", "1")


class Metadata(dict):
    def get_all(self, name):
        return [self[name]] if name in self else None
