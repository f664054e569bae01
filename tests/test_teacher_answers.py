"""The teacher's half of the targets: logits that follow from soft labels, and those that do not."""

import numpy as np
import pytest
from soft_label_files import INDEX, TOP2, VIEWS, edit, logits_of, write_both

from pipeline.distillation import teacher_answers
from pipeline.distillation.descriptions import (
    Decoupled,
    JensenShannon,
    Kl,
    Relations,
    SquaredError,
    Standardised,
    TeachersChoice,
)
from pipeline.distillation.loss import DistillationLoss
from pipeline.distillation.targets import HardAndSoftLabels
from pipeline.distillation.teacher_answers import answers_for
from pipeline.runtime.errors import MissingError, ParameterError
from pipeline.soft_labels import reading
from pipeline.soft_labels.logit_storage import TopK
from pipeline.soft_labels.reading import open_soft_targets

TRAIN = INDEX.split("train")
SQUARED = SquaredError()


def loss_at(temperature, soft_loss=SQUARED, **others):
    return DistillationLoss(temperature, 0.5, soft_loss=soft_loss, **others)


def told(paths, loss, rows=(4, 2, 0, 1, 3), split="train"):
    """The teacher's half of each view, as a training gets it."""
    logits, targets = paths
    images = INDEX.split(split)
    with open_soft_targets(targets) as file, answers_for(loss, file, logits) as answers:
        labels = HardAndSoftLabels(file, split, images, INDEX.one_hot(images), answers)
        views = VIEWS.count if split == "train" else 1
        return np.stack([labels.targets(view, np.array(rows))[:, 3:] for view in range(views)])


def centred(logits):
    return logits - logits.mean(axis=-1, keepdims=True)


def far_apart(views, count, classes=3):
    """In every second row, classes are 300 apart: at T = 1 their probabilities are below all numbers of float32."""
    far = logits_of(views, count, classes)
    far[:, ::2] += np.array([0, 300, -300], np.float32)
    return far


@pytest.mark.parametrize("temperature", [0.5, 4.0, 100.0])
def test_logits_follow_from_soft_labels_up_to_a_constant(tmp_path, temperature):
    """T log p keeps the rounding of float32's p, 2^-24 of it, times T; and then that of float32's logits below 16."""
    found = told(write_both(tmp_path, temperature), loss_at(temperature))
    assert found.dtype == np.float32
    expected = centred(logits_of(VIEWS.count, len(TRAIN)).astype(np.float64))[:, [4, 2, 0, 1, 3]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2.0**-24 * (2 * temperature + 16))


@pytest.mark.parametrize("soft_loss", [Kl(), JensenShannon(), Relations(), TeachersChoice()])
def test_the_other_losses_get_the_soft_labels_as_they_are(tmp_path, soft_loss):
    paths = write_both(tmp_path)
    with open_soft_targets(paths[1]) as file:
        expected = file.file["train/soft"][:]
    np.testing.assert_array_equal(told(paths, loss_at(4.0, soft_loss), rows=range(5)), expected)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_no_file_of_logits_is_opened_where_none_is_needed(tmp_path, monkeypatch, temperature):
    paths = write_both(tmp_path, temperature)
    monkeypatch.setattr(teacher_answers, "open_logits", None)
    with_file = told(paths, loss_at(temperature))
    paths[0].unlink()
    np.testing.assert_array_equal(told(paths, loss_at(temperature)), with_file)


@pytest.mark.parametrize(("split", "rows"), [("train", [4, 2, 0, 1, 3]), ("train", [2, 2, 0]), ("val", [1, 0])])
def test_rows_of_which_too_little_is_held_come_from_the_logits(tmp_path, split, rows):
    paths = write_both(tmp_path, 1.0, logits=far_apart)
    found = told(paths, loss_at(1.0), rows, split)
    views, count = found.shape[0], len(INDEX.split(split))
    expected = centred(far_apart(views, count).astype(np.float64))[:, rows]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2.0**-24 * 700)


def test_rows_of_the_two_files_are_joined_by_id(tmp_path):
    def turn_round(file):
        for name, dataset in file["train"].items():
            by_view = name in ("affine", "color", "logits")
            dataset[...] = dataset[...][:, ::-1] if by_view else dataset[...][::-1]

    paths = write_both(tmp_path, 1.0, logits=far_apart)
    expected = told(paths, loss_at(1.0))
    edit(paths[0], turn_round)
    np.testing.assert_array_equal(told(paths, loss_at(1.0)), expected)


@pytest.mark.parametrize(("temperature", "logits"), [(1.0, far_apart), (2000.0, logits_of)])
def test_without_the_logits_such_rows_are_refused_at_once(tmp_path, temperature, logits):
    """Also at a temperature so high that float32's p tells too little of any row."""
    paths = write_both(tmp_path, temperature, logits=logits)
    assert np.isfinite(told(paths, loss_at(temperature))).all()
    paths[0].unlink()
    with open_soft_targets(paths[1]) as file:
        entered = answers_for(loss_at(temperature), file, paths[0])
        with pytest.raises(MissingError, match=r"not tell those of MHIST_aaa.* is not here\. Bring it with `dvc pull"):
            entered.__enter__()
        with answers_for(loss_at(temperature, Kl()), file, paths[0]):
            pass


