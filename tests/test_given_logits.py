"""Teachers without a model: tables of logits from other programs, and annotators' votes."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import MODEL, copy_here, mhist_in, write_data_set
from real_project import ROOT, change, copy_without, inside, run, sha256, softlabel, stages_run
from ruamel.yaml import YAML
from scipy.special import log_softmax, softmax

from pipeline.cli import arguments
from pipeline.cli.main import main
from pipeline.evaluation.description import read_description
from pipeline.images.augmentation import Augmentation, Mixing
from pipeline.images.index import Index, read_index
from pipeline.images.resize import DEFAULT_RESIZE, rendering_of
from pipeline.images.views import UNTOUCHED, Views
from pipeline.images.votes import counted_class, logits_of_votes
from pipeline.models import keras_files
from pipeline.models.ensembles import load_teacher
from pipeline.models.stored_answers import StoredAnswers
from pipeline.models.teacher_file import Annotators, GivenLogits, GivenTeacher, Smoothing
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, ParameterError, UnusableError
from pipeline.soft_labels.logit_storage import Dense
from pipeline.soft_labels.reading import open_logits
from pipeline.stages import describe_teacher, precompute, split, train_teacher
from pipeline.tools import parity, verify

INDEX, TEACHER, HISTORY = Path("data/index.csv"), Path("models/teacher.keras"), Path("history/teacher.csv")
LOGITS = Path("logits.h5")
TABLE = Path("table.npz")
FLIPPED = Views(3, 5, Augmentation(horizontal_flip=True))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A split data set whose votes agree with its labels: of seven, 4 to 7 for SSA, and 0 to 3 for HP."""
    folder = tmp_path_factory.mktemp("data")
    with inside(folder):
        write_data_set(Path("raw"))
        annotations = pd.read_csv("raw/annotations.csv")
        votes = annotations.columns[2]
        annotations[votes] = [
            number % 4 + 4 * (label == "SSA") for number, label in enumerate(annotations["Majority Vote Label"])
        ]
        annotations.to_csv("raw/annotations.csv", index=False)
        split.run(layout="mhist", settings=mhist_in(Path("raw")), split_folder=Path("data/split"), index=INDEX)
    return folder


@pytest.fixture(autouse=True)
def project(data, tmp_path, monkeypatch):
    return copy_here(data, tmp_path, monkeypatch)


def take(*teachers, average="logits"):
    train_teacher.run(index=INDEX, teachers=teachers, average=average, output=TEACHER, history=HISTORY)


def compute(views=UNTOUCHED, **changes):
    arguments = {"stored_as": Dense("float32"), "batch_size": 8, "previous": [], "output": LOGITS, **changes}
    precompute.run(index=INDEX, teacher=TEACHER, views=views, **arguments)


def stored(split):
    """(V, N, C), by plain h5py."""
    with h5py.File(LOGITS) as file:
        return [text.decode() for text in file[f"{split}/id"][:]], file[f"{split}/logits"][:]


def rows(views=1):
    """For all that needs logits, an id, a view and two logits that these two decide; every answer is right."""
    table = []
    for image in read_index(INDEX).images:
        for view in range(views if image.split == "train" else 1):
            number = int(re.sub(r"\D", "", image.id))
            right = 1 + number / 100 + 10 * view
            table.append((image.id, view, *((right, -0.5) if image.class_name == "HP" else (0.25, right))))
    return table


def write(table, path=TABLE, **arrays):
    ids, views, *logits = zip(*table, strict=True)
    named = {"ids": np.array(ids), "views": np.array(views), "logits": np.array(logits, np.float32).T}
    named |= {"class_names": np.array(["HP", "SSA"])} | arrays
    np.savez(path, **{name: array for name, array in named.items() if array is not None})


# Tables


