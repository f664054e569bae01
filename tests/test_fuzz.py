"""`benchmarks.fuzz`: what it takes for a failure, and that it goes on after one."""

import json
import os
import signal
import time

import pytest
from hypothesis import strategies as st

from benchmarks.fuzz import outcomes, ways
from benchmarks.fuzz.__main__ import row
from benchmarks.fuzz.byte_changes import changed
from benchmarks.fuzz.outcomes import outcome
from benchmarks.fuzz.session import ACCEPTED, BEGUN, FAILED, KIBIBYTES, REFUSED, Limits, Session
from benchmarks.fuzz.structure import DEEP, _changed, changed_json
from benchmarks.fuzz.target import Target
from benchmarks.fuzz.ways import by_bytes, by_structure
from pipeline.runtime.errors import DamagedError

MIB = 2**20


def does(path):
    """What each content does to a reader that it attacks."""
    content = path.read_bytes()
    if content == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif content == b"hang":
        while True:
            pass
    elif content == b"memory":
        list(range(4 * MIB))
    elif content == b"traceback":
        json.loads("{")
    elif content == b"long":
        raise DamagedError("x" * 2001)
    elif content == b"escape":
        raise DamagedError("\x1b[2J is no name")
    elif content != b"good":
        raise DamagedError("It is no good.")


ATTACKED = Target(seeds=lambda: [b"good"], run=does, memory=64 * MIB)


@pytest.mark.parametrize(
    ("content", "kind", "where"),
    [
        (b"good", "accepted", ""),
        (b"bad", "refused", ""),
        (b"traceback", "failed", "JSONDecodeError"),
        (b"long", "failed", "long message"),
        (b"escape", "failed", "control characters"),
    ],
)
def test_outcomes_are_told_apart(content, kind, where, tmp_path, monkeypatch):
    """Of a command line that shows messages as they are."""
    monkeypatch.setattr(outcomes, "as_message", str)
    found = outcome(ATTACKED, content, tmp_path)
    assert (found.kind, found.where.startswith(where)) == (kind, True)


@pytest.mark.parametrize("content", [b"long", b"escape"])
def test_the_command_line_bounds_and_cleans_messages(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert outcome(ATTACKED, content, tmp_path).kind == "refused"


@pytest.mark.slow
@pytest.mark.unmeasured
def test_a_crash_a_hang_and_too_much_memory_are_failures(tmp_path):
    """Each ends one input, and the inputs behind it are run."""
    contents = [b"crash", b"bad", b"hang", b"memory", b"traceback", b"traceback", b"good"]

    def planned(target, seeds, give, first, count):
        for content in contents[first : first + count]:
            give(content)

    (work := tmp_path / "work").mkdir()
    session = Session("attacked", ATTACKED, tmp_path / "failures", work)
    session.run(planned, Limits(len(contents), longest=1.0))
    assert [session.counts[place] for place in (BEGUN, ACCEPTED, REFUSED, FAILED)] == [7, 1, 1, 5]
    assert session.counts[KIBIBYTES] > 64 * 1024
    texts = {path.with_suffix("").read_bytes(): path.read_text() for path in (tmp_path / "failures").glob("*.txt")}
    assert set(texts) == {b"crash", b"hang", b"memory", b"traceback"}
    assert "ended with -11" in texts[b"crash"]
    assert "no end after" in texts[b"hang"]
    for content, text in texts.items():
        (kept,) = [path for path in (tmp_path / "failures").glob("*[!t]") if path.read_bytes() == content]
        assert text.startswith(f"python -m benchmarks.fuzz attacked --repeat {kept}\n")


@pytest.mark.slow
@pytest.mark.unmeasured
def test_a_seed_that_is_not_accepted_ends_the_session(tmp_path):
    session = Session("attacked", Target(seeds=lambda: [b"bad"], run=does), tmp_path, tmp_path)
    with pytest.raises(RuntimeError, match="a seed of attacked is refused: It is no good"):
        session.run(by_bytes, Limits(10))


@pytest.mark.slow
@pytest.mark.unmeasured
def test_time_that_is_over_ends_the_session(tmp_path):
    target = Target(seeds=lambda: [b"good"], run=lambda path: time.sleep(0.01))
    session = Session("slow", target, tmp_path, tmp_path)
    session.run(by_bytes, Limits(10**9, seconds=1.0))
    assert 0 < session.counts[BEGUN] < 10**6


def test_changes_by_bytes_are_many_and_can_be_repeated():
    seeds = [bytes(range(100)), b"abc"]
    made = [changed(seeds, [b"word"], number) for number in range(500)]
    assert made == [changed(seeds, [b"word"], number) for number in range(500)]
    assert len(set(made)) > 450
    assert sum(b"word" in content for content in made) > 50
    assert {len(content) for content in made} >= {98, 99, 100, 101}


def test_no_seed_is_too_short_to_be_changed():
    assert len({changed([b""], [], number) for number in range(200)}) > 50


def test_structure_is_changed_where_it_is_said():
    document = {"a": [1, 2], "b": {"c": 3}}
    # The places in order: a, a[0], a[1], b, b.c
    said = {
        ("replace", 1): {"a": ["x", 2], "b": {"c": 3}},
        ("remove", 3): {"a": [1, 2]},
        ("repeat", 2): {"a": [1, 2, 2], "b": {"c": 3}},
        ("repeat", 4): {"a": [1, 2], "b": {"c": 3, "c ": 3}},
        ("swap", 0): {"a": 3, "b": {"c": 3}},
    }
    for (how, place), expected in said.items():
        assert json.loads(_changed(document, [(place + 1, how, "x", 5)])) == expected


def test_a_deep_value_is_written_though_json_cannot():
    assert _changed([0], [(1, "replace", DEEP, 0)]) == b"[" * 2001 + b"]" * 2001


def test_each_way_gives_as_many_inputs_as_wanted(monkeypatch):
    monkeypatch.setattr(ways, "BATCH", 20)
    target = Target(seeds=list, run=does, inputs=lambda seeds: changed_json([{"a": [1, {"b": "c"}]}]) | st.binary())
    for way in (by_bytes, by_structure):
        given = []
        way(target, [b"seed"], given.append, 0, 50)
        assert len(given) == 50
        assert len(set(given)) > 20


def test_a_row_adds_up_the_parts_of_several_runs():
    counts = {"accepted": 1, "refused": 2, "failed": 0, "seconds": 3}
    first = {**counts, "commit": "abc", "inputs": 600, "longest_seconds": 0.5, "largest_mib": 7}
    second = {**counts, "commit": "def", "inputs": 900, "longest_seconds": 0.25, "largest_mib": 9}
    assert row("npz bytes", [first, second, first]) == [
        *("npz", "bytes", "2,100", "3", "6", "0", "9", "0.50", "9", "abc def"),
    ]  # fmt: skip
