"""Several teachers as one: their average by hand and by SciPy, their file, their logits, and what a change costs."""

import hashlib
import json
import math
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
import scipy.special
from conftest import MODEL, copy_here, mhist_in, write_data_set
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from real_project import LOGITS as PROJECT_LOGITS
from real_project import change, copy_without, run, stages_run

from pipeline.cli import arguments
from pipeline.images.index import fingerprint_of, read_index
from pipeline.images.views import Augmentation, Views
from pipeline.inference.forward import Forward
from pipeline.models import keras_files
from pipeline.models.ensembles import average_of, load_teacher, save_ensemble
from pipeline.params.reading import read_params
from pipeline.runtime.errors import MismatchError, MissingError, ParameterError, UnusableError
from pipeline.soft_labels.logit_storage import Dense, TopK
from pipeline.stages import precompute, soften, split, train_teacher
from pipeline.stages.train_teacher import GivenTeacher
from pipeline.teacher_pass import labelling
from pipeline.training import fit
from pipeline.training.recipe import Phase, Recipe, TeacherToTrain

INDEX, TEACHER, LOGITS = Path("data/index.csv"), Path("models/teacher.keras"), Path("logits.h5")
CLASSES = ["HP", "SSA"]
FLOAT32 = Dense("float32")
VIEWS = {"train": 3, "val": 1, "test": 1}
BATCH = 2
of_each_average = pytest.mark.parametrize("average", ["logits", "probabilities"])


def mean_of(logits, average):
    """What an ensemble says, by NumPy and SciPy in double precision: (M, ..., C) become (..., C)."""
    exact = np.asarray(logits, np.float64)
    if average == "logits":
        return exact.mean(axis=0)
    return np.log(scipy.special.softmax(exact, axis=-1).mean(axis=0))


# The average of numbers


def test_the_mean_of_logits_by_hand():
    logits = np.array([[[1, 2, -1]], [[3, 6, 0]], [[2, 4, 4]]], np.float32)
    assert average_of(logits[:2], "logits").tolist() == [[2, 4, -0.5]]
    assert average_of(logits, "logits").tolist() == [[2, 4, 1]]


def test_the_mean_of_probabilities_by_hand():
    """(1/2, 1/2) and (3/4, 1/4) are (5/8, 3/8) on average; with (1/4, 3/4) too, (1/2, 1/2)."""
    logits = np.log(np.array([[[5, 5]], [[3, 1]], [[7, 21]]])).astype(np.float32)
    two, three = (average_of(logits[:count], "probabilities") for count in (2, 3))
    np.testing.assert_allclose(two, np.log([[5 / 8, 3 / 8]]), rtol=1e-6)
    np.testing.assert_allclose(three, np.log([[1 / 2, 1 / 2]]), rtol=1e-6)


@of_each_average
@pytest.mark.parametrize("count", [2, 3])
def test_the_average_is_that_of_scipy(average, count):
    logits = np.random.default_rng(count).normal(0, 5, (count, 50, 7)).astype(np.float32)
    found = average_of(logits, average)
    assert (found.dtype, found.shape) == (np.float32, (50, 7))
    np.testing.assert_allclose(found, mean_of(logits, average), rtol=2e-7, atol=1e-7)
    if average == "probabilities":
        in_logs = scipy.special.logsumexp(scipy.special.log_softmax(logits.astype(np.float64), axis=2), axis=0)
        np.testing.assert_allclose(found, in_logs - np.log(count), rtol=2e-7, atol=1e-7)


ROWS = arrays(np.float32, (3, 4, 5), elements=st.floats(-50, 50, width=32))


@given(ROWS, st.floats(0.25, 50))
def test_the_mean_of_logits_commutes_with_softening(logits, temperature):
    """softmax(mean / T) is the geometric mean of the members' softmax(z / T), normalised: docs/decisions.md."""
    softened = scipy.special.log_softmax(average_of(logits, "logits").astype(np.float64) / temperature, axis=1)
    of_members = scipy.special.log_softmax(logits.astype(np.float64) / temperature, axis=2).mean(axis=0)
    np.testing.assert_allclose(softened, scipy.special.log_softmax(of_members, axis=1), rtol=0, atol=5e-5)