def test_each_row_gets_to_its_image_and_view():
    table = rows(views=3)
    write(np.random.default_rng(0).permutation(np.array(table, object)).tolist())
    take(GivenLogits(str(TABLE)))
    assert HISTORY.read_text() == train_teacher.NO_CURVES
    compute(FLIPPED)
    expected = {(image_id, view): logits for image_id, view, *logits in table}
    found = {}
    for name in ("train", "val", "test"):
        ids, logits = stored(name)
        for view, of_view in enumerate(logits):
            found |= {(image_id, view): row.tolist() for image_id, row in zip(ids, of_view, strict=True)}
    assert found == {key: np.float32(value).tolist() for key, value in expected.items()}


def test_columns_are_put_in_the_data_sets_order_by_name():
    table = [(image_id, view, 7.0, ssa, hp) for image_id, view, hp, ssa in rows()]
    write(table, class_names=np.array(["other", "SSA", "HP"]))
    take(GivenLogits(str(TABLE)))
    compute()
    ids, logits = stored("val")
    expected = {image_id: (hp, ssa) for image_id, _, hp, ssa in rows()}
    np.testing.assert_allclose(logits[0], [expected[name] for name in ids], rtol=1e-6)


@pytest.mark.parametrize("classes", [["SSA", "HP"], {"HP": 1, "SSA": 0}])
def test_classes_are_stated_where_the_table_does_not_name_them(classes):
    write([(image_id, view, ssa, hp) for image_id, view, hp, ssa in rows()], class_names=None)
    take(GivenLogits(str(TABLE), classes=classes))
    compute()
    ids, logits = stored("val")
    expected = {image_id: (hp, ssa) for image_id, _, hp, ssa in rows()}
    np.testing.assert_allclose(logits[0], [expected[name] for name in ids], rtol=1e-6)


def test_probabilities_become_logits_with_the_same_softmax():
    table = rows()
    probabilities = softmax(np.array([row[2:] for row in table]), axis=1)
    write(table, logits=None, probabilities=probabilities)
    take(GivenLogits(str(TABLE)))
    compute()
    ids, logits = stored("test")
    expected = {row[0]: values for row, values in zip(table, probabilities, strict=True)}
    np.testing.assert_allclose(softmax(logits[0].astype(float), axis=1), [expected[name] for name in ids], rtol=1e-6)


def test_the_same_table_gives_the_same_bytes():
    write(rows())
    take(GivenLogits(str(TABLE)))
    first = TEACHER.read_bytes()
    write(rows()[::-1])
    take(GivenLogits(str(TABLE)))
    model = keras.saving.load_model(TEACHER)  # a plain Keras model
    assert model(np.array([0])).shape == (1, 2)
    assert keras_files.read_record(TEACHER)["answers"]["ids"] == [image.id for image in read_index(INDEX).images]
    second = TEACHER.read_bytes()
    write(rows())
    take(GivenLogits(str(TABLE)))
    assert TEACHER.read_bytes() == first != second  # the record names the table's digest


def test_images_without_a_row_are_named_and_nothing_is_written():
    table = rows()
    write([*table[2:], ("elsewhere.png", 0, 1.0, 2.0)])
    with pytest.raises(MismatchError, match=rf"2 of 40 images .*{table[0][0]}.*{table[1][0]}"):
        take(GivenLogits(str(TABLE)))
    assert not TEACHER.exists()
    assert not HISTORY.exists()


def test_views_are_numbered_from_0():
    write([(image_id, view + 1, *logits) for image_id, view, *logits in rows(views=2)])
    with pytest.raises(MismatchError, match=r"its views begin at 1\. Number them from 0"):
        take(GivenLogits(str(TABLE)))
    table = rows(views=2)
    write([(name, view + (name == table[0][0]), *logits) for name, view, *logits in table])
    with pytest.raises(MismatchError, match=r"1 of 40 images.* 1 of them have rows of other views alone: number"):
        take(GivenLogits(str(TABLE)))
    write(table[2:])
    with pytest.raises(MismatchError, match=r"correct their ids\.$"):
        take(GivenLogits(str(TABLE)))


