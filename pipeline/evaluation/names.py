"""The names of models and of groups of models: in file names, in `metrics.json`, and for people."""

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

Role = Literal["teacher", "student", "baseline"]

NAME = re.compile(
    r"(?P<role>teacher|baseline|student)(_T(?P<temperature>[^_]+))?(_(?P<part>seed|member)(?P<number>\d+))?"
)


@dataclass(frozen=True)
class Group:
    """Models that differ in their seed alone: the teacher, the baselines, or the students of one temperature.

    Attributes:
        role: whether the models are teachers, students or baselines.
        temperature: T of students, as it is written in params.yaml; empty for the other roles.
    """

    role: Role
    temperature: str = ""

    @property
    def key(self) -> str:
        """The name in `metrics.json`: "teacher", "baseline", "student_T4"."""
        return f"{self.role}_{temperature_key(self.temperature)}" if self.temperature else self.role

    @property
    def words(self) -> str:
        """The name for people: "teacher", "baseline", "student T=4"."""
        return f"{self.role} T={self.temperature}" if self.temperature else self.role

    def model(self, seed: int | str) -> str:
        """The name of the model of one seed in file names: "student_T4_seed1"."""
        return f"{self.key}_seed{seed}"

    def member(self, number: int) -> str:
        """The name of a member of an ensemble; members are counted from 0: "teacher_member0"."""
        return f"{self.key}_member{number}"


TEACHER, BASELINE = Group("teacher"), Group("baseline")


def student(temperature: str) -> Group:
    """The students of one temperature, as it is written in params.yaml."""
    return Group("student", temperature)


def parsed(name: str) -> tuple[Group, str]:
    """Reads the name of a model or the key of a group.

    Args:
        name: "student_T4_seed1", "teacher_member0", "baseline" ...

    Returns:
        The group, and in words which of its models is meant: "seed 1", "member 0"; empty for the group itself.

    Raises:
        ValueError: this is no name of a model or group.
    """
    match = NAME.fullmatch(name)
    if match is None or (match["role"] == "student") != (match["temperature"] is not None):
        raise ValueError(f"{name!r} is none of {', '.join(get_args(Role))}")
    group = Group(cast(Role, match["role"]), match["temperature"] or "")
    return group, f"{match['part']} {match['number']}" if match["part"] else ""


def temperature_key(temperature: str) -> str:
    """The key of one temperature in `metrics.json`: "T4"."""
    return f"T{temperature}"


def temperature_of(key: str) -> str:
    """The temperature of a `temperature_key`, as it is written in params.yaml."""
    return key.removeprefix("T")
