"""Columns of results: each kind holds what it says, and nothing else."""

import numpy as np
import pytest

from pipeline.evaluation.result_files import checked_table


def read(folder, kind, value):
    path = folder / "table.csv"
    path.write_text(f"id,value\na,1\nb,{value}\n", encoding="utf-8")
    return checked_table(path, {"value": kind}, {}, "Make it again.")["value"].to_numpy()


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("text", "-x", "-x"),
        ("whole", "0", 0),
        ("whole", "3.0", 3),
        ("whole", "9007199254740991", 2**53 - 1),
        ("share", "0", 0.0),
        ("share", "1", 1.0),
        ("number", "-2.5", -2.5),
        ("number", "", np.nan),
    ],
)
def test_what_a_kind_holds_is_read(tmp_path, kind, value, expected):
    np.testing.assert_equal(read(tmp_path, kind, value)[1], expected)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("whole", "-1", "whole numbers from 0"),
        ("whole", "1.5", "whole numbers from 0"),
        ("whole", "", "whole numbers from 0"),
        ("whole", "9007199254740992", "whole numbers from 0"),
        ("share", "1.001", "numbers from 0 to 1"),
        ("share", "-0.001", "numbers from 0 to 1"),
        ("share", "nan", "numbers from 0 to 1"),
        ("number", "1e301", "a number beyond"),
        ("number", "many", "other things than numbers"),
    ],
)
def test_what_a_kind_does_not_hold_is_refused(tmp_path, kind, value, expected):
    with pytest.raises(ValueError, match=f"the column value holds .*{expected}"):
        read(tmp_path, kind, value)
