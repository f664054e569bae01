"""Stage `measure_exports`: what is measured, in which turns, and in which processes."""

import io
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from exported_files import METADATA, student, write_litert
from real_project import ROOT
from shipped import EXPORT, export, write_shipped

from pipeline.evaluation.exports import ExportSpeed, read_export_speed
from pipeline.inference import cost
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, UnusableError
from pipeline.stages import measure_exports
from pipeline.timing import process, rounds, subjects
from pipeline.timing.subjects import Subject

TEACHER = {"teacher": Subject(Path("teacher.json"))}
KERAS = {"sha256": "ab" * 32, "cost": {}, "architecture": {"class_name": "Functional"}, "classes": 3}


class FakeProcess:
    """Answers a round with 1 to 20 ms for one image, and with eight times as much for a batch, all threads half."""

    def __init__(self, asked, name, threads):
        self.asked, self.name, self.threads = asked, name, threads
        self.told = {"digest": None if name == "teacher" else "ab", "peak_memory_mb": 50.0 * threads}

    def round(self, images):
        self.asked.append((self.name, self.threads, images))
        return [0.001 * number * (8 if images > 1 else 1) / self.threads for number in range(1, 21)]


@pytest.fixture
def asked(monkeypatch):
    """Every round that is asked for: the model, the threads and the images. No process is started."""
    asked = []

    @contextmanager
    def fake(name, subject, batch_size, threads):
        yield FakeProcess(asked, name, threads)

    monkeypatch.setattr(rounds, "_process", fake)
    return asked


def test_medians_and_percentiles_by_hand(asked):
    """Of 1 to 20 ms the median is 10.5, and the 95th percentile 0.95 of the way from the first to the last: 19.05."""
    times = rounds.times_of([{"best/a.onnx": Subject(Path("a.onnx"))}], {}, batch_size=32, threads=2)
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
    groups = [{"a": Subject(Path("a.tflite")), "b": Subject(Path("b.onnx"))}, {"c": Subject(Path("saved_model"))}]
    times = rounds.times_of(groups, TEACHER, batch_size=32, threads=2)
    with_one = [(name, 1, 1) for name in ("a", "b", "teacher")] * rounds.ROUNDS
    assert asked[: len(with_one)] == with_one
    assert asked[len(with_one) :][:2] == [("c", 1, 1), ("teacher", 1, 1)]
    with_two = [(name, 2, images) for name in ("a", "b", "teacher") for images in (1, 32)] * rounds.ROUNDS
    start = asked.index(("a", 2, 1))
    assert asked[start:][: len(with_two)] == with_two
    assert list(times) == ["a", "b", "teacher", "c"]


def test_memory_is_that_of_the_process_with_one_thread(asked):
    times = rounds.times_of([{"a": Subject(Path("a.tflite"))}], TEACHER, batch_size=32, threads=4)
    assert times["teacher"]["peak_memory_mb"] == times["a"]["peak_memory_mb"] == 50.0
    assert "digest" not in times["teacher"]


def test_one_core_is_measured_once(asked):
    rounds.times_of([{"a": Subject(Path("a.tflite"))}], {}, batch_size=32, threads=1)
    assert asked == [("a", 1, 1), ("a", 1, 32)] * rounds.ROUNDS


def test_two_processes_of_tensorflow_run_at_most(monkeypatch):
    """The teacher's and that of one SavedModel, however many students are exported."""
    running, most = [], []

    @contextmanager
    def fake(name, subject, batch_size, threads):
        running.append(subject)
        most.append((sum(one.needs_tensorflow for one in running), len(running)))
        yield FakeProcess([], name, threads)
        running.remove(subject)

    monkeypatch.setattr(rounds, "_process", fake)
    groups = [
        {f"{item}/{name}": Subject(Path(item, name)) for name in ("a.tflite", "b.onnx", "saved_model")}
        for item in ("best", "student_kl_T4_seed1", "baseline_seed1")
    ]
    assert len(rounds.times_of(groups, TEACHER, batch_size=32, threads=2)) == 10
    assert max(most) == (2, 4)
    assert running == []


# The process


class FakeModel:
    """Counts its calls; the subject, opened and Opened that a process sees are this one."""

    input_shape, digest = (2, 2, 1), "ab"

    def __init__(self):
        self.calls = []

    def opened(self, threads):
        return self

    def run(self, pixels):
        self.calls.append(len(pixels))


def test_the_first_call_of_a_round_is_not_counted():
    """It may allocate memory, or compile."""
    model = FakeModel()
    seconds = process._round(model, 3)
    assert len(seconds) >= process.FEWEST_CALLS
    assert model.calls == [3] * (len(seconds) + 1)


def test_the_peak_of_memory_is_taken_after_a_batch(monkeypatch):
    model, answers = FakeModel(), io.StringIO()
    monkeypatch.setattr(process, "Subject", lambda _: model)
    monkeypatch.setattr(process, "peak_bytes", lambda: 1e6 * sum(model.calls))
    monkeypatch.setattr(process.sys, "stdin", io.StringIO())
    process.serve(Path("a.tflite"), 32, 1, answers)
    assert json.loads(answers.getvalue()) == {"digest": "ab", "peak_memory_mb": 33.0}


