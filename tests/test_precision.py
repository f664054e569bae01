"""Mixed precision: which layers compute in 16 bits, how far the logits move, and that no file mixes precisions."""

import json
import math
import re
import shutil
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from conftest import MODEL, copy_here
from described_model import described_model
from real_project import ROOT, change
from soft_label_files import INDEX as FILE_INDEX
from soft_label_files import edit, provenance_of, write_both, write_logits

from pipeline.cli.main import main
from pipeline.distillation.loss import DistillationLoss
from pipeline.images.index import fingerprint_of
from pipeline.images.views import UNTOUCHED, Augmentation, Views
from pipeline.inference.forward import Forward
from pipeline.models import keras_files
from pipeline.models.ensembles import save_ensemble
from pipeline.params.reading import read_params
from pipeline.runtime.errors import DamagedError, MismatchError, ParameterError, UnusableError
from pipeline.soft_labels.logit_storage import Dense
from pipeline.soft_labels.reading import open_logits, open_soft_targets
from pipeline.stages import precompute, soften, train_student
from pipeline.teacher_pass import labelling
from pipeline.teacher_pass.earlier_logits import open_earlier
from pipeline.teacher_pass.precision import difference, lower
from pipeline.training.recipe import Phase, Recipe

INDEX, TEACHER, LOGITS = Path("data/index.csv"), Path("models/teacher.keras"), Path("logits.h5")
VIEWS = Views(3, 5, Augmentation(rotation=0.1, brightness=0.1))
BITS = {"mixed_float16": 11, "mixed_bfloat16": 8}
"""Of the significand: IEEE 754 binary16, and the upper half of binary32."""

of_each = pytest.mark.parametrize("precision", sorted(BITS))


def dtype_of(precision: str) -> str:
    return precision.removeprefix("mixed_")


def leaves(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        else:
            yield layer


# Which layers


OPTIONS = {
    "cnn": {"filters": [2, 3], "downsampling": "max_pooling"},
    "mlp": {},
    "mobilenetv2": {"alpha": 0.35},
    "efficientnetb0": {},
}


def built(architecture: str, **options):
    settings = {"pooling": "avg" if architecture != "mlp" else "flatten", "batch_normalization": True, "dropout": 0.2}
    description = described_model(
        **(settings | OPTIONS[architecture] | options),
        architecture=architecture,
        input_shape=(32, 32, 3),
        weights=None,
        hidden_units=[4],
    )
    return description.build(classes=3, seed=1)


@pytest.mark.parametrize("architecture", sorted(OPTIONS))
def test_all_layers_but_the_first_and_last_compute_in_16_bits(architecture):
    model = built(architecture)
    before, dtypes = [weight.copy() for weight in model.get_weights()], [weight.dtype for weight in model.weights]
    for precision in BITS:
        lower(model, precision)
        in_full = {layer.name for layer in leaves(model) if layer.compute_dtype == "float32"}
        on_pixels = {layer.name for layer in leaves(model) if "input" in layer.name or layer.name.startswith("pixels")}
        on_pixels |= {layer.name for layer in leaves(model) if type(layer).__name__ in ("Rescaling", "Normalization")}
        assert in_full == on_pixels | {"logits"}
        assert {layer.compute_dtype for layer in leaves(model)} == {"float32", dtype_of(precision)}
    assert [weight.dtype for weight in model.weights] == dtypes
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@of_each
@pytest.mark.parametrize("tail", [[], [keras.layers.Dropout], [keras.layers.Identity, keras.layers.Flatten]], ids=len)
def test_layers_behind_the_logits_stay_in_float32(tail, precision):
    inner = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(5)])
    head = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(2), *(make(0.5) if make is keras.layers.Dropout
                             else make() for make in tail)])  # fmt: skip
    model = keras.Sequential([keras.Input((4, 4, 3)), inner, head])
    lower(model, precision)
    low = dtype_of(precision)
    assert [layer.compute_dtype for layer in inner.layers] == [low, low]
    assert [layer.compute_dtype for layer in head.layers] == [low, "float32", *["float32"] * len(tail)]


@of_each
def test_parts_of_layers_compute_in_16_bits_too(precision):
    tokens = keras.Input((6, 8))
    attention = keras.layers.MultiHeadAttention(2, 4)
    model = keras.Model(tokens, keras.layers.Dense(2)(keras.layers.Flatten()(attention(tokens, tokens))))
    lower(model, precision)
    parts = attention._flatten_layers()
    assert {part.compute_dtype for part in parts} == {dtype_of(precision)}


