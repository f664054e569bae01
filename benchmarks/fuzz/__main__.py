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

from benchmarks.fuzz.outcomes import outcome
from benchmarks.fuzz.session import ACCEPTED, BEGUN, FAILED, KIBIBYTES, MILLISECONDS, REFUSED, Limits, Session, Way
from benchmarks.fuzz.target import Target
from benchmarks.fuzz.targets import TARGETS
from benchmarks.fuzz.ways import by_bytes, by_coverage, by_structure
from benchmarks.record import RESULTS, Record, arguments

MADE_BY: dict[Way, str] = {by_bytes: "bytes", by_structure: "structure", by_coverage: "Atheris"}
HEADER = ("file", "by", "inputs", "accepted", "refused", "failed", "s", "longest, s", "largest, MiB")


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
    """Runs targets, and writes the record: what was found of others stays in it."""
    output = options.output or RESULTS / ("fuzz_quick.json" if options.quick else "fuzz.json")
    rows = json.loads(output.read_text(encoding="utf-8"))["measured"] if output.exists() else {}
    for name in names:
        for way, inputs in ways_of(TARGETS[name], 200 if options.quick else options.inputs, options.atheris).items():
            rows[f"{name} {MADE_BY[way]}"] = row = measured(name, way, inputs, options)
            print(*map(" ".join, zip(HEADER, row, strict=True)), sep=", ", flush=True)
    write(dict(sorted(rows.items())), options)


def ways_of(target: Target, inputs: int, atheris: bool) -> dict[Way, int]:
    """How many inputs are made in which way."""
    if atheris:
        return {by_coverage: inputs}
    if target.inputs is None:
        return {by_bytes: inputs}
    return {by_bytes: inputs // 2, by_structure: inputs - inputs // 2}


def measured(name: str, way: Way, inputs: int, options: argparse.Namespace) -> list[str]:
    """One row of the record."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        session = Session(name, TARGETS[name], options.failures, Path(work))
        session.run(way, Limits(inputs, options.seconds))
    counts, seconds = session.counts, time.monotonic() - begun
    found = [f"{counts[place]:,}" for place in (BEGUN, ACCEPTED, REFUSED, FAILED)]
    largest, longest = f"{counts[KIBIBYTES] / 1024:,.0f}", f"{counts[MILLISECONDS] / 1000:.2f}"
    return [name, MADE_BY[way], *found, f"{seconds:,.0f}", longest, largest]


def write(rows: dict[str, list[str]], options: argparse.Namespace) -> None:
    """Writes the record of these rows."""
    record = Record("fuzz", options)
    record.document["command"] = "python -m benchmarks.fuzz"
    record.table("Files that were changed, and what became of them", HEADER, list(rows.values()))
    record.keep(**rows)
    record.write()


if __name__ == "__main__":
    main()