@given(ROWS, arrays(np.float32, (3, 4, 1), elements=st.integers(-50, 50)))
def test_the_mean_of_probabilities_ignores_offsets_of_logits(logits, offsets):
    found = average_of(logits, "probabilities")
    np.testing.assert_allclose(np.exp(found.astype(np.float64)).sum(axis=1), 1, rtol=0, atol=1e-5)
    np.testing.assert_allclose(average_of(logits + offsets, "probabilities"), found, rtol=0, atol=5e-5)


@of_each_average
@given(ROWS)
def test_the_order_of_the_members_is_nothing_to_the_average(average, logits):
    np.testing.assert_allclose(
        average_of(logits[[2, 0, 1]], average), average_of(logits, average), rtol=1e-6, atol=1e-6
    )


LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("average", "members", "expected"),
    [
        ("logits", [[LARGEST, -LARGEST]] * 2, [LARGEST, -LARGEST]),
        ("logits", [[LARGEST, LARGEST], [LARGEST, -LARGEST]], [LARGEST, 0]),
        ("probabilities", [[1e4, -1e4], [-1e4, 1e4]], [np.log(0.5)] * 2),
        ("probabilities", [[1e4, -1e4]] * 2, [0, -2e4]),
        ("probabilities", [[1e30, 0], [0, 0], [0, 0]], [np.log(2 / 3), np.log(1 / 3)]),
    ],
)
def test_extreme_logits_stay_finite(average, members, expected):
    found = average_of(np.array(members, np.float32)[:, None], average)
    np.testing.assert_allclose(found, np.array([expected], np.float32), rtol=1e-6)


# The file


def member(path, seed, **changes):
    """An untrained member's `.keras` file."""
    keras_files.save(replace(MODEL, **changes).build(classes=2, seed=seed), Path(path))
    return Path(path)


def ensemble(*seeds, average="logits", path=TEACHER):
    files = [member(f"member_{seed}.keras", seed) for seed in seeds]
    save_ensemble(files, average, CLASSES, path)
    return files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


@pytest.mark.parametrize(("average", "count"), [("logits", 2), ("probabilities", 3)])
def test_plain_keras_loads_the_mean_of_what_the_members_give(folder, average, count):
    files = ensemble(*range(1, count + 1), average=average)
    model = keras.saving.load_model(TEACHER, safe_mode=True)
    pixels = np.random.default_rng(0).uniform(0, 255, (5, 12, 12, 3)).astype(np.float32)
    said = [keras.saving.load_model(file)(pixels).numpy() for file in files]
    np.testing.assert_allclose(model(pixels).numpy(), mean_of(said, average), rtol=1e-5, atol=1e-6)
    assert np.ptp(said, axis=0).min() > 1e-4  # the members differ
    assert model.count_params() == count * keras.saving.load_model(files[0]).count_params()


def test_members_of_several_architectures_agree_on_grey_images(folder):
    shape = {"input_shape": (8, 8, 1)}
    files = [
        member("cnn.keras", 1, **shape),
        member("deep.keras", 2, **shape, filters=[3, 2], hidden_units=[5], dropout=0.5, batch_normalization=True),
    ]
    save_ensemble(files, "probabilities", CLASSES, TEACHER)
    pixels = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 1)).astype(np.float32)
    said = [keras.saving.load_model(file)(pixels).numpy() for file in files]
    found = keras.saving.load_model(TEACHER)(pixels).numpy()
    np.testing.assert_allclose(found, mean_of(said, "probabilities"), rtol=1e-5, atol=1e-6)


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@of_each_average
def test_the_file_names_its_members_by_their_own_files(folder, average):
    record = {"class_names": CLASSES, "validation": {"images": "ab" * 32, "accuracy": 0.75}}
    files = [member("member_1.keras", 1), Path("member_2.keras")]
    keras_files.save(MODEL.build(classes=2, seed=2), files[1], record)
    save_ensemble(files, average, CLASSES, TEACHER)
    with zipfile.ZipFile(TEACHER) as archive:
        found = json.loads(archive.read("softlabel.json"))
    assert found == {
        "class_names": CLASSES,
        "average": average,
        "members": [
            {"name": "cnn", "sha256": sha256("member_1.keras"), "record": None},
            {"name": "cnn", "sha256": sha256("member_2.keras"), "record": record},
        ],
    }