def test_views_without_a_row_are_all_named():
    table = [row for row in rows(views=3) if row[1] != 2 or row[0] == rows()[0][0]]
    write(table)
    take(GivenLogits(str(TABLE)))
    training = [image.id for image in read_index(INDEX).split("train") if image.id != rows()[0][0]]
    with pytest.raises(MismatchError, match=rf"{len(training)} image.*{training[0]} \(view 2\)") as refused:
        compute(FLIPPED)
    assert "views.count" in str(refused.value)
    assert not LOGITS.exists()
    compute(replace(FLIPPED, count=2))  # fewer views are enough


def test_a_row_behind_a_missing_view_is_told_and_left_out(capsys):
    write([*rows(), (read_index(INDEX).split("train")[0].id, 2, 0.0, 1.0)])
    take(GivenLogits(str(TABLE)))
    assert "1 rows are of" in capsys.readouterr().out


RENDERED = rendering_of((12, 12, 3), DEFAULT_RESIZE, FLIPPED)


@pytest.mark.parametrize(
    ("views", "resize", "named"),
    [
        (FLIPPED, DEFAULT_RESIZE, None),
        (replace(FLIPPED, count=2), DEFAULT_RESIZE, None),
        (replace(FLIPPED, seed=6), DEFAULT_RESIZE, "seed 5, expected 6"),
        (Views(3, 5, Augmentation(vertical_flip=True)), DEFAULT_RESIZE, "augmentation .*horizontal.*vertical"),
        (FLIPPED, replace(DEFAULT_RESIZE, fit="crop"), "resize .*stretch.*crop"),
    ],
)
def test_logits_of_other_views_are_refused(views, resize, named):
    write(rows(views=3), rendering=np.array(RENDERED))
    take(GivenLogits(str(TABLE)))
    if named is None:
        compute(views, resize=resize)
        with open_logits(LOGITS) as file:
            assert file.provenance.preprocessing["input_shape"] == [12, 12, 3]
        return
    with pytest.raises(MismatchError, match=named):
        compute(views, resize=resize)


MIXED = Views(3, 5, Augmentation(mixup=Mixing(1.0, 0.4), cutmix=Mixing(1.0, 0.4)))


def test_logits_of_mixed_views_belong_to_one_set_of_images():
    """Another image may become a partner, so the pictures of such a set may be others."""
    data = read_index(INDEX)
    write(rows(views=3), rendering=np.array(rendering_of((12, 12, 3), DEFAULT_RESIZE, MIXED, data)))
    take(GivenLogits(str(TABLE)))
    compute(MIXED)
    with open_logits(LOGITS) as file:
        assert (file.transforms("train", 1).partner >= 0).any()
    write(rows(views=3), rendering=np.array(rendering_of((12, 12, 3), DEFAULT_RESIZE, MIXED, Index(data.images[1:]))))
    take(GivenLogits(str(TABLE)))
    with pytest.raises(MismatchError, match=r"of other views than those of params\.yaml: partners .*, expected"):
        compute(MIXED)


def test_votes_are_no_answer_to_a_mixed_view():
    take(Annotators(Smoothing(1.0)))
    with pytest.raises(MismatchError, match=r"no answer to a picture of two\. .*Leave mixup and cutmix out"):
        compute(MIXED)


