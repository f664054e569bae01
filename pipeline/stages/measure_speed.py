"""Stage `measure_speed`: times teacher and student on this machine."""

from datetime import UTC, datetime
from pathlib import Path

from pipeline.evaluation.description import read_description
from pipeline.evaluation.speed import Speed, write_speed
from pipeline.inference import cost
from pipeline.inference.forward_speed import BATCH_SIZES, forward_speeds
from pipeline.models.descriptions import Model
from pipeline.runtime.devices import device_names, processor


def run(*, teacher: Path, model: Model, output: Path) -> None:
    """Times forward passes of both models. Their weights are random, since speed does not depend on weights.

    A teacher that is no network of Keras' layers is left out.

    Args:
        teacher: the teacher's description.
        model: the student.
        output: the JSON file to write.

    Raises:
        MissingError: there is no description of the teacher.
        DamagedError: it cannot be read.
    """
    description = read_description(teacher)
    models = {"student": model.untrained(description.classes)}
    if description.architecture is not None:
        models = {"teacher": cost.untrained(description.architecture)} | models
    speeds = [forward_speeds(models, size) for size in BATCH_SIZES]
    rates = {name: [speeds_of_size[name] for speeds_of_size in speeds] for name in models}
    write_speed(Speed(_device(), datetime.now(UTC).date().isoformat(), list(BATCH_SIZES), rates), output)
    print(f"wrote {output}")


def _device() -> str:
    names = device_names()
    return processor() if names == ["CPU"] else ", ".join(names)
