"""The texts of other libraries in a message: one line, cut."""

import pytest

from pipeline.errors import one_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\n  second\t\x1b[1mthird\x00"), "first second [1mthird"),
        (ValueError("é" * 200), "é" * 200),
        (ValueError("word " * 200), "word " * 39 + "..."),
        (MemoryError(), "MemoryError"),
        ("a text", "a text"),
    ],
)
def test_the_text_of_an_error_becomes_one_line_of_at_most_200_characters(error, line):
    assert one_line(error) == line
    assert len(line) <= 200


def test_the_limit_may_be_another_one():
    assert one_line("0123456789", limit=9) == "01234 ..."
