"""How many trainings fit beside each other: worked by hand."""

from types import SimpleNamespace

import psutil
import pytest

from pipeline.cli import room
from pipeline.cli.room import FirstEpochs, Span, that_fit
from pipeline.runtime import cores

GIB = 2**30


@pytest.mark.parametrize(
    ("whole", "memory", "available", "cores", "expected"),
    [
        (Span(10, 12, 8), GIB, 20 * GIB, 2, 2),  # 1.2 cores are used and 0.8 idle: room for 0.67 more, so for one
        (Span(10, 15.5, 4.5), GIB, 20 * GIB, 2, 2),  # room for 0.29
        (Span(10, 16.5, 3.5), GIB, 20 * GIB, 2, 1),  # room for 0.21
        (Span(10, 19, 1), GIB, 20 * GIB, 2, 1),  # room for 0.05
        (Span(10, 12, 1), GIB, 20 * GIB, 2, 1),  # somebody else uses the rest
        (Span(10, 40, 120), GIB, 20 * GIB, 16, 4),  # 4 cores are used, 12 idle
        (Span(10, 12, 500), GIB, 20 * GIB, 2, 2),  # the machine has more cores than its container may use
        (Span(10, 10, 150), 5 * GIB, 20 * GIB, 16, 4),  # in 80 % of the available memory fit 3.2 others
        (Span(10, 12, 8), GIB, GIB // 2, 2, 1),
    ],
)
def test_cores_and_memory_decide(whole, memory, available, cores, expected):
    assert that_fit(whole, memory, available, cores) == expected


@pytest.fixture
def machine(monkeypatch):
    """A machine of 4 cores; what its clocks show is set by the test."""
    shown = {"now": Span(100.0, 7.0, 1000.0)}
    monkeypatch.setattr(room, "now", lambda: shown["now"])
    monkeypatch.setattr(room, "usable_cores", lambda: 4)
    monkeypatch.setattr(room, "available_memory", lambda: 1000 * GIB)

    def passes(seconds, own, idle):
        before = shown["now"]
        shown["now"] = Span(before.seconds + seconds, before.own + own, before.idle + idle)

    return passes


def test_the_epochs_to_come_count_more_than_the_start(machine):
    """Ten seconds at one core, then 99 epochs of a second at 3.5: of 4 cores, 3.3 are used and 0.7 idle: none fits."""
    measured = FirstEpochs()
    machine(10, 10, 30)
    assert measured.after_epoch(99) is None  # the first epoch traces too
    machine(1, 3.5, 0.5)
    assert measured.after_epoch(98) == 1
    few = FirstEpochs()
    machine(10, 10, 30)
    few.after_epoch(2)
    machine(1, 3, 1)
    assert few.after_epoch(1) == 1 + round(32 / 16)  # in 12 seconds: 16 of own, 32 idle


def test_epochs_too_short_for_the_clocks_are_measured_together(machine):
    measured = FirstEpochs()
    machine(5, 5, 15)
    assert measured.after_epoch(40) is None
    for to_come in (39, 38):
        machine(0.14, 0.14, 0.42)
        assert measured.after_epoch(to_come) is None
    machine(0.14, 0.14, 0.42)
    assert measured.after_epoch(37) == 4


def test_the_only_epoch_decides_alone(machine):
    measured = FirstEpochs()
    machine(5, 10, 10)
    assert measured.after_epoch(0) == 2


@pytest.mark.parametrize(("written", "expected"), [("150000 100000\n", 1.5), ("max 100000\n", None), ("", None)])
def test_the_limit_of_a_container_counts(tmp_path, monkeypatch, written, expected):
    monkeypatch.setattr(cores, "CGROUP", tmp_path)
    without = cores.usable_cores()
    (tmp_path / "cpu.max").write_text(written)
    assert cores.usable_cores() == min(without, expected or without)


def test_the_limits_of_a_job_and_of_what_is_above_it_count(tmp_path, monkeypatch):
    """As SLURM and systemd set them: in the folder of the process, which /proc/self/cgroup names."""
    job = tmp_path / "cgroup/node/job_7"
    job.mkdir(parents=True)
    monkeypatch.setattr(cores, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "OWN_CGROUP", tmp_path / "own")
    (tmp_path / "own").write_text("1:cpu:/elsewhere\n0::/node/job_7\n")
    for folder, name, content in [
        (job, "cpu.max", "50000 100000"),
        (job.parent, "memory.max", "1000"),
        (job.parent, "memory.current", "400"),
    ]:
        (folder / name).write_text(content)
    assert (cores.usable_cores(), room.available_memory()) == (0.5, 600)


def test_the_memory_of_a_container_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "CGROUP", tmp_path)
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert room.available_memory() == 300
    (tmp_path / "memory.max").write_text("max\n")
    assert room.available_memory() > 10**6


def test_a_process_that_this_one_started_leaves_cores_idle(monkeypatch):
    class Process:
        def __init__(self, user=5.0, system=2.0, children=()):
            self._times, self._children = SimpleNamespace(user=user, system=system), children

        def cpu_times(self):
            return self._times

        def children(self):
            return self._children

    class Ended(Process):
        def cpu_times(self):
            raise psutil.NoSuchProcess(1)

    children = [Process(0.5, 0.25), Ended(), Process(1, 0)]
    monkeypatch.setattr(psutil, "Process", lambda: Process(children=children))
    monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(idle=100.0))
    span = room.now()
    assert (span.own, span.idle) == (7.0, 101.75)
