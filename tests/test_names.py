"""Names of models and groups: in files, in `metrics.json`, and for people."""

import pytest

from pipeline.evaluation.names import BASELINE, TEACHER, Group, parsed, student, temperature_key, temperature_of

GROUPS = {
    "teacher": (TEACHER, "teacher"),
    "baseline": (BASELINE, "baseline"),
    "student_kl_T4": (student("kl", "4"), "student kl T=4"),
    "student_kl_T0.5": (student("kl", "0.5"), "student kl T=0.5"),
    "student_kl_T1e-05": (student("kl", "1e-05"), "student kl T=1e-05"),
    "student_my_dkd2_T8to2": (student("my_dkd2", "8to2"), "student my_dkd2 T=8to2"),
    "student_a_seed1_T4": (student("a_seed1", "4"), "student a_seed1 T=4"),
}


@pytest.mark.parametrize(("key", "expected"), GROUPS.items())
def test_keys_and_words_of_groups(key, expected):
    group, words = expected
    assert (group.key, group.words) == (key, words)
    assert parsed(key) == (group, "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("baseline_seed1", (BASELINE, "seed 1")),
        ("student_kl_T4_seed12", (student("kl", "4"), "seed 12")),
        ("student_kl_T0.5_seed4294967295", (student("kl", "0.5"), "seed 4294967295")),
        ("teacher_member0", (TEACHER, "member 0")),
        ("student_a_seed1_T4_seed2", (student("a_seed1", "4"), "seed 2")),
    ],
)
def test_names_of_models_are_told_from_their_group(name, expected):
    assert parsed(name) == expected


def test_names_that_are_made_are_those_of_the_files():
    assert student("kl", "4").model(1) == "student_kl_T4_seed1"
    assert BASELINE.model("7") == "baseline_seed7"
    assert TEACHER.member(0) == "teacher_member0"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "students",
        "student",
        "student_T",
        "student_T4",
        "student_kl",
        "student_Kl_T4",
        "student_seed1",
        "teacher_T4",
        "teacher_kl_T4",
        "baseline_seed",
        "Teacher",
        "teacher\n",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="is none of teacher, student, baseline"):
        parsed(name)


def test_a_temperature_of_another_spelling_is_another_group():
    """Files are named by what params.yaml says."""
    assert student("kl", "4") != student("kl", "4.0") != Group("student", "kl", "4e0")
    assert temperature_of(temperature_key("4.0")) == "4.0"
    assert temperature_key("4.0") == "T4.0"
