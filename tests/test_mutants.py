"""`benchmarks.mutants`, `benchmarks.mutations` and `benchmarks.coverage`: what is changed, tried and counted."""

import csv
import importlib
import json
import os
import subprocess
import sys
from argparse import Namespace
from contextlib import nullcontext

import pytest

from benchmarks import changed_module, coverage, mutations
from benchmarks.changed_module import ROOT, Suite, file_of
from benchmarks.mutants import mutants
from benchmarks.mutations import EXPLAINED, TESTS, row, tried

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
        ("a[-1]", {"a[1]", "a[-2]"}),
        ("a(axis=-1)", {"a(axis=-2)"}),
    ],
)
def test_operators_and_constants_are_swapped(before, after):
    assert {mutant.source.removeprefix("x = ") for mutant in mutants(f"x = {before}")} == after


def test_a_mutant_names_its_function_and_line():
    (mutant,) = mutants("class A:\n    def b(self):\n        call()\n")
    assert (mutant.function, mutant.line, mutant.change) == ("A.b", 3, "call() -> pass")
    assert mutant.source == "class A:\n\n    def b(self):\n        pass"


def test_equal_changes_in_a_function_are_numbered():
    found = mutants("a = 1\ndef b():\n    c(1, 1)\n    return 1\n")
    assert [one.change for one in found if one.change.startswith("1")] == [
        "1 -> 2",
        "1 -> 2",
        "1 -> 2 (2)",
        "1 -> 2 (3)",
    ]


def test_every_module_with_its_tests_is_there():
    for module, tests in TESTS.items():
        assert file_of(f"pipeline.{module}").is_file()
        assert [test for test in tests if not (ROOT / f"tests/test_{test}.py").is_file()] == []


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
    assert row("a", 9, 8, survived, commit="0f+", share=0.9, seed=1) == ["a", "0f+", "9", "8", "6", "2", "1", "87.5"]


@pytest.fixture
def in_a_small_project(tmp_path, monkeypatch):
    """A function that writes tests of `to_change.py`, which no process has loaded yet."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "to_change.py").write_text("SIZE = 3\n")
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\nmarkers = ["slow"]\n')
    monkeypatch.setattr(changed_module, "ROOT", tmp_path)

    def write(text):
        (tmp_path / "tests/test_it.py").write_text(f"from to_change import SIZE\n{text}")
        return Suite(["it"])

    yield write
    importlib.invalidate_caches()


@pytest.mark.slow
def test_a_changed_module_is_the_one_that_tests_see(in_a_small_project):
    tests = in_a_small_project("def test_size():\n    assert SIZE == 3\n")
    assert not tests.kill("to_change", "SIZE = 2 + 1\n")
    assert tests.kill("to_change", "SIZE = 4\n")
    assert tests.kill("to_change", "no python")
    tests.killers_must_pass()
    tests.allowed_seconds = 1
    assert tests.kill("to_change", "while True:\n    pass\n")


@pytest.mark.slow
def test_a_test_that_killed_runs_before_the_others(in_a_small_project, tmp_path):
    """Each test writes down that it ran."""
    names, text = (
        ("small", "even", "odd"),
        f"from pathlib import Path\nran = Path({str(tmp_path / 'ran')!r}).open('a')\n",
    )
    for name, right in zip(names, ("SIZE < 10", "SIZE != 4", "SIZE != 5"), strict=True):
        text += f"def test_{name}():\n    print('{name}', file=ran, flush=True)\n    assert {right}\n"
    tests = in_a_small_project(text)
    for size in (5, 4, 5, 6):
        tests.kill("to_change", f"SIZE = {size}\n")
    ran = [*names, *names, "odd", "small", "even", "even", "odd", "odd", "even", "small"]
    assert (tmp_path / "ran").read_text().split() == ran


@pytest.mark.slow
def test_tests_that_fail_without_a_change_are_named(in_a_small_project):
    with pytest.raises(SystemExit, match=r"test_it.py::test_size does not pass as it is"):
        in_a_small_project("def test_size():\n    assert SIZE == 4\n")


def test_only_survivors_of_the_same_module_are_tried_again(tmp_path, monkeypatch):
    module, seen = tmp_path / "module.py", []
    monkeypatch.setattr(mutations, "commit", lambda: "0f")
    monkeypatch.setattr(mutations, "file_of", lambda name: module)
    monkeypatch.setattr(mutations, "survivors_of", lambda name, drawn, processes: seen.append(drawn) or [])
    options = Namespace(quick=False, share=1.0, seed=1, processes=1)

    def changes_tried(text, before):
        module.write_text(text)
        found = tried("a", options, before)
        assert (found["mutants"], found["tried"]) == (2, 2)
        return found, [one.change for one in seen.pop()]

    first, changes = changes_tried("a = 1\nb = 2\n", {})
    assert changes == ["1 -> 2", "2 -> 3"]
    first["survived"] = [{"function": "", "line": number, "change": f"{number} -> {number + 1}"} for number in (1, 2)]
    monkeypatch.setattr(mutations, "explanations", lambda name: {("", "1 -> 2"): "It is the same."})
    again, changes = changes_tried("a = 1\nb = 2\n", first)
    assert (changes, again["survived"]) == (["2 -> 3"], first["survived"][:1])
    assert changes_tried("a = 1\nb = 3\n", first)[1] == ["1 -> 2", "3 -> 4"]
    options.seed = 2
    assert changes_tried("a = 1\nb = 2\n", first)[1] == ["1 -> 2", "2 -> 3"]


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
        coverage.run_tests(tmp_path, "not unmeasured")


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
