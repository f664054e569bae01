"""How images are resized: as Keras' loader does, as the closed forms say, and the same in every stage."""

import json
import re
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import get_args

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from click.testing import CliRunner
from conftest import MODEL, write_data_set
from real_project import ROOT, inside
from ruamel.yaml import YAML
from soft_label_files import INDEX, write_both

from pipeline.cli.main import main
from pipeline.images import decoded_images, decoding
from pipeline.images.decoding import decode
from pipeline.images.index import read_index
from pipeline.images.resize import DEFAULT_RESIZE, Fit, Method, Resize, other_pixels, preprocessing
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import DamagedError
from pipeline.soft_labels.identity import Expected, differences
from pipeline.soft_labels.reading import open_logits, open_soft_targets

METHODS, FITS = get_args(Method), get_args(Fit)
OTHER = Resize("bicubic", False, "crop")
SIZES = [(20, 33), (40, 17), (64, 64), (9, 90), (13, 11)]
"""Of files: wider, higher, and smaller than the models' inputs."""


def pictures(sizes=SIZES):
    return [
        np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8) for number, size in enumerate(sizes)
    ]


def decoded(pixels, input_shape, resize):
    """One image, or a list of images, decoded in a graph that does not know the files' sizes, as in a stage."""
    several = pixels if isinstance(pixels, list) else [pixels]
    files = tf.data.Dataset.from_tensor_slices([tf.io.encode_png(each).numpy() for each in several])
    images = [*files.map(lambda content: decode(content, input_shape, resize)).as_numpy_iterator()]
    return images if isinstance(pixels, list) else images[0]


def in_uint8(pixels):
    return np.clip(np.round(np.asarray(pixels)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for number, pixels in enumerate(pictures()):
        PIL.Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("method", "fit"),
    [*product(METHODS, ["stretch"]), *product(["nearest", "bilinear", "lanczos3"], ["crop", "pad"]), ("area", "pad")],
)
def test_pixels_are_those_of_keras_own_loader(folder, method, fit):
    """Rounded to uint8; without antialiasing, which it does not know, nor an area that is cropped."""
    loaded = keras.utils.image_dataset_from_directory(
        folder, labels=None, image_size=(16, 24), batch_size=None, shuffle=False, verbose=False, interpolation=method,
        crop_to_aspect_ratio=fit == "crop", pad_to_aspect_ratio=fit == "pad",
    )  # fmt: skip
    actual = decoded(pictures(), (16, 24, 3), Resize(method, False, fit))
    for expected, pixels in zip(loaded.as_numpy_iterator(), actual, strict=True):
        np.testing.assert_array_equal(pixels, in_uint8(expected))


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "lanczos3"])
@pytest.mark.parametrize("antialias", [True, False])
def test_antialiasing_is_that_of_tensorflow(method, antialias):
    """Of a part that is cut out by hand: of 40 x 17 pixels, 17 x 17 from row 11 on; of 20 x 33, from column 6 on."""
    wide, high = pictures()[:2]
    cropped = decoded([wide, high], (10, 10, 3), Resize(method, antialias, "crop"))
    for found, middle in zip(cropped, (wide[:, 6:26], high[11:28]), strict=True):
        assert middle.shape[0] == middle.shape[1]
        expected = tf.image.resize(middle, (10, 10), method, antialias=antialias)
        np.testing.assert_array_equal(found, in_uint8(expected))
    expected = tf.image.resize(wide, (10, 10), method, antialias=antialias)
    np.testing.assert_array_equal(decoded(wide, (10, 10, 3), Resize(method, antialias, "stretch")), in_uint8(expected))


def test_crop_stretch_and_pad_of_twelve_pixels_are_those_by_hand():
    """Two rows of six pixels, each of its own value, brought to 2 x 2 and to 6 x 6."""
    pixels = np.arange(1, 13, dtype=np.uint8).reshape(2, 6, 1).repeat(3, axis=2)
    nearest = {fit: Resize("nearest", False, fit) for fit in FITS}
    assert decoded(pixels, (2, 2, 1), nearest["crop"])[..., 0].tolist() == [[3, 4], [9, 10]]
    assert decoded(pixels, (2, 2, 1), nearest["stretch"])[..., 0].tolist() == [[2, 5], [8, 11]]
    padded = decoded(pixels, (6, 6, 1), nearest["pad"])[..., 0]
    assert padded[2:4].tolist() == pixels[..., 0].tolist()
    assert not padded[[0, 1, 4, 5]].any()