@of_each_average
def test_equal_members_give_equal_bytes_unless_reordered(folder, average):
    files = ensemble(1, 2, average=average)
    keras.layers.Dense(3)(keras.Input((4,)))  # Keras counts what it names
    save_ensemble(files, average, CLASSES, Path("again.keras"))
    save_ensemble(files[::-1], average, CLASSES, Path("turned.keras"))
    assert Path("again.keras").read_bytes() == TEACHER.read_bytes() != Path("turned.keras").read_bytes()


def test_a_loaded_ensemble_is_taken_apart_into_its_members(folder):
    files = ensemble(3, 4, average="probabilities")
    model, teachers, average = load_teacher(TEACHER, CLASSES)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 12, 12, 3)).astype(np.float32)
    assert (model.name, average, len(teachers)) == ("ensemble", "probabilities", 2)
    for number, (teacher, file) in enumerate(zip(teachers, files, strict=True)):
        assert teacher.described == f"member {number} of models/teacher.keras (cnn)"
        assert teacher.sha256 == sha256(file)
        alone = keras.saving.load_model(file)(pixels).numpy()
        np.testing.assert_array_equal(teacher.model(pixels).numpy(), alone)


@pytest.mark.parametrize("shape", [(8, 12, 3), (12, 12, 1)], ids=["height", "channels"])
def test_members_of_another_input_size_are_refused(folder, shape):
    files = [member("one.keras", 1), member("two.keras", 2, input_shape=shape)]
    with pytest.raises(MismatchError) as refused:
        save_ensemble(files, "logits", CLASSES, TEACHER)
    message = str(refused.value)
    assert f"[(12, 12, 3), {shape}]" in message
    assert "input_shape" in message
    assert not TEACHER.parent.exists()


def test_a_member_with_other_classes_is_refused_by_name(folder):
    files = [member("one.keras", 1), Path("three.keras")]
    keras_files.save(MODEL.build(classes=3, seed=1), files[1])
    with pytest.raises(MismatchError, match=r"^three\.keras .*3 logits.* 2 classes"):
        save_ensemble(files, "logits", CLASSES, TEACHER)
    assert not TEACHER.parent.exists()


