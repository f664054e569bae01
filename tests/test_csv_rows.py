"""Rows of CSV files, read back by the readers that users have."""

import csv
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation import result_files
from pipeline.evaluation.dvc_plots import confusion
from pipeline.evaluation.predictions import read_predictions, write_predictions
from pipeline.evaluation.result_files import write_table
from pipeline.images.index import Image, Index
from pipeline.runtime.csv_rows import Records, csv_row, csv_rows
from pipeline.runtime.limits import DEFAULT, VARIABLE, in_environment
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


def test_each_record_may_be_long_and_not_all_together(monkeypatch):
    """The bound of characters is that of one record, with as many lines as it has."""
    limit = in_environment(replace(DEFAULT, table_columns=2, field_characters=100))
    monkeypatch.setenv(VARIABLE, limit[VARIABLE])
    records = [["x" * 100, "a\nb"]] * 50
    assert [*Records(io.StringIO("".join(csv_rows(records)), newline=""), strict=True)] == records
    with pytest.raises(csv.Error, match="a record has more than 228 characters"):
        next(iter(Records(io.StringIO(("x" * 90 + ",") * 3, newline=""), strict=True)))
    told = "a field has more than 100 characters; if the file is sound, raise limits.field_characters .* now 100"
    with pytest.raises(csv.Error, match=told):
        next(iter(Records(io.StringIO("x" * 101, newline=""), strict=True)))


@pytest.mark.parametrize("odd", ["a\rb", "a\r\nb", "a\r"])
def test_a_pack_survives_odd_names(tmp_path, odd):
    index = Index([Image(f"{odd}.png", "", odd, "train", "", "1" * 64), Image("c.png", "", "c", "test", "", "2" * 64)])
    write_pack_index(tmp_path / "index.csv", index)
    assert read_pack_index(tmp_path / "index.csv", index.class_names).images == index.images


@pytest.mark.parametrize("odd", ["a\rb", "a\r\nb", "a\r", 'a,"b"\n'])
def test_predictions_and_plots_survive_odd_names(tmp_path, odd):
    names, labels, logits = [odd, "c"], np.array([0, 1]), np.array([[2.0, 0.0], [3.0, 0.0]])
    write_predictions(tmp_path / "said", [f"{odd}.png", "c.png"], labels, names, {"teacher": logits})
    said = read_predictions(tmp_path / "said", "teacher")
    assert said[["id", "actual", "predicted"]].to_numpy().tolist() == [[f"{odd}.png", odd, odd], ["c.png", "c", odd]]
    header = next(csv.reader(io.StringIO((tmp_path / "said/teacher.csv").read_bytes().decode(), newline="")))
    assert header[-2:] == [f"probability_{odd}", "probability_c"]
    table = confusion(logits, labels, names)
    write_table(table, tmp_path / "confusion.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "confusion.csv"), table)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_table_in_parts_is_the_table(tmp_path, monkeypatch, count):
    table = pd.DataFrame({"name": list('ab,"d')[:count], "value": [0.1, 1e-9, np.nan, 2.0, 3.25][:count]})
    write_table(table, tmp_path / "whole.csv")
    monkeypatch.setattr(result_files, "ROWS_AT_ONCE", 2)
    write_table(table, tmp_path / "parts.csv")
    lines = ["name,value", "a,0.1", "b,1e-09", '",",', '"""",2', "d,3.25"][: count + 1]
    assert (tmp_path / "parts.csv").read_text() == (tmp_path / "whole.csv").read_text() == "\n".join([*lines, ""])


def test_a_table_has_six_digits_and_empty_cells(tmp_path):
    table = pd.DataFrame({"name": ["a", "b"], "value": [1 / 3, np.nan], "count": [10, 2000000]})
    write_table(table, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_bytes() == b"name,value,count\na,0.333333,10\nb,,2000000\n"
