"""What is noted of a teacher, and what can be built from it without its file."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import MODEL

from pipeline.evaluation.description import read_description
from pipeline.evaluation.speed import read_speed
from pipeline.images.index import Image, Index, write_index
from pipeline.inference import cost, forward_speed
from pipeline.models import ensembles, keras_files
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError
from pipeline.stages import describe_teacher, measure_speed

INDEX, TEACHER, OUTPUT = Path("index.csv"), Path("teacher.keras"), Path("teacher.json")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An index of two classes in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    write_index(INDEX, Index([Image(name, f"{name}.png", name, "train", "", "0" * 64) for name in ("HP", "SSA")]))
    return tmp_path


def describe():
    describe_teacher.run(index=INDEX, teacher=TEACHER, output=OUTPUT)
    return read_description(OUTPUT)


def test_the_cost_is_that_of_the_file(folder):
    """A convolution of 3 to 2 channels, 3x3, with biases: 56; then 2 x 6 x 6 inputs of two logits: 146."""
    keras_files.save(MODEL.build(classes=2, seed=1), TEACHER)
    description = describe()
    assert description.cost["parameters"] == {"total": 56 + 146, "trainable": 56 + 146}
    assert description.cost["file_bytes"] == TEACHER.stat().st_size
    assert description.sha256 == hashlib.sha256(TEACHER.read_bytes()).hexdigest()


def small(seed, **changes):
    return replace(MODEL, **changes).build(classes=2, seed=seed)


def single():
    keras_files.save(small(1, batch_normalization=True, dropout=0.3), TEACHER)


def ensemble():
    for seed in (1, 2):
        keras_files.save(small(seed), Path(f"{seed}.keras"))
    ensembles.save_ensemble([Path("1.keras"), Path("2.keras")], "probabilities", ["HP", "SSA"], TEACHER)


@pytest.mark.parametrize("make", [single, ensemble])
def test_without_the_file_the_same_layers_can_be_timed(folder, make):
    make()
    expected = cost.forward_flops(keras_files.load(TEACHER))
    description = describe()
    TEACHER.unlink()
    untrained = cost.untrained(description.architecture)
    assert cost.forward_flops(untrained) == expected == description.cost["flops"]
    assert cost.parameters(untrained)["total"] == description.cost["parameters"]["total"]


def test_without_layers_of_a_teacher_the_student_alone_is_timed(folder):
    single()
    describe()
    document = json.loads(OUTPUT.read_text())
    assert document["classes"] == 2
    OUTPUT.write_text(json.dumps(document | {"architecture": None}))
    measure_speed.run(teacher=OUTPUT, model=MODEL, output=Path("speed.json"))
    assert [*read_speed(Path("speed.json")).images_per_second] == ["student"]


def test_the_same_teacher_gives_the_same_bytes(folder):
    single()
    describe()
    first = OUTPUT.read_bytes()
    describe()
    assert OUTPUT.read_bytes() == first


def test_a_teacher_of_other_classes_is_refused(folder):
    keras_files.save(MODEL.build(classes=3, seed=1), TEACHER)
    with pytest.raises(MismatchError, match=r"teacher\.keras gives 3 logits.* 2 classes"):
        describe()
    assert not OUTPUT.exists()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, MissingError),
        ("", DamagedError),
        ("{}", DamagedError),
        ('{"sha256": "ab", "cost": {}}', DamagedError),
        ("[1]", DamagedError),
    ],
)
def test_a_missing_or_damaged_description_names_the_remedy(folder, text, error):
    if text is not None:
        OUTPUT.write_text(text)
    with pytest.raises(error, match=r"teacher\.json.*dvc repro --single-item --force describe_teacher"):
        read_description(OUTPUT)


def test_speed_is_images_over_the_time_of_a_pass(monkeypatch):
    """By a clock that only forward passes move: 10 ms of one model, 40 ms of the other."""

    class Passes:
        now = 0.0

        def __init__(self, model, batch_size):
            self.seconds = {"fast": 0.01, "slow": 0.04}[model]
            assert batch_size == 8

        def __call__(self, batches):
            Passes.now += self.seconds
            return batches

    monkeypatch.setattr(forward_speed, "Forward", Passes)
    monkeypatch.setattr(forward_speed, "random_pixels", lambda model, batch_size: np.zeros(1))
    monkeypatch.setattr(forward_speed.time, "perf_counter", lambda: Passes.now)
    speeds = forward_speed.forward_speeds({"a": "fast", "b": "slow"}, 8)
    assert speeds == {"a": pytest.approx(800), "b": pytest.approx(200)}


def test_the_description_holds_no_weights_and_no_path(folder):
    single()
    describe()
    text = OUTPUT.read_text()
    assert str(folder) not in text
    assert set(json.loads(text)) == {"sha256", "cost", "architecture", "classes"}