def test_a_member_that_gives_probabilities_is_named(folder):
    keras.utils.set_random_seed(1)
    layers = [keras.Input((12, 12, 3)), keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
    keras.Sequential(layers, name="softened").save("softmax.keras")
    save_ensemble([member("one.keras", 1), Path("softmax.keras")], "logits", CLASSES, TEACHER)
    with pytest.raises(UnusableError, match=r"^member 1 of models/teacher\.keras \(softened\) .*probabilities"):
        load_teacher(TEACHER, CLASSES)


# The logits


def make_split(data_set):
    split.run(
        layout="mhist",
        settings=mhist_in(data_set),
        split_folder=Path("data/split"),
        index=INDEX,
    )


def compute(output=LOGITS, teacher=TEACHER, stored_as=FLOAT32):
    precompute.run(
        index=INDEX,
        teacher=Path(teacher),
        views=Views(VIEWS["train"], 5, Augmentation(translation=0.2)),
        stored_as=stored_as,
        batch_size=BATCH,
        previous=[],
        output=Path(output),
    )
    return Path(output).read_bytes()


def compute_from_scratch(**options):
    """The file as it is made where no earlier work lies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", "scratch")
        return compute("scratch.h5", **options)


@pytest.fixture(scope="module")
def computed(split_once, tmp_path_factory):
    """A split data set, three members, the logits of each and of ensembles, and soft targets; to be copied.

    The logits of each member are computed twice: alone, and for all ensembles together.
    """
    folder = tmp_path_factory.mktemp("computed")
    with pytest.MonkeyPatch.context() as patch:
        copy_here(split_once, folder, patch)
        for number, file in enumerate(ensemble(1, 2, 3)):
            compute(f"alone_{number}.h5", file)
        for name, stored_as in (("of_three", FLOAT32), ("half", Dense("float16")), ("top", TopK(1, "float32"))):
            Path(f"{name}.h5").write_bytes(compute(stored_as=stored_as))
        for average in ("probabilities", "logits"):
            ensemble(1, 2, average=average)
            Path(f"{average}.h5").write_bytes(compute())
            soften.run(logits=Path(f"{average}.h5"), soft_targets=Path(f"{average}_T4.h5"), temperature=4.0)
    return folder


@pytest.fixture
def read_only(computed, monkeypatch):
    monkeypatch.chdir(computed)
    monkeypatch.delenv("DVC_ROOT", raising=False)


@pytest.fixture
def project(computed, folder):
    """A copy, in which the logits of the members 1 and 2 are known."""
    shutil.copytree(computed, folder, dirs_exist_ok=True)


def columns(path, stored="logits"):
    """Of all views of all splits, by split, with plain h5py."""
    with h5py.File(path) as file:
        return {name: file[name][stored][...] for name in VIEWS}


def of_members(count):
    """The logits of each member, computed as those of a teacher of its own: by split, (M, V, N, C)."""
    alone = [columns(f"alone_{number}.h5") for number in range(count)]
    return {name: np.stack([logits[name] for logits in alone]) for name in VIEWS}


def mean_of_members(count):
    """NumPy's mean in double precision, rounded to single."""
    return {
        name: logits.mean(axis=0, dtype=np.float64).astype(np.float32) for name, logits in of_members(count).items()
    }


@pytest.mark.parametrize(("path", "count"), [("logits.h5", 2), ("of_three.h5", 3)])
def test_logits_are_numpys_mean_of_the_members_bit_for_bit(read_only, path, count):
    found, expected = columns(path), mean_of_members(count)
    for name in VIEWS:
        np.testing.assert_array_equal(found[name], expected[name])
        assert np.ptp(of_members(count)[name], axis=0).min() > 0  # the members differ everywhere


def test_logits_of_the_mean_of_probabilities_are_its_logarithm(read_only):
    found = columns("probabilities.h5")
    for name, logits in of_members(2).items():
        np.testing.assert_allclose(found[name], mean_of(logits, "probabilities"), rtol=1e-6)


def test_in_half_precision_the_mean_is_rounded_once(read_only):
    found = columns("half.h5")
    for name, mean in mean_of_members(3).items():
        np.testing.assert_array_equal(found[name], mean.astype(np.float16))
    rounded_first = of_members(3)["train"].astype(np.float16).astype(np.float64).mean(axis=0).astype(np.float16)
    assert (rounded_first != found["train"]).any()


def test_of_the_mean_the_largest_are_kept(read_only):
    """Of two classes: the larger logit, and the other as the mean of the rest."""
    index, value, rest = (columns("top.h5", name) for name in ("index", "value", "tail_mean"))
    for name, mean in mean_of_members(3).items():
        np.testing.assert_array_equal(index[name][..., 0], mean.argmax(axis=-1))
        np.testing.assert_array_equal(value[name][..., 0], mean.max(axis=-1))
        np.testing.assert_array_equal(rest[name], mean.min(axis=-1))


@of_each_average
def test_logits_and_soft_targets_name_average_and_members(read_only, average):
    members = [{"teacher": "cnn", "teacher_sha256": sha256(f"member_{seed}.keras")} for seed in (1, 2)]
    for path in (f"{average}.h5", f"{average}_T4.h5"):
        with h5py.File(path) as file:
            assert json.loads(file.attrs["ensemble"]) == {"average": average, "members": members}
            assert file.attrs["teacher"] == "ensemble"
    with h5py.File(LOGITS) as file:
        assert file.attrs["teacher_sha256"] == sha256(TEACHER)


@of_each_average
def test_soft_targets_are_the_softened_average(read_only, average):
    found = columns(f"{average}_T4.h5", "soft")
    for name, logits in of_members(2).items():
        expected = scipy.special.softmax(mean_of(logits, average) / 4, axis=-1)
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)


