"""Stage `measure_exports`: what is measured, in which turns, and in which processes."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from exported_files import METADATA, student, write_litert
from shipped import EXPORT, export, write_shipped

from pipeline.evaluation.exports import ExportSpeed, read_export_speed
from pipeline.exports import saved_model
from pipeline.exports.graph import Graph
from pipeline.runtime.errors import DamagedError, MissingError, UnusableError
from pipeline.stages import measure_exports
from pipeline.timing import process, rounds
from pipeline.timing.subjects import Subject

KERAS = {"sha256": "ab" * 32, "cost": {}, "architecture": {"class_name": "Functional"}, "classes": 3}


class FakeProcess:
    """Answers a round with 1 to 20 ms for one image, and with eight times as much for a batch, all threads half."""

    def __init__(self, asked, path, started_with):
        self.asked, self.path, self.started_with = asked, path, started_with

    def ready(self, name):
        return {"digest": None if name == "teacher" else "ab", "peak_memory_mb": 50.0 * self.started_with}

    def round(self, name, threads, images):
        self.asked.append((name, self.started_with, threads, images))
        return [0.001 * number * (8 if images > 1 else 1) / threads for number in range(1, 21)]


@pytest.fixture
def asked(monkeypatch):
    """Every round that is asked for: the model, the threads its process was started with, the threads, the images."""
    asked = []

    @contextmanager
    def fake(subject, batch_size, threads):
        yield FakeProcess(asked, subject.path, threads)

    monkeypatch.setattr(rounds, "_process", fake)
    return asked


def test_medians_and_percentiles_by_hand(asked):
    """Of 1 to 20 ms the median is 10.5, and the 95th percentile 0.95 of the way from the first to the last: 19.05."""
    times = rounds.times_of({"best/a.onnx": Subject(Path("a.onnx"))}, batch_size=32, threads=2)
    assert times == {
        "best/a.onnx": {
            "one_thread": {"median_ms": pytest.approx(10.5), "p95_ms": pytest.approx(19.05)},
            "all_threads": {"median_ms": pytest.approx(5.25), "p95_ms": pytest.approx(9.525)},
            "batch_images_per_second": pytest.approx(32 / (0.0105 * 8 / 2)),
            "digest": "ab",
            "peak_memory_mb": 50.0,
        }
    }


def test_models_take_turns_within_each_round(asked):
    """So a machine that becomes slower does so for all of them."""
    subjects = {"a": Subject(Path("a.tflite")), "teacher": Subject(Path("teacher.json"))}
    rounds.times_of(subjects, batch_size=32, threads=2)
    names = [name for name, *_ in asked]
    assert names == (["a"] * 3 + ["teacher"] * 3) * rounds.ROUNDS
    assert [rest for name, *rest in asked if name == "a"][:3] == [[1, 1, 1], [1, 2, 1], [1, 2, 32]]


def test_tensorflow_has_a_process_for_each_number_of_threads(asked):
    """Which can be set but once; the memory is that of the process with one thread."""
    times = rounds.times_of({"teacher": Subject(Path("teacher.json"))}, batch_size=32, threads=4)
    assert asked[:3] == [("teacher", 1, 1, 1), ("teacher", 4, 4, 1), ("teacher", 4, 4, 32)]
    assert times["teacher"]["peak_memory_mb"] == 50.0
    assert "digest" not in times["teacher"]


def test_one_core_is_measured_once(asked):
    rounds.times_of({"teacher": Subject(Path("teacher.json"))}, batch_size=32, threads=1)
    assert asked[:3] == [("teacher", 1, 1, 1), ("teacher", 1, 1, 32), ("teacher", 1, 1, 1)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.tflite", False), ("a.onnx", False), ("saved_model", True), ("teacher.json", True)],
)
def test_only_tensorflow_needs_tensorflow(name, expected):
    assert Subject(Path(name)).needs_tensorflow == expected


def measure(folder, exported, architecture=KERAS["architecture"]):
    teacher = folder / "teacher.json"
    teacher.write_text(json.dumps(KERAS | {"architecture": architecture}))
    measure_exports.run(
        exported=exported,
        exports=folder / "results/exports",
        files=folder / "models/exports",
        teacher=teacher,
        output=folder / "speed.json",
    )
    return read_export_speed(folder / "speed.json")


def test_every_file_of_every_export_is_measured(tmp_path, asked):
    few = {"student.onnx": EXPORT["files"]["student.onnx"]}
    write_shipped(tmp_path, best=EXPORT, baseline_seed1=export(student="baseline_seed1", files=few), gone=EXPORT)
    speed = measure(tmp_path, ["best", "baseline_seed1"])
    assert list(speed.models) == [
        *(f"best/{name}" for name in EXPORT["files"]),
        "baseline_seed1/student.onnx",
        "teacher",
    ]
    assert (speed.batch_size, speed.cores >= 1, len(speed.date)) == (32, True, 10)


def test_a_teacher_that_is_no_keras_network_is_left_out(tmp_path, asked):
    write_shipped(tmp_path, best=EXPORT)
    assert "teacher" not in measure(tmp_path, ["best"], architecture=None).models


def test_without_exports_nothing_is_measured(tmp_path, asked, capsys):
    """`export.students: []` makes the stage's file none the less, so that what reads it runs."""
    assert measure(tmp_path, []) == ExportSpeed()
    assert asked == []
    assert "exports no student" in capsys.readouterr().out


