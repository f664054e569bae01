"""`images.cache`: every setting gives the same batches; files of pixels survive kills, damage and other processes."""

import hashlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL
import psutil
import pytest
import tensorflow as tf
from conftest import MODEL
from real_project import HANGS, wait_until
from ruamel.yaml import YAML
from tensorflow.python.util import _pywrap_determinism

from pipeline.images import decoded_files, decoded_images
from pipeline.images.decoded_files import pixels_on_disk
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import Image, refuse_changed
from pipeline.images.resize import Resize
from pipeline.images.views import Augmentation, Views
from pipeline.params.reading import load_params, read_params
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import MismatchError
from pipeline.runtime.progress import Progress
from pipeline.stages import train_baseline
from pipeline.training.input_pipeline import Examples, HardLabels, training_batches, validation_batches
from pipeline.training.recipe import Phase, Recipe

ROOT = Path(__file__).parents[1]
CACHES = ["none", "memory", "disk"]
SHAPE = (6, 5, 3)
COUNT = 7
BYTES = COUNT * 6 * 5 * 3
PIXELS = np.random.default_rng(4).integers(0, 256, (COUNT, *SHAPE), np.uint8)
FOLDER = Path(".work/pixels")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def write_images(pixels=PIXELS, folder="images"):
    """One PNG file of each array, as rows of an index."""
    Path(folder).mkdir(exist_ok=True)
    for number, of_one in enumerate(pixels):
        Path(folder, f"{number}.png").write_bytes(tf.io.encode_png(of_one).numpy())
    return listed(folder)


def listed(folder="images"):
    """The rows of what `write_images` wrote."""
    return [
        Image(path.name, str(path), "HP", "train", "", sha256_file(path)) for path in sorted(Path(folder).iterdir())
    ]


def examples(images, shape=SHAPE, **cache):
    augmentation = Augmentation(rotation=0.2, translation=0.2, contrast=0.3)
    one_hot = np.eye(len(images), dtype=np.float32)
    return Examples.of(images, shape, HardLabels([i.id for i in images], one_hot, augmentation, 5, None), **cache)


def bytes_of(batches):
    return [(pixels.numpy().tobytes(), targets.numpy().tobytes()) for pixels, targets in batches]


def cache_files():
    return sorted(FOLDER.glob("*"))


# Every setting gives the same batches


@pytest.fixture
def determinism():
    """Sets TensorFlow's determinism, whatever ran before in this process; only the setter inside can switch it off."""
    before = _pywrap_determinism.is_enabled()
    yield _pywrap_determinism.enable
    _pywrap_determinism.enable(before)


def test_batches_are_the_same_bit_for_bit(determinism):
    """Without TensorFlow's determinism: the order of the images needs none."""
    determinism(False)
    training, validation = batches_of_each_cache(SHAPE)
    assert training[0] == training[1] == training[2]
    assert validation[0] == validation[1] == validation[2]
    assert len(set(training[0])) == 7
    assert len(validation[0]) == 3


def test_grey_batches_are_equal_if_tensorflow_is_deterministic(determinism):
    """As in a training."""
    determinism(True)
    training, validation = batches_of_each_cache((9, 4, 1))
    assert training[0] == training[1] == training[2]
    assert validation[0] == validation[1] == validation[2]
    assert len(set(training[0])) == 7


def batches_of_each_cache(shape):
    """Of a training and of its validation."""
    images = write_images()
    sources = [examples(images, shape, cache=cache) for cache in CACHES]
    training = [bytes_of(training_batches(each, 3, 1, range(7))) for each in sources]
    return training, [bytes_of(validation_batches(each, 3)) for each in sources]


@pytest.mark.parametrize("cache", CACHES)
def test_rows_may_be_repeated_and_out_of_order(cache):
    rows = [4, 0, 0, 6]
    actual = examples(write_images(), cache=cache).images.rows(rows)
    assert (actual.dtype, actual.shape) == (tf.uint8, (4, *SHAPE))
    np.testing.assert_array_equal(actual, PIXELS[rows])