def test_a_line_stays_a_line():
    line = np.full((1, 1000, 3), 200, np.uint8)
    padded = decoded(line, (10, 10, 3), Resize("bilinear", True, "pad"))
    assert [row.tolist() for row in padded[:, :, 0]] == [[0] * 10] * 4 + [[200] * 10] + [[0] * 10] * 5
    assert (decoded(line, (10, 10, 3), Resize("bilinear", True, "crop")) == 200).all()


@pytest.mark.parametrize(("method", "fit"), [*zip(METHODS, FITS * 2, strict=False)])
def test_an_image_of_the_right_size_is_untouched_by_any_method(method, fit):
    """So decoding may leave out the resizer for such images."""
    channels = 1 if fit == "stretch" else 3
    pixels = pictures([(12, 18)])[0][..., :channels]
    as_stored = np.repeat(pixels, 3, axis=2) if channels == 1 else pixels
    antialias = method not in ("nearest", "area")
    np.testing.assert_array_equal(decoded(as_stored, (12, 18, channels), Resize(method, antialias, fit)), pixels)
    as_float, size = tf.cast(pixels, tf.float32)[None], tf.constant([12, 18])
    through = tf.image.resize(as_float, size, method, antialias=antialias)
    np.testing.assert_array_equal(in_uint8(through)[0], pixels)


# Identity


def test_a_file_says_how_its_images_were_read():
    assert preprocessing((9, 7, 3), OTHER) == {
        "input_shape": [9, 7, 3],
        "decoder": "Pillow",
        "resize": {"method": "bicubic", "antialias": False, "fit": "crop"},
    }
    assert Resize.of_file(json.loads(json.dumps(preprocessing((9, 7, 3), OTHER)))) == OTHER


BEFORE = {"input_shape": [8, 6, 3], "resize": "bilinear, antialiased, rounded to uint8"}
"""What a file of an earlier version notes; its JPEG pixels differ from Pillow's."""


@pytest.mark.parametrize(
    ("stored", "difference"),
    [
        (preprocessing((8, 6, 3), OTHER), None),
        (preprocessing((99, 99, 1), OTHER), None),
        (preprocessing((8, 6, 3), replace(OTHER, fit="pad")), "resize.fit pad, expected crop"),
        (preprocessing((8, 6, 3), OTHER) | {"decoder": "TensorFlow"}, "decoder TensorFlow, expected Pillow"),
        (
            preprocessing((8, 6, 3), DEFAULT_RESIZE),
            "resize.method bilinear, expected bicubic; resize.antialias True, expected False; "
            "resize.fit stretch, expected crop",
        ),
    ],
)
def test_a_file_of_other_pixels_is_named_with_what_differs(tmp_path, stored, difference):
    for path, opened in zip(write_both(tmp_path, preprocessing=stored), (open_logits, open_soft_targets), strict=True):
        with opened(path) as file:
            reasons = differences(file, INDEX, Expected(resize=OTHER))
        assert [text.split(": ", 1)[1] for text in reasons] == ([] if difference is None else [difference])


def test_a_file_of_an_earlier_version_has_other_pixels():
    assert ": decoder None, expected Pillow; " in other_pixels(BEFORE, DEFAULT_RESIZE)[0]
    with pytest.raises(DamagedError, match=f"{BEFORE['resize']}.*`dvc repro`"):
        Resize.of_file(BEFORE)


# All stages, by the real commands


def command(*arguments):
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    return done.exit_code, done.output


