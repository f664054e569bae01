"""Progress in a log and on a terminal, with a clock that the test moves."""

import io
import sys
from types import SimpleNamespace

import pytest

from pipeline.runtime import progress
from pipeline.runtime.progress import LOG_EVERY_SECONDS, Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock at 1000 seconds; `clock.now` moves it."""
    moved = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: moved.now))
    return moved


def test_a_log_gets_a_line_with_the_rate_now_and_then(clock, capsys):
    with Progress("split", 500, "images") as counting:
        for _ in range(8):  # 20 images every five seconds: lines after 15 and 30 seconds
            clock.now += 5
            counting.advance(20)
    output = capsys.readouterr()
    assert output.err.splitlines() == [
        "split: 60/500 images, 4 images/s",
        "split: 120/500 images, 4 images/s",
        "split: done: 160/500 images, 4 images/s",
    ]
    assert output.out == ""


def test_the_rate_is_over_the_whole_time(clock, capsys):
    with Progress("precompute", 6000, "images") as counting:
        clock.now += 20
        counting.advance(1000)
        clock.now += 80
        counting.advance(5000)
    assert capsys.readouterr().err.splitlines() == [
        "precompute: 1000/6000 images, 50 images/s",
        "precompute: 6000/6000 images, 60 images/s",
        "precompute: done: 6000/6000 images, 60 images/s",
    ]


def test_many_small_steps_make_few_lines(clock, capsys):
    with Progress("split", 10_000, "images") as counting:
        for _ in range(10_000):
            clock.now += 0.0125  # 80 images a second for 125 seconds
            counting.advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 125 // LOG_EVERY_SECONDS + 1
    assert all(line.endswith(", 80 images/s") for line in lines)
    assert lines[0] == "split: 1200/10000 images, 80 images/s"


@pytest.mark.parametrize(("waited", "lines"), [(LOG_EVERY_SECONDS - 0.01, 0), (LOG_EVERY_SECONDS, 1)])
def test_the_first_line_comes_after_the_stated_time(clock, capsys, waited, lines):
    counting = Progress("split", 10, "images")
    clock.now += waited
    counting.advance(1)
    counting.advance(1)
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_short_work_gets_its_final_line_only(clock, capsys):
    with Progress("split", 10, "images") as counting:
        clock.now += 0.5
        counting.advance(10)
    assert capsys.readouterr().err == "split: done: 10/10 images, 20 images/s\n"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_work_that_fails_is_not_called_done(clock, capsys, error):
    def fail() -> None:
        with Progress("split", 1000, "images") as counting:
            clock.now += 30
            counting.advance(300)
            raise error

    with pytest.raises(error):
        fail()
    assert capsys.readouterr().err == "split: 300/1000 images, 10 images/s\n"


def test_no_time_at_all_is_no_division_by_zero(clock, capsys):
    with Progress("split", 0, "images"):
        pass
    assert capsys.readouterr().err.startswith("split: done: 0/0 images, 0")


def test_slow_work_has_a_rate_above_zero(clock, capsys):
    with Progress("train", 8, "epochs") as counting:
        clock.now += 32
        counting.advance(8)
    assert " 0.25 epochs/s" in capsys.readouterr().err


@pytest.mark.parametrize("fails", [False, True])
def test_a_terminal_gets_a_bar_and_one_final_line(monkeypatch, fails):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.0)
    counting = Progress("split", 4, "images")
    try:
        with counting:
            counting.advance(4)
            if fails:
                raise ValueError
    except ValueError:
        assert fails
    written = terminal.getvalue()
    assert "split:   0%" in written
    assert "split: 4/4" not in written  # no plain line beside the bar
    assert ("split: done: 4/4 images, " in written) != fails


def test_what_may_be_short_is_silent_unless_a_line_was_printed(clock, capsys):
    with Progress("digest", 10, "MiB", short_is_silent=True) as counting:
        clock.now += LOG_EVERY_SECONDS - 0.01
        counting.advance(10)
    assert capsys.readouterr().err == ""
    with Progress("digest", 10, "MiB", short_is_silent=True) as counting:
        clock.now += LOG_EVERY_SECONDS
        counting.advance(5)
        counting.advance(5)
    assert capsys.readouterr().err.splitlines() == [
        "digest: 5/10 MiB, 0.33 MiB/s",
        "digest: done: 10/10 MiB, 0.67 MiB/s",
    ]


def test_what_may_be_short_draws_its_bar_after_a_second(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("digest", 10, "MiB", short_is_silent=True) as counting:
        counting.advance(10)
    assert "digest" not in terminal.getvalue()


def test_units_are_counted_as_they_pass(clock, capsys):
    with Progress("predict", 4, "images") as counting:
        passing = counting.counted("abcd")
        assert [next(passing), counting.done, next(passing), counting.done] == ["a", 0, "b", 1]
        assert [*passing] == ["c", "d"]
    assert counting.done == 4


def test_a_line_stands_above_the_bar(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("predict", 4, "images") as counting:
        counting.tell("skipped a.png")
    before, _, after = terminal.getvalue().partition("skipped a.png\n")
    assert before.endswith("\r")
    assert "predict:" in after


def test_a_line_in_a_log_is_a_line(capsys):
    with Progress("predict", 4, "images", short_is_silent=True) as counting:
        counting.tell("skipped a.png")
    assert capsys.readouterr().err == "skipped a.png\n"
