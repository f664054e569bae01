"""The commands of a project that write: its stages, and the tools."""

import sys
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

TIMES = ("measure_speed", "measure_exports")
"""Their outputs are times, which are others in each run."""


@dataclass(frozen=True)
class Step:
    """A command that writes.

    Attributes:
        name: for the table.
        words: the command.
        outputs: what it writes, relative to the project.
        same: whether a second run writes the same bytes.
    """

    name: str
    words: list[str]
    outputs: list[str]
    same: bool = True


def steps_of(project: Path) -> list[Step]:
    """The stages of dvc.lock, and the tools that write."""
    softlabel, dvc = [sys.executable, "-m", "pipeline"], [sys.executable, "-m", "dvc"]
    stages = YAML(typ="safe").load(project / "dvc.lock")["stages"]
    steps = [
        Step(name, [*softlabel, *stage["cmd"].split()[3:]], [out["path"] for out in stage["outs"]], name not in TIMES)
        for name, stage in stages.items()
    ]
    soften = next(step for step in steps if step.name.startswith("soften"))
    student = sorted((project / "models/exports/best").glob("*.tflite"))[0].relative_to(project)
    return [
        *steps,
        Step(f"dvc repro {soften.name}", [*dvc, "repro", "--single-item", soften.name], soften.outputs),
        Step("pack", [*softlabel, "pack", "packed"], ["packed"]),
        Step("verify", [*softlabel, "verify", soften.outputs[0]], []),
        Step("inspect", [*softlabel, "inspect", soften.outputs[0]], []),
        Step("plan", [*softlabel, "plan"], []),
        Step(
            "predict --output",
            [*softlabel, "predict", str(student), "data/split/test", "--format", "csv", "--output", "labels.csv"],
            ["labels.csv"],
        ),
        Step("render-views", [*softlabel, "render-views", "views", "--split", "val"], ["views"]),
        Step("init", [*softlabel, "init", str(_data_of(project)), "--force"], ["params.yaml"]),
    ]


def _data_of(project: Path) -> Path:
    data: str = YAML(typ="safe").load(project / "params.yaml")["split"]["data"]
    return Path(data)
