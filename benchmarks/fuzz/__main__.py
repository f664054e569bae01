"""Fuzzes the readers of the program: a hundred thousand inputs of each kind, unless told otherwise.

Half of the inputs are changed by bytes, half by structure; with --atheris, all are made by Atheris. An input fails if
it ends in anything but success or one message of ours, or takes more than ten seconds or its kind's bound of memory.
Those that failed are kept in a folder, each with a text that says what happened and how to repeat it.

python -m benchmarks.fuzz [NAME ...]
"""

import argparse
import json
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.fuzz.outcomes import outcome
from benchmarks.fuzz.session import ACCEPTED, BEGUN, FAILED, KIBIBYTES, MILLISECONDS, REFUSED, Limits, Session, Way
from benchmarks.fuzz.target import Target
from benchmarks.fuzz.targets import TARGETS
from benchmarks.fuzz.ways import BATCH, by_bytes, by_coverage, by_structure
from benchmarks.record import RESULTS, Record, arguments, as_text, commit

MADE_BY: dict[Way, str] = {by_bytes: "bytes", by_structure: "structure", by_coverage: "Atheris"}
SEEDS = {
    "bytes": "input n is drawn from random.Random(n)",
    "structure": f"Hypothesis makes {BATCH} inputs from the seed n, the number of the first of them",
    "Atheris": "-seed is 1 + the number of the first input of a process",
}
TITLE = "Files that were changed, and what became of them"
HEADER = ("file", "by", "inputs", "accepted", "refused", "failed", "s", "longest, s", "largest, MiB", "commit")
SUMS, LARGEST = ("inputs", "accepted", "refused", "failed", "seconds"), ("longest_seconds", "largest_mib")


def main() -> None:
    """Runs the targets one after another; the record keeps what was found of others before."""
    options = arguments(
        __doc__,
        ("names", {"nargs": "*", "metavar": "NAME", "help": f"A kind of file: {', '.join(TARGETS)}.  [default: all]"}),
        ("--inputs", {"type": int, "default": 100_000, "help": "Of each kind.  [default: 100000]"}),
        ("--seconds", {"type": float, "default": float("inf"), "help": "At most so many for each kind and way."}),
        (
            "--atheris",
            {"action": "store_true", "help": "Let Atheris make the inputs (`make .venv/checked` installs it)."},
        ),
        ("--go-on", {"action": "store_true", "help": "Behind the inputs that the record already counts."}),
        ("--failures", {"type": Path, "default": Path(".work/fuzz"), "help": "The folder of inputs that failed."}),
        ("--repeat", {"type": Path, "help": "Read this file as the kind NAME, and say what becomes of it."}),
    )
    if unknown := sorted(set(options.names) - set(TARGETS)):
        raise SystemExit(f"no kind of file is called {', '.join(unknown)}: take {', '.join(TARGETS)}")
    if options.atheris and find_spec("atheris") is None:
        raise SystemExit("Atheris is not installed: `make .venv/checked` (Linux)")
    names = options.names or [*TARGETS]
    if options.repeat:
        repeat(TARGETS[names[0]], options.repeat)
    else:
        fuzz(names, options)


def repeat(target: Target, file: Path) -> None:
    """Prints what becomes of one input, in this process."""
    with tempfile.TemporaryDirectory() as work:
        found = outcome(target, file.read_bytes(), Path(work))
    print(f"{found.kind}\n{found.text}")


def fuzz(names: list[str], options: argparse.Namespace) -> None:
    """Runs targets, and writes the record after each: what was found of others stays in it."""
    inputs = 200 if options.quick else options.inputs
    for name in names:
        for way, count in ways_of(TARGETS[name], inputs, options.atheris).items():
            before = recorded(options).get(f"{name} {MADE_BY[way]}", []) if options.go_on else []
            if (first := sum(part["inputs"] for part in before)) < count:
                parts = [*before, measured(name, way, first, count - first, options)]
                print(*map(" ".join, zip(HEADER, row(f"{name} {MADE_BY[way]}", parts), strict=True)), sep=", ")
                write({**recorded(options), f"{name} {MADE_BY[way]}": parts}, options)
    rows = [row(key, parts) for key, parts in recorded(options).items()]
    print("\n" + as_text({"title": TITLE, "header": HEADER, "rows": rows}))


def ways_of(target: Target, inputs: int, atheris: bool) -> dict[Way, int]:
    """How many inputs are made in which way."""
    if atheris:
        return {by_coverage: inputs}
    if target.inputs is None:
        return {by_bytes: inputs}
    return {by_bytes: inputs // 2, by_structure: inputs - inputs // 2}


def measured(name: str, way: Way, first: int, inputs: int, options: argparse.Namespace) -> dict[str, Any]:
    """Runs inputs of one kind, made in one way; what the record keeps of them."""
    begun, of = time.monotonic(), commit()
    with tempfile.TemporaryDirectory() as work:
        session = Session(name, TARGETS[name], options.failures, Path(work))
        session.run(way, Limits(inputs, first, options.seconds))
    found = dict(zip(SUMS, (session.counts[place] for place in (BEGUN, ACCEPTED, REFUSED, FAILED)), strict=False))
    return {
        "commit": of,
        "first": first,
        "wanted": inputs,
        "most_seconds": None if options.seconds == float("inf") else options.seconds,
        **found,
        "seconds": round(time.monotonic() - begun),
        "longest_seconds": session.counts[MILLISECONDS] / 1000,
        "largest_mib": round(session.counts[KIBIBYTES] / 1024),
    }


def recorded(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The parts of each kind and way that the record has, one behind the other."""
    output = options.output or RESULTS / ("fuzz_quick.json" if options.quick else "fuzz.json")
    return json.loads(output.read_text(encoding="utf-8"))["measured"] if output.exists() else {}


def row(key: str, parts: list[dict[str, Any]]) -> list[str]:
    """One row of the table: the sums of the parts, or the largest, and the commit of each."""
    sums = [f"{sum(part[name] for part in parts):,}" for name in SUMS]
    longest, largest = (max(part[name] for part in parts) for name in LARGEST)
    commits = dict.fromkeys(part["commit"] for part in parts)
    return [*key.split(), *sums, f"{longest:.2f}", f"{largest:,}", " ".join(commits)]


def write(rows: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """Writes the record of these rows."""
    rows = dict(sorted(rows.items()))
    table = {"title": TITLE, "header": HEADER, "rows": [row(key, parts) for key, parts in rows.items()]}
    record = Record("fuzz", options)
    record.document |= {"command": "python -m benchmarks.fuzz", "seeds": SEEDS, "tables": [table], "measured": rows}
    record.write()


if __name__ == "__main__":
    main()
