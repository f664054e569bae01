"""Where the earlier version of an output is: in its place, and in DVC's cache, wherever that is."""

import hashlib
import shutil
from pathlib import Path

import pytest
from real_project import run

from pipeline.cli.dvc_cache import earlier_versions

OUTPUT = Path("data/soft_labels/teacher_logits.h5")
CONTENT = b"what the teacher said"
MD5 = hashlib.md5(CONTENT).hexdigest()  # noqa: S324
LOCK = """schema: '2.0'
stages:
  split:
    cmd: softlabel split
    outs:
    - path: data/index.csv
      hash: md5
      md5: '00000000000000000000000000000000'
      size: 3
  precompute:
    cmd: softlabel precompute
    deps:
    - path: data/soft_labels/teacher_logits.h5
      hash: md5
      md5: '11111111111111111111111111111111'
    outs:
    - path: data/soft_labels/teacher_logits.h5
      hash: md5
      md5: {md5}
      size: 21
"""


@pytest.fixture(scope="module")
def empty_repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dvc")
    run("dvc", "init", "--no-scm", "--quiet", cwd=folder)
    return folder


@pytest.fixture
def repository(empty_repository, tmp_path, monkeypatch):
    """A folder where dvc.lock names an output that is in the cache, but not in its place."""
    shutil.copytree(empty_repository, tmp_path, dirs_exist_ok=True)
    (tmp_path / "dvc.lock").write_text(LOCK.format(md5=MD5))
    cache(tmp_path / ".dvc/cache")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cache(folder: Path) -> Path:
    """The file as DVC 3 keeps it: `files/md5/<two digits>/<thirty digits>`."""
    path = folder / "files/md5" / MD5[:2] / MD5[2:]
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return path


def contents(paths: list[Path]) -> list[bytes]:
    return [path.read_bytes() for path in paths]


def test_what_dvc_took_away_is_found_in_its_cache(repository):
    assert contents(earlier_versions(OUTPUT)) == [CONTENT]


def test_the_file_in_its_place_comes_first(repository):
    OUTPUT.parent.mkdir(parents=True)
    OUTPUT.write_bytes(b"newer")
    assert contents(earlier_versions(OUTPUT)) == [b"newer", CONTENT]


def test_a_cache_that_was_moved_is_followed(repository):
    run("dvc", "config", "cache.dir", str(repository / "elsewhere"), cwd=repository)
    assert earlier_versions(OUTPUT) == []
    cache(repository / "elsewhere")
    assert contents(earlier_versions(OUTPUT)) == [CONTENT]


def test_what_is_not_in_the_cache_is_not_there(repository):
    shutil.rmtree(repository / ".dvc/cache")
    assert earlier_versions(OUTPUT) == []


def test_an_output_that_dvc_does_not_know_is_not_there(repository):
    assert earlier_versions(Path("data/soft_labels/other.h5")) == []


def test_without_a_lock_only_the_file_in_its_place_is_there(repository):
    Path("dvc.lock").unlink()
    assert earlier_versions(OUTPUT) == []
    OUTPUT.parent.mkdir(parents=True)
    OUTPUT.write_bytes(b"newer")
    assert earlier_versions(OUTPUT) == [OUTPUT]


BROKEN = {
    "empty": "",
    "a merge conflict": "<<<<<<< HEAD\n" + LOCK + "=======\n>>>>>>> other\n",
    "half written": LOCK[:60] + "  'unclosed",
    "a list": "- a\n- b\n",
    "no stages": "schema: '2.0'\n",
    "stages are nothing": "stages:\n",
    "stages are a list": "stages: [a, b]\n",
    "a stage is nothing": "stages:\n  precompute:\n",
    "outputs are nothing": "stages:\n  precompute:\n    outs:\n",
    "outputs are texts": "stages:\n  precompute:\n    outs: [a, b]\n",
    "no hash": "stages:\n  precompute:\n    outs:\n    - path: data/soft_labels/teacher_logits.h5\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_lock_costs_the_earlier_rows_but_nothing_else(repository, text):
    Path("dvc.lock").write_text(text)
    assert earlier_versions(OUTPUT) == []


def test_a_lock_that_is_no_text_costs_no_more(repository):
    Path("dvc.lock").write_bytes(b"\xff\xfe\x00\x80stages")
    assert earlier_versions(OUTPUT) == []


def test_a_lock_without_a_dvc_repository_costs_no_more(repository):
    """As in an archive of the project that was unpacked without its hidden folders."""
    shutil.rmtree(repository / ".dvc")
    assert earlier_versions(OUTPUT) == []