def test_logits_that_say_nothing_of_their_views_are_warned_of(capsys):
    write(rows(views=3))
    take(GivenLogits(str(TABLE)))
    compute(FLIPPED)
    assert "does not say of which views" in capsys.readouterr().err
    compute(UNTOUCHED)
    assert "does not say of which views" not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", '{"seed": 1}', "[1]", "[" * 10_000])
def test_a_rendering_of_another_kind_is_refused(text):
    write(rows(), rendering=np.array(text))
    with pytest.raises(UnusableError, match="rendering"):
        take(GivenLogits(str(TABLE)))


def test_a_table_of_other_classes_names_what_lacks():
    write(rows(), class_names=np.array(["HP", "SSa"]))
    with pytest.raises(MismatchError, match=r"lacks 1 .*'SSA'; it has 'HP', 'SSa'.*'SSa' there 'SSA' here"):
        take(GivenLogits(str(TABLE)))


def test_a_table_of_another_number_of_classes_is_refused():
    write([(*row, 0.0) for row in rows()], class_names=None)
    with pytest.raises(MismatchError, match=r"3 logits.* 2 classes"):
        take(GivenLogits(str(TABLE)))


def test_a_missing_table_is_named():
    with pytest.raises(MissingError, match=r"no table of logits at table\.npz"):
        take(GivenLogits(str(TABLE)))


@pytest.mark.parametrize("path", ["logits.txt", "logits", "logits.h5"])
def test_a_table_of_another_format_is_refused_in_params(path):
    with pytest.raises(ValueError, match=r"\.npz, \.csv, \.parquet"):
        GivenLogits(path)


def test_probabilities_under_the_name_of_logits_are_refused():
    write([(image_id, view, *softmax(logits)) for image_id, view, *logits in rows()])
    take(GivenLogits(str(TABLE)))
    with pytest.raises(UnusableError, match="probabilities that were given as logits"):
        compute()


def test_answers_in_another_order_of_classes_are_refused(monkeypatch):
    write([(image_id, view, ssa, hp) for image_id, view, hp, ssa in rows()])
    take(GivenLogits(str(TABLE)))
    monkeypatch.setattr("pipeline.teacher_pass.class_order.SIGNIFICANT", 0.6)  # eight images show little
    with pytest.raises(MismatchError, match=r"another order.*classes"):
        compute()


def test_less_accuracy_than_stated_names_the_causes_of_a_table():
    write([(image_id, view, 0.0, 5.0) for image_id, view, _, _ in rows()])
    take(GivenLogits(str(TABLE), accuracy=1.0))
    with pytest.raises(MismatchError, match=r"accuracy says 1\. .*ids of other images"):
        compute()


def test_nothing_computes_given_logits_in_another_precision():
    write(rows())
    take(GivenLogits(str(TABLE)))
    with pytest.raises(ParameterError, match=r"mixed_bfloat16.*nothing computes"):
        compute(precision="mixed_bfloat16")


def test_what_is_not_known_of_a_table_is_not_described():
    write(rows())
    take(GivenLogits(str(TABLE)))
    describe_teacher.run(index=INDEX, teacher=TEACHER, output=Path("teacher.json"))
    description = read_description(Path("teacher.json"))
    assert description.cost == {"file_bytes": TEACHER.stat().st_size}
    assert (description.architecture, description.classes) == (None, 2)


def test_soft_labels_of_a_table_are_sound():
    write(rows())
    take(GivenLogits(str(TABLE)))
    compute()
    expected = verify.Parameters(UNTOUCHED, Dense("float32"), "float32", DEFAULT_RESIZE)
    checks = verify.verify(LOGITS, INDEX, TEACHER, LOGITS, expected, 4.0)
    assert all(check.ok is not False for check in checks), checks
    (params,) = [check for check in checks if check.name == "params"]
    assert "not known" in params.detail


def test_parity_says_that_there_is_no_model(monkeypatch):
    write(rows())
    take(GivenLogits(str(TABLE)))
    assert load_teacher(TEACHER, ["HP", "SSA"]).model is None
    with pytest.raises(UnusableError, match="holds given answers, so no model can be put into"):
        parity.teacher_in_the_loop(TEACHER, ["HP", "SSA"])


def test_a_record_that_does_not_fit_its_logits_is_refused():
    write(rows())
    take(GivenLogits(str(TABLE)))
    record = keras_files.read_record(TEACHER)
    for broken in ({}, {"ids": ["a"], "views": [1], "rendering": None}, {"ids": 3, "views": "x", "rendering": None}):
        keras_files.save(keras.saving.load_model(TEACHER), Path("broken.keras"), record | {"answers": broken})
        with pytest.raises(
            DamagedError,
            match=r"broken\.keras(: what this program noted in it .* cannot be read: answers\.| does not say)",
        ):
            load_teacher(Path("broken.keras"), ["HP", "SSA"])


# Votes


def test_smoothed_votes_by_hand():
    """(n + s) / (7 + 2 s): 5 votes and s = 1 give 6/9; 0 votes and s = 0.5 give 0.5/8."""
    np.testing.assert_allclose(np.exp(logits_of_votes(np.array([5]), 1, 1.0)), [[3 / 9, 6 / 9]], rtol=1e-6)
    np.testing.assert_allclose(np.exp(logits_of_votes(np.array([5]), 0, 1.0)), [[6 / 9, 3 / 9]], rtol=1e-6)
    np.testing.assert_allclose(np.exp(logits_of_votes(np.array([0]), 1, 0.5)), [[7.5 / 8, 0.5 / 8]], rtol=1e-6)


def test_votes_count_the_class_whose_images_have_more():
    assert counted_class(np.array([6, 1, 5]), np.array([0, 1, 0])) == 0
    assert counted_class(np.array([6, 1, 5]), np.array([1, 0, 1])) == 1


@pytest.mark.parametrize("views", [UNTOUCHED, FLIPPED])
def test_votes_are_the_answers_to_every_view(views):
    take(Annotators(Smoothing(1.0)))
    compute(views)
    votes = {image.id: int(image.votes) for image in read_index(INDEX).images}
    ids, logits = stored("train")
    assert len(logits) == views.count
    expected = [[math.log((8 - votes[name]) / 9), math.log((votes[name] + 1) / 9)] for name in ids]
    np.testing.assert_allclose(logits, [expected] * views.count, rtol=1e-6)
    with open_logits(LOGITS) as file:
        assert (file.provenance.teacher, file.provenance.preprocessing) == ("votes", None)


def test_images_without_votes_are_named():
    table = pd.read_csv(INDEX)
    table["votes"] = table["votes"].astype("Int64")
    table.loc[[3, 5], "votes"] = pd.NA
    table.to_csv(INDEX, index=False)
    with pytest.raises(UnusableError, match=rf"2 of 40 images .*{table['id'][3]}.*{table['id'][5]}"):
        take(Annotators(Smoothing(1.0)))
    assert not TEACHER.exists()


# Ensembles


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_a_network_and_votes_and_a_table_are_averaged(average):
    keras_files.save(MODEL.build(classes=2, seed=1), Path("network.keras"))
    write(rows())
    take(GivenTeacher("network.keras"), Annotators(Smoothing(2.0)), GivenLogits(str(TABLE)), average=average)
    with pytest.raises(UnusableError, match=r"2 of 3 members are given .*\(the votes, the table of logits\), so no"):
        parity.teacher_in_the_loop(TEACHER, ["HP", "SSA"])
    compute()
    ids, found = stored("val")
    images = {image.id: image for image in read_index(INDEX).images}
    pixels = np.stack([keras.utils.img_to_array(keras.utils.load_img(images[name].path)) for name in ids])
    votes = np.array([int(images[name].votes) for name in ids])
    of_table = {row[0]: row[2:] for row in rows()}
    members = [
        keras.saving.load_model("network.keras")(pixels).numpy(),
        np.log(np.stack([9 - votes, votes + 2], axis=1) / 11),
        np.array([of_table[name] for name in ids]),
    ]
    if average == "logits":
        expected = np.mean(members, axis=0)
    else:
        expected = np.log(np.mean([softmax(member, axis=1) for member in members], axis=0))
    np.testing.assert_allclose(log_softmax(found[0], axis=1), log_softmax(expected, axis=1), rtol=0, atol=1e-4)
    whole = keras.saving.load_model(TEACHER)
    inputs = {"pixels": pixels, "row1": [sorted(images).index(name) for name in ids]}
    inputs["row2"] = inputs["row1"]
    of_keras = np.asarray(whole([inputs["pixels"], np.array(inputs["row1"]), np.array(inputs["row2"])]))
    np.testing.assert_allclose(of_keras, found[0], rtol=0, atol=1e-4)


def test_two_tables_are_an_ensemble_too():
    write(rows())
    write([(image_id, view, hp + 2, ssa) for image_id, view, hp, ssa in rows()], Path("second.npz"))
    take(GivenLogits(str(TABLE)), GivenLogits("second.npz"))
    compute()
    ids, logits = stored("val")
    expected = {image_id: (hp + 1, ssa) for image_id, _, hp, ssa in rows()}
    np.testing.assert_allclose(logits[0], [expected[name] for name in ids], rtol=1e-6)


def test_what_has_no_row_is_named_by_image_and_view():
    answers = StoredAnswers(["a", "b"], np.array([2, 1]), np.zeros((3, 2), np.float32))
    assert answers.without(["a", "b", "c"], 2) == ["b (view 1)", "c"]
    of_votes = StoredAnswers(["a", "b"], None, np.zeros((2, 2), np.float32))
    assert of_votes.without(["a", "b", "c"], 5) == ["c"]


# Commands


def write_params(teacher):
    content = YAML(typ="safe").load(ROOT / "params.yaml")
    content["split"]["data"] = "raw"
    content["train_teacher"] = teacher
    YAML(typ="safe").dump(content, Path("params.yaml"))
    copyfile(ROOT / "dvc.yaml", "dvc.yaml")


def invoke(*arguments):
    return CliRunner().invoke(main, arguments)


TRAINED = {
    "model": {"architecture": "cnn", "input_shape": [12, 12, 3], "filters": [2]},
    "phases": [{"epochs": 1, "learning_rate": 0.1, "trainable_from": "all"}],
}


def test_the_command_does_what_the_stages_do():
    write(rows())
    write_params({"logits": str(TABLE)})
    logits = Path("data/soft_labels/teacher_logits.h5")
    for command in ("train-teacher", "describe-teacher", "precompute"):
        shown = invoke(command)
        assert shown.exit_code == 0, shown.output
    expected = {path: path.read_bytes() for path in (TEACHER, Path("models/teacher.json"), logits)}
    for path in expected:
        path.unlink()
    write_params(TRAINED)
    shown = invoke("import-logits", str(TABLE))
    assert shown.exit_code == 0, shown.output
    assert f"train_teacher: {{logits: {TABLE}}}" in shown.output
    assert {path: path.read_bytes() for path in expected} == expected
    assert invoke("import-logits", str(TABLE)).exit_code == 0  # a table may replace a table


def test_the_command_replaces_another_teacher_only_by_force():
    write(rows())
    write_params(TRAINED)
    keras_files.save(MODEL.build(classes=2, seed=1), TEACHER)
    before = TEACHER.read_bytes()
    shown = invoke("import-logits", str(TABLE))
    assert (shown.exit_code, "--force" in shown.output) == (1, True)
    assert TEACHER.read_bytes() == before
    assert invoke("import-logits", str(TABLE), "--force").exit_code == 0


def test_the_command_takes_no_other_kind_of_file():
    write_params(TRAINED)
    shown = invoke("import-logits", "logits.txt")
    assert (shown.exit_code, "logits.txt does not. Convert or rename it." in shown.output) == (1, True), shown.output


def test_the_command_takes_what_params_state_of_the_table():
    """However the path is spelt, and where the table is one of several teachers."""
    write([(image_id, view, ssa, hp) for image_id, view, hp, ssa in rows()], class_names=None)
    stated = {"logits": str(TABLE), "classes": ["SSA", "HP"]}
    for teacher, alone in ((stated, True), ([stated, {"votes": {"smoothing": 1}}], False)):
        write_params(teacher)
        shown = invoke("import-logits", str(TABLE.resolve()))
        assert shown.exit_code == 0, shown.output
        assert ("names another teacher" in shown.output, "--force train_teacher" in shown.output) == (not alone, alone)
        with h5py.File("data/soft_labels/teacher_logits.h5") as file:
            ids, logits = [text.decode() for text in file["val/id"][:]], file["val/logits"][0]
        expected = {image_id: (hp, ssa) for image_id, _, hp, ssa in rows()}
        np.testing.assert_allclose(logits, [expected[name] for name in ids], rtol=1e-6)


def test_a_refused_table_replaces_nothing():
    write_params(TRAINED)
    keras_files.save(MODEL.build(classes=2, seed=1), TEACHER)
    before = TEACHER.read_bytes()
    write([(image_id, view, 0.0, 0.0) for image_id, view, _, _ in rows()])
    shown = invoke("import-logits", str(TABLE), "--force")
    assert shown.exit_code == 1
    assert re.search("the table of logits.*probabilities that were given as logits", shown.output)
    assert TEACHER.read_bytes() == before
    assert not Path("data/soft_labels").exists()
    assert not Path("models/teacher.json").exists()
    assert not list(Path(".work").glob("import_*"))


def test_a_precision_that_nothing_computes_is_refused_here_too():
    write(rows())
    write_params({"logits": str(TABLE)})
    change(Path("params.yaml"), "precompute.precision", "mixed_float16")
    shown = invoke("import-logits", str(TABLE))
    assert (shown.exit_code, TEACHER.exists()) == (1, False)
    assert "nothing computes" in shown.output


def test_verify_sees_that_a_given_file_has_changed():
    write(rows())
    write_params({"logits": str(TABLE)})
    assert invoke("import-logits", str(TABLE)).exit_code == 0
    assert "ok    given" in invoke("verify", "data/soft_labels/teacher_logits.h5").output
    write([(image_id, view, 2 * hp, 2 * ssa) for image_id, view, hp, ssa in rows()])
    shown = invoke("verify", "data/soft_labels/teacher_logits.h5")
    assert (shown.exit_code, "--force train_teacher" in shown.output) == (1, True)
    write_params([{"model": "network.keras"}, {"votes": {"smoothing": 1}}])
    keras_files.save(MODEL.build(classes=2, seed=1), Path("network.keras"))
    take(GivenTeacher("network.keras"), Annotators(Smoothing(1.0)))
    assert "ok    given" in invoke("verify", "data/soft_labels/teacher_logits.h5").output
    keras_files.save(MODEL.build(classes=2, seed=2), Path("network.keras"))
    assert "WRONG given" in invoke("verify", "data/soft_labels/teacher_logits.h5").output


def test_a_teacher_that_is_no_keras_file_is_no_traceback():
    write(rows())
    write_params({"logits": str(TABLE)})
    assert invoke("import-logits", str(TABLE)).exit_code == 0
    TEACHER.write_bytes(b"cut off")
    for command in (["verify", "data/soft_labels/teacher_logits.h5"], ["import-logits", str(TABLE)]):
        shown = invoke(*command)
        assert shown.exit_code == 1
        assert isinstance(shown.exception, SystemExit), shown.exception
    assert TEACHER.read_bytes() == b"cut off"
    assert invoke("import-logits", str(TABLE), "--force").exit_code == 0


def test_the_command_refuses_what_is_no_table():
    write_params(TRAINED)
    for name, said in (("logits.txt", r"\.npz, \.csv, \.parquet"), ("away.npz", r"no table of logits at away\.npz")):
        shown = invoke("import-logits", name)
        assert shown.exit_code == 1
        assert re.search(said, shown.output)


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ({"logits": "a.txt"}, r"train_teacher: .*\.npz"),
        ({"logits": "a.npz", "model": "b.keras"}, "train_teacher.*unknown key"),
        ({"votes": {"smoothing": 0}}, r"train_teacher\.votes\.smoothing: .*greater than 0"),
        ({"votes": {}}, r"train_teacher\.votes\.smoothing: missing"),
        ({"votes": {"smoothing": 1, "annotators": 3}}, r"train_teacher\.votes\.annotators: unknown key"),
        ([{"votes": {"smoothing": 1}}], "train_teacher"),
    ],
)
def test_mistakes_in_params_are_told_with_their_place(teacher, said):
    write_params(teacher)
    shown = invoke("params")
    assert shown.exit_code == 1
    assert re.search(said, shown.output), shown.output


