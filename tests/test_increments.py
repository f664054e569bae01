"""Only what is new is computed: forward passes counted, and the file compared with one from scratch."""

import math
import re
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import tensorflow as tf
from conftest import MODEL, copy_here, mhist_in, write_data_set
from real_project import LOGITS, change, copy_without, run, stages_run

from pipeline.images.augmentation import Augmentation, Mixing
from pipeline.images.index import Index, read_index, write_index
from pipeline.images.views import Views
from pipeline.inference.forward import Forward
from pipeline.models import keras_files
from pipeline.models.ensembles import LoadedTeacher
from pipeline.runtime.digests import sha256_file
from pipeline.soft_labels import logit_storage
from pipeline.soft_labels.hdf5 import seal
from pipeline.soft_labels.reading import open_logits
from pipeline.stages import precompute, split
from pipeline.teacher_pass import labelling, precision

INDEX, TEACHER = Path("data/index.csv"), Path("models/teacher.keras")


# With the real dvc


def test_dvc_repro_computes_only_what_is_new(reproduced, tmp_path, monkeypatch):
    """More views of other images, stored in another dtype: the file is that of a run that knows no earlier one."""
    project = copy_without(reproduced, tmp_path / "project")
    params, views = project / "params.yaml", Views(18, 1, Augmentation(translation=0.2, horizontal_flip=True))
    change(project / "dvc.yaml", "stages.train_teacher.frozen", True)
    old = pd.read_csv(project / INDEX)

    change(params, "views.count", 18)
    change(params, "precompute.storage.dtype", "float16")
    exchange_images(project / "data/raw/small")
    computed, taken = counts_of_repro(project, ["split", "precompute"])
    new = pd.read_csv(project / INDEX)
    fresh = new[~new["id"].isin(old["id"])]
    kept = new[new["id"].isin(old["id"])]
    assert (len(fresh), len(new)) == (10, len(old) + 9)
    assert set(fresh["split"]) == {"train", "val", "test"}
    assert computed == views_of(fresh) + 2 * sum(kept["split"] == "train")
    assert taken == 16 * sum(kept["split"] == "train") + sum(kept["split"] != "train")
    assert (project / LOGITS).read_bytes() == from_scratch(project, views, "float16", monkeypatch)


def views_of(images: pd.DataFrame) -> int:
    """Eighteen of each training image, one of each other."""
    return int(images["split"].map({"train": 18, "val": 1, "test": 1}).sum())


def counts_of_repro(project: Path, stages: list[str]) -> tuple[int, int]:
    """How many views were computed, and how many were taken."""
    said = run("dvc", "repro", "precompute", cwd=project)
    assert stages_run(said) == stages
    (computed, missing), (taken,) = (
        map(int, re.search(pattern, said).groups())
        for pattern in (r"precompute: done: (\d+)/(\d+) views", r"(\d+) views are taken from the earlier file")
    )
    assert computed == missing
    return computed, taken


def exchange_images(data_set: Path) -> None:
    """Adds the images 120 to 129, and takes one away."""
    more = data_set.with_name("more")
    write_data_set(more, per_class=65)
    table = pd.read_csv(more / "annotations.csv")
    added = table["Image Name"].iloc[120:]
    for name in added:
        (more / "images" / name).rename(data_set / "images" / name)
    table.drop(index=4).to_csv(data_set / "annotations.csv", index=False)
    (data_set / "images/MHIST_004.png").unlink()


