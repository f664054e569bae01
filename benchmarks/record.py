"""What a benchmark found: printed as tables, and kept as JSON with the machine and the command."""

import argparse
import json
import os
import platform
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from pipeline.evaluation.text_table import aligned

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("tensorflow", "keras", "h5py", "numpy")


def arguments(description: str | None, *more: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    """Reads a benchmark's command line.

    Args:
        description: what it measures.
        *more: options of its own, as `add_argument` takes them.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="A small size, under a minute; its numbers are rough.")
    parser.add_argument("--output", type=Path, help="The JSON file.  [default: benchmarks/results/NAME.json]")
    for name, options in more:
        parser.add_argument(name, **options)
    return parser.parse_args()


class Record:
    """The findings of one benchmark.

    Args:
        name: of the module in `benchmarks/`.
        given: its command line.
    """

    def __init__(self, name: str, given: argparse.Namespace) -> None:
        kept = f"{name}_quick" if given.quick else name
        self._output = given.output or RESULTS / f"{kept}.json"
        self.document: dict[str, Any] = {
            "benchmark": name,
            "command": " ".join([f"python -m benchmarks.{name}", *_options(given)]),
            "machine": machine(),
            "tables": [],
            "measured": {},
        }

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Adds a table and prints it."""
        table = {"title": title, "header": list(header), "rows": [list(row) for row in rows]}
        self.document["tables"].append(table)
        print(f"\n{as_text(table)}", flush=True)

    def keep(self, **values: Any) -> None:
        """Adds raw measurements, JSON-serialisable, by name."""
        self.document["measured"].update(values)

    def write(self) -> None:
        """Writes the JSON file."""
        self._output.parent.mkdir(parents=True, exist_ok=True)
        self._output.write_text(json.dumps(self.document, indent=1) + "\n", encoding="utf-8")
        print(f"\nwrote {self._output}")


def _options(given: argparse.Namespace) -> Iterator[str]:
    """What was given on the command line and changes what is measured; no path of this machine."""
    for name, value in vars(given).items():
        if name in ("output", "work") or value in (None, False):
            continue
        yield f"--{name}"
        if isinstance(value, Path):
            yield "FOLDER" if value.is_dir() else str(value) if not value.is_absolute() else "FILE"
        elif value is not True:
            yield " ".join(value) if isinstance(value, list) else str(value)


def as_text(table: dict[str, Any]) -> str:
    """One table of a record, as printed."""
    return "\n".join([table["title"], "", *aligned([table["header"], *table["rows"]], str.ljust)])


def machine() -> dict[str, Any]:
    """Processor, memory, system and versions; no name of the host."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
