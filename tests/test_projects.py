"""`benchmarks.projects`: intervals of paired differences, and projects in folders of their own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from scipy import stats

from benchmarks.projects import (
    ROOT,
    Quality,
    differences,
    interval,
    make_project,
    quality_of,
    reproduce,
    write_params,
)

# Intervals


def test_interval_by_hand():
    # 1, 2, 3, 6: mean 3, squared deviations 4 + 1 + 0 + 9 = 14, sample variance 14 / 3, standard error
    # sqrt(14 / 3 / 4) = 1.0801234; Student's t of 3 degrees of freedom has 3.1824463 at 0.975: +- 3.4374349.
    assert interval([1.0, 2.0, 3.0, 6.0]) == pytest.approx((3.0, -0.4374349, 6.4374349), abs=1e-6)


def test_two_values_have_one_degree_of_freedom():
    # Half their distance is the standard error; t of 1 degree of freedom has tan(0.475 pi) = 12.7062047 at 0.975.
    assert interval([0.0, 2.0]) == pytest.approx((1.0, 1 - 12.7062047, 1 + 12.7062047), abs=1e-6)


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(st.lists(st.floats(-1, 1).map(lambda value: round(value, 6)), min_size=2, max_size=8))
def test_interval_is_that_of_scipys_paired_test(values):
    if np.ptp(values) < 1e-5:
        return
    expected = stats.ttest_rel(np.array(values) + 0.5, np.full(len(values), 0.5)).confidence_interval(0.95)
    assert interval(values) == pytest.approx((np.mean(values), *expected), abs=1e-9)


def test_equal_values_leave_no_doubt():
    assert interval([0.25, 0.25, 0.25]) == (0.25, 0.25, 0.25)


def test_one_seed_has_no_interval():
    with pytest.raises(ValueError, match="at least two values, not 1"):
        interval([0.5])


# Pairs


def by_seed(**accuracies):
    return {name[1:]: {"accuracy": accuracy, "auc": 0, "nll": 0, "ece": 0} for name, accuracy in accuracies.items()}


def test_differences_are_of_the_same_seed_in_whatever_order():
    students = by_seed(s1=0.9, s10=0.8, s2=0.7)
    baselines = by_seed(s2=0.5, s1=0.6, s10=0.75)
    assert differences(students, baselines, "accuracy") == pytest.approx([0.3, 0.2, 0.05])


def test_what_all_models_of_a_seed_share_is_not_in_the_interval():
    """Seeds differ by 0.2, the gain by 0.002: unpaired, an interval of the means would include none at all."""
    students, baselines = by_seed(s1=0.711, s2=0.909, s3=0.512), by_seed(s1=0.7, s2=0.9, s3=0.5)
    mean, low, high = interval(differences(students, baselines, "accuracy"))
    # 0.011, 0.009, 0.012: sample deviation 0.0015275, by sqrt(3) 0.00088192; t of 2 degrees of freedom 4.3026527.
    assert (mean, low, high) == pytest.approx((0.0106667, 0.0068721, 0.0144613), abs=1e-6)


@pytest.mark.parametrize("others", [{"s1": 0.5}, {"s1": 0.5, "s3": 0.5}, {"s1": 0.5, "s2": 0.5, "s3": 0.5}])
def test_other_seeds_cannot_be_paired(others):
    with pytest.raises(ValueError, match="cannot be paired"):
        differences(by_seed(s1=0.9, s2=0.8), by_seed(**others), "accuracy")


# Projects

TEACHER = {"accuracy": 0.98, "auc": 0.999, "nll": 0.05, "ece": 0.01}
OF_A_RUN = Quality(TEACHER, by_seed(s1=0.92, s2=0.94), by_seed(s2=0.9, s1=0.9))


def document(*students):
    return {
        "models": {
            "teacher": {"quality": {metric: {"mean": value} for metric, value in TEACHER.items()}},
            "baseline": {"seeds": OF_A_RUN.baseline},
            **{name: {"seeds": OF_A_RUN.distilled} for name in students},
        }
    }


def test_the_metrics_of_a_run_are_read():
    assert quality_of(document("student_kl_T3.25")) == OF_A_RUN


@pytest.mark.parametrize("students", [(), ("student_kl_T1", "student_kl_T4")])
def test_one_group_of_students_is_expected(students):
    with pytest.raises(ValueError, match="values to unpack"):
        quality_of(document(*students))


def test_values_of_a_preset_are_replaced_by_their_path(tmp_path):
    write_params("mnist", {"student.phases.0.epochs": 7, "views": {"count": 2}}, tmp_path / "params.yaml")
    content = YAML(typ="safe").load(tmp_path / "params.yaml")
    preset = YAML(typ="safe").load(ROOT / "presets/mnist.yaml")
    assert content["student"]["phases"][0].pop("epochs") == 7
    preset["student"]["phases"][0].pop("epochs")
    assert content == preset | {"views": {"count": 2}}


@pytest.mark.slow
def test_a_project_takes_code_and_data_and_keeps_what_was_made(tmp_path):
    given, project = tmp_path / "given.npz", tmp_path / "project"
    given.write_bytes(b"pixels")
    data = "data/raw/given/cifar10.npz"
    make_project(project, given, data)
    (project / "dvc.lock").write_text("made")
    (project / "dvc.yaml").write_text("of an older version")
    make_project(project, given, data)
    assert (project / data).read_bytes() == b"pixels"
    assert (project / "dvc.lock").read_text() == "made"
    for name in ("dvc.yaml", "pipeline/distillation/loss.py", "data/sample/dvc.yaml"):
        assert (project / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.slow
def test_a_run_that_fails_shows_what_was_printed(tmp_path):
    """A project whose data are missing."""
    make_project(tmp_path)
    write_params("mhist", {}, tmp_path / "params.yaml")
    with pytest.raises(SystemExit, match=r"`dvc repro` failed in .*(?s:.*)data/raw/mhist"):
        reproduce(tmp_path, "mhist")
