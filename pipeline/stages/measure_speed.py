"""Stage `measure_speed`: how fast teacher and student run where the stage runs."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from pipeline.evaluation.description import read_description
from pipeline.evaluation.speed import Speed, write_speed
from pipeline.inference import cost
from pipeline.inference.forward_speed import BATCH_SIZES, forward_speeds
from pipeline.models.descriptions import Model
from pipeline.runtime.devices import device_names


def run(*, teacher: Path, model: Model, output: Path) -> None:
    """Times forward passes of both models, with weights that mean nothing, since speed does not depend on them.

    Args:
        teacher: the teacher's description.
        model: the student.
        output: the JSON file to write.

    Raises:
        PipelineError: the description is missing or damaged, or the student cannot be built.
    """
    of_teacher = cost.untrained(read_description(teacher).architecture)
    timed = {"teacher": of_teacher, "student": model.untrained(of_teacher.output_shape[-1])}
    found = [forward_speeds(timed, size) for size in BATCH_SIZES]
    rates = {name: [of_size[name] for of_size in found] for name in timed}
    write_speed(Speed(_device(), datetime.now(UTC).date().isoformat(), list(BATCH_SIZES), rates), output)
    print(f"wrote {output}")


def _device() -> str:
    names = device_names()
    return f"{os.cpu_count()} CPU cores ({platform.machine()})" if names == ["CPU"] else ", ".join(names)
