"""`evaluation.model_reports`: what students gain is paired by seed, and for the intervals by image too."""

import math

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation.model_reports import model_reports
from pipeline.evaluation.names import BASELINE, student

LABELS = np.arange(10) % 2


def right_on_first(count):
    """Logits that give three quarters to one class: to the right one for so many images, then to the wrong one.

    A wrong image has log(3) more of the negative log-likelihood than a right one.
    """
    chosen = np.where(np.arange(10) < count, LABELS, 1 - LABELS)
    return np.float32(np.log(3)) * np.eye(2, dtype=np.float32)[chosen]


@pytest.fixture(scope="module")
def report():
    """Of students that are right on 8 and 9 of ten images; baselines are right on 7 and 5, the teacher is on 9."""
    groups = {
        BASELINE: {1: right_on_first(7), 2: right_on_first(5)},
        student("kl", "4"): {1: right_on_first(8), 2: right_on_first(9)},
    }
    return model_reports(right_on_first(9), groups, LABELS, ["a", "b"], None)[student("kl", "4")]


def test_the_gain_is_student_less_baseline_of_the_same_seed(report):
    """0.1 and 0.4: their mean, and 0.3 / sqrt(2)."""
    assert report["gain"]["accuracy"] == pytest.approx({"mean": 0.25, "std": 0.3 / math.sqrt(2)})
    of_nll = {"mean": -0.25 * math.log(3), "std": 0.3 / math.sqrt(2) * math.log(3)}
    assert report["gain"]["nll"] == pytest.approx(of_nll)


def test_the_interval_of_the_gain_is_paired_by_seed_and_image(report):
    """In units of log(3), seed 1 gains on image 7, seed 2 on images 5 to 8; their means are 0.1 and 0.4.

    The seeds give 0.045 / 2. The images' means are 1, three times 0.5, and six times 0: squares about 0.25 of 1.125.
    """
    assert report["intervals"]["gain"]["nll"] == pytest.approx(interval(-0.25, of_seeds=0.0225, of_images=1.125 / 90))


def test_the_interval_less_the_teacher_pairs_it_with_each_seed(report):
    """In units of log(3), seed 1 loses on image 8, seed 2 on none: 0.1 and 0, so the seeds give 0.005 / 2.

    The images' means are 0.5 and nine times 0: squares about 0.05 of 0.225.
    """
    of_nll = report["intervals"]["less_teacher"]["nll"]
    assert of_nll == pytest.approx(interval(0.05, of_seeds=0.0025, of_images=0.225 / 90))


def interval(mean, of_seeds, of_images):
    """From the two parts of a mean's variance: of two seeds, so of one degree of freedom, and of ten images."""
    variance = of_seeds + of_images
    freedom = variance**2 / (of_seeds**2 + of_images**2 / 9)
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    return [math.log(3) * (mean - reach), math.log(3) * (mean + reach)]