def test_a_teacher_that_is_one_model_has_no_such_attribute(read_only):
    with h5py.File("alone_0.h5") as file:
        assert "ensemble" not in file.attrs
        assert file.attrs["teacher"] == "cnn"


def test_precompute_refuses_a_member_that_gives_probabilities(project):
    keras.utils.set_random_seed(1)
    layers = [keras.Input((12, 12, 3)), keras.layers.Flatten(), keras.layers.Dense(2), keras.layers.Softmax()]
    keras.Sequential(layers, name="softened").save("softmax.keras")
    save_ensemble([Path("member_1.keras"), Path("softmax.keras")], "logits", CLASSES, TEACHER)
    with pytest.raises(UnusableError, match=r"^member 1 of models/teacher\.keras \(softened\) gives probabilities"):
        compute("new.h5")
    assert not Path("new.h5").exists()


def test_a_member_less_accurate_than_when_trained_is_named(project):
    data = read_index(INDEX)
    validation = {"images": fingerprint_of(data.split("val")), "accuracy": 2.0}  # as no model can be
    record = {"class_names": CLASSES, "validation": validation}
    keras_files.save(MODEL.build(classes=2, seed=7), Path("better.keras"), record)
    save_ensemble([Path("member_1.keras"), Path("better.keras")], "logits", CLASSES, TEACHER)
    with pytest.raises(MismatchError, match=r"^member 1 of models/teacher\.keras \(cnn\) .* 2\.0"):
        compute("new.h5")
    assert not Path("new.h5").exists()


# What a change costs, in forward passes


class Killed(BaseException):
    """Ends the work as abruptly as Python can."""


@pytest.fixture
def passes(monkeypatch):
    """The images of each forward pass."""
    return count_passes(monkeypatch)


def count_passes(monkeypatch, kill_after=10**6):
    counts = []
    original = Forward.__call__

    def counted(self, pixels):
        for logits in original(self, pixels):
            counts.append(len(logits))
            yield logits
            if len(counts) == kill_after:
                raise Killed

    monkeypatch.setattr(Forward, "__call__", counted)
    return counts


def images(name):
    return int((pd.read_csv(INDEX)["split"] == name).sum())


def views():
    """How many there are in all."""
    return sum(count * images(name) for name, count in VIEWS.items())


def sampled():
    """Views that are computed again to see whether earlier ones hold: a batch of each view of each split."""
    return sum(count * min(BATCH, images(name)) for name, count in VIEWS.items())


def test_killed_in_both_members_it_goes_on_to_the_same_bytes(project, monkeypatch):
    """Each of the two takes 42 forward passes."""
    monkeypatch.setattr(labelling, "WRITING_SHARE", math.inf)  # every batch is written as it comes
    shutil.rmtree(".work")
    whole = LOGITS.read_bytes()
    LOGITS.unlink()
    computed = 0
    for kill_after in (9, 60 - 9):
        with monkeypatch.context() as patch:
            counts = count_passes(patch, kill_after)
            with pytest.raises(Killed):
                compute()
        computed += sum(counts)
        assert not LOGITS.exists()
    after = count_passes(monkeypatch)
    assert compute() == whole
    assert 2 * views() <= computed + sum(after) <= 2 * (views() + BATCH)
    assert sum(after) < views()


