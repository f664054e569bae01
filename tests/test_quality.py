"""`benchmarks.quality`: intervals of paired differences, and the set-ups that they are of."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.quality import (
    METRICS,
    ROOT,
    Quality,
    chosen,
    differences,
    interval,
    make_project,
    measured,
    quality_of,
    reproduce,
    tables,
)
from benchmarks.set_ups import QUICK, SET_UPS, write_params
from pipeline.params.reading import read_params

VARIANTS = [(name, variant) for name, set_up in SET_UPS.items() for variant in set_up.variants]


# Intervals


def test_interval_by_hand():
    # 1, 2, 3, 6: mean 3, squared deviations 4 + 1 + 0 + 9 = 14, sample variance 14 / 3, standard error
    # sqrt(14 / 3 / 4) = 1.0801234; Student's t of 3 degrees of freedom has 3.1824463 at 0.975: +- 3.4374349.
    assert interval([1.0, 2.0, 3.0, 6.0]) == pytest.approx((3.0, -0.4374349, 6.4374349), abs=1e-6)


def test_two_values_have_one_degree_of_freedom():
    # Half their distance is the standard error; t of 1 degree of freedom has tan(0.475 pi) = 12.7062047 at 0.975.
    assert interval([0.0, 2.0]) == pytest.approx((1.0, 1 - 12.7062047, 1 + 12.7062047), abs=1e-6)


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


# Tables

TEACHER = {"accuracy": 0.98, "auc": 0.999, "nll": 0.05, "ece": 0.01}
FIXED = Quality(TEACHER, by_seed(s1=0.92, s2=0.94), by_seed(s2=0.9, s1=0.9))
FRESH = Quality(TEACHER, by_seed(s1=0.95, s2=0.97), by_seed(s1=0.91, s2=0.95))


def cells(name, variants):
    (_, _, levels), (_, header, gains) = tables(name, variants)
    column = header.index("accuracy")
    return {(row[0], row[1]): row[column] for row in (*levels, *gains)}


def test_tables_by_hand():
    shown = cells("mnist", {"preset": FIXED, "V = 1": FIXED, "V = 40": FRESH})
    assert shown["preset", "teacher"] == "0.9800"
    assert shown["V = 1", "distilled"] == "0.9300 ±0.0141"  # 0.02 / sqrt(2)
    # 0.02 and 0.04: 0.03 +- 12.7062047 * 0.01
    assert shown["V = 1", "distilled less baseline"] == "+0.0300 (-0.0971 to +0.1571)"
    # 0.04 and 0.02 again, of the other seeds
    assert shown["V = 40", "distilled less baseline"] == "+0.0300 (-0.0971 to +0.1571)"
    assert shown["V = 40 less V = 1", "distilled"] == "+0.0300 (+0.0300 to +0.0300)"
    # 0.01 and 0.05
    assert shown["V = 40 less V = 1", "baseline"] == "+0.0300 (-0.2241 to +0.2841)"


def test_a_single_variant_is_compared_with_none():
    assert [key for key in cells("mnist", {"preset": FIXED}) if "less V" in key[0]] == []


def test_every_metric_of_every_seed_is_kept():
    kept = json.loads(json.dumps(measured({"V = 1": FIXED, "V = 40": FRESH})))
    assert kept["V = 40"]["distilled"]["2"]["accuracy"] == 0.97
    assert kept["V = 1"]["baseline"]["1"].keys() == METRICS.keys()
    assert kept["V = 1"]["teacher"] == TEACHER


def document(*students):
    return {
        "models": {
            "teacher": {"quality": {metric: {"mean": value} for metric, value in TEACHER.items()}},
            "baseline": {"seeds": FIXED.baseline},
            **{name: {"seeds": FIXED.distilled} for name in students},
        }
    }


def test_the_metrics_of_a_run_are_read():
    assert quality_of(document("student_kl_T3.25")) == FIXED


@pytest.mark.parametrize("students", [(), ("student_kl_T1", "student_kl_T4")])
def test_students_of_one_temperature_are_expected(students):
    with pytest.raises(ValueError, match="values to unpack"):
        quality_of(document(*students))


# Set-ups


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_a_variant_is_a_valid_params_file(name, variant, tmp_path):
    write_params(SET_UPS[name], variant, tmp_path / "params.yaml")
    params = read_params(tmp_path / "params.yaml")
    assert len(params.student.seeds) == {"mnist": 5, "cifar10": 5, "mhist": 3}[name]
    assert len(params.distill.temperatures) == 1
    if variant != "preset":
        assert params.views.count in (1, sum(phase.epochs for phase in params.student.phases))
        assert variant == f"V = {params.views.count}"
        assert params.train_teacher.augmentation == params.views.augmentation


@pytest.mark.parametrize("name", SET_UPS)
def test_fixed_and_fresh_views_differ_in_their_number_alone(name, tmp_path):
    read = {}
    for variant in SET_UPS[name].variants:
        write_params(SET_UPS[name], variant, tmp_path / "params.yaml")
        read[variant] = read_params(tmp_path / "params.yaml").model_dump()
    *_, fixed, fresh = read.values()
    assert fixed["views"].pop("count") == 1
    assert fresh["views"].pop("count") > 1
    assert fixed == fresh


def test_the_quick_size_is_two_seeds_of_mnist(tmp_path):
    (set_up,) = QUICK.values()
    write_params(set_up, "preset", tmp_path / "params.yaml")
    params = read_params(tmp_path / "params.yaml")
    assert list(QUICK) == ["mnist"]
    assert params.student.seeds == [1, 2]
    assert params.train_teacher.phases[0].epochs + params.student.phases[0].epochs <= 6


def options(**given):
    return Namespace(**{"quick": False, "cifar10": None, "mhist": None, "only": None} | given)


def test_set_ups_without_data_are_left_out(tmp_path):
    assert chosen(options()) == {"mnist": None}
    assert chosen(options(mhist=tmp_path)) == {"mnist": None, "mhist": tmp_path}
    assert chosen(options(mhist=tmp_path, quick=True)) == {"mnist": None}
    assert chosen(options(mhist=tmp_path, only=["mhist"])) == {"mhist": tmp_path}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"only": ["mnst"]}, "'mnst'.*'mnist', 'cifar10', 'mhist'"),
        ({"only": ["cifar10"]}, "--cifar10"),
        ({"mhist": Path("nowhere")}, "nothing at nowhere.*--mhist"),
        ({"quick": True, "only": ["mhist"], "mhist": Path()}, "'mhist'.*--quick mnist"),
    ],
)
def test_a_set_up_that_cannot_run_is_refused(given, named):
    with pytest.raises(SystemExit, match=named):
        chosen(options(**given))


@pytest.mark.slow
def test_a_project_takes_code_and_data_and_keeps_what_was_made(tmp_path):
    given, project = tmp_path / "given.npz", tmp_path / "project"
    given.write_bytes(b"pixels")
    make_project(SET_UPS["cifar10"], given, project)
    (project / "dvc.lock").write_text("made")
    (project / "dvc.yaml").write_text("of an older version")
    make_project(SET_UPS["cifar10"], given, project)
    assert (project / "data/raw/given/cifar10.npz").read_bytes() == b"pixels"
    assert (project / "dvc.lock").read_text() == "made"
    for name in ("dvc.yaml", "pipeline/distillation/loss.py", "data/sample/dvc.yaml"):
        assert (project / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.slow
def test_a_run_that_fails_shows_what_was_printed(tmp_path):
    """A project whose data are missing."""
    write_params(SET_UPS["mhist"], "V = 8", tmp_path / "params.yaml")
    make_project(SET_UPS["mhist"], None, tmp_path)
    with pytest.raises(SystemExit, match=r"`dvc repro` failed in .*(?s:.*)data/raw/mhist"):
        reproduce(tmp_path, "mhist")
