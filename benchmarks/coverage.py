"""Which lines and branches of `pipeline/` the tests run, also in the processes that they start.

Goal: tests take at least 95 % of the branches. The command ends with 1 if they do not.
Runs all tests, but for a few that Coverage.py itself makes fail; what processes did that were ended by `kill -9` is not
seen.
Coverage.py does the work, as `[tool.coverage]` in pyproject.toml says; `make .venv/checked` installs it.

python -m benchmarks.coverage

The tests may also be run in parts, over the same commit; each leaves its data in the same folder, and what they found
is joined:

COVERAGE_FILE=FOLDER/data python -m coverage run -m pytest tests/test_verify.py
python -m benchmarks.coverage --work FOLDER
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.record import Record, arguments

HEADER = ("package", "statements", "run, %", "branches", "taken, %")

ROOT = Path(__file__).parents[1]

GOAL = 95.0
"""Percent of the branches."""


def main() -> None:
    """Runs the tests, and writes the record.

    Raises:
        SystemExit: there is nothing to measure with, or the tests take too few branches.
    """
    options = arguments(
        __doc__,
        ("--work", {"type": Path, "help": "Join what earlier runs left in this folder; run no tests."}),
    )
    if find_spec("coverage") is None:
        raise SystemExit("Coverage.py is not installed: `make .venv/checked`")
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        if not options.work:
            run_tests(work, "not unmeasured and not slow" if options.quick else "not unmeasured")
        refuse_other_code(work)
        report = combined(work)
    record = Record("coverage", options)
    summaries = {path: file["summary"] for path, file in report["files"].items()}
    table = rows(summaries)
    record.table(f"Lines and branches that the tests run; goal: {GOAL:.0f} % of all branches", HEADER, table)
    record.keep(not_run={path: not_run(file) for path, file in report["files"].items() if not_run(file)})
    record.write()
    if float(table[-1][-1]) < GOAL and not options.quick:
        raise SystemExit(f"the tests take {table[-1][-1]} % of the branches, and the goal is {GOAL:.0f} %")


def run_tests(work: Path, chosen: str) -> None:
    """Runs those tests whose markers fit an expression of pytest.

    Raises:
        SystemExit: they did not all pass, or did not all run; so what they cover says nothing.
    """
    tests = ["-m", "pytest", "--numprocesses", "auto", "--dist", "loadfile", "--no-loadscope-reorder", "-m", chosen]
    command = [sys.executable, "-m", "coverage", "run", *tests]
    done = subprocess.run(command, env=os.environ | {"COVERAGE_FILE": str(work / "data")}, check=False)
    if done.returncode:
        raise SystemExit(f"the tests ended with {done.returncode}: no record is written")


def refuse_other_code(work: Path) -> None:
    """Data name lines by their numbers, and say nothing of other code.

    Raises:
        SystemExit: there are no data, or a module was changed after some of them were left.
    """
    left = [file.stat().st_mtime for file in work.glob("data.*")]
    if not left:
        raise SystemExit(f"{work} holds no files data.*, which the tests leave under Coverage.py")
    changed = [str(path) for path in ROOT.glob("pipeline/**/*.py") if path.stat().st_mtime > min(left)]
    if changed:
        raise SystemExit(
            f"{', '.join(sorted(changed))} changed after tests were run: run them again, into another folder"
        )


def combined(work: Path) -> dict[str, Any]:
    """Coverage.py's own report, in JSON, of what all processes left in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        data, report = Path(folder, "data"), Path(folder, "report.json")
        coverage = [sys.executable, "-m", "coverage"]
        subprocess.run([*coverage, "combine", "--keep", "--quiet", f"--data-file={data}", str(work)], check=True)
        subprocess.run([*coverage, "json", "--quiet", f"--data-file={data}", "-o", str(report)], check=True)
        return dict(json.loads(report.read_text(encoding="utf-8")))


def rows(summaries: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    """A row for each package, and one for all of them.

    Args:
        summaries: Coverage.py's counts of each file, by its path below the project.
    """
    packages: dict[str, list[Mapping[str, int]]] = {}
    for path, counts in summaries.items():
        packages.setdefault(path.split("/")[1].removesuffix(".py"), []).append(counts)
    return [row(name, counts) for name, counts in sorted(packages.items())] + [row("all", summaries.values())]


def row(name: str, counts: Iterable[Mapping[str, int]]) -> list[str]:
    """The counts of some files, added up."""
    counts = list(counts)
    keys = ("num_statements", "covered_lines", "num_branches", "covered_branches")
    statements, run, branches, taken = (sum(file[key] for file in counts) for key in keys)
    return [name, f"{statements:,}", share(run, statements), f"{branches:,}", share(taken, branches)]


def share(part: int, whole: int) -> str:
    """In percent, rounded down, so that 100.0 means all."""
    return f"{1000 * part // whole / 10:.1f}" if whole else "100.0"


def not_run(file: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The lines of a file that no test runs, and the branches that none takes, as [from, to]."""
    found = {"lines": file["missing_lines"], "branches": file["missing_branches"]}
    return {kind: places for kind, places in found.items() if places}


if __name__ == "__main__":
    main()