def test_the_cache_neither_changes_nor_restarts_a_training(unlabelled, capfd):
    recipe = Recipe(seed=3, batch_size=16, phases=[Phase(2, 0.01, "all")], validation_steps=None)

    def train(cache, folder):
        train_baseline.run(
            index=Path("data/index.csv"),
            model=MODEL,
            recipe=recipe,
            views=Views(2, 7, Augmentation(rotation=0.2)),
            output=Path(folder, "baseline.keras"),
            history=Path(folder, "baseline.csv"),
            cache=cache,
        )
        printed = capfd.readouterr()
        return sha256_file(Path(folder, "baseline.keras")), "epoch" in printed.out + printed.err

    results = {cache: train(cache, cache) for cache in CACHES}
    assert {trained for _, trained in results.values()} == {True}
    assert len({digest for digest, _ in results.values()}) == 1
    assert train("none", "disk") == (results["disk"][0], False)
    assert {path.name.split(".")[-1] for path in cache_files()} == {"uint8"}
    assert len(cache_files()) == 2  # of the training images, and of the validation images


# The file


def test_the_cache_file_holds_the_pixels_and_their_digest():
    pixels_on_disk(write_images(), SHAPE, FOLDER)
    (file,) = cache_files()
    assert file.read_bytes() == PIXELS.tobytes() + hashlib.sha256(PIXELS).digest()


def test_images_are_decoded_once_for_all_trainings(capsys):
    images = write_images()
    first = pixels_on_disk(images, SHAPE, FOLDER)
    assert f"decode: done: {COUNT}/{COUNT} images" in capsys.readouterr().err
    assert isinstance(first, np.memmap)
    assert not first.flags.writeable
    for image in images:
        Path(image.path).unlink()
    np.testing.assert_array_equal(pixels_on_disk(images, SHAPE, FOLDER), PIXELS)
    assert capsys.readouterr().err == ""


def test_cached_images_are_not_read_from_their_own_files():
    images = write_images()
    cached = examples(images, cache="disk")
    for image in images:
        Path(image.path).unlink()
    assert len(bytes_of(training_batches(cached, 2, 1, range(8)))) == 8
    assert len(bytes_of(validation_batches(cached, 2))) == 4


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_only_disk_writes_a_file(cache):
    examples(write_images(), cache=cache)
    assert not Path(".work/pixels").exists()