# How far the logits move


def two_layers(seed: int):
    """Rescaled pixels, a hidden layer of 64 numbers, five logits."""
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((4, 4, 3))
    features = keras.layers.Flatten()(keras.layers.Rescaling(1 / 127.5, -1.0)(pixels))
    hidden = keras.layers.Dense(64, "relu", name="hidden")(features)
    return keras.Model(pixels, keras.layers.Dense(5, name="logits")(hidden))


def images(count: int = 7) -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 255, (count, 4, 4, 3)).astype(np.float32)


def logits_of(model, pixels, batch_size=7):
    return np.concatenate(list(Forward(model, batch_size)([tf.constant(pixels)])))


@of_each
@pytest.mark.parametrize("seed", range(2))
def test_the_error_of_logits_is_within_16_bit_rounding(precision, seed):
    """A sum of n products of numbers rounded to u = 2^-bits is off by at most (n + 3) u of the sum of their sizes.

    That holds for any order and any precision of the accumulation that is not below that of the numbers (Higham,
    Accuracy and Stability, 3.1). ReLU adds nothing, and the logits are sums of the hidden numbers' errors.
    """
    model, pixels = two_layers(seed), images()
    full = logits_of(model, pixels)
    kernel, _, logits_kernel, _ = model.get_weights()
    lower(model, precision)
    lowered = logits_of(model, pixels)
    features = np.abs(pixels.reshape(7, 48) / 127.5 - 1.0)
    unit = 2.0 ** -BITS[precision]
    of_hidden = (48 + 3) * unit * (features @ np.abs(kernel))
    bound = of_hidden @ np.abs(logits_kernel) + 1e-5
    errors = np.abs(lowered - full)
    assert (errors <= bound).all()
    assert errors.max() > unit / 16, "nothing was rounded"


def test_float16_is_nearer_than_bfloat16():
    pixels = images()
    errors = {}
    for precision in BITS:
        model = two_layers(1)
        full = logits_of(model, pixels)
        lower(model, precision)
        errors[precision] = np.abs(logits_of(model, pixels) - full).mean()
    assert 2 < errors["mixed_bfloat16"] / errors["mixed_float16"] < 32  # three bits: about eight times


@of_each
def test_logits_are_float32_and_finer_than_16_bits(precision):
    model = two_layers(1)
    lower(model, precision)
    logits = logits_of(model, images())
    assert logits.dtype == np.float32
    rounded = tf.cast(tf.cast(logits, dtype_of(precision)), tf.float32).numpy()
    assert (rounded != logits).mean() > 0.5


def test_the_difference_is_told_in_six_numbers():
    full = np.array([[1.0, 2.0, -3.0], [0.5, 0.25, 0.0]], np.float32)
    lowered = np.array([[1.0, 2.5, -3.25], [0.0, 0.25, 0.0]], np.float32)
    # Two images, the range of the logits, the largest and the mean difference, one image with another largest class.
    assert re.findall(r"-?\d+(?:\.\d+)?", difference(lowered, full)) == ["2", "-3", "2", "0.5", "0.208", "1"]


# The stage


def make_teacher(path: Path = TEACHER, seed: int = 1, record=None) -> None:
    keras_files.save(MODEL.build(classes=2, seed=seed), path, record)


def label(precision="float32", views=VIEWS, previous=(), output=LOGITS) -> bytes:
    precompute.run(
        index=INDEX,
        teacher=TEACHER,
        views=views,
        stored_as=Dense("float32"),
        batch_size=4,
        precision=precision,
        previous=list(previous),
        output=output,
    )
    return output.read_bytes()


@pytest.fixture(scope="module")
def labelled(split_once, tmp_path_factory):
    """A folder with the file of logits of each precision, named after it, and what `label` said to stderr of each."""
    folder, said = tmp_path_factory.mktemp("labelled"), {}
    with pytest.MonkeyPatch.context() as patch:
        copy_here(split_once, folder, patch)
        for precision in ("float32", *BITS):
            with redirect_stderr(StringIO()) as stderr:
                label(precision, output=Path(f"{precision}.h5"))
            said[precision] = stderr.getvalue()
    return folder, said


def take(labelled, precision):
    """Puts the file where `label` writes it, and returns its bytes."""
    shutil.copy(labelled[0] / f"{precision}.h5", LOGITS)
    return LOGITS.read_bytes()