def from_scratch(project: Path, views: Views, dtype: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The file as it is made where neither `.work` nor dvc.lock nor the cache are."""
    with monkeypatch.context() as patch:
        patch.chdir(project)
        patch.setenv("DVC_ROOT", str(project / "scratch"))
        precompute.run(
            index=INDEX,
            teacher=TEACHER,
            views=views,
            stored_as=logit_storage.Dense(dtype),
            batch_size=2,
            previous=[],
            output=Path(f"scratch/{dtype}.h5"),
        )
    return (project / f"scratch/{dtype}.h5").read_bytes()


# In this process, where every forward pass can be counted


@pytest.fixture(scope="module")
def computed_once(split_once, tmp_path_factory):
    """A copy of `split_once`, and files of the teacher's logits that know no earlier one."""
    folder = tmp_path_factory.mktemp("computed_once")
    with pytest.MonkeyPatch.context() as patch:
        copy_here(split_once, folder, patch)
        compute("earlier.h5")
        compute("half.h5", dtype="float16")
        compute("five.h5", count=5)
        compute("mixed.h5", augmentation=MIXED)
    return folder


@pytest.fixture
def project(computed_once, tmp_path, monkeypatch):
    """A copy of it; the current folder."""
    return copy_here(computed_once, tmp_path, monkeypatch)


def make_split(data_set: Path) -> None:
    split.run(
        layout="mhist",
        settings=mhist_in(data_set),
        split_folder=Path("data/split"),
        index=INDEX,
    )


def make_teacher(seed: int = 1) -> None:
    keras_files.save(MODEL.build(classes=2, seed=seed), TEACHER)


SHIFTS = Augmentation(translation=0.2)
BATCH = 4


def compute(
    output: str,
    *previous: str,
    count: int = 3,
    augmentation: Augmentation = SHIFTS,
    batch_size: int = BATCH,
    dtype: str = "float32",
) -> bytes:
    precompute.run(
        index=INDEX,
        teacher=TEACHER,
        views=Views(count, 5, augmentation),
        stored_as=logit_storage.Dense(dtype),
        batch_size=batch_size,
        previous=[Path(path) for path in previous],
        output=Path(output),
    )
    return Path(output).read_bytes()


@pytest.fixture
def passes(monkeypatch):
    """The number of images in each forward pass of a teacher."""
    counts = []
    original = Forward.__call__

    def counted(self, pixels):
        for logits in original(self, pixels):
            counts.append(len(logits))
            yield logits

    monkeypatch.setattr(Forward, "__call__", counted)
    return counts


def images(split_name: str) -> int:
    return int((pd.read_csv(INDEX)["split"] == split_name).sum())


ALL = 5
"""Stretches of views that are found, when all are: three views of training images, one of each other split."""


def test_nothing_new_needs_one_batch_of_each_view(project, passes):
    computed = compute("again.h5", "earlier.h5")
    assert passes == [min(BATCH, images(name)) for name in ("val", "test", "train", "train", "train")]
    assert len(passes) == ALL
    assert computed == Path("earlier.h5").read_bytes()


def test_more_views_cost_the_new_ones_and_narrower_logits_none(project, passes):
    incremental = compute("more.h5", "earlier.h5", count=5)
    new = 2 * images("train")
    assert sum(passes) - new == sum(min(BATCH, images(name)) for name in ("val", "test", "train", "train", "train"))
    assert incremental == Path("five.h5").read_bytes()
    passes.clear()
    of_that_file = compute("fewer_halves.h5", "more.h5", dtype="float16")
    assert len(passes) == ALL
    assert of_that_file == Path("half.h5").read_bytes()


def test_fewer_views_cost_no_new_one(project, passes):
    compute("fewer.h5", "earlier.h5", count=1)
    assert sum(passes) <= 3 * BATCH
    with h5py.File("fewer.h5") as fewer, h5py.File("earlier.h5") as earlier:
        for name in ("train", "val", "test"):
            np.testing.assert_array_equal(fewer[name]["logits"], earlier[name]["logits"][:1])


def test_a_changed_image_costs_its_own_views(project, passes):
    (project / "images/MHIST_010.png").write_bytes((project / "images/MHIST_012.png").read_bytes())
    make_split(project)
    assert pd.read_csv(INDEX).set_index("id").split["MHIST_010.png"] == "train"
    incremental = compute("changed.h5", "earlier.h5")
    assert sum(passes) - 3 == sum(min(BATCH, images(name)) for name in ("val", "test", "train", "train", "train"))
    assert incremental == compute("scratch.h5")


def test_half_as_wide_logits_do_not_serve_for_whole_ones(project, passes):
    assert compute("whole.h5", "half.h5") == Path("earlier.h5").read_bytes()
    assert sum(passes) == 3 * images("train") + images("val") + images("test")


def test_of_other_views_only_untouched_images_are_taken(project, passes):
    for other in (replace(SHIFTS, fill_mode="nearest"), replace(SHIFTS, translation=0.3)):
        passes.clear()
        incremental = compute("other.h5", "earlier.h5", augmentation=other)
        assert sum(passes) == 3 * images("train") + min(BATCH, images("val")) + min(BATCH, images("test"))
        assert incremental == compute("scratch.h5", augmentation=other)


def test_of_another_batch_size_nothing_is_taken(project, passes):
    incremental = compute("other.h5", "earlier.h5", batch_size=3)
    assert sum(passes) == 3 * images("train") + images("val") + images("test")
    assert incremental == compute("scratch.h5", batch_size=3)


def test_of_another_teacher_nothing_is_taken(project, passes, capsys):
    make_teacher(seed=2)
    incremental = compute("other.h5", "earlier.h5")
    assert sum(passes) == 3 * images("train") + images("val") + images("test")
    assert "are taken" not in capsys.readouterr().out
    assert incremental == compute("scratch.h5")
    assert incremental != Path("earlier.h5").read_bytes()


def test_a_damaged_earlier_file_is_left_aside_with_a_message(project, passes, capsys):
    original = Path("earlier.h5").read_bytes()
    content = bytearray(original)
    content[-100] ^= 1
    Path("damaged.h5").write_bytes(content)
    assert compute("again.h5", "damaged.h5") == original
    assert sum(passes) == 3 * images("train") + images("val") + images("test")
    assert "an earlier file is left aside: damaged.h5 is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train", "test"])
