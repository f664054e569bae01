"""The measured speed of the models: the file `results/speed.json`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.evaluation.result_files import reading
from pipeline.runtime.publish import publish


@dataclass(frozen=True)
class Speed:
    """Times of forward passes on pixels in memory.

    Attributes:
        device: the processor or GPU that computed.
        date: the day of the measurement in UTC, YYYY-MM-DD.
        batch_sizes: images in a pass.
        images_per_second: for "student", and for "teacher" if it is a network of Keras' layers, a number for each of
            `batch_sizes`.
    """

    device: str
    date: str
    batch_sizes: list[int]
    images_per_second: dict[str, list[float]]


def write_speed(speed: Speed, path: Path) -> None:
    """Writes a JSON file, in one step."""
    with publish(path) as partial:
        partial.write_text(json.dumps(asdict(speed), indent=1) + "\n", encoding="utf-8")


def read_speed(path: Path) -> Speed:
    """Reads what `write_speed` wrote.

    Raises:
        MissingError: there is no such file.
        DamagedError: it is damaged.
    """
    with reading(path, "speeds", "Measure again with `dvc repro --single-item --force measure_speed`."):
        speed = Speed(**json.loads(path.read_text(encoding="utf-8")))
        # refuses what is no number
        _ = [f"{rate:.1f}" for role in {"student", *speed.images_per_second} for rate in speed.images_per_second[role]]
        return speed
