"""`benchmarks.mutants`, `benchmarks.mutations` and `benchmarks.coverage`: what is changed, tried and counted."""

import csv
import importlib
import json
import os
import subprocess
import sys
from contextlib import nullcontext

import pytest

from benchmarks import coverage, mutations
from benchmarks.mutants import mutants
from benchmarks.mutations import EXPLAINED, TESTS, exit_code, file_of, is_killed, row

SOURCE = '''"""A text."""
@cached(3)
def grow(x: Literal[1], least=0.0) -> int:
    if x and least:
        raise ValueError(f"{x + 1} is no size")
    note(x)
    x += 2
    return -x if x < 5 else None
'''


def changes(source):
    return {mutant.change for mutant in mutants(source)}


def test_each_kind_of_change_is_made_once():
    assert changes(SOURCE) == {
        "0.0 -> 1.0",
        "if x and least: -> if not (x and least):",
        "x and least -> x or least",
        "raise ValueError(f'{x + 1} is no size') -> pass",
        "note(x) -> pass",
        "x += 2 -> x -= 2",
        "x += 2 -> pass",
        "2 -> 3",
        "return -x if x < 5 else None -> return None",
        "-x -> x",
        "x < 5 -> x <= 5",
        "5 -> 6",
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a == b != c", {"a != b != c", "a == b == c"}),
        ("a in b", {"a not in b"}),
        ("a is not b", {"a is b"}),
        ("a // b % c", {"a // b * c", "a * b % c"}),
        ("a << b ^ c", {"a << b & c", "a >> b ^ c"}),
        ("True", {"False"}),
        ("2.5", {"5.0"}),
        ("'text'", set()),
        ("f'{a + 1}'", set()),
        ("not a", {"a"}),
        ("a[1:]", {"a[2:]"}),
    ],
)
def test_operators_and_constants_are_swapped(before, after):
    assert {mutant.source.removeprefix("x = ") for mutant in mutants(f"x = {before}")} == after


def test_a_mutant_names_its_function_and_line():
    (mutant,) = mutants("class A:\n    def b(self):\n        call()\n")
    assert (mutant.function, mutant.line, mutant.change) == ("A.b", 3, "call() -> pass")
    assert mutant.source == "class A:\n\n    def b(self):\n        pass"


def test_every_module_with_its_tests_is_there():
    for module, tests in TESTS.items():
        assert file_of(f"pipeline.{module}").is_file()
        assert [test for test in tests if not (mutations.ROOT / f"tests/test_{test}.py").is_file()] == []


def test_what_is_explained_is_one_mutant_of_now():
    with EXPLAINED.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    for module in {line["module"] for line in lines}:
        known = [(one.function, one.change) for one in mutants(file_of(f"pipeline.{module}").read_text("utf-8"))]
        explained = [(line["function"], line["change"]) for line in lines if line["module"] == module]
        assert [known.count(one) for one in explained] == [1] * len(explained), module
    assert all(line["why"].endswith(".") for line in lines)


def test_a_row_counts_killed_and_explained():
    survived = [{"why": "It is the same."}, {"why": ""}]
    assert row("a", 9, 8, survived, "0f+") == ["a", "0f+", "9", "8", "6", "2", "1", "87.5"]


@pytest.mark.slow
def test_a_changed_module_is_the_one_that_tests_see(tmp_path, monkeypatch):
    """A test of one line, on a module that no process has loaded yet."""
    (tmp_path / "to_change.py").write_text("SIZE = 3\n")
    (tmp_path / "test_it.py").write_text("def test_size():\n    from to_change import SIZE\n    assert SIZE == 3\n")
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\nmarkers = ["slow"]\n')
    monkeypatch.setattr(mutations, "ROOT", tmp_path)
    tests = [str(tmp_path / "test_it.py")]
    assert exit_code(None, "", tests, None) == 0
    assert not is_killed("to_change", "SIZE = 2 + 1\n", tests, 60)
    assert is_killed("to_change", "SIZE = 4\n", tests, 60)
    assert is_killed("to_change", "no python", tests, 60)
    assert is_killed("to_change", "while True:\n    pass\n", tests, -9)
    importlib.invalidate_caches()


def test_coverage_is_counted_by_package():
    def counts(statements, run, branches, taken):
        keys = ("num_statements", "covered_lines", "num_branches", "covered_branches")
        return dict(zip(keys, (statements, run, branches, taken), strict=True))

    files = {
        "pipeline/__init__.py": counts(0, 0, 0, 0),
        "pipeline/models/a.py": counts(1000, 999, 10, 9),
        "pipeline/models/b.py": counts(2000, 2000, 2, 2),
    }
    assert coverage.rows(files) == [
        ["__init__", "0", "100.0", "0", "100.0"],
        ["models", "3,000", "99.9", "12", "91.6"],
        ["all", "3,000", "99.9", "12", "91.6"],
    ]


def test_tests_that_fail_give_no_coverage(monkeypatch, tmp_path):
    ended = subprocess.CompletedProcess([], 2)
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: ended)
    with pytest.raises(SystemExit, match="ended with 2"):
        coverage.run_tests(tmp_path, [])


@pytest.mark.parametrize("changed", [None, "before", "after"])
def test_data_of_other_code_are_not_joined(monkeypatch, tmp_path, changed):
    """Two parts of the tests ran at 100 s and at 200 s."""
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(coverage, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"work holds no files data\.\*"):
        coverage.refuse_other_code(tmp_path / "work")
    for seconds in (200, 100):
        (tmp_path / f"work/data.{seconds}").touch()
        os.utime(tmp_path / f"work/data.{seconds}", (seconds, seconds))
    if changed is not None:
        (tmp_path / "pipeline/a.py").touch()
        os.utime(tmp_path / "pipeline/a.py", (150, 150) if changed == "after" else (50, 50))
    with pytest.raises(SystemExit, match=r"pipeline/a\.py changed ") if changed == "after" else nullcontext():
        coverage.refuse_other_code(tmp_path / "work")


@pytest.mark.parametrize(("taken", "fails"), [(949, True), (950, False)])
def test_too_few_branches_fail_when_they_are_recorded(monkeypatch, tmp_path, taken, fails):
    summary = {"num_statements": 1, "covered_lines": 1, "num_branches": 1000, "covered_branches": taken}
    file = {"summary": summary, "missing_lines": [], "missing_branches": [[1, 2]]}
    monkeypatch.setattr("benchmarks.record.commit", str)  # which git tells
    monkeypatch.setattr(coverage, "find_spec", lambda name: name)
    monkeypatch.setattr(coverage, "refuse_other_code", lambda work: None)
    monkeypatch.setattr(coverage, "combined", lambda work: {"files": {"pipeline/a/b.py": file}})
    record = tmp_path / "coverage.json"
    monkeypatch.setattr(sys, "argv", ["coverage", "--work", str(tmp_path), "--output", str(record)])
    with pytest.raises(SystemExit, match=f"{taken / 10} % of the branches, .* 95 %") if fails else nullcontext():
        coverage.main()
    assert json.loads(record.read_text())["tables"][0]["rows"][-1][-1] == str(taken / 10)
