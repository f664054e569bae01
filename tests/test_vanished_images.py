"""Image files that vanish, or become text or another picture, while a training or `precompute` reads them."""

import gc
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import MODEL
from tensorflow.python.data.ops.iterator_ops import OwnedIterator

from pipeline.images import unchanged
from pipeline.images.index import Image, Index, refuse_changed, write_index
from pipeline.images.views import Augmentation, Views
from pipeline.models import keras_files
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import MismatchError
from pipeline.soft_labels.logit_storage import Dense
from pipeline.stages import precompute, train_baseline
from pipeline.training.recipe import Phase, Recipe

INDEX, OUTPUT = Path("index.csv"), Path("baseline.keras")
OTHER = tf.io.encode_png(np.zeros((12, 12, 3), np.uint8)).numpy()
DAMAGES = {
    "missing": Path.unlink,
    "text": lambda path: path.write_text("text"),
    "picture": lambda path: path.write_bytes(OTHER),
}


@pytest.fixture(autouse=True)
def images(tmp_path, monkeypatch):
    """16 image files in the current folder, and their index; the contents by name."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (16, 12, 12, 3), np.uint8)
    contents = {f"{number:02}.png": tf.io.encode_png(of_one).numpy() for number, of_one in enumerate(pixels)}
    rows = []
    for number, (name, content) in enumerate(contents.items()):
        Path(name).write_bytes(content)
        split = "train" if number < 8 else ("val", "test")[number // 2 % 2]
        rows.append(Image(name, name, "ab"[number % 2], split, "", sha256_file(Path(name))))
    write_index(INDEX, Index(rows, ["a", "b"]))
    return contents


def damage(kind):
    for path in Path().glob("*.png"):
        DAMAGES[kind](path)


def train(cache, trainable_from="all", watch=None):
    train_baseline.run(
        index=INDEX,
        model=MODEL,
        recipe=Recipe(batch_size=4, seed=1, phases=[Phase(2, 0.01, trainable_from)]),
        views=Views(1, 1, Augmentation(rotation=0.2)),
        output=OUTPUT,
        history=Path("history.csv"),
        cache=cache,
        watch=watch,
    )


@pytest.mark.parametrize("trainable_from", ["all", None])
@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_files_that_vanish_after_the_check_are_named(monkeypatch, cache, kind, trainable_from):
    compared = []

    def then_damage(images):
        refuse_changed(images)
        compared.append(images)
        if len(compared) == 2:  # training images, then validation images
            damage(kind)

    monkeypatch.setattr(unchanged, "refuse_changed", then_damage)
    with pytest.raises(MismatchError, match=r"^[0-9]+ image file\(s\) are missing or not those of the index: .*png"):
        train(cache, trainable_from)


@pytest.mark.parametrize("kind", DAMAGES)
def test_finished_epochs_outlive_files_that_vanish(images, capsys, kind):
    with pytest.raises(MismatchError, match=r"00\.png, .*all in .*names\.txt"):
        train("none", watch=lambda _: damage(kind))
    for name, content in images.items():
        Path(name).write_bytes(content)
    train("none")
    assert "continuing after epoch 1 of 2" in capsys.readouterr().err
    assert OUTPUT.is_file()


@pytest.mark.parametrize("kind", DAMAGES)
def test_precompute_names_files_that_vanish(monkeypatch, kind):
    teacher = Path("teacher.keras")
    keras_files.save(MODEL.build(classes=2, seed=1), teacher)

    def then_damage(images):
        refuse_changed(images)
        damage(kind)

    monkeypatch.setattr(unchanged, "refuse_changed", then_damage)
    with pytest.raises(MismatchError, match=r"^[0-9]+ image file\(s\) are missing or not those of the index: .*png"):
        precompute.run(
            index=INDEX,
            teacher=teacher,
            views=Views(1, 1, Augmentation(rotation=0.2)),
            stored_as=Dense("float32"),
            batch_size=4,
            previous=[],
            output=Path("logits.h5"),
        )
    assert not Path("logits.h5").exists()


@pytest.mark.parametrize("kind", ["missing", "picture"])
def test_no_iterator_outlives_the_error(kind):
    """At the end of Python it would wait for threads that wait for Python."""
    with pytest.raises(MismatchError) as raised:  # it holds the error that ended the training
        train("none", watch=lambda _: damage(kind))
    left = [one for one in gc.get_objects() if type(one) is OwnedIterator]
    assert (raised.value.__context__ is not None, left) == (True, [])