def test_an_earlier_file_with_other_logits_is_left_aside(project, passes, capsys, name):
    """Its digest is right, so only the teacher can tell: as after a change of device or library."""
    original = Path("earlier.h5").read_bytes()
    Path("edited.h5").write_bytes(original)
    with h5py.File("edited.h5", "r+") as file:
        logits = file[name]["logits"]
        logits[-1] = np.nextafter(logits[-1], np.float32(np.inf))
    seal(Path("edited.h5"))
    assert compute("again.h5", "edited.h5") == original
    assert sum(passes) >= 3 * images("train") + images("val") + images("test")
    assert sum(passes) <= 3 * images("train") + images("val") + images("test") + ALL * BATCH
    assert "the teacher gives other logits now" in capsys.readouterr().out


# Mixed views, whose pictures are of two images


MIXED = Augmentation(translation=0.2, mixup=Mixing(1.0, 0.3), cutmix=Mixing(1.0, 0.3))
"""Three views of it are 0.6 of the rows mixed."""


def partners_in(file: str) -> np.ndarray:
    """(V, N) ids of the images that are mixed in; "" where none is."""
    with open_logits(Path(file)) as content:
        ids = np.array([*content.ids("train"), ""])
        return np.stack([ids[content.transforms("train", view).partner] for view in range(3)])


def write_noise(path: Path) -> None:
    PIL.Image.fromarray(np.random.default_rng(5).integers(0, 256, (12, 12, 3), np.uint8)).save(path)


def counted_again(passes: list[int]) -> int:
    """How many views were computed beside one batch of each stretch that is taken."""
    tested = sum(min(BATCH, images(name)) for name in ("val", "test", "train", "train", "train"))
    return sum(passes) - tested


def test_a_changed_image_costs_the_views_that_show_it(project, passes):
    names, counts = np.unique(partners_in("mixed.h5"), return_counts=True)
    changed = str(names[1:][counts[1:].argmax()])  # the first name is the empty one, of views that are not mixed
    write_noise(project / "images" / changed)
    make_split(project)
    shown = int((partners_in("mixed.h5") == changed).sum())
    assert shown > 1
    incremental = compute("changed.h5", "mixed.h5", augmentation=MIXED)
    assert counted_again(passes) == 3 + shown
    assert incremental == compute("scratch.h5", augmentation=MIXED)


@pytest.mark.usefixtures("project")
def test_a_new_image_costs_its_views_and_few_others(passes):
    """Those whose partner it becomes; all others keep theirs, though its row comes first and moves every number."""
    index = read_index(INDEX)
    first = index.split("train")[0]
    write_noise(Path("new.png"))
    new = first._replace(id="AAA.png", path="new.png", sha256=sha256_file(Path("new.png")))
    INDEX.unlink()
    write_index(INDEX, Index([new, *index.images], index.class_names))
    incremental = compute("more.h5", "mixed.h5", augmentation=MIXED)
    before, after = partners_in("mixed.h5"), partners_in("more.h5")[:, 1:]
    changed = before != after
    assert (after[changed] == "AAA.png").all()
    assert changed.sum() < 15  # three expected, of three times as many views as there are images
    assert counted_again(passes) == 3 + changed.sum()
    assert incremental == compute("scratch.h5", augmentation=MIXED)


