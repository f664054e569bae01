"""The sentence at the head of the report, from numbers written by hand."""

import re
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.cautions import what_would_help
from pipeline.evaluation.curves import Curves
from pipeline.evaluation.names import Group, parsed
from pipeline.report.verdict import chosen_student, verdict
from pipeline.runtime.errors import MismatchError


def student(accuracy=0.9664, gain=0.0286, ends=(0.0161, 0.0411), less_teacher=(-0.0265, -0.0101), seeds=3, total=9_098):
    of_seeds = [0.9378 + gain * (1 + spread) for spread in np.linspace(-1, 1, seeds)] if seeds > 1 else [accuracy]
    return {
        "quality": {"accuracy": {"mean": accuracy}},
        "gain": {"accuracy": {"mean": gain}},
        "intervals": {"gain": {"accuracy": list(ends)}, "less_teacher": {"accuracy": list(less_teacher)}},
        "seeds": {str(seed): {"accuracy": of_seed} for seed, of_seed in enumerate(of_seeds)},
        "parameters": {"total": total},
    }


def said_of(size_of_teacher=MappingProxyType({"parameters": {"total": 113_162}}), **changes):
    teacher = {"quality": {"accuracy": {"mean": 0.9847}}, **size_of_teacher}
    baseline = {
        "quality": {"accuracy": {"mean": 0.9378}},
        "seeds": {str(seed): {"accuracy": 0.9378} for seed in range(changes.get("seeds", 3))},
    }
    models = {"teacher": teacher, "baseline": baseline, "student_kl_T4": student(**changes)}
    return verdict(models, Group("student", "kl", "4"), 1500)


def test_a_gain_is_told_with_its_interval_and_the_teachers():
    student, baseline, teacher = re.split(r": |, and ", said_of())
    assert re.search(r"student kl T=4, 12 times smaller .* 96\.6 % of the 1,500 test images$", student)
    assert re.search(
        r"^2\.9 points more .*\(93\.8 %; .* \+1\.6 to \+4\.1 points, .*3 seeds and the test images\)$", baseline
    )
    assert re.search(r"^1\.8 points fewer .*\(-2\.6 to -1\.0\)\.$", teacher)


@pytest.mark.parametrize("ends", [(-0.002, 0.022), (0.0, 0.02), (0.0, 0.0)])
def test_no_clear_difference_is_not_called_a_gain(ends):
    said = said_of(gain=0.01, ends=ends)
    assert re.search(r": no clear difference .*\(93\.8 %;", said)
    assert "more than" not in said


def test_an_interval_that_says_nothing_is_told_as_such():
    """Two seeds, 0 and 4.5 points above a baseline with 6.2 points of errors: s = 3.18 points; t s / sqrt(n) is
    28.6, 7.9, 5.1, 3.9, 3.3 and 2.9 points of 2 to 7 seeds, half of the errors are 3.1.
    """
    said = said_of(gain=0.0225, ends=(-0.287, 0.285), seeds=2)
    assert re.search(r": no clear difference .*\(93\.8 %;", said)
    assert said.endswith(f"half as many more. {what_would_help(2, 7)}")


def test_a_narrow_interval_around_zero_says_something():
    assert "says nothing" not in said_of(gain=0.001, ends=(-0.01, 0.012))


def test_of_one_seed_more_test_images_would_help():
    assert said_of(gain=0.0, ends=(-0.08, 0.08), seeds=1).endswith(what_would_help(1, 1))


def test_a_loss_is_called_one():
    said = said_of(gain=-0.021, ends=(-0.03, -0.012))
    assert ": 2.1 points fewer " in said
    assert "difference -3.0 to -1.2 points" in said


def test_an_interval_of_one_seed_is_said_to_be_one():
    assert "points, over the test images, of one seed)" in said_of(seeds=1)


def test_a_student_above_its_teacher_is_said_to_be():
    said = said_of(accuracy=0.9897, less_teacher=(0.001, 0.009))
    assert said.endswith("0.5 points more than its teacher (+0.1 to +0.9).")


def test_no_clear_difference_from_the_teacher_is_told():
    said = said_of(accuracy=0.9847, less_teacher=(-0.004, 0.004))
    assert said.endswith("no clear difference from its teacher (-0.4 to +0.4).")


