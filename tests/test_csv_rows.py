"""Rows of CSV files, read back by the readers that users have."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.images.index import Image, Index
from pipeline.runtime.csv_rows import csv_row
from pipeline.tools.pack_files import read_pack_index, write_pack_index

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(st.lists(CELLS, min_size=2))
def test_every_text_survives(cells):
    assert [*csv.reader(io.StringIO(csv_row(cells), newline=""))] == [cells]


@given(st.lists(CELLS.map(lambda text: text.replace("\r", "")) | st.floats() | st.integers(), min_size=1))
def test_without_carriage_returns_it_is_what_python_writes(cells):
    expected = io.StringIO(newline="")
    csv.writer(expected, lineterminator="\n").writerow(cells)
    assert csv_row(cells) == expected.getvalue()


def test_a_carriage_return_stands_in_quotes():
    text = csv_row(["a\rb", "c"])
    assert text == '"a\rb",c\n'
    assert pd.read_csv(io.StringIO(text, newline=""), header=None).to_numpy().tolist() == [["a\rb", "c"]]


@pytest.mark.parametrize("odd", ["a\rb", "a\r\nb", "a\r"])
def test_a_pack_survives_odd_names(tmp_path, odd):
    index = Index([Image(f"{odd}.png", "", odd, "train", "", "1" * 64), Image("c.png", "", "c", "test", "", "2" * 64)])
    write_pack_index(tmp_path / "index.csv", index)
    assert read_pack_index(tmp_path / "index.csv", index.class_names).images == index.images