def test_killed_while_it_averages_it_computes_no_logits_again(project, passes, monkeypatch):
    shutil.rmtree(".work/logits.h5")
    whole = LOGITS.read_bytes()
    LOGITS.unlink()
    averages = []

    def killed(logits, average):
        averages.append(average_of(logits, average))
        if len(averages) == 3:
            raise Killed
        return averages[-1]

    with monkeypatch.context() as patch:
        patch.setattr(precompute, "average_of", killed)
        with pytest.raises(Killed):
            compute()
    assert not LOGITS.exists()
    assert compute() == whole
    assert passes == []


def test_a_changed_member_costs_its_own_views(project, passes):
    before = LOGITS.read_bytes()
    ensemble(1, 5)
    assert compute() != before  # test_dvc_trains_and_runs_the_changed_member_alone compares with a run from scratch
    assert sum(passes) == views()


def test_another_average_or_storage_costs_no_pass(project, passes):
    """The files were made in another order."""
    ensemble(1, 2, average="probabilities")
    assert compute() == Path("probabilities.h5").read_bytes()
    ensemble(1, 2)
    assert compute() == Path("logits.h5").read_bytes()
    compute(stored_as=Dense("float16"))
    assert passes == []
    for name, mean in mean_of_members(2).items():
        np.testing.assert_array_equal(columns(LOGITS)[name], mean.astype(np.float16))


def test_added_images_cost_their_own_views_of_every_member(project, passes):
    before, old, again = set(pd.read_csv(INDEX)["id"]), views(), sampled()
    write_data_set(Path("more"), per_class=24)
    make_split(Path("more"))
    assert before < set(pd.read_csv(INDEX)["id"])
    grown = compute()
    assert sum(passes) == 2 * (views() - old + again)
    assert grown == compute_from_scratch()


# Training


def to_train(seed, **changes):
    return TeacherToTrain(
        replace(MODEL, **changes), Recipe([Phase(2, 0.01, "all")], batch_size=8, seed=seed), Augmentation()
    )


def teach(*teachers, average="logits", output=TEACHER):
    history = Path(output).with_suffix(".csv")
    train_teacher.run(index=INDEX, teachers=teachers, average=average, output=Path(output), history=history)
    return pd.read_csv(history)


