"""Phases with frozen layers: the same bits wherever features are kept, and each of them computed once."""

import hashlib
import os
import re
import signal
from dataclasses import replace
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import write_data_set
from keras import layers
from test_image_cache import child, ended
from weights import weights_sha256

from pipeline.images.augmentation import Augmentation, Mixing
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.resize import Resize
from pipeline.inference.forward import Forward
from pipeline.models.descriptions import OwnNetwork
from pipeline.runtime.digests import sha256_file
from pipeline.runtime.errors import ParameterError
from pipeline.runtime.kept_files import write_kept
from pipeline.training import fit
from pipeline.training.feature_batches import FeatureBatches
from pipeline.training.fit import train
from pipeline.training.frozen_features import FrozenPart, ShownImages, split_for
from pipeline.training.hard_loss import HardLoss
from pipeline.training.input_pipeline import Examples, HardLabels, PixelBatches
from pipeline.training.kept_features import FrozenCache
from pipeline.training.recipe import Phase, Recipe
from pipeline.training.state import TrainingState
from pipeline.training.stored_features import StoredFeatures

VIEWS = Augmentation(
    translation=0.2,
    rotation=0.1,
    contrast=0.3,
    mixup=Mixing(alpha=1.0, share=0.5),
)
HEAD, PART = Phase(2, 0.02, None), Phase(2, 0.01, "third", optimizer="sgd", momentum=0.9)
UNTOUCHED = Augmentation()
RECIPE = Recipe([HEAD, PART], batch_size=8, seed=5)
"""Of 26 images a pass takes 8, 8, 8 and 2."""
FEATURES = Path(".work/features")


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data_set")
    write_data_set(folder / "raw")
    network().save(folder / "net.keras")
    return folder


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def network(scale=1.0):
    """Batch normalisation and a residual connection below the layer "third", dropout and more normalisation above."""
    keras.utils.set_random_seed(3)
    pixels = keras.Input((8, 8, 3))
    x = layers.Rescaling(scale / 255)(pixels)
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="first")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="normalised")(x))
    x = layers.Add(name="joined")([x, layers.Conv2D(4, 3, padding="same", name="second")(x)])
    x = layers.Conv2D(6, 3, strides=2, name="third")(x)
    x = layers.BatchNormalization(name="normalised_again")(layers.Dropout(0.3)(x))
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(pixels, layers.Dense(2, name="answer")(x))


def built(folder):
    return OwnNetwork(architecture=str(folder / "net.keras"), weights="own").build(classes=2, seed=5)


@cache
def examples(folder, rows, augmentation=UNTOUCHED, count=1):
    names = [f"MHIST_{number:03d}.png" for number in rows]
    files = [folder / "raw" / "images" / name for name in names]
    one_hot = np.eye(2, dtype=np.float32)[[number % 2 for number in rows]]
    content = [(name, sha256_file(file)) for name, file in zip(names, files, strict=True)]
    return Examples(
        content, DecodedImages(files, (8, 8, 3), keep=True), HardLabels(names, one_hot, augmentation, 5, count)
    )


def run(folder, setting, recipe=RECIPE, *, state=Path("state.npz"), train_on=None, loss=None):
    """What a training gives: its weights and its history."""
    state = TrainingState(state)
    given = train_on or examples(folder, range(26), VIEWS, 1)
    validation = examples(folder, range(26, 40))
    trained = train(built(folder), given, validation, loss or HardLoss(), recipe, state, FrozenCache(setting, 3))
    return weights_sha256(trained), state.history


@pytest.fixture
def forwards(monkeypatch):
    """The number of images of each forward pass of frozen layers that a training needed."""
    counts, of_few = [], Forward.of_few

    def counted(self, pixels):
        counts.append(len(pixels))
        return of_few(self, pixels)

    monkeypatch.setattr(Forward, "of_few", counted)
    return counts


def use_six_places(patch):
    """As with AVX2, where some places of a batch round differently: six of eight can be used."""
    test = Forward.__dict__["_test"].func
    patch.setattr(Forward, "_test", property(lambda self: (np.array([0, 1, 2, 4, 6, 7]), *test(self)[1:])))


@pytest.fixture
def six_places(monkeypatch):
    use_six_places(monkeypatch)