def test_a_probability_below_the_normal_numbers_is_lost():
    """float32 has 23 digits after the first down to 2^-126; below, each halving takes one of them."""
    smallest = np.array([2.0**-126, 2.0**-127, 2.0**-149, 0], np.float32)
    assert smallest.view(np.uint32).tolist() == [1 << 23, 1 << 22, 1, 0]
    rows = np.stack([np.ones(4, np.float32), smallest], axis=1)
    assert teacher_answers.lost(rows, 4.0).tolist() == [False, True, True, True]


def test_up_to_a_temperature_of_a_thousand_logits_follow():
    """At 1,000, the rounding of a float32's logarithm, 2^-24, has become 6e-5."""
    row = np.full((1, 3), 1 / 3, np.float32)
    assert [teacher_answers.lost(row, t).tolist() for t in (1000.0, 1000.5)] == [[False], [True]]


def test_the_first_lost_row_is_named(tmp_path, monkeypatch):
    """Rows are looked at two at a time; the fourth one is the first of which too little is held."""
    monkeypatch.setattr(reading, "SLAB_ROWS", 2)

    def fourth_far_apart(*size):
        far = logits_of(*size)
        far[:, 3:] = far_apart(*size)[:, :1]
        return far

    paths = write_both(tmp_path, 1.0, logits=fourth_far_apart)
    paths[0].unlink()
    with pytest.raises(MissingError, match=rf"not tell those of {TRAIN[3].id}: at T = 1,"):
        told(paths, loss_at(1.0))


def test_rows_of_test_images_may_be_lost(tmp_path):
    """No training reads them."""
    splits = iter(("train", "val", "test"))
    paths = write_both(tmp_path, 1.0, logits=lambda *size: (far_apart if next(splits) == "test" else logits_of)(*size))
    paths[0].unlink()
    assert np.isfinite(told(paths, loss_at(1.0))).all()


def test_a_temperature_that_changes_needs_logits(tmp_path):
    loss = loss_at(2.0, Kl(), last_temperature=8.0)
    assert (loss.needs, loss.temperature) == ("logits", 8.0)
    expected = centred(logits_of(VIEWS.count, len(TRAIN)).astype(np.float64))[:, [4, 2, 0, 1, 3]]
    np.testing.assert_allclose(told(write_both(tmp_path, 8.0), loss), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("logits_are_here", [True, False])
def test_two_classes_say_nothing_when_standardised(tmp_path, logits_are_here):
    paths = write_both(
        tmp_path, class_names=("a", "b"), logits=lambda views, count, _: logits_of(views, count)[..., 1:]
    )
    if not logits_are_here:
        paths[0].unlink()
    with open_soft_targets(paths[1]) as file:
        refused = answers_for(loss_at(4.0, Standardised(before="dkd")), file, paths[0])
        with pytest.raises(ParameterError, match=r"'logit_standardization' .* 2 classes.* Expected 3 classes or more"):
            refused.__enter__()
        with answers_for(loss_at(4.0, Decoupled()), file, paths[0]):
            pass


# The k largest logits


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (loss_at(4.0), "'mse' .*would count as equal"),
        (loss_at(4.0, Standardised()), "'logit_standardization' .*standard deviation"),
        (loss_at(4.0, last_temperature=1.0, soft_loss=Kl()), "'kl' .*known at T = 4 alone"),
    ],
    ids=["mse", "logit_standardization", "a T that changes"],
)
def test_losses_that_need_all_logits_refuse_the_k_largest(tmp_path, loss, why):
    paths = write_both(tmp_path, stored_as=TOP2)
    with pytest.raises(ParameterError, match=f"{why}.*Set precompute.storage to {{kind: dense"):
        told(paths, loss)


def far_apart_of_seven(views, count, classes=7):
    """The three largest are 0, -50 and -100, so at T = 1 the third is lost; the tail lies around -110."""
    far = np.array([-50.0, 0, -100, -105, -110, -115, -140], np.float32)
    return far + logits_of(views, count, classes) / 8


@pytest.mark.parametrize("logits", [logits_of, far_apart_of_seven])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 2000.0])
def test_of_the_k_largest_the_tail_has_its_logit_at_t(tmp_path, temperature, logits):
    """Softened at T, they are the soft labels of the file, whichever file they come from."""
    seven = {"class_names": tuple("abcdefg"), "stored_as": TopK(3, "float16"), "logits": logits}
    paths = write_both(tmp_path, temperature, **seven)
    found = told(paths, loss_at(temperature, Decoupled())).astype(np.float64) / temperature
    powers = np.exp(found - found.max(axis=-1, keepdims=True))
    expected = told(paths, loss_at(temperature, Kl()))
    np.testing.assert_allclose(powers / powers.sum(axis=-1, keepdims=True), expected, rtol=1e-3, atol=1e-38)