def test_small_differences_have_the_digits_that_they_need():
    said = said_of(gain=0.0004, ends=(0.0002, 0.0006))
    assert "0.04 points more" in said
    assert "+0.02 to +0.06 points" in said


def test_a_bound_that_rounds_to_zero_has_no_minus_sign():
    assert "-0.0 to" not in said_of(ends=(-0.0002, 0.02))


@pytest.mark.parametrize(
    ("total", "said"),
    [
        (113_162, "as large as its teacher"),
        (226_324, "2.0 times larger than its teacher"),
        (45_265, "2.5 times smaller than its teacher"),
        (11, "10,287 times smaller than its teacher"),
    ],
)
def test_the_size_is_told_as_a_multiple_of_the_teachers(total, said):
    assert said in said_of(total=total)


def test_beside_a_teacher_of_unknown_size_no_size_is_told():
    assert said_of(size_of_teacher={}).startswith("The student kl T=4 is right on 96.6 %")


def curves(group, *validation, seed=1):
    table = pd.DataFrame({"epoch": range(1, len(validation) + 1), "phase": 1, "val_accuracy": validation})
    return Curves(parsed(group)[0], f"{group}_seed{seed}", table)


def test_of_several_temperatures_the_validation_images_choose():
    """The best epochs' means: T = 1: 0.85, T = 4: 0.87; on the test images T = 1 would have been better."""
    best = {
        "student_kl_T1": {"best_epochs": {"student_kl_T1_seed1": [1, 2], "student_kl_T1_seed2": [2, 2]}},
        "student_kl_T4": {"best_epochs": {"student_kl_T4_seed1": [2, 3], "student_kl_T4_seed2": [1, 1]}},
    }
    found = {"teacher": {}, "baseline": {}} | {
        "student_kl_T1": student(accuracy=0.99) | best["student_kl_T1"],
        "student_kl_T4": student(accuracy=0.9) | best["student_kl_T4"],
    }
    trained = [
        curves("student_kl_T1", 0.9, 0.7),
        curves("student_kl_T1", 0.5, 0.8, seed=2),
        curves("student_kl_T4", 0.6, 0.88, 0.1),
        curves("student_kl_T4", 0.86, seed=2),
        curves("baseline", 1.0),
        curves("teacher", 1.0),
    ]
    assert chosen_student(found, trained) == Group("student", "kl", "4")


@pytest.mark.parametrize(("select_by", "temperature"), [("accuracy", "1"), ("auc", "4"), ("cross_entropy", "8")])
def test_temperatures_are_compared_by_what_selects_epochs(select_by, temperature):
    """At the second epoch; the lowest cross-entropy is the best one."""
    values = {"1": (0.9, 0.7, 0.5), "4": (0.8, 0.9, 0.6), "8": (0.7, 0.8, 0.4)}
    found, trained = {}, []
    for key, row in values.items():
        group = Group("student", "kl", key)
        found[group.key] = student() | {"best_epochs": {group.model(1): [2, 2]}}
        columns = dict(zip(("val_accuracy", "val_auc", "val_cross_entropy"), row, strict=True))
        table = pd.DataFrame([{"epoch": 1, **dict.fromkeys(columns, 0.99)}, {"epoch": 2, **columns}])
        trained.append(Curves(group, group.model(1), table))
    assert chosen_student(found, trained, select_by) == Group("student", "kl", temperature)


@pytest.mark.parametrize("order", [["student_kl_T2", "student_kl_T8"], ["student_kl_T8", "student_kl_T2"]])
def test_of_equally_good_temperatures_the_first_is_chosen(order):
    found = {group: student() | {"best_epochs": {f"{group}_seed1": [1, 1]}} for group in order}
    assert chosen_student(found, [curves(group, 0.9) for group in order]).key == order[0]


@pytest.mark.parametrize(
    ("trained", "best", "select_by"),
    [(curves("student_kl_T4", 0.9, 0.8), 3, "accuracy"), (curves("student_kl_T4", 0.9), 1, "auc")],
    ids=["no such epoch", "no such measure"],
)
def test_curves_of_another_training_are_refused(trained, best, select_by):
    found = {"student_kl_T4": student() | {"best_epochs": {"student_kl_T4_seed1": [best, best]}}}
    with pytest.raises(MismatchError, match=r"curves of student_kl_T4_seed1 lack .*`dvc repro evaluate`"):
        chosen_student(found, [trained], select_by)