def test_the_plan_says_that_no_teacher_runs():
    write_params({"votes": {"smoothing": 1}})
    change(Path("params.yaml"), "student.model.input_shape", [12, 12, 3])
    shown = invoke("plan")
    assert shown.exit_code == 0, shown.output
    assert "No teacher runs" in shown.output
    assert "online" not in shown.output


def test_params_shows_votes_and_tables_with_their_meanings():
    write_params([{"votes": {"smoothing": 0.5}}, {"logits": "a.npz", "accuracy": 0.9}])
    shown = invoke("params").output
    assert re.search(r"smoothing: 0\.5", shown)
    assert re.search(r"# The path of a table of logits", shown)


@pytest.mark.parametrize("teacher", [{"votes": {"smoothing": 1}}, {"logits": "a.npz"}])
def test_views_are_rendered_in_the_students_size_without_a_model(teacher):
    write_params(teacher)
    assert arguments.size_of_views(arguments.all_params()) == (28, 28, 1)


def test_verify_compares_no_file_of_weights():
    model = MODEL.build(classes=2, seed=1)
    model.save_weights("teacher.weights.h5")
    take(GivenTeacher("teacher.weights.h5", weights_of=MODEL))
    compute()
    stated = [GivenTeacher("teacher.weights.h5", weights_of=MODEL)]
    expected = verify.Parameters(UNTOUCHED, Dense("float32"), "float32", DEFAULT_RESIZE, stated)
    assert "given" not in [check.name for check in verify.verify(LOGITS, INDEX, TEACHER, LOGITS, expected, 4.0)]


