"""The results of a benchmark: printed as tables, and kept as JSON with the machine and the command."""

import argparse
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from pipeline.evaluation.text_table import aligned
from pipeline.runtime.publish import replace_whole

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("tensorflow", "keras", "h5py", "numpy")


def arguments(description: str | None, *more: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    """Reads a benchmark's command line.

    Args:
        description: what the benchmark measures.
        *more: its own options, as `add_argument` takes them.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="A small size; its numbers are rough.")
    parser.add_argument("--output", type=Path, help="The JSON file.  [default: benchmarks/results/NAME.json]")
    for name, options in more:
        parser.add_argument(name, **options)
    return parser.parse_args()


class Record:
    """The results of one benchmark.

    Args:
        name: the name of its module in `benchmarks/`.
        options: its command line.
    """

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        file = f"{name}_quick.json" if options.quick else f"{name}.json"
        self._output = options.output or RESULTS / file
        self.document: dict[str, Any] = {
            "benchmark": name,
            "command": " ".join([f"python -m benchmarks.{name}", *_options(options)]),
            "commit": commit(),
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
        with replace_whole(self._output) as partial:
            partial.write_text(json.dumps(self.document, indent=1) + "\n", encoding="utf-8")
        print(f"\nwrote {self._output}")


def _options(options: argparse.Namespace) -> Iterator[str]:
    """The options that change what is measured, without paths of this machine."""
    for name, value in vars(options).items():
        if name in ("output", "work") or value in (None, False):
            continue
        yield f"--{name.replace('_', '-')}"
        if isinstance(value, Path):
            yield "FOLDER" if value.is_dir() else str(value) if not value.is_absolute() else "FILE"
        elif value is not True:
            yield " ".join(value) if isinstance(value, list) else str(value)


def as_text(table: dict[str, Any]) -> str:
    """One table of a record, as printed."""
    return "\n".join([table["title"], "", *aligned([table["header"], *table["rows"]], str.ljust)])


def commit() -> str:
    """The commit that is measured, with a `+` where the tree has changes; empty without git."""
    git = ["git", "-C", str(RESULTS)]
    try:
        number = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return number.stdout.strip() + ("+" if changes.stdout else "")


def machine() -> dict[str, Any]:
    """Processor, memory, system and versions; no name of the host."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES if find_spec(package)},
    }


def _processor() -> str:
    try:
        model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        model = None
    return model[1] if model else platform.processor() or platform.machine()