def test_numbers_that_are_missing_or_damaged_are_refused(tmp_path, asked):
    with pytest.raises(MissingError, match=r"best\.json.*dvc repro"):
        measure(tmp_path, ["best"])
    write_shipped(tmp_path, best=EXPORT)
    (tmp_path / "results/exports/best.json").write_text("{")
    with pytest.raises(DamagedError, match=r"best\.json is damaged"):
        measure(tmp_path, ["best"])
    assert not (tmp_path / "speed.json").exists()


@pytest.fixture
def started(monkeypatch):
    """The processes that are started."""
    started, popen = [], subprocess.Popen

    def remember(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(rounds.subprocess, "Popen", remember)
    return started


@pytest.mark.slow
def test_files_are_run_in_processes_of_their_own(tmp_path, monkeypatch, started):
    """This process holds TensorFlow, which a process of LiteRT does not count as its own memory."""
    monkeypatch.chdir(tmp_path)
    file = write_litert(Path("a.tflite"))
    times = rounds.times_of({"a": Subject(file)}, batch_size=8, threads=2)["a"]
    for threads in ("one_thread", "all_threads"):
        assert 0 < times[threads]["median_ms"] <= times[threads]["p95_ms"]
    assert times["batch_images_per_second"] > 0
    assert times["digest"] != METADATA.digest
    assert 10 < times["peak_memory_mb"] < process.peak_bytes() / 1e6
    assert [one.poll() is not None for one in started] == [True]


@pytest.mark.slow
def test_a_file_that_cannot_be_run_ends_all_processes(tmp_path, started):
    good, bad = write_litert(tmp_path / "good.tflite"), tmp_path / "bad.tflite"
    content = bytearray(good.read_bytes())
    content[-1] ^= 1
    bad.write_bytes(content)
    with pytest.raises(UnusableError, match=r"best/bad\.tflite cannot be timed: .*dvc repro export"):
        rounds.times_of({"best/good.tflite": Subject(good), "best/bad.tflite": Subject(bad)}, batch_size=8, threads=2)
    assert [one.poll() is not None for one in started] == [True, True]


@pytest.mark.slow
def test_a_process_that_dies_is_told_with_its_last_words(tmp_path, monkeypatch):
    dies = tmp_path / "dies"
    dies.write_text("#!/bin/sh\necho first >&2\necho the last word >&2\nexit 7\n")
    dies.chmod(0o755)
    monkeypatch.setattr(rounds.sys, "executable", str(dies))
    with pytest.raises(UnusableError, match=r"a cannot be timed: .* ended with code 7 \(the last word\)"):
        rounds.times_of({"a": Subject(Path("a.tflite"))}, batch_size=8, threads=2)


def write_saved_model(folder):
    saved_model.float32(Graph(student(), "logits"), METADATA, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("write", "name"), [(write_litert, "a.tflite"), (write_saved_model, "saved_model")])
def test_a_process_ends_with_its_input(tmp_path, write, name):
    """So also if the stage that started it was killed."""
    command = [sys.executable, "-m", process.__name__, str(write(tmp_path / name)), "8", "1"]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True, text=True)
    assert set(json.loads(ended.stdout)) == {"digest", "peak_memory_mb"}


def test_a_real_run_times_the_files_of_now_and_the_teacher(reproduced):
    speed = read_export_speed(reproduced / "results/export_speed.json")
    files = json.loads((reproduced / "results/exports/best.json").read_text())["files"]
    assert set(speed.models) == {*(f"best/{name}" for name in files), "teacher"}
    for name, numbers in files.items():
        assert speed.models[f"best/{name}"]["digest"] == numbers["digest"]
        assert speed.models[f"best/{name}"]["peak_memory_mb"] < speed.models["teacher"]["peak_memory_mb"]


@pytest.mark.slow
def test_the_peak_counts_what_was_held_and_let_go():
    """64 MB are touched and freed; what the starting process held is not counted."""
    program = (
        "from pipeline.timing.process import peak_bytes\nbefore = peak_bytes()\nheld = bytearray(b'x') * 64_000_000\n"
        "del held\nprint(before, peak_bytes())"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    before, after = map(int, said.split())
    assert 60_000_000 < after - before < 80_000_000
    assert before < process.peak_bytes()
