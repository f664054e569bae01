"""Lists of names in messages: a few are shown, all are in a file. The texts of other libraries: one line, cut."""

from pathlib import Path

import pytest

from pipeline.runtime.errors import all_named, first_few, one_line


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def test_up_to_five_names_are_shown_and_no_file_is_written():
    assert all_named(list("abcde")) == first_few(list("abcde")) == "a, b, c, d, e"
    assert all_named([]) == ""
    assert not Path(".work").exists()


def test_of_more_names_all_are_in_a_file():
    names = ["a b.png", "ä.png", "\udcff.png", *map(str, range(100))]
    assert all_named(names) == "a b.png, ä.png, \udcff.png, 0, 1 and 98 more (all in .work/names.txt)"
    assert Path(".work/names.txt").read_text(encoding="utf-8").splitlines() == [
        "a b.png", "ä.png", "\\udcff.png", *map(str, range(100)),
    ]  # fmt: skip
    assert all_named(list("ghijkl")).endswith("and 1 more (all in .work/names.txt)")
    assert Path(".work/names.txt").read_text().split() == list("ghijkl")


def test_an_experiment_leaves_the_file_where_its_copy_is_not_removed(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    assert all_named(list("abcdef"), "others").endswith(f"(all in {tmp_path}/repository/.work/others.txt)")
    assert (tmp_path / "repository/.work/others.txt").read_text() == "a\nb\nc\nd\ne\nf\n"


def test_where_nothing_can_be_written_the_few_are_shown():
    Path(".work").write_text("a file, where the folder should be")
    assert all_named(list("abcdef")) == "a, b, c, d, e and 1 more"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\n  second\t\x1b[1mthird\x00"), "first second [1mthird"),
        (ValueError("é" * 200), "é" * 200),
        (ValueError("word " * 200), "word " * 39 + "w ..."),
        (MemoryError(), "MemoryError"),
        ("a text", "a text"),
    ],
)
def test_the_text_of_an_error_becomes_one_line_of_at_most_200_characters(error, line):
    assert one_line(error) == line
    assert len(line) <= 200


def test_the_limit_may_be_another_one():
    assert one_line("0123456789", limit=9) == "01234 ..."
