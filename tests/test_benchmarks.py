"""The benchmarks' sums and that they compare like with like; nothing is timed here."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import epochs, jax_epoch, made_data, paired, student_step
from benchmarks.variants import BY_HAND, DISTILLER, OURS, PLAIN, Pair
from pipeline.images.views import Augmentation, Views
from pipeline.soft_labels.identity import Expected, differences
from pipeline.soft_labels.reading import open_soft_targets
from pipeline.training.input_pipeline import training_batches


@pytest.fixture(scope="module")
def pair():
    """The default pair, whose student has no dropout."""
    return Pair("params.yaml", classes=10)


def test_every_variant_learns_the_same(pair):
    """From the same weights, on the same batches: the loss of each step, and where three steps of Adam lead."""
    phase = replace(pair.recipe.phases[0], learning_rate=0.01)
    untouched = [weight.numpy() for weight in pair.teacher.weights]
    losses, weights = {}, {}
    for name in (OURS, DISTILLER, BY_HAND):
        model = pair.variant(name, phase)
        losses[name] = [
            float(model.train_on_batch(*student_step.fixed_batch(pair, 8, seed)[name], return_dict=True)["loss"])
            for seed in range(3)
        ]
        weights[name] = [weight.numpy() for weight in getattr(model, "student", model).weights]
    for name in (DISTILLER, BY_HAND):
        np.testing.assert_allclose(losses[name], losses[OURS], rtol=1e-5)
        for theirs, ours in zip(weights[name], weights[OURS], strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)
    assert all(np.array_equal(weight, old) for weight, old in zip(pair.teacher.weights, untouched, strict=True))


def test_the_models_that_jax_times_learn_the_same(pair):
    """On any backend: ours and the Distiller have the same losses, and plain others."""
    phase, size = replace(pair.recipe.phases[0], learning_rate=0.01), pair.recipe.batch_size
    pixels, hard = data = jax_epoch.made_images(pair, 3 * size)
    soft, _ = jax_epoch.targets_of(pair, data)
    models = jax_epoch.variants(pair, phase)
    plain, ours, online = (
        jax_epoch.losses_of(models[name], (pixels, soft if name == OURS else hard), size, 3)
        for name in (PLAIN, OURS, DISTILLER)
    )
    assert float(jax_epoch.compared(ours, online)[1][0][-1]) < 1e-5
    assert float(jax_epoch.compared(ours, plain)[1][0][-1]) > 1e-2
    np.testing.assert_array_equal(soft[:, : pair.classes], hard)


def test_the_largest_difference_of_losses_is_told():
    _, ((steps, *ends, apart),) = jax_epoch.compared([1.0, 2.0, 3.0], [1.0, 2.5, 3.0])
    assert (steps, ends, apart) == ("3", ["1.000000", "1.000000", "3.000000", "3.000000"], "2.0e-01")


def test_the_teacher_in_the_loop_is_a_fixed_one(pair):
    """Its dropout is off: what it says of a batch is what the fixed batch's soft labels hold."""
    pixels, targets = student_step.fixed_batch(pair, 4)[OURS]
    logits = pair.teacher(pixels, training=False).numpy() / 4.0
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(targets[:, 10:], powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)
    assert pair.teacher.trainable_weights == []


def test_plain_and_ours_see_the_same_batches():
    """The views of pass 1 differ from those of pass 0, and both variants show the same of each."""
    pair = Pair("params.yaml", classes=10)
    pair.views = Views(2, 1, Augmentation(rotation=0.2))
    with epochs.data_of(pair, None, 10) as data:
        seen = {
            (name, place): [
                (pixels.numpy(), targets.numpy()[:, :10])
                for pixels, targets in training_batches(data.examples(place, name), 4, 1, range(6))
            ]
            for name in (PLAIN, DISTILLER, OURS)
            for place in (epochs.MEMORY, epochs.FILES, epochs.DISK)
        }
    reference = seen[OURS, epochs.FILES]
    assert [len(pixels) for pixels, _ in reference] == [4, 4, 2, 4, 4, 2]
    for batches in seen.values():
        for (pixels, labels), (pixels_of_ours, labels_of_ours) in zip(batches, reference, strict=True):
            np.testing.assert_array_equal(pixels, pixels_of_ours)
            np.testing.assert_array_equal(labels, labels_of_ours)
    sums = [
        np.sort(np.concatenate([pixels.sum((1, 2, 3)) for pixels, _ in reference[part]]))
        for part in (slice(3), slice(3, 6))
    ]
    assert not np.allclose(*sums)


def test_made_soft_labels_are_those_of_the_made_images(tmp_path):
    files = made_data.write_images(tmp_path / "images", 9, (6, 5, 3))
    data = made_data.index_of(files, classes=3, validation=2)
    assert [len(data.split(split)) for split in ("train", "val", "test")] == [6, 2, 1]
    views = Views(4, 1, Augmentation(horizontal_flip=True))
    with open_soft_targets(made_data.write_soft_targets(tmp_path, data, views, 4.0)) as file:
        assert differences(file, data, Expected(views=views, temperature=4.0)) == []
        soft = file.columns("train", 3)["soft"]
    np.testing.assert_allclose(soft.sum(axis=1), 1.0, rtol=1e-6)
    assert soft.std(axis=0).min() > 0.01


def test_the_bound_is_one_step_with_a_teacher_over_one_without():
    """A teacher's pass of 3 s and a student's step of 2 s: 5 s online, 2 s offline."""
    assert student_step.bound([3.0, 1.0], [2.0, 4.0]) == [2.5, 1.25]


def test_the_interval_of_a_median_is_that_of_the_sign_test():
    """Tables of the sign test: the 3rd and the 10th of 12 values, the 10th and the 21st of 30 (95 %)."""
    shuffled = np.random.default_rng(0).permutation
    assert paired.interval_of_median(shuffled(12) + 1.0) == "3.000 to 10.00"
    assert paired.interval_of_median(shuffled(30) + 1.0) == "10.00 to 21.00"
    assert paired.interval_of_median(shuffled(5) + 1.0) == "-"
