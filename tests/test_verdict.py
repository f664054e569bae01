"""The sentence at the head of the report, from numbers written by hand."""

import pandas as pd
import pytest

from pipeline.training_curves import Curves
from pipeline.verdict import chosen_student, verdict


def student(accuracy=0.9664, gain=0.0286, ends=(0.0161, 0.0411), seeds=3):
    return {
        "quality": {"accuracy": {"mean": accuracy}},
        "gain": {"accuracy": {"mean": gain}},
        "intervals": {"gain": {"accuracy": list(ends)}},
        "seeds": {str(seed): {} for seed in range(seeds)},
        "parameters": {"total": 9_098},
    }


def models(**changes):
    teacher = {"quality": {"accuracy": 0.9847}, "parameters": {"total": 113_162}}
    return {
        "teacher": teacher,
        "baseline": {"quality": {"accuracy": {"mean": 0.9378}}},
        "student_T4": student(**changes),
    }


def test_a_gain():
    assert verdict(models(), "student_T4", 1500) == (
        "The student, with 8 % of its teacher's parameters, is right on 96.6 % of the 1,500 test images: 2.9 points "
        "more than the same model trained without a teacher (93.8 %; 95 % interval +1.6 to +4.1 points over 3 seeds "
        "and the test images), and 1.8 points fewer than its teacher."
    )


def test_no_clear_difference_is_not_called_a_gain():
    said = verdict(models(gain=0.01, ends=(-0.002, 0.022)), "student_T4", 1500)
    assert (
        "no clear difference from the same model trained without a teacher (93.8 %; 95 % interval -0.2 to +2.2" in said
    )
    assert "more" not in said


def test_a_loss_is_called_one():
    said = verdict(models(gain=-0.021, ends=(-0.03, -0.012)), "student_T4", 1500)
    assert "2.1 points fewer than the same model trained without a teacher" in said


def test_one_seed_is_told():
    assert "over the test images; one seed)" in verdict(models(seeds=1), "student_T4", 1500)


def test_a_student_above_its_teacher():
    assert verdict(models(accuracy=0.9897), "student_T4", 1500).endswith("0.5 points more than its teacher.")


def curves(group, *validation):
    table = pd.DataFrame({"epoch": range(1, len(validation) + 1), "phase": 1, "val_accuracy": validation})
    return Curves(group, group, table)


def test_of_several_temperatures_the_validation_images_choose():
    """The best epochs' means: T = 1: 0.85, T = 4: 0.87; on the test images T = 1 would have been better."""
    found = {"teacher": {}, "baseline": {}, "student_T1": student(accuracy=0.99), "student_T4": student(accuracy=0.9)}
    trained = [
        curves("student_T1", 0.9, 0.7),
        curves("student_T1", 0.5, 0.8),
        curves("student_T4", 0.6, 0.88, 0.1),
        curves("student_T4", 0.86),
        curves("baseline", 1.0),
        curves("teacher", 1.0),
    ]
    assert chosen_student(found, trained) == "student_T4"


@pytest.mark.parametrize("order", [["student_T2", "student_T8"], ["student_T8", "student_T2"]])
def test_among_equals_the_first(order):
    found = dict.fromkeys(order, student())
    assert chosen_student(found, [curves(group, 0.9) for group in order]) == order[0]
