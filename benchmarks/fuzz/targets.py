"""Every kind of file that is fuzzed, by its name; `tests/corpus/` has a folder of the same name."""

from benchmarks.fuzz import csv_rows
from benchmarks.fuzz.target import Target

TARGETS: dict[str, Target] = {
    **csv_rows.TARGETS,
}
