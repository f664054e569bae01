"""A whole run in which 30 % of the labels were taken away, through the stages' own functions."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import COLUMNS, MODEL, copy_here, mhist_in, write_data_set
from weights import weights_sha256

from pipeline.datasets.unlabelled import Unlabelled
from pipeline.distillation.loss import DistillationLoss
from pipeline.evaluation.comparison import comparison, comparison_in_markdown
from pipeline.evaluation.names import student
from pipeline.evaluation.speed import Speed, write_speed
from pipeline.images.index import read_index
from pipeline.images.views import Augmentation, Views
from pipeline.models import keras_files
from pipeline.params.export import Export
from pipeline.report.sample_grid import by_class
from pipeline.runtime.errors import DamagedError
from pipeline.soft_labels.logit_storage import Dense
from pipeline.stages import (
    describe_teacher,
    evaluate,
    precompute,
    report,
    soften,
    split,
    train_baseline,
    train_student,
    train_teacher,
)
from pipeline.tools import live_teacher, parity
from pipeline.tools.sample_picture import draw_sample
from pipeline.tools.verify import verify
from pipeline.training.recipe import Phase, Recipe, TeacherToTrain

INDEX, TEACHER, LOGITS, TARGETS = (
    Path("data/index.csv"), Path("models/teacher.keras"), Path("data/teacher_logits.h5"), Path("data/T4.h5")
)  # fmt: skip
VIEWS = Views(2, 7, Augmentation(translation=0.2, horizontal_flip=True))
RECIPE = Recipe([Phase(2, 0.01, "all")], batch_size=8, seed=1)
PARAMS = {"split": {"data": "raw", "layout": "mhist"}, "distill": {"hard_label_weight": 0.5}}
REMOVED = [f"MHIST_{number:03d}.png" for number in range(40) if number % 10 < 7 and number % 3 == 0]
"""Of the 28 images of the training partition, each third: 10 of 40, some of them drawn for validation before."""


def make_split(unlabelled):
    settings = mhist_in(Path("raw")) | {"unlabelled": unlabelled}
    split.run(layout="mhist", settings=settings, split_folder=Path("data/split"), index=INDEX)


def train(student_too=True):
    """Teacher and baseline, and soft labels and student."""
    train_teacher.run(
        index=INDEX,
        teachers=[TeacherToTrain(replace(MODEL, filters=[4]), RECIPE, Augmentation())],
        average="logits",
        output=TEACHER,
        history=Path("history/teacher.csv"),
    )
    train_baseline.run(
        index=INDEX,
        model=MODEL,
        recipe=RECIPE,
        views=VIEWS,
        output=Path("models/baseline.keras"),
        history=Path("history/baseline_seed1.csv"),
    )
    if student_too:
        precompute.run(
            index=INDEX,
            teacher=TEACHER,
            views=VIEWS,
            stored_as=Dense("float32"),
            batch_size=16,
            previous=[],
            output=LOGITS,
        )
        soften.run(logits=LOGITS, soft_targets=TARGETS, temperature=4.0)
        train_a_student()


def train_a_student(weight=0.5, output="student"):
    train_student.run(
        index=INDEX,
        soft_targets=TARGETS,
        logits=LOGITS,
        views=VIEWS,
        loss=DistillationLoss(4.0, weight),
        model=MODEL,
        recipe=RECIPE,
        output=Path(f"models/{output}.keras"),
        history=Path(f"history/{output}_kl_T4_seed1.csv"),
    )


def assess():
    describe_teacher.run(index=INDEX, teacher=TEACHER, output=Path("teacher.json"))
    evaluate.run(
        index=INDEX,
        teacher=Path("teacher.json"),
        logits=LOGITS,
        students={student("kl", "4"): {1: Path("models/student.keras")}},
        baselines={1: Path("models/baseline.keras")},
        history=Path("history"),
        batch_size=8,
        params=PARAMS,
        output=Path("metrics.json"),
        plots=Path("plots"),
        predictions=Path("predictions"),
    )


def make_report():
    rates = {"teacher": [1.0], "student": [2.0]}
    write_speed(Speed("a processor", "2026-11-26", [1], rates), Path("speed.json"))
    report.run(
        index=INDEX,
        metrics=Path("metrics.json"),
        plots=Path("plots"),
        predictions=Path("predictions"),
        history=Path("history"),
        teacher=Path("teacher.json"),
        logits=LOGITS,
        students=[student("kl", "4")],
        speeds=Path("speed.json"),
        exported=Export(students=[]).model_dump(),
        exports=Path("exports"),
        export_speeds=Path("export_speed.json"),
        student_file=lambda group, seed: Path(f"{group.model(seed)}.keras"),
        params=PARAMS,
        output=Path("report.html"),
        pictures=Path("pictures"),
    )


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """The index with all labels."""
    folder = tmp_path_factory.mktemp("before")
    write_data_set(folder / "raw")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_split(Unlabelled())
    return folder


@pytest.fixture(scope="module")
def left_out(before, tmp_path_factory):
    """Teacher and baseline of a run whose images without a label are left out."""
    folder = tmp_path_factory.mktemp("left_out")
    with pytest.MonkeyPatch.context() as patch:
        copy_here(before, folder, patch)
        table = pd.read_csv("raw/annotations.csv")
        table.loc[table[COLUMNS[0]].isin(REMOVED), COLUMNS[1]] = None
        table.to_csv("raw/annotations.csv", index=False)
        make_split(Unlabelled(rows=False))
        train(student_too=False)
    return folder


@pytest.fixture(scope="module")
def ran(left_out, tmp_path_factory):
    """The whole run, in which they are used."""
    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        copy_here(left_out, folder, patch)
        for made in ("data", "models", "history", ".work"):
            shutil.rmtree(made)
        make_split(Unlabelled(rows=True))
        train()
        assess()
        make_report()
    return folder


@pytest.fixture
def project(ran, tmp_path, monkeypatch):
    """A copy of it; the current folder."""
    copy_here(ran, tmp_path, monkeypatch)


def images_of(folder, name):
    return {image.id: image.sha256 for image in read_index(folder / INDEX).split(name)}


def test_removed_labels_move_no_validation_or_test_image(before, left_out, ran):
    assert set(REMOVED) & images_of(before, "val").keys()
    assert images_of(ran, "test") == images_of(left_out, "test") == images_of(before, "test")
    expected = {name: sha256 for name, sha256 in images_of(before, "val").items() if name not in REMOVED}
    assert images_of(ran, "val") == images_of(left_out, "val") == expected
    assert images_of(ran, "train").keys() - images_of(left_out, "train").keys() == set(REMOVED)


@pytest.mark.parametrize("name", ["teacher", "baseline"])
def test_teacher_and_baseline_do_without_them(left_out, ran, name):
    """They have the weights and curves, bit for bit, of a run in which these images are left out."""
    with_them, without = (keras_files.load(folder / f"models/{name}.keras") for folder in (ran, left_out))
    assert weights_sha256(with_them) == weights_sha256(without)
    file = {"teacher": "teacher.csv", "baseline": "baseline_seed1.csv"}[name]
    assert (ran / "history" / file).read_bytes() == (left_out / "history" / file).read_bytes()


def test_the_teacher_labels_them_in_every_view(ran):
    with h5py.File(ran / TARGETS) as file:
        ids = [name.decode() for name in file["train/id"][:]]
        rows = [ids.index(name) for name in REMOVED]
        assert file["train/soft"].shape == (2, len(images_of(ran, "train")), 2)
        np.testing.assert_allclose(file["train/soft"][:][:, rows].sum(axis=-1), 1, atol=1e-6)
        assert file["train/soft"][:][:, rows].min() > 0
        assert not file["train/hard"][:][rows].any()
        assert file["train/hard"][:].sum() == len(ids) - len(REMOVED)


def test_the_student_learns_from_them_by_soft_labels_alone(project):
    """With hard labels alone, other soft labels of these images change nothing; with soft labels, they do."""
    train_a_student(1.0, "hard")
    change_soft_labels(REMOVED)
    train_a_student(1.0, "hard_2")
    train_a_student(0.5, "student_2")
    weights = {path.stem: weights_sha256(keras_files.load(path)) for path in Path("models").glob("*.keras")}
    assert weights["hard"] == weights["hard_2"]
    assert weights["student"] != weights["student_2"]


def change_soft_labels(names):
    """Turns the soft labels of some training images round."""
    from soft_label_files import edit

    def turn(file):
        rows = [name.decode() in names for name in file["train/id"][:]]
        soft = file["train/soft"][:]
        soft[:, rows] = soft[:, rows][..., ::-1]
        file["train/soft"][...] = soft

    edit(TARGETS, turn)


def test_the_files_are_sound(project):
    for path in (LOGITS, TARGETS):
        checks = verify(path, INDEX, TEACHER, LOGITS, DamagedError("none"), 4.0)
        assert [check for check in checks if check.ok is False] == []


def test_the_metrics_have_the_numbers(ran):
    document = json.loads((ran / "metrics.json").read_text())
    labelled = len(images_of(ran, "train")) - len(REMOVED)
    assert document["training_images"] == {"labelled": labelled, "unlabelled": len(REMOVED)}


def test_table_and_report_say_what_the_students_had(ran):
    labelled = len(images_of(ran, "train")) - len(REMOVED)
    said = f"learned from {labelled} labelled images and, through the teacher's answers alone, from 10 images without"
    for text in (comparison(ran / "metrics.json"), comparison_in_markdown(ran / "metrics.json")):
        assert said in re.sub(r"\s+", " ", text)
    page = (ran / "report.html").read_text().replace("&#39;", "'")
    assert said in page
    assert f"trained without a teacher, on the {labelled} labelled images alone (" in page
    assert "10 of the training images have no label" in page
    assert (ran / "pictures/samples.png").is_file()


def test_the_picture_of_samples_shows_labelled_images(ran):
    index = read_index(ran / INDEX)
    assert [{image.class_name for image in of_class} for of_class in by_class(index)] == [{"HP"}, {"SSA"}]
    assert sum(map(len, by_class(index))) == len(index.labelled("train"))


def test_a_picture_of_one_says_that_it_has_no_label(project, drawn):
    draw_sample(TARGETS, REMOVED[0], INDEX, [], Path("sample.png"))
    assert drawn[-1].get_suptitle() == f"{REMOVED[0]} (train, no label) as seen by cnn"
    assert "(label)" not in " ".join(label.get_text() for axes in drawn[-1].axes for label in axes.get_yticklabels())


def proof():
    """Steps of SGD, in which rounding is not blown up as it is where Adam divides a slope of nearly 0 by its size."""
    return parity.run(
        index=INDEX,
        teacher=TEACHER,
        soft_targets=TARGETS,
        logits=LOGITS,
        views=VIEWS,
        loss=DistillationLoss(4.0, 0.5),
        model=MODEL,
        recipe=Recipe([Phase(1, 0.001, "all", optimizer="sgd")], batch_size=8, seed=1),
        steps=4,
    )


def test_offline_equals_online_with_them(project):
    assert parity.is_equal(proof())


def test_the_distillers_hard_loss_leaves_them_out():
    """Value and gradient of a batch in which one of three rows has no label, against float64."""
    import tensorflow as tf

    z, y = np.array([[1.0, 0.5], [-1.0, 2.0], [0.5, 0.25]]), np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    variable = tf.Variable(z, dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss = live_teacher.hard_loss(tf.constant(y, tf.float32), variable)
    q = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(loss, -(np.log(q[0, 0]) + np.log(q[2, 1])) / 3, rtol=1e-6)
    expected = np.where(y.any(axis=1, keepdims=True), q - y, 0) / 3
    np.testing.assert_allclose(tape.gradient(loss, variable), expected, rtol=0, atol=1e-6)