@pytest.fixture(scope="module")
def streamed(data_set, tmp_path_factory):
    """What a training gives that keeps no features."""
    with pytest.MonkeyPatch.context() as patch:
        use_six_places(patch)
        return run(data_set, "none", state=tmp_path_factory.mktemp("streamed") / "state.npz")


class EveryState(TrainingState):
    """Keeps the file of each epoch, too."""

    def keep(self, model, optimizer, row):
        super().keep(model, optimizer, row)
        Path(f"after_{row['epoch']}.npz").write_bytes(self.path.read_bytes())


# The same bits, each feature computed once


def test_the_same_bits_wherever_features_are_kept(data_set, streamed, forwards, six_places, monkeypatch, capsys):
    """Mixed views, a last batch that is smaller, and fewer places than a batch has; stopped in the second phase."""
    monkeypatch.setattr(f"{__name__}.TrainingState", EveryState)
    for setting in ("memory", "disk"):
        forwards.clear()
        assert run(data_set, setting, state=Path(setting, "state.npz")) == streamed
        # One view of the training images, and the validation images, in each phase.
        assert sum(forwards) == 2 * (26 + 14)
        assert max(forwards) == 6
    told = capsys.readouterr().err
    assert "phase 1 is trained over features, 6 numbers an image from pooled, which are kept in memory" in told
    assert "phase 2 is trained over features, 64 numbers an image from joined, which are kept in .work/features" in told
    assert sorted(file.stat().st_size for file in FEATURES.iterdir()) == [
        32 + 14 * 24,
        32 + 26 * 24,
        32 + 14 * 256,
        32 + 26 * 256,
    ]

    assert run(data_set, "none", state=Path("after_3.npz")) == streamed

    forwards.clear()
    other = replace(RECIPE, seed=6, phases=[HEAD])
    assert run(data_set, "disk", other, state=Path("other.npz"), loss=HardLoss(0.1))[1] != streamed[1][:2]
    assert forwards == [6] * 2, "one batch of each file is computed again, and no more"


