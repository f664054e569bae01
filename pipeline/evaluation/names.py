"""The names of models and of groups of models: in file names, in `metrics.json`, and for people."""

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

Role = Literal["teacher", "student", "baseline"]

NAME = re.compile(
    r"(?P<role>teacher|baseline|student)(_(?P<loss>[a-z][a-z0-9_]*)_T(?P<temperature>[^_]+))?"
    r"(_(?P<part>seed|member)(?P<number>\d+))?"
)


@dataclass(frozen=True)
class Group:
    """Models that differ in their seed alone: the teacher, the baselines, or the students of one loss and temperature.

    Attributes:
        role: whether the models are teachers, students or baselines.
        loss: the name of the students' loss in `distill.loss`; empty for the other roles.
        temperature: T of students, as it is written in params.yaml; empty for the other roles.
    """

    role: Role
    loss: str = ""
    temperature: str = ""

    @property
    def key(self) -> str:
        """The name in `metrics.json`: "teacher", "baseline", "student_kl_T4"."""
        return f"{self.role}_{self.variant}" if self.variant else self.role

    @property
    def variant(self) -> str:
        """What tells students from other students: "kl_T4"; empty for the other roles."""
        return f"{self.loss}_{temperature_key(self.temperature)}" if self.loss else ""

    @property
    def words(self) -> str:
        """The name for people: "teacher", "baseline", "student kl T=4"."""
        return f"{self.role} {self.loss} T={self.temperature}" if self.loss else self.role

    def model(self, seed: int | str) -> str:
        """The name of the model of one seed in file names: "student_kl_T4_seed1"."""
        return f"{self.key}_seed{seed}"

    def member(self, number: int) -> str:
        """The name of a member of an ensemble; members are counted from 0: "teacher_member0"."""
        return f"{self.key}_member{number}"


TEACHER, BASELINE = Group("teacher"), Group("baseline")


def student(loss: str, temperature: str) -> Group:
    """The students of one loss, by its name in `distill.loss`, and of one temperature, as params.yaml writes it."""
    return Group("student", loss, temperature)


def parsed(name: str) -> tuple[Group, str]:
    """Reads the name of a model or the key of a group.

    Args:
        name: "student_kl_T4_seed1", "teacher_member0", "baseline" ...

    Returns:
        The group, and in words which of its models is meant: "seed 1", "member 0"; empty for the group itself.

    Raises:
        ValueError: this is no name of a model or group.
    """
    match = NAME.fullmatch(name)
    if match is None or (match["role"] == "student") != (match["loss"] is not None):
        raise ValueError(f"{name!r} is none of {', '.join(get_args(Role))}")
    group = Group(cast(Role, match["role"]), match["loss"] or "", match["temperature"] or "")
    return group, f"{match['part']} {match['number']}" if match["part"] else ""


def temperature_key(temperature: str) -> str:
    """The key of one temperature in `metrics.json`: "T4"."""
    return f"T{temperature}"


def temperature_of(key: str) -> str:
    """The temperature of a `temperature_key`, as it is written in params.yaml."""
    return key.removeprefix("T")