@of_each
def test_the_file_names_the_precision_and_so_do_its_soft_labels(unlabelled, labelled, precision):
    take(labelled, precision)
    soften.run(logits=LOGITS, soft_targets=Path("soft_targets_T4.h5"), temperature=4.0)
    with open_logits(LOGITS) as logits, open_soft_targets(Path("soft_targets_T4.h5")) as targets:
        assert logits.provenance.precision == targets.provenance.precision == precision
    shown = CliRunner().invoke(main, ["inspect", str(LOGITS)]).stdout
    assert re.search(rf"^precision +{precision}$", shown, re.MULTILINE)


def test_a_float32_file_names_no_precision_and_keeps_its_bytes(labelled):
    with h5py.File(labelled[0] / "float32.h5") as file:
        assert "precision" not in file.attrs


@of_each
def test_the_logits_in_the_file_are_those_of_the_lowered_model(unlabelled, labelled, precision):
    take(labelled, precision)
    model = keras_files.load(TEACHER)
    lower(model, precision)
    with open_logits(LOGITS) as file:
        paths = [f"data/split/val/{label}/{name}" for name, label in zip(file.ids("val"), names(file), strict=True)]
        pixels = np.stack([keras.utils.img_to_array(keras.utils.load_img(path)) for path in paths])
        expected = logits_of(model, pixels, batch_size=4)
        np.testing.assert_array_equal(file.columns("val", 0)["logits"], expected)
    full = logits_of(keras_files.load(TEACHER), pixels[:4], batch_size=4)
    assert difference(expected[:4], full) in labelled[1][precision]


def names(file):
    return [file.provenance.class_names[number] for number in file.labels("val")]


def test_float32_says_nothing_of_precision(labelled):
    assert "precision" not in labelled[1]["float32"]


def test_an_overflow_of_float16_is_refused_with_the_remedy(unlabelled):
    model = MODEL.build(classes=2, seed=1)
    kernel, bias = model.get_layer("backbone").get_layer("conv1").get_weights()
    model.get_layer("backbone").get_layer("conv1").set_weights([kernel, bias + 1e5])
    keras_files.save(model, TEACHER)
    with pytest.raises(UnusableError, match=r" 4 view.*mixed_bfloat16 or float32"):
        label("mixed_float16", UNTOUCHED)
    assert not LOGITS.exists()
    label("mixed_bfloat16", UNTOUCHED)
    label("float32", UNTOUCHED)


def test_the_accuracy_is_compared_in_mixed_precision_too(unlabelled):
    data = precompute.read_index(INDEX)
    record = {"images": fingerprint_of(data.split("val")), "accuracy": 2.0}
    make_teacher(record={"class_names": data.class_names, "validation": record})
    with pytest.raises(MismatchError, match=r"teacher\.keras .* 2\.0000 "):
        label("mixed_bfloat16")


class Killed(BaseException):
    """Ends the work as abruptly as Python can."""


@pytest.mark.parametrize("batches", [1, 15])
def test_killed_it_goes_on_to_the_same_bytes(unlabelled, labelled, monkeypatch, batches):
    """In the first batch, which compares the precisions, and in the midst of the training images."""
    monkeypatch.setattr(labelling, "WRITING_SHARE", math.inf)  # every batch is written as it comes
    original, passes = Forward.__call__, []

    def until_killed(self, pixels):
        for logits in original(self, pixels):
            passes.append(len(logits))
            yield logits
            if len(passes) == batches:
                raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Forward, "__call__", until_killed)
        with pytest.raises(Killed):
            label("mixed_bfloat16")
    assert label("mixed_bfloat16") == (labelled[0] / "mixed_bfloat16.h5").read_bytes()