def test_tensorflow_computes_with_the_threads_asked_for(monkeypatch):
    asked = {}
    for kind in ("intra", "inter"):
        name = f"set_{kind}_op_parallelism_threads"
        monkeypatch.setattr(tf.config.threading, name, lambda threads, kind=kind: asked.update({kind: threads}))
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: asked.update({kind: devices}))
    subjects._limit_tensorflow(3)
    assert asked == {"intra": 3, "inter": 3, "GPU": []}


def test_a_teacher_without_a_network_of_keras_is_not_timed(tmp_path):
    (tmp_path / "teacher.json").write_text(json.dumps(KERAS | {"architecture": None}))
    with pytest.raises(MissingError, match="tells of no network of Keras' layers, so there is none to time"):
        subjects._of_teacher(tmp_path / "teacher.json")


def test_the_teacher_is_timed_without_its_dropout(tmp_path, monkeypatch):
    network = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Dropout(0.5), keras.layers.Flatten()])
    (tmp_path / "teacher.json").write_text(json.dumps(KERAS))
    monkeypatch.setattr(cost, "untrained", lambda _: network)
    pixels = np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1)
    assert subjects._of_teacher(tmp_path / "teacher.json").run(pixels).tolist() == [[0, 1, 2, 3]]


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
        "teacher",
        "baseline_seed1/student.onnx",
    ]
    assert (speed.batch_size, speed.cores >= 1, len(speed.date)) == (32, True, 10)


def test_all_threads_are_those_that_this_process_may_use(tmp_path, asked, monkeypatch):
    write_shipped(tmp_path, best=EXPORT)
    for usable, cores in ((3.5, 3), (0.5, 1)):
        monkeypatch.setattr("pipeline.runtime.cores.usable_cores", lambda usable=usable: usable)
        assert measure(tmp_path, ["best"]).cores == cores
        assert {threads for _, threads, _ in asked} == {1, cores}
        asked.clear()


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
    times = rounds.times_of([{"a": Subject(file)}], {}, batch_size=8, threads=2)["a"]
    for threads in ("one_thread", "all_threads"):
        assert 0 < times[threads]["median_ms"] <= times[threads]["p95_ms"]
    assert times["batch_images_per_second"] > 0
    assert times["digest"] != METADATA.digest
    assert 10 < times["peak_memory_mb"] < process.peak_bytes() / 1e6
    assert [one.poll() for one in started] == [0, 0]


@pytest.mark.slow
def test_a_file_that_cannot_be_run_ends_all_processes(tmp_path, started):
    good, bad = write_litert(tmp_path / "good.tflite"), tmp_path / "bad.tflite"
    content = bytearray(good.read_bytes())
    content[-1] ^= 1
    bad.write_bytes(content)
    with pytest.raises(UnusableError, match=r"best/bad\.tflite cannot be timed: .*dvc repro export"):
        rounds.times_of([{"best/good.tflite": Subject(good), "best/bad.tflite": Subject(bad)}], {}, 8, threads=2)
    assert [one.poll() is not None for one in started] == [True, True]


@pytest.mark.slow
def test_another_file_than_the_measured_one_is_refused(tmp_path):
    file = write_litert(tmp_path / "a.tflite")
    with pytest.raises(MismatchError, match=r"a\.tflite is not the file whose quality was measured.*dvc checkout"):
        rounds.times_of([{"best/a.tflite": Subject(file, "ab" * 32)}], {}, batch_size=8, threads=2)


@pytest.mark.slow
def test_a_missing_package_is_named(tmp_path, monkeypatch):
    file = write_litert(tmp_path / "a.tflite")
    monkeypatch.setattr(rounds, "_environment", lambda: os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    (tmp_path / "numpy.py").write_text("import no_such_package\n")
    with pytest.raises(UnusableError, match=r"package no_such_package is not installed.*\.\[pipeline\]"):
        rounds.times_of([{"a": Subject(file)}], {}, batch_size=8, threads=2)


@pytest.mark.slow
def test_a_process_that_dies_is_told_with_its_last_words(tmp_path, monkeypatch):
    dies = tmp_path / "dies"
    dies.write_text("#!/bin/sh\necho first >&2\necho the last word >&2\nexit 7\n")
    dies.chmod(0o755)
    monkeypatch.setattr(rounds.sys, "executable", str(dies))
    with pytest.raises(UnusableError, match=r"a cannot be timed: .* ended with code 7 \(the last word\)"):
        rounds.times_of([{"a": Subject(Path("a.tflite"))}], {}, batch_size=8, threads=2)


def write_teacher(path):
    path.write_text(json.dumps(KERAS | {"architecture": keras.saving.serialize_keras_object(student())}))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("write", "name"), [(write_litert, "a.tflite"), (write_teacher, "teacher.json")])
def test_a_process_ends_with_its_input(tmp_path, monkeypatch, write, name):
    """So also if the stage that started it was killed. Then TensorFlow removes its temporary files."""
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # or Python keeps what TensorFlow generates beside it
    command = [sys.executable, "-m", process.__name__, str(write(tmp_path / name)), "8", "1"]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True, text=True)
    assert set(json.loads(ended.stdout)) == {"digest", "peak_memory_mb"}
    assert not list(temporary.iterdir())


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