def test_the_file_lies_in_the_work_folder_of_the_project(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    examples(write_images(), cache="disk")
    assert len([*(tmp_path / "project/.work/pixels").glob("*.uint8")]) == 1


def test_what_changes_the_pixels_makes_another_file(monkeypatch):
    images = write_images()
    pixels_on_disk(images, SHAPE, FOLDER)
    changed = PIXELS.copy()
    changed[3, 0, 0, 0] ^= 1
    pixels_on_disk(write_images(changed, "others"), SHAPE, FOLDER)
    pixels_on_disk(images[::-1], SHAPE, FOLDER)
    pixels_on_disk(images[:-1], SHAPE, FOLDER)
    pixels_on_disk(images, (5, 6, 3), FOLDER)
    pixels_on_disk(images, (6, 5, 1), FOLDER)
    pixels_on_disk(images, SHAPE, FOLDER, Resize("bilinear", True, "crop"))
    monkeypatch.setattr(tf, "__version__", "another")
    pixels_on_disk(images, SHAPE, FOLDER)
    assert len(cache_files()) == 8
    monkeypatch.setattr(PIL, "__version__", "another")
    pixels_on_disk(images, SHAPE, FOLDER)
    assert len(cache_files()) == 9
    for count, module in enumerate((decoded_files.decoding, decoded_files.image_files), start=10):
        monkeypatch.setattr(module, "__file__", str(ROOT / "pipeline/images/index.py"))
        pixels_on_disk(images, SHAPE, FOLDER)
        assert len(cache_files()) == count


def test_names_labels_and_folders_make_no_other_file():
    pixels_on_disk(write_images(), SHAPE, FOLDER)
    elsewhere = [
        image._replace(id=f"x{image.id}", class_name="SSA", split="val") for image in write_images(folder="copy")
    ]
    np.testing.assert_array_equal(pixels_on_disk(elsewhere, list(SHAPE), FOLDER), PIXELS)
    assert len(cache_files()) == 1


@pytest.mark.parametrize("size", [0, BYTES, BYTES + 31, BYTES + 33, 2 * BYTES])
def test_a_file_of_another_size_is_made_again(size):
    images = write_images()
    pixels_on_disk(images, SHAPE, FOLDER)
    (file,) = cache_files()
    os.truncate(file, size)
    np.testing.assert_array_equal(pixels_on_disk(images, SHAPE, FOLDER), PIXELS)
    assert cache_files() == [file]
    assert file.stat().st_size == BYTES + 32


@pytest.mark.parametrize("place", [0, BYTES // 2, BYTES - 1, BYTES + 31])
def test_a_damaged_file_is_made_again(place, capsys):
    images = write_images()
    pixels_on_disk(images, SHAPE, FOLDER)
    (file,) = cache_files()
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    np.testing.assert_array_equal(pixels_on_disk(images, SHAPE, FOLDER), PIXELS)
    assert f"{file} is damaged, and is made again" in capsys.readouterr().err


# Interruption


def child(program):
    """A Python process in this folder, which may import the tests."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process, code):
    try:
        output, _ = process.communicate(timeout=HANGS)
    finally:
        process.kill()
    assert process.returncode == code, output


def at_the_third_image(act):
    """A `Progress.advance` that does something more after the third image."""
    advance = Progress.advance

    def and_act(self, number):
        advance(self, number)
        if self.done == 3:
            act()

    return and_act


def meet(here, there, other=None):
    """Waits until another process has come to the same point."""
    Path(here).touch()
    wait_until(Path(there).exists, other)
    assert list(FOLDER.glob("*.partial"))


OTHER_PROCESS = """
import os, signal
from pipeline.cli.tensorflow_start import start_tensorflow
start_tensorflow()
from pipeline.runtime.progress import Progress
from test_image_cache import FOLDER, OTHER_SHAPE, PIXELS, SHAPE, at_the_third_image, listed, meet, pixels_on_disk

advance = Progress.advance
Progress.advance = at_the_third_image(lambda: meet("other", "this"))
assert (pixels_on_disk(listed(), SHAPE, FOLDER) == PIXELS).all()
Progress.advance = advance
Progress.advance = at_the_third_image(lambda: os.kill(os.getpid(), signal.SIGKILL))
pixels_on_disk(listed(), OTHER_SHAPE, FOLDER)
"""
OTHER_SHAPE = (*SHAPE[:2], 1)


@pytest.mark.slow
def test_two_processes_at_once_succeed_and_a_kill_leaves_no_file(monkeypatch):
    """Each process waits at its third image until the other has reached it too; then one begins other pixels."""
    images = write_images()
    with monkeypatch.context() as patch:
        process = child(OTHER_PROCESS)
        patch.setattr(Progress, "advance", at_the_third_image(lambda: meet("this", "other", process)))
        try:
            np.testing.assert_array_equal(pixels_on_disk(images, SHAPE, FOLDER), PIXELS)
        except BaseException:
            process.kill()
            raise
    ended(process, -signal.SIGKILL)
    first, left = sorted(cache_files(), key=lambda path: path.suffix != ".uint8")
    assert first.read_bytes()[:-32] == PIXELS.tobytes()
    assert left.suffix == ".partial"
    whole = pixels_on_disk(images, OTHER_SHAPE, Path("elsewhere"))
    np.testing.assert_array_equal(pixels_on_disk(images, OTHER_SHAPE, FOLDER), whole)
    assert [path.suffix for path in cache_files()] == [".uint8"] * 2
    assert not left.exists()


def test_what_a_living_process_writes_is_left_alone():
    FOLDER.mkdir(parents=True)
    of_a_living = FOLDER / f"x.y.{os.getppid()}.partial"
    of_this_one_before = FOLDER / f"x.y.{os.getpid()}.partial"
    stranger = FOLDER / "notes.partial"
    for path in (of_a_living, of_this_one_before, stranger):
        path.touch()
    pixels_on_disk(write_images(), SHAPE, FOLDER)
    assert {path for path in cache_files() if path.suffix != ".uint8"} == {of_a_living, stranger}


def test_a_full_disk_is_found_before_anything_is_decoded(monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device.*0\.0 MiB"):
        examples(write_images(), cache="disk")
    assert cache_files() == []


def test_an_error_while_decoding_leaves_nothing():
    images = write_images()
    Path(images[5].path).write_bytes(b"no image")
    images[5] = images[5]._replace(sha256=sha256_file(Path(images[5].path)))
    with pytest.raises(tf.errors.OpError):
        pixels_on_disk(images, SHAPE, FOLDER)
    assert cache_files() == []


def test_pixels_of_other_pictures_are_never_kept(monkeypatch):
    """The file's name says which images it holds."""
    images = write_images()

    def then_change(all_images):
        refuse_changed(all_images)
        Path(images[5].path).write_bytes(Path(images[4].path).read_bytes())

    monkeypatch.setattr("pipeline.images.unchanged.refuse_changed", then_change)
    with pytest.raises(MismatchError, match=r"images/5\.png"):
        pixels_on_disk(images, SHAPE, FOLDER)
    assert cache_files() == []


# Memory


@pytest.mark.parametrize(("available", "fits"), [(4 * BYTES, True), (4 * BYTES - 1, False)])
def test_images_beyond_a_quarter_of_memory_are_decoded_each_pass(monkeypatch, capsys, available, fits):
    images = write_images()
    expected = bytes_of(training_batches(examples(images, cache="none"), 3, 1, range(6)))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available))
    monkeypatch.setattr(decoded_images, "LAST_DECODED", {})
    by_memory = examples(images)
    message = capsys.readouterr().err
    assert bytes_of(training_batches(by_memory, 3, 1, range(6))) == expected
    assert by_memory.images.in_memory is fits
    if fits:
        assert message == ""
    else:
        assert re.fullmatch(
            r"the pixels of 7 images, 0\.0 GB, .* 25% .*`images\.cache: disk` in params\.yaml.*\n", message
        )


@pytest.mark.parametrize("cache", ["none", "disk"])
def test_no_other_cache_is_warned_of_memory(monkeypatch, capsys, cache):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1))
    other = examples(write_images(), cache=cache)
    assert not other.images.in_memory
    assert "memory" not in capsys.readouterr().err


