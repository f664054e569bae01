"""What is told of intervals that say nothing and of trainings that had not ended, from numbers written by hand."""

import math
import re

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation.cautions import about_unlabelled, cautions, says_nothing, seeds_needed, what_would_help


@pytest.mark.parametrize(
    ("ends", "lack", "empty"),
    [
        ((-0.287, 0.285), 0.25, True),
        ((-0.287, 0.285), 0.6, False),
        ((0.01, 0.9), 0.1, False),
        ((-0.9, -0.01), 0.1, False),
        ((-0.04, 0.9), 0.1, False),
        ((-0.05, 0.05), 0.1, True),
        ((-0.002, 0.002), 0.0, False),
    ],
    ids=["two seeds", "half the errors", "a gain", "a loss", "no great loss", "just so", "perfect baseline"],
)
def test_an_interval_from_far_better_to_far_worse_says_nothing(ends, lack, empty):
    """Of 25 errors in 100 images, 12.5 more and 12.5 fewer are far."""
    assert says_nothing(ends, lack) == empty


@pytest.mark.parametrize(("lack", "needed"), [(0.6, 2), (0.2, 3), (0.1, 5), (0.001, math.inf)])
def test_the_seeds_needed_are_those_of_students_t(lack, needed):
    """Of differences 0 and 0.045: s = 0.0318; t s / sqrt(n) is 0.286, 0.079, 0.0506, 0.0395 of 2, 3, 4, 5 seeds."""
    assert seeds_needed([0.0, 0.045], lack) == needed


def test_that_many_seeds_are_enough_and_one_fewer_is_not():
    differences = np.random.default_rng(3).normal(0.0, 0.05, 3)
    needed = seeds_needed(differences, 0.06)
    assert 3 < needed < 100
    reach = [stats.t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / math.sqrt(n) for n in (needed - 1, needed)]
    assert reach[1] <= 0.03 < reach[0]


def test_more_seeds_or_more_test_images_are_advised():
    assert re.search("2 seeds .* at least 5 ", what_would_help(2, 5))
    assert re.search("2 seeds .* hundreds ", what_would_help(2, math.inf))
    assert "test images" in what_would_help(3, 3)
    assert "test images" in what_would_help(1, seeds_needed([0.1], 0.2))


def models(student=(0.70, 0.745), gain=(-0.287, 0.285), epochs=None):
    """A baseline that is right on 0.7 and 0.7, a student of the same two seeds."""
    quality = {"accuracy": {"mean": 0.7}, "nll": {"mean": 0.8}}
    return {
        "teacher": {"quality": {"accuracy": {"mean": 0.9}}} | ({"best_epochs": epochs["teacher"]} if epochs else {}),
        "baseline": {
            "quality": quality,
            "seeds": {"1": {"accuracy": 0.7, "nll": 0.8}, "2": {"accuracy": 0.7, "nll": 0.8}},
        },
        "student_kl_T4": {
            "quality": {"accuracy": {"mean": np.mean(student)}},
            "seeds": {str(n): {"accuracy": one, "nll": 0.5} for n, one in enumerate(student, 1)},
            "intervals": {"gain": {"accuracy": list(gain), "nll": [-0.4, -0.2]}},
        }
        | ({"best_epochs": epochs["student"]} if epochs else {}),
    }


def test_an_empty_interval_is_told_with_ends_and_remedy():
    (caution,) = cautions(models())
    assert ": student kl T=4: accuracy (-0.287 to +0.285). " in caution
    assert caution.endswith(what_would_help(2, 3))


def test_where_all_is_known_nothing_is_said():
    assert cautions(models(gain=(0.01, 0.08))) == []
    assert cautions({"teacher": {"quality": {"accuracy": {"mean": 0.9}}}}) == []


def test_trainings_whose_best_epoch_was_the_last_are_named():
    epochs = {
        "teacher": {"teacher_member1": [3, 25], "teacher_member2": [25, 25]},
        "student": {"student_kl_T4_seed1": [40, 40], "student_kl_T4_seed2": [39, 40], "student_kl_T4_seed3": [40, 40]},
    }
    (caution,) = cautions(models(gain=(0.01, 0.08), epochs=epochs))
    assert ": teacher (member 2); student kl T=4 (seed 1, seed 3). More epochs " in caution


def test_a_single_training_needs_no_number():
    epochs = {"teacher": {"teacher": [25, 25]}, "student": {"student_kl_T4_seed1": [7, 40]}}
    (caution,) = cautions(models(gain=(0.01, 0.08), epochs=epochs))
    assert ": teacher. More epochs " in caution


def test_trainings_that_ended_are_not_named():
    epochs = {"teacher": {"teacher": [24, 25]}, "student": {"student_kl_T4_seed1": [7, 40]}}
    assert cautions(models(gain=(0.01, 0.08), epochs=epochs)) == []


def test_images_without_a_label_are_told_with_what_saw_them():
    assert about_unlabelled({"models": {}}) == []
    (told,) = about_unlabelled({"training_images": {"labelled": 1234, "unlabelled": 56_789}})
    assert re.search(r"learned from 1,234 labelled .* 56,789 images without .*; the baseline from the 1,234 ", told)