@pytest.mark.slow
def test_logits_in_a_table_give_the_student_of_their_teacher(reproduced, tmp_path):
    """The small project's own logits come back as a table: by the real DVC, to the report, byte for byte."""
    project = copy_without(reproduced, tmp_path / "project")
    student, metrics = project / "models/students/kl_T4_seed1.keras", project / "results/metrics.json"
    before, models = sha256(student), json.loads(metrics.read_text())["models"]
    ids, views, logits = [], [], []
    with h5py.File(project / "data/soft_labels/teacher_logits.h5") as file:
        class_names = [text.decode() for text in file["class_names"][:]]
        for name in ("train", "val", "test"):
            for view, of_view in enumerate(file[f"{name}/logits"][:]):
                ids += [text.decode() for text in file[f"{name}/id"][:]]
                views += [view] * len(of_view)
                logits += [*of_view]
    np.savez(project / "logits.npz", ids=ids, views=views, logits=np.array(logits), class_names=class_names)
    change(project / "params.yaml", "train_teacher", {"logits": "logits.npz"})
    for stage in ("export", "measure_exports"):  # of the same student
        change(project / "dvc.yaml", f"stages.{stage}.frozen", True)
    ran = stages_run(run("dvc", "repro", cwd=project))
    assert {"train_teacher", "precompute", "train_student@kl-4-1", "evaluate", "report", "model_card"} <= set(ran)
    assert "train_baseline@1" not in ran
    assert sha256(student) == before
    now = json.loads(metrics.read_text())["models"]
    for model in ("teacher", "baseline", "student_kl_T4"):
        assert now[model]["quality"] == models[model]["quality"]
    assert "not known" in (project / "results/report.html").read_text(encoding="utf-8")
    softlabel(["verify", "data/soft_labels/soft_targets_T4.h5"], ["table"], cwd=project)
