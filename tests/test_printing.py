"""What commands print: short, and without characters that move the cursor, hide or turn around what is printed."""

import io
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from real_project import ENVIRONMENT, ROOT

from pipeline.cli.main import main
from pipeline.cli.printing import printing_names_safely
from pipeline.runtime.errors import MissingError, as_message, printable

HOSTILE = {
    "an escape sequence": ("\x1b[2Jx", "\\x1b[2Jx"),
    "one byte for the same": ("\x9b2J", "\\x9b2J"),
    "the title of the window": ("\x1b]0;x\x07", "\\x1b]0;x\\x07"),
    "a backspace": ("ab\b", "ab\\x08"),
    "a carriage return": ("ab\rc", "ab\\rc"),
    "from right to left": ("ab\u202egnp.exe", "ab\\u202egnp.exe"),
    "Arabic letters from here": ("a\u061cb", "a\\u061cb"),
    "left to right": ("a\u200eb\u200f", "a\\u200eb\\u200f"),
    "no character at all": ("\ufeffa", "\\ufeffa"),
    "half a character": ("a\udc80", "a\\udc80"),
    "NUL": ("a\0", "a\\x00"),
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_characters_that_do_harm_are_escaped(text, shown):
    assert printable(text) == shown
    assert as_message(text) == shown


def test_names_of_all_languages_are_printed_as_they_are():
    names = "Größe 日本語 العربية می‌خواهم हिन्दी 👩‍⚕️ naïve\ttab\nline"
    assert printable(names) == names


@given(st.text())
def test_a_message_is_short_and_can_be_written(text):
    shown = as_message(text * 50)
    assert len(shown) <= 2000
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    shown.encode()


def test_of_a_long_message_start_and_end_are_shown():
    whole = "".join(f"problem {number}\n" for number in range(10_000)) + "Do this."
    shown = as_message(whole)
    assert 1900 <= len(shown) <= 2000
    assert shown.startswith("problem 0\nproblem 1\n")
    assert shown.endswith("Do this. (all in .work/message.txt)")
    assert Path(".work/message.txt").read_text() == whole + "\n"


def test_a_long_message_is_shown_where_no_file_can_be_written():
    Path(".work").write_text("a file")
    assert as_message("x" * 5000 + "Do this.").endswith("xDo this.")


@pytest.fixture
def failing(monkeypatch):
    def fails(error):
        def command():
            raise error

        monkeypatch.setitem(main.commands, "fails", click.Command("fails", callback=command))
        return CliRunner().invoke(main, ["fails"])

    return fails


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MissingError("no \x1b[31mfile"), "Error: no \\x1b[31mfile\n"),
        (PermissionError(13, "Permission denied", "a\x1bb"), "the system refused"),
        (type("ResourceExhaustedError", (Exception,), {})("OOM when allocating"), "too little memory: OOM when"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "too little memory: RESOURCE_EXHAUSTED"),
        (MemoryError("Unable to allocate 14.6 TiB"), "too little memory: Unable to allocate 14.6 TiB"),
    ],
)
def test_every_error_that_is_shown_is_printable(failing, error, expected):
    result = failing(error)
    assert result.exit_code == 1
    assert expected in result.output
    assert "\x1b" not in result.output


def test_a_long_error_is_shown_in_part(failing):
    assert len(failing(MissingError("x" * 70_000)).output) <= 2010


@pytest.mark.parametrize("words", [["train-student", "--seed", "9" * 70_000], ["\x1b" * 9000], ["table", "x" * 70_000]])
def test_a_long_word_of_a_command_is_shown_in_part(words):
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert len(result.output) <= 2300
    assert "\x1b" not in result.output


def test_what_is_printed_within_the_block_is_printable(monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with printing_names_safely():
        print("wrote a\x1b[2J")
        click.echo("class \u202egnp")
        print("\rbar 1/2\x07", end="", file=sys.stderr)
    print("\x1b[2J")
    assert out.getvalue() == "wrote a\\x1b[2J\nclass \\u202egnp\n\x1b[2J\n"
    assert err.getvalue() == "\rbar 1/2\\x07"


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--help", "--version", "params", "params --help"])
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_with_closed_streams_a_command_does_its_work(words, closed):
    done = in_a_shell(f"{words} {closed}")
    assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (0, False)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", ["--help", "--version", "params", "params --help"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_cannot_be_printed_ends_in_one_message(words, unbuffered):
    done = in_a_shell(f"{words} > /dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr.removeprefix("params: starting\n") == (
        "Error: the system refused: [Errno 28] No space left on device. Make room there, then run again.\n"
    )


@pytest.mark.slow
def test_a_reader_that_wants_no_more_is_told_nothing():
    assert in_a_shell("--help | true").stderr == ""


def in_a_shell(words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What `softlabel` does with some words of a shell, in a folder with params.yaml."""
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return subprocess.run(
        ["sh", "-c", f'"$0" -m pipeline {words}', sys.executable],
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