def test_what_is_not_split_ends_there_up_to_rounding(data_set, streamed, monkeypatch):
    monkeypatch.setattr(fit, "split_for", lambda *_: None)
    for one, other in zip(streamed[1], run(data_set, "memory")[1], strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_what_hangs_on_its_batch_is_trained_whole(data_set, monkeypatch, capsys):
    monkeypatch.setattr(Forward, "_test", property(lambda self: (np.arange(8), False, "")))
    assert split_for(built(data_set), PART, 8, "phase 1") is None
    assert re.search(
        r"phase 1: the frozen layers run with the others .* other images of its batch", capsys.readouterr().err
    )


# What is kept


@pytest.fixture(scope="module")
def part(data_set):
    return split_for(built(data_set), PART, 8, "phase 1")


def of_two_epochs(part, data_set, setting, augmentation):
    """The batches of a teacher, whose views have no numbers."""
    endless = examples(data_set, range(26), augmentation, None)
    pixels = PixelBatches(endless, examples(data_set, range(26, 40)), RECIPE, range(8))
    return FeatureBatches(pixels, part, 4, FrozenCache(setting), "phase 1")


def test_untouched_images_are_one_view_in_every_pass(part, data_set, forwards, capsys):
    batches = of_two_epochs(part, data_set, "auto", UNTOUCHED)
    assert "which are kept in memory (0.0 MB)\n" in capsys.readouterr().err
    batches.make_ready(0)
    batches.make_ready(1)
    assert len(list(batches.training())) == 8
    assert len(list(batches.validation())) == 2
    assert sum(forwards) == 26 + 14


def test_new_views_in_every_pass_are_not_kept(part, data_set, capsys):
    of_two_epochs(part, data_set, "memory", Augmentation(translation=0.1))
    told = capsys.readouterr().err
    assert (
        "those of training images computed in every step, since each view is shown less than twice, those of val"
        in told
    )
    assert "validation images kept in memory (0.0 MB)\n" in told


# Files


def stored(part, data_set, views=VIEWS, folder=FEATURES, rows=range(26)):
    return StoredFeatures(part, ShownImages.in_views(examples(data_set, rows, views, 3)), folder, "some images")


def files():
    return sorted(FEATURES.glob("*"))


def test_a_file_holds_the_features_and_their_digest(part, data_set):
    in_memory = stored(part, data_set, folder=None).rows(2, np.arange(26))
    on_disk = stored(part, data_set)
    assert on_disk.rows(2, np.array([7, 0])).tobytes() == in_memory[[7, 0]].tobytes()
    (file,) = files()
    assert file.read_bytes() == in_memory.tobytes() + hashlib.sha256(in_memory).digest()
    assert file.suffix == ".float32"


def test_what_changes_features_makes_another_file(part, data_set, monkeypatch):
    names = {stored(part, data_set)._file(view).name for view in range(3)}
    names.add(stored(part, data_set, replace(VIEWS, fill_mode="nearest"))._file(0).name)
    names.add(stored(part, data_set, rows=range(25))._file(0).name)
    names.add(stored(part, data_set, rows=(*range(25), 39))._file(0).name)  # another image
    names.add(stored(part, data_set, rows=(1, 0, *range(2, 26)))._file(0).name)  # another order
    names.add(stored(part, data_set, UNTOUCHED)._file(0).name)

    def other(forward=part.forward, cut=part.cut, dtype="float32"):
        names.add(stored(FrozenPart(cut, forward, dtype), data_set)._file(0).name)

    other(dtype="float16")
    other(forward=Forward(part.cut.frozen, 9))
    with monkeypatch.context() as patch:
        patch.setattr(tf, "__version__", "another")
        other()
        patch.setattr("pipeline.training.frozen_features.CODE", ("images",))
        other()
    with monkeypatch.context() as patch:
        patch.setattr(Forward, "answers_sha256", "of another processor")
        other()
    kernel = part.cut.frozen.weights[0]
    before = kernel.numpy()
    kernel.assign(before + 1e-7 * (before == before.max()))
    other()
    kernel.assign(before)
    other(cut=replace(part.cut, tensors={"elsewhere": (part.values,)}))
    shown = ShownImages.in_views(examples(data_set, range(26), VIEWS, 3))
    nearest = DecodedImages([], (8, 8, 3), Resize(method="nearest", antialias=False, fit="stretch"), keep=False)
    of_others = replace(shown.transforms(0), partner=np.roll(shown.transforms(0).partner, 1))
    assert not np.array_equal(of_others.partner, shown.transforms(0).partner)
    for changed in (replace(shown, images=nearest), replace(shown, transforms=lambda _: of_others)):
        names.add(f"{part.fingerprint_of(changed, 0)}.float32")
    assert len(names) == 17
    other()
    assert len(names) == 17


def test_untouched_views_have_one_name(part, data_set):
    untouched = stored(part, data_set, UNTOUCHED)
    assert untouched._file(0) == untouched._file(1)


@pytest.mark.parametrize("damage", [0, 101, -33, -1, "length"])
def test_a_damaged_file_is_made_again(part, data_set, forwards, capsys, damage):
    """One bit is another one, of the features or of their digest. The other files of its training are used."""
    whole = stored(part, data_set)
    whole.make_ready([0, 1])
    content = {file: file.read_bytes() for file in files()}
    damaged = whole._file(1)
    if damage == "length":
        os.truncate(damaged, 100)
    else:
        other = bytearray(content[damaged])
        other[damage] ^= 1
        damaged.write_bytes(other)
    forwards.clear()
    capsys.readouterr()
    again = stored(part, data_set)
    again.take_earlier([0, 1])  # as when a phase begins
    again.make_ready([0, 1])
    assert {file: file.read_bytes() for file in files()} == content
    assert sum(forwards) == 8 + 26  # a batch is compared
    told = capsys.readouterr().err
    assert told.count(f"{damaged} is damaged, and is made again") == (damage != "length")


def test_a_file_of_other_features_is_left_aside(part, data_set, capsys):
    """Its digest holds: it was written by a processor that rounds in another way, or the like."""
    file = stored(part, data_set, UNTOUCHED)._file(0)
    features = np.full((26, part.values), 0.5, np.float32)
    write_kept(file, features.nbytes, [features])
    again = stored(part, data_set, UNTOUCHED).rows(0, np.arange(26))
    assert f"{file} is left aside" in capsys.readouterr().err
    assert not np.array_equal(again, features)


def test_a_full_disk_is_found_before_a_feature_is_computed(part, data_set, forwards, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device.*0\.0 MiB"):
        stored(part, data_set).make_ready([0])
    assert files() == forwards == []


def test_two_trainings_at_once_make_one_file(part, data_set, monkeypatch):
    """The second one begins and ends while the first one computes."""
    computed = StoredFeatures._computed

    def interrupted(self, view):
        blocks = computed(self, view)
        yield next(blocks)
        with monkeypatch.context() as patch:
            patch.setattr(StoredFeatures, "_computed", computed)
            patch.setattr(os, "getpid", lambda: os.getppid())  # another process that lives
            stored(part, data_set).make_ready([view])
        assert {file.suffix for file in files()} == {".partial", ".float32"}
        yield from blocks

    monkeypatch.setattr(StoredFeatures, "_computed", interrupted)
    first = stored(part, data_set)
    first.make_ready([0])
    (file,) = files()
    assert file.read_bytes()[:-32] == first.rows(0, np.arange(26)).tobytes()


KILLED = """
import os, signal
from pathlib import Path
from pipeline.cli.tensorflow_start import start_tensorflow
start_tensorflow()
import tensorflow as tf
tf.config.threading.set_inter_op_parallelism_threads(1)
import test_frozen_training as t
from pipeline.runtime.progress import Progress

folder, recipe = Path({folder!r}), t.replace(t.RECIPE, phases=[t.PART])
Path("weights").write_text(t.run(folder, "none", recipe)[0])
advance = Progress.advance

def advance_and_end(self, count):
    advance(self, count)
    if self.title == "features of training images, view 0" and self.done > 10:
        os.kill(os.getpid(), signal.SIGKILL)

Progress.advance = advance_and_end
t.run(folder, "disk", recipe, state=Path("killed.npz"))
"""


def test_kill_9_while_features_are_written(data_set):
    """In a process in which TensorFlow has one thread for operations; then the same training here."""
    ended(child(KILLED.format(folder=str(data_set))), -signal.SIGKILL)
    assert sorted(file.suffix for file in files()) == [".float32", ".partial"]  # validation images come first
    weights, _ = run(data_set, "disk", replace(RECIPE, phases=[PART]), state=Path("killed.npz"))
    assert weights == Path("weights").read_text()
    assert {file.suffix for file in files()} == {".float32"}
    assert len(files()) == 2


# float16


def test_features_are_rounded_to_the_nearest(data_set, part):
    full, rounded = (stored(FrozenPart(part.cut, part.forward, dtype), data_set) for dtype in ("float32", "float16"))
    np.testing.assert_array_equal(rounded.rows(0, np.arange(26)), full.rows(0, np.arange(26)).astype(np.float16))


def test_layers_that_an_earlier_phase_trained_are_not_shared(data_set, capsys):
    """Their features belong to one training, so `auto` writes no file of them. Those of float16 are rounded always."""
    halves = replace(RECIPE, phases=[replace(PART, features_dtype="float16"), HEAD])
    kept = run(data_set, "auto", halves)
    told = capsys.readouterr().err
    where = (
        r"phase 1 is trained .* 64 numbers of float16 .* kept in \.work/features .*phase 2 is trained .* kept in memory"
    )
    assert re.search(where, told, re.DOTALL)
    assert sorted((file.suffix, file.stat().st_size) for file in files()) == [
        (".float16", 1792 + 32),
        (".float16", 3328 + 32),
    ]
    one = replace(halves, phases=halves.phases[:1])
    assert kept[1][:2] == run(data_set, "none", one, state=Path("none.npz"))[1]


@pytest.mark.parametrize("setting", ["none", "memory"])
def test_features_too_large_for_float16_are_refused(data_set, tmp_path, setting):
    network(scale=1e6).save(tmp_path / "net.keras")
    phase = replace(PART, features_dtype="float16")
    validation = examples(data_set, range(26, 40))
    state = TrainingState(Path("state.npz"))
    with pytest.raises(
        ParameterError, match=r"features_dtype is float16, .* above 65504\. Set features_dtype: float32"
    ):
        train(
            built(tmp_path),
            examples(data_set, range(26)),
            validation,
            HardLoss(),
            replace(RECIPE, phases=[phase]),
            state,
            FrozenCache(setting, 1),
        )
