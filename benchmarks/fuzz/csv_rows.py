"""Tables that the program itself writes and reads again. The smallest target: an example for others."""

from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

from benchmarks.fuzz.target import Target
from pipeline.runtime.csv_rows import csv_rows, read_rows

COLUMNS = ("id", "class name")


def seeds() -> list[bytes]:
    """A plain table, and one whose fields need quotes."""
    rows = ([COLUMNS, ("1", "benign")], [COLUMNS, ("a,b", 'say "x"'), ("two\nlines", "ä\r")])
    return ["".join(csv_rows(table)).encode() for table in rows]


def run(path: Path) -> None:
    """Reads all rows."""
    for _ in read_rows(path, COLUMNS, "Write it again."):
        pass


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """A seed's rows, and below them others of any length and any characters."""
    rows = st.lists(st.lists(st.text(max_size=30), max_size=4), max_size=4)
    below = rows.map(lambda rows: "".join(csv_rows(rows)).encode(errors="replace"))
    return st.builds(bytes.__add__, st.sampled_from(seeds), below)


TARGETS = {"csv_rows": Target(seeds=seeds, run=run, inputs=inputs, file="rows.csv", words=(b'"', b",", b"\r\n", b"\0"))}