def set_resize(resize):
    content = YAML(typ="safe").load(Path("params.yaml"))
    content["images"]["resize"] = resize.as_json()
    YAML(typ="safe").dump(content, Path("params.yaml"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small project whose oblong images were cropped: its folder, each read's resizing, and each stage's output."""
    project = tmp_path_factory.mktemp("project")
    write_data_set(project / "raw", per_class=10)
    for number, path in enumerate(sorted((project / "raw/images").iterdir())):
        with PIL.Image.open(path) as image:
            image.resize((12 + number % 3, 15), PIL.Image.Resampling.BICUBIC).save(path)
    content = YAML(typ="safe").load(ROOT / "params.yaml")
    content["split"] |= {"data": str(project / "raw"), "val_fraction": 0.3}
    model = asdict(MODEL) | {"input_shape": list(MODEL.input_shape)}
    phases = [{"epochs": 1, "learning_rate": 0.01, "trainable_from": "all"}]
    for section in ("train_teacher", "student"):
        content[section] |= {"model": model, "batch_size": 8, "phases": phases}
    content["student"]["seeds"] = [1]
    content["views"] = {"count": 1, "seed": 1, "augmentation": {}}
    YAML(typ="safe").dump(content, project / "params.yaml")
    (project / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    read, printed = [], {}
    with inside(project) as patch:
        patch.setattr("pipeline.cli.orphan.stop_with_dvc", lambda: None)
        noted = decoding.decode
        patch.setattr(decoding, "decode", lambda *args: (read.append((stage, args[2])), noted(*args))[1])
        set_resize(OTHER)
        for stage, *options in (
            ["split"],
            ["train-teacher"],
            ["describe-teacher"],
            ["precompute"],
            ["soften", "--temperature", "4"],
            ["train-student", "--loss", "kl", "--temperature", "4", "--seed", "1"],
            ["train-baseline", "--seed", "1"],
            ["evaluate"],
            ["parity", "--steps", "2"],
        ):
            decoded_images.LAST_DECODED.clear()  # each stage is a process of its own
            printed[stage] = command(stage, *options)
            assert printed[stage][0] == 0 or stage == "parity", printed[stage][1]
    return project, read, printed


def test_every_stage_reads_images_in_the_way_of_params_yaml(finished):
    _, read, _ = finished
    assert {stage for stage, _ in read} == {
        "train-teacher", "precompute", "train-student", "train-baseline", "evaluate", "parity",
    }  # fmt: skip
    assert {resize for _, resize in read} == {OTHER}


def test_the_teachers_logits_are_those_of_keras_pixels(finished, monkeypatch):
    project, _, _ = finished
    monkeypatch.chdir(project)
    teacher = keras.saving.load_model("models/teacher.keras")
    with open_logits(Path("data/soft_labels/teacher_logits.h5")) as file:
        assert file.provenance.preprocessing == preprocessing((12, 12, 3), OTHER)
        assert file.provenance.teacher_sha256 == sha256_file(Path("models/teacher.keras"))
        images = {image.id: image for image in read_index(Path("data/index.csv")).split("test")}
        for row, image_id in enumerate(file.ids("test")):
            with PIL.Image.open(images[image_id].path) as image:
                cropped = keras.preprocessing.image.smart_resize(np.asarray(image), (12, 12), interpolation="bicubic")
            logits = teacher(in_uint8(cropped)[None].astype(np.float32)).numpy()[0]
            np.testing.assert_allclose(file.columns("test", 0)["logits"][row], logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train-student", "--loss", "kl", "--temperature", "4", "--seed", "1"], "soft_targets_T4.h5"),
        (["evaluate"], "teacher_logits.h5"),
        (["parity"], "soft_targets_T4.h5"),
        (["verify", "data/soft_labels/soft_targets_T4.h5"], ""),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_labels_of_other_pixels_are_refused(finished, monkeypatch, arguments, named):
    monkeypatch.chdir(finished[0])
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr("pipeline.cli.orphan.stop_with_dvc", lambda: None)
    assert command("verify", "data/soft_labels/soft_targets_T4.h5")[0] == 0
    set_resize(replace(OTHER, fit="pad"))
    try:
        code, output = command(*arguments)
    finally:
        set_resize(OTHER)
    assert code == 1
    assert re.search(rf"{named}\b.*: resize\.fit crop, expected pad", output)