def test_pixels_in_memory_outlive_the_files_and_everything_else():
    """The tensor shares the memory of an array to which nothing else refers."""
    images = [DecodedImages([image.path for image in write_images()], SHAPE, keep=True) for _ in range(5)]
    others = [np.zeros_like(PIXELS) for _ in range(1000)]  # would lie in memory that was freed
    for path in Path("images").iterdir():
        path.unlink()
    for each in images:
        np.testing.assert_array_equal(each.rows(np.arange(COUNT)), PIXELS)
    assert not np.any(others)


# The setting


STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def test_no_stage_declares_it_so_a_change_makes_none_stale():
    declared = [str(name) for stage in STAGES.values() for name in stage.get("params", [])]
    assert "student.model" in declared
    assert {name for name in declared if name.split(".")[0] == "images"} == {"images.resize"}
    assert "${images" not in (ROOT / "dvc.yaml").read_text()


@pytest.mark.parametrize("stage", ["train_teacher", "train_student", "train_baseline"])
@pytest.mark.parametrize("cache", CACHES)
def test_every_stage_that_trains_reads_it(stage, cache):
    content = YAML(typ="safe").load(ROOT / "params.yaml")
    content["images"]["cache"] = cache
    YAML(typ="safe").dump(content, Path("params.yaml"))
    assert load_params(stage, Path("params.yaml"), ROOT / "dvc.yaml").images.cache == cache


def test_a_file_without_it_keeps_pixels_in_memory():
    content = YAML(typ="safe").load(ROOT / "params.yaml")
    del content["images"]["cache"]
    YAML(typ="safe").dump(content, Path("params.yaml"))
    assert read_params(Path("params.yaml")).images.cache == "memory"
    assert load_params("train_student", Path("params.yaml"), ROOT / "dvc.yaml").images.cache == "memory"
