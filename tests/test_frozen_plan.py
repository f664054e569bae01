"""What `softlabel plan` says of frozen layers, against numbers by hand."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import MODEL, write_data_set

from pipeline.images.augmentation import Augmentation
from pipeline.images.decoded_images import DecodedImages
from pipeline.inference.forward import Forward
from pipeline.runtime.digests import sha256_file
from pipeline.tools import frozen_plan
from pipeline.tools.frozen_plan import FrozenPhase, Trainings, as_text, frozen_phases
from pipeline.tools.frozen_plan import _views_passes_and_images as views_passes_and_images
from pipeline.training.fit import train
from pipeline.training.hard_loss import HardLoss
from pipeline.training.input_pipeline import Examples, HardLabels
from pipeline.training.kept_features import ONCE, FrozenCache, Room, gigabytes
from pipeline.training.recipe import Phase, Recipe
from pipeline.training.state import TrainingState

STUDENT = replace(
    MODEL, input_shape=(8, 8, 3), filters=[4, 2], downsampling="stride", pooling="avg", batch_normalization=False
)
"""8 x 8 x 3 pixels, 4 x 4 x 4 numbers, 2 x 2 x 2, and 2 pooled ones."""

CONV1 = 16 * 4 * (2 * 27 + 1)
"""FLOPs of the first convolution, with its biases; those of the second one, and of scaled pixels, follow."""
CONV2 = 4 * 2 * (2 * 36 + 1)
SCALED = 2 * 192
ROOM = Room(memory=10**9, disk=10**9)
SHARING = FrozenCache("auto", 8)
TRAININGS = [Trainings(6, 10, SHARING), Trainings(2, 10, SHARING)]


def phases_of(*phases, trainings=TRAININGS, room=ROOM, views=3, batch_size=4):
    recipe = Recipe(phases, batch_size, seed=0)
    return frozen_phases(STUDENT.untrained(classes=2), recipe, trainings, views=views, validation=4, room=room)


def test_what_eight_trainings_share_by_hand():
    """3 views of 10 images and 4 validation images run once; in 4 and 6 epochs of 8 trainings, 448 and 672 would."""
    head, upper = phases_of(Phase(4, 0.1, None), Phase(6, 0.1, "conv2", features_dtype="float16"))
    assert head == FrozenPhase(
        1, place="disk", views=3, size=34 * 2 * 4, flops=head.flops, passes=34, passes_if_not_kept=448, trained=320
    )
    assert upper == FrozenPhase(
        2, place="disk", views=3, size=34 * 64 * 2, flops=upper.flops, passes=34, passes_if_not_kept=672, trained=480
    )
    assert (head.cut.tensors, upper.cut.tensors) == ({"pooling": (2,)}, {"conv1": (4, 4, 4)})
    # Activations and pooling are counted, too: at most a few operations for each number that they give.
    assert 0 <= upper.flops - (SCALED + CONV1) <= 2 * 64
    assert 0 <= head.flops - (SCALED + CONV1 + CONV2) <= 2 * 64 + 4 * 8
    assert upper.flops_saved == (672 - 34) * upper.flops


def test_frozen_layers_trained_before_are_each_trainings_own():
    """So each of 8 trainings fills its memory: with 8 times 34 images, of 672."""
    (head,) = phases_of(Phase(1, 0.1, "all"), Phase(6, 0.1, None))
    assert (head.number, head.place, head.size) == (2, "memory", 34 * 2 * 4)
    assert (head.passes, head.passes_if_not_kept) == (8 * 34, 672)


def test_memory_is_filled_by_each_training():
    in_memory = [replace(one, cache=FrozenCache("memory", 8)) for one in TRAININGS]
    (head,) = phases_of(Phase(6, 0.1, None), trainings=in_memory)
    assert (head.place, head.size, head.passes) == ("memory", 34 * 2 * 4, 8 * 34)


def test_random_weights_are_those_of_a_seed():
    """4 trainings share the weights of each of two seeds: two files, each filled once."""
    of_seed = [replace(one, cache=FrozenCache("auto", 4)) for one in TRAININGS]
    (head,) = phases_of(Phase(4, 0.1, None), trainings=of_seed)
    assert (head.place, head.size, head.passes) == ("disk", 2 * 34 * 2 * 4, 2 * 34)


def test_students_with_images_of_their_own():
    """Six students share 10 images; two baselines 7 of them, so 3 * 10 + 4 and 3 * 7 + 4 images run once."""
    apart = [Trainings(6, 10, FrozenCache("auto", 6)), Trainings(2, 7, FrozenCache("auto", 2))]
    (head,) = phases_of(Phase(4, 0.1, None), trainings=apart)
    assert (head.passes, head.size) == (34 + 25, (34 + 25) * 2 * 4)
    assert head.passes_if_not_kept == 4 * (6 * 10 + 2 * 7 + 8 * 4)


def test_views_that_one_training_shows_once_are_not_kept():
    """But the validation images, of which each of three epochs shows the same."""
    alone = [Trainings(1, 10, FrozenCache("auto", 1))]
    (head,) = phases_of(Phase(3, 0.1, None), trainings=alone)
    assert (head.reason, head.place) == (ONCE, "memory, of validation images")
    assert (head.passes, head.passes_if_not_kept, head.size) == (30 + 4, 30 + 12, 4 * 2 * 4)
    (head,) = phases_of(Phase(1, 0.1, None), trainings=alone)
    assert (head.reason, head.place, head.flops_saved, head.size) == (ONCE, "none", 0, 0)


@pytest.mark.parametrize("steps", [None, 1, 3, 7])
@pytest.mark.parametrize("views", [1, 2, 5, 40])
def test_views_and_passes_of_a_phase_are_those_of_its_steps(steps, views):
    """10 images in batches of 4 are three steps; a phase goes on where the one before it ended."""
    recipe = Recipe([Phase(2, 0.1, None, steps_per_epoch=2), Phase(4, 0.1, None, steps_per_epoch=steps)], 4, seed=0)
    in_all = range(4, 4 + 4 * (steps or 3))
    shown = {step // 3 % views for step in in_all}
    images = sum((4, 4, 2)[step % 3] for step in in_all)
    assert views_passes_and_images(recipe, 2, 10, views) == (len(shown), len(in_all) / 3, images)


def test_phases_without_frozen_layers_are_not_told():
    assert as_text(phases_of(Phase(4, 0.1, "all")), TRAININGS, {}) == ""


def test_why_nothing_is_kept_is_told_in_a_line():
    told = as_text(
        [FrozenPhase(1, ONCE), FrozenPhase(2, "what is kept is too large"), FrozenPhase(3, ONCE, place="memory")],
        TRAININGS,
        {},
    )
    assert told.splitlines() == [
        f"phase 1: nothing is kept of frozen layers: {ONCE}",
        "phase 2: nothing is kept of frozen layers: what is kept is too large",
        f"phase 3: nothing of training images is kept of frozen layers: {ONCE}",
    ]


def test_the_table_by_hand():
    """638 of 672 passes are saved. At an image an hour through the frozen layers, all take 34 and 672 hours.

    480 images at 480 an hour are one more, in the training steps. 34 * 64 * 4 = 8,704 bytes; 638 / 8 = 79.75.
    """
    (upper,) = phases_of(Phase(6, 0.1, "conv2"))
    told = as_text([replace(upper, flops=10**12)], TRAININGS, {1: {"frozen": 1 / 3600, "rest": 480 / 3600}})
    head, _, row, note = told.splitlines()
    assert re.split(r" {2,}", row) == ["phase 1", "conv1", "64", "3", "0.0", "disk", "79.75", "638", "35.00", "673.00"]
    assert re.search(r"saved by one +by all 8 +hours +if not kept$", head)
    assert note == "They run once for each view, and what leaves them is kept (student.cache_frozen: auto)."
    unmeasured = as_text([replace(upper, flops=10**12)], TRAININGS, {}).splitlines()
    assert [line.split("  ")[-1].strip() for line in unmeasured[:3:2]] == ["by all 8", "638"]


def test_each_phase_is_timed_with_the_layers_that_it_trains(monkeypatch):
    """The second convolution and the head have two weights each; the last phase trains the head alone."""
    trained = []

    def timed(cut, batch_size, title):
        trained.append((title, batch_size, len(cut.rest.trainable_variables)))
        return {"frozen": 1.0, "rest": 1.0}

    monkeypatch.setattr(frozen_plan, "images_a_second_in_phase", timed)
    recipe = Recipe([Phase(6, 0.1, "conv2"), Phase(6, 0.1, None)], 4, seed=0)
    model = STUDENT.untrained(classes=2)
    told = frozen_plan.frozen_layers(model, recipe, TRAININGS, views=3, validation=4, measure=True)
    assert trained == [("phase 1", 4, 4), ("phase 2", 4, 2)]
    assert "if not kept" in told


def test_validation_images_are_those_that_the_recipe_uses(monkeypatch):
    used = []
    monkeypatch.setattr(frozen_plan, "frozen_phases", lambda *_, validation, **__: used.append(validation) or [])
    for steps in (None, 1, 3):
        recipe = Recipe([Phase(1, 0.1, None)], 4, seed=0, validation_steps=steps)
        frozen_plan.frozen_layers(None, recipe, TRAININGS, views=3, validation=6, measure=False)
    assert used == [6, 4, 6]


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["none", "memory", "disk"])
def test_a_training_computes_what_the_plan_counts(tmp_path, monkeypatch, capsys, setting):
    """Of 9 images in 2 views, and of 5 validation images: in phases that begin and end within a pass."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    write_data_set(Path("raw"))
    files = sorted(Path("raw/images").glob("*.png"))[:14]
    named = [(file.name, sha256_file(file)) for file in files]
    one_hot = np.eye(2, dtype=np.float32)[np.arange(14) % 2]
    shown, validated = (
        Examples(named[of], DecodedImages(files[of], (8, 8, 3), keep=True), HardLabels(names, one_hot[of], *views))
        for of, views in ((slice(9), (Augmentation(rotation=0.2), 1, 2)), (slice(9, 14), (Augmentation(), 0, 1)))
        for names in [[file.name for file in files[of]]]
    )
    phases = [Phase(2, 0.01, None, steps_per_epoch=4), Phase(3, 0.01, "conv2", steps_per_epoch=4)]
    recipe, model = Recipe(phases, 4, seed=0), STUDENT.build(classes=2, seed=1)
    cache, computed, of_few = FrozenCache(setting, 1), Counter(), Forward.of_few
    planned = frozen_phases(model, recipe, [Trainings(1, 9, cache)], views=2, validation=5, room=ROOM)

    def counted(self, pixels):
        features = of_few(self, pixels)
        computed[features.shape[1]] += len(features)
        return features

    monkeypatch.setattr(Forward, "of_few", counted)
    train(model, shown, validated, HardLoss(), recipe, TrainingState(Path("state.npz")), cache)
    assert computed == {phase.cut.values: phase.passes for phase in planned}
    told = [line for line in capsys.readouterr().err.splitlines() if "is trained over features" in line]
    for line, phase in zip(told, planned, strict=True):
        assert f"{phase.cut.values:,} numbers an image from {', '.join(phase.cut.tensors)}" in line
        assert (f"({gigabytes(phase.size)})" in line) == (setting != "none")