@pytest.fixture(scope="module")
def trained(split_once, tmp_path_factory):
    """A split data set and an ensemble of two that were trained; to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        copy_here(split_once, folder, patch)
        teach(to_train(1), to_train(2))
    return folder


@pytest.fixture
def taught(trained, folder):
    shutil.copytree(trained, folder, dirs_exist_ok=True)


def test_a_member_is_trained_as_if_it_were_alone(taught):
    """Its file is that of a teacher of its own, bit for bit, and so are its curves."""
    history = pd.read_csv(TEACHER.with_suffix(".csv"))
    assert list(history.columns[:3]) == ["member", "epoch", "phase"]
    assert history["member"].tolist() == [0, 0, 1, 1]
    alone = teach(to_train(2), output="alone.keras")
    second = keras_files.read_record(TEACHER)["members"][1]
    record = keras_files.read_record(Path("alone.keras"))
    assert second == {"name": "cnn", "sha256": sha256("alone.keras"), "record": record}
    of_member = history[history["member"] == 1].drop(columns="member").reset_index(drop=True)
    pd.testing.assert_frame_equal(of_member, alone)


def test_a_kill_in_the_second_member_does_not_repeat_the_first(taught, monkeypatch, capsys):
    whole = TEACHER.read_bytes()
    shutil.rmtree("models")
    shutil.rmtree(".work")
    original, begun = fit.train, []

    def killed(*arguments):
        begun.append(arguments)
        if len(begun) == 2:
            raise Killed
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "train", killed)
        with pytest.raises(Killed):
            teach(to_train(1), to_train(2))
    assert not TEACHER.exists()
    capsys.readouterr()
    teach(to_train(1), to_train(2))
    assert epochs_told(capsys.readouterr().err) == ["1", "2"]
    assert TEACHER.read_bytes() == whole


def epochs_told(said):
    return re.findall(r"^epoch (\d)/2 ", said, re.MULTILINE)


def test_a_changed_average_trains_nothing(taught, capsys):
    members = keras_files.read_record(TEACHER)["members"]
    teach(to_train(1), to_train(2), average="probabilities")
    assert epochs_told(capsys.readouterr().err) == []
    changed = {"class_names": CLASSES, "average": "probabilities", "members": members}
    assert keras_files.read_record(TEACHER) == changed


def test_members_of_unequal_sizes_are_refused_before_training(taught, capsys):
    shutil.rmtree("models")
    with pytest.raises(MismatchError, match=r"\(12, 12, 3\), \(8, 8, 3\).* input_shape"):
        teach(to_train(7), to_train(8, input_shape=(8, 8, 3)))
    assert epochs_told(capsys.readouterr().err) == []
    assert not TEACHER.parent.exists()


def test_a_missing_given_member_is_found_before_training(taught, capsys):
    shutil.rmtree("models")
    with pytest.raises(MissingError, match=r"absent\.keras"):
        teach(to_train(7), GivenTeacher("absent.keras", None))
    assert epochs_told(capsys.readouterr().err) == []
    assert not TEACHER.parent.exists()


def test_a_member_in_another_place_is_not_trained_again(taught, capsys):
    members = keras_files.read_record(TEACHER)["members"]
    history = teach(to_train(2), to_train(1))
    assert epochs_told(capsys.readouterr().err) == []
    assert keras_files.read_record(TEACHER)["members"] == members[::-1]
    assert history["member"].tolist() == [0, 0, 1, 1]


def test_the_same_teacher_twice_is_refused(taught):
    with pytest.raises(ParameterError, match=r"two teachers .* the same"):
        teach(to_train(1), to_train(2), to_train(1))


# With the real dvc


@pytest.mark.slow
def test_dvc_trains_and_runs_the_changed_member_alone(reproduced, tmp_path, monkeypatch):
    """The files are those of a run that knew no member."""
    project = copy_without(reproduced, tmp_path / "project", ".work")
    params, files = project / "params.yaml", [TEACHER, Path("results/history/teacher.csv"), PROJECT_LOGITS]
    change(params, "views.count", 2)
    change(params, "precompute.batch_size", 16)
    change(params, "train_teacher.phases", [{"epochs": 2, "learning_rate": 0.01, "trainable_from": "all"}])
    in_full = read_params(params).train_teacher.model_dump(mode="json")
    monkeypatch.chdir(project)
    monkeypatch.setenv("DVC_ROOT", str(project))

    change(params, "train_teacher", [in_full, in_full | {"seed": 3}])
    train_and_run()
    from_scratch = [path.read_bytes() for path in files]
    change(params, "train_teacher", [in_full, in_full | {"seed": 2}])
    train_and_run()
    assert [path.read_bytes() == of_others for path, of_others in zip(files, from_scratch, strict=True)] == [False] * 3

    change(params, "train_teacher", [in_full, in_full | {"seed": 3}])
    said = run("dvc", "repro", "precompute", cwd=project)
    assert stages_run(said) == ["train_teacher", "precompute"]
    assert epochs_told(said) == ["1", "2"]
    assert members_computed(said) == [1]
    assert [path.read_bytes() for path in files] == from_scratch


def train_and_run():
    """As `dvc repro precompute`, but in this process."""
    values = read_params(Path("params.yaml"))
    teachers, average = arguments.teachers(values.train_teacher)
    history = Path("results/history/teacher.csv")
    train_teacher.run(index=INDEX, teachers=teachers, average=average, output=TEACHER, history=history)
    precompute.run(
        index=INDEX,
        teacher=TEACHER,
        views=values.views,
        stored_as=values.precompute.storage,
        batch_size=values.precompute.batch_size,
        previous=[],
        output=PROJECT_LOGITS,
    )


def members_computed(said):
    """The members of which views were computed, as `precompute` tells them."""
    told = re.split(r"^precompute: member (\d+) of models/teacher\.keras \(cnn\)$", said, flags=re.MULTILINE)
    return [int(number) for number, rest in zip(told[1::2], told[2::2], strict=True) if "precompute: done" in rest]