def test_unfinished_work_of_another_precision_is_not_continued(unlabelled, labelled, monkeypatch):
    def stop(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.teacher_pass.unfinished_logits.UnfinishedLogits.finish", stop)
        with pytest.raises(Killed):
            label()
    assert label("mixed_bfloat16") == (labelled[0] / "mixed_bfloat16.h5").read_bytes()


@pytest.mark.parametrize(("then", "now"), [("float32", "mixed_bfloat16"), ("mixed_bfloat16", "mixed_float16"),
                                           ("mixed_float16", "float32")])  # fmt: skip
def test_rows_of_another_precision_are_not_taken(unlabelled, labelled, capsys, then, now):
    folder, _ = labelled
    assert label(now, previous=[folder / f"{then}.h5"]) == (folder / f"{now}.h5").read_bytes()
    assert "taken from the earlier file" not in capsys.readouterr().out


def test_an_earlier_file_of_another_precision_does_not_fit(tmp_path):
    provenance = provenance_of(FILE_INDEX, VIEWS, Dense("float32"))
    write_logits(tmp_path / "old.h5", views=VIEWS, precision="mixed_float16")
    with open_earlier([tmp_path / "old.h5"], provenance) as file:
        assert file is None
    with open_earlier([tmp_path / "old.h5"], replace(provenance, precision="mixed_float16")) as file:
        assert file is not None


@pytest.mark.parametrize("written", ["float32", "bfloat16", "mixed_int8"])
def test_a_precision_that_there_is_not_is_no_sound_file(tmp_path, written):
    logits, _ = write_both(tmp_path)
    edit(logits, lambda file: file.attrs.__setitem__("precision", written))
    with pytest.raises(DamagedError, match=f"logits\\.h5 .*'{written}'.*dvc repro"), open_logits(logits):
        pass


def test_a_student_refuses_soft_labels_of_another_precision(unlabelled, labelled):
    take(labelled, "mixed_bfloat16")
    soften.run(logits=LOGITS, soft_targets=Path("T4.h5"), temperature=4.0)
    take(labelled, "float32")
    with pytest.raises(MismatchError, match=r"T4\.h5 .*other logits.*dvc repro"):
        train_student.run(
            index=INDEX,
            soft_targets=Path("T4.h5"),
            logits=LOGITS,
            views=VIEWS,
            loss=DistillationLoss(4.0, 0.5),
            model=MODEL,
            recipe=Recipe([Phase(1, 0.01, "all")], batch_size=8, seed=1),
            output=Path("student.keras"),
            history=Path("student.csv"),
        )


@pytest.mark.parametrize(("of_file", "expected"), [("mixed_bfloat16", "float32"), ("float32", "mixed_float16")])
def test_verify_says_that_the_precision_is_another(unlabelled, labelled, of_file, expected):
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    change(Path("params.yaml"), "precompute.precision", expected)
    take(labelled, of_file)
    shown = CliRunner().invoke(main, ["verify", str(LOGITS), "--json"])
    (check,) = [check for check in json.loads(shown.stdout)["checks"] if check["name"] == "params"]
    assert not check["ok"]
    assert f" {of_file}, expected {expected}" in check["detail"]
    change(Path("params.yaml"), "precompute.precision", of_file)
    shown = CliRunner().invoke(main, ["verify", str(LOGITS), "--json"])
    (check,) = [check for check in json.loads(shown.stdout)["checks"] if check["name"] == "params"]
    assert f" {of_file}, expected" not in check["detail"]


def test_every_member_of_an_ensemble_computes_in_mixed_precision(unlabelled, labelled, capsys):
    """The first is the teacher that was labelled alone."""
    for seed in (1, 2):
        make_teacher(Path(f"member{seed}.keras"), seed)
    save_ensemble([Path("member1.keras"), Path("member2.keras")], "logits", ["HP", "SSA"], TEACHER)
    label("mixed_float16", UNTOUCHED)
    assert capsys.readouterr().err.count("in mixed precision") == 2
    make_teacher(seed=2)
    label("mixed_float16", UNTOUCHED, output=Path("second.h5"))
    logits = []
    for path in (LOGITS, labelled[0] / "mixed_float16.h5", Path("second.h5")):
        with open_logits(path) as file:
            assert file.provenance.precision == "mixed_float16"
            logits.append(file.columns("val", 0)["logits"].astype(np.float64))
    together, *apart = logits
    np.testing.assert_array_equal(together, np.mean(apart, axis=0).astype(np.float32))


# params.yaml


def test_params_without_a_precision_are_refused_by_the_key(tmp_path):
    """DVC wants every key that a stage names one by one."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    lines = (tmp_path / "params.yaml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("  precision:")]
    assert len(kept) == len(lines) - 1
    (tmp_path / "params.yaml").write_text("\n".join(kept))
    with pytest.raises(ParameterError, match=r"precompute\.precision: missing"):
        read_params(tmp_path / "params.yaml")


def test_an_unknown_precision_is_refused_with_the_three(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    change(tmp_path / "params.yaml", "precompute.precision", "float16")
    with pytest.raises(ParameterError, match=r"precompute\.precision.*float32.*mixed_float16.*mixed_bfloat16"):
        read_params(tmp_path / "params.yaml")