@pytest.mark.usefixtures("project")
def test_another_mix_keeps_what_is_not_mixed_so(passes):
    other = replace(MIXED, mixup=Mixing(0.5, 0.3))
    incremental = compute("other.h5", "mixed.h5", augmentation=other)
    with open_logits(Path("mixed.h5")) as file:
        transforms = [file.transforms("train", view) for view in range(3)]
    by_mixup = sum(((t.partner >= 0) & ~t.box.any(axis=1)).sum() for t in transforms)
    assert counted_again(passes) == by_mixup
    assert incremental == compute("scratch.h5", augmentation=other)


@pytest.mark.usefixtures("project")
def test_a_killed_pass_over_mixed_views_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(labelling, "WRITING_SHARE", math.inf)
    with monkeypatch.context() as patch:
        patch.setattr(Forward, "__call__", ended_after(Forward.__call__, batches=20))
        with pytest.raises(KeyboardInterrupt):
            compute("killed.h5", augmentation=MIXED)
    capsys.readouterr()
    assert compute("killed.h5", augmentation=MIXED) == Path("mixed.h5").read_bytes()
    assert "precompute: continuing after" in capsys.readouterr().err


# A teacher whose logits are not the image's own; test_inference tells which ones are noticed


class OfTheBatch(keras.layers.Layer):
    """Adds something of the whole batch."""

    def call(self, logits):
        return logits + tf.reduce_mean(logits)


@pytest.fixture
def unsteady(project, monkeypatch):
    """The teacher of the project gives logits that depend on the rest of the batch."""
    load = precision.load_teacher

    def loaded(path, class_names):
        model, (teacher,), average = load(path, class_names)
        whole = keras.Model(model.inputs, OfTheBatch()(model.outputs[0]))
        return LoadedTeacher(model, [replace(teacher, model=whole)], average)

    monkeypatch.setattr(precision, "load_teacher", loaded)


@pytest.mark.usefixtures("unsteady")
def test_logits_that_are_not_the_images_own_are_never_mixed(passes, monkeypatch, capsys):
    """Neither with those of an interrupted run nor with those of an earlier file."""
    with monkeypatch.context() as patch:
        patch.setattr(labelling, "WRITING_SHARE", math.inf)
        patch.setattr(Forward, "__call__", ended_after(Forward.__call__, batches=20))
        with pytest.raises(KeyboardInterrupt):
            compute("first.h5")
    for output, *previous in (("first.h5",), ("second.h5", "first.h5")):
        passes.clear()
        compute(output, *previous)
        captured = capsys.readouterr()
        assert ("of an interrupted run are left aside" in captured.err) is (not previous)
        assert re.search(r"warning: .*models/teacher\.keras", captured.err)
        assert "are taken" not in captured.out
        assert sum(passes) == 3 * images("train") + images("val") + images("test")
    assert Path("first.h5").read_bytes() == Path("second.h5").read_bytes()


def ended_after(original, batches):
    left = [batches]

    def counted(self, pixels):
        for logits in original(self, pixels):
            yield logits
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

    return counted


def test_unfinished_rows_of_another_processor_are_left_aside(project, monkeypatch, capsys):
    """Of the other processor, every logit is one unit in the last place larger."""
    monkeypatch.setattr(labelling, "WRITING_SHARE", math.inf)
    here = Forward.__call__

    def there(self, pixels):
        return (np.nextafter(logits, np.float32(np.inf)) for logits in here(self, pixels))

    with monkeypatch.context() as patch:
        patch.setattr(Forward, "__call__", ended_after(there, batches=20))
        with pytest.raises(KeyboardInterrupt):
            compute("moved.h5", count=5)
    computed = compute("moved.h5", count=5)
    assert "of an interrupted run are left aside" in capsys.readouterr().err
    assert computed == Path("five.h5").read_bytes()


def test_equal_weights_in_another_function_are_another_teacher(project):
    """Rows are keyed by the teacher: by all that makes its logits, not by its weights alone."""
    save_with_activation("relu")
    of_relu = compute("same.h5")
    save_with_activation("tanh")
    assert compute("same.h5") == compute("scratch.h5") != of_relu


def save_with_activation(activation: str) -> None:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((12, 12, 3), name="pixels")
    hidden = keras.layers.Dense(4, activation=activation, name="hidden")(keras.layers.Flatten(name="flat")(inputs))
    outputs = keras.layers.Dense(2, name="logits")(keras.layers.Rescaling(1 / 255, name="scale")(hidden))
    keras_files.save(keras.Model(inputs, outputs, name="given"), TEACHER)
