"""How fast the models ran where they were measured."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.runtime.errors import DamagedError, MissingError
from pipeline.runtime.publish import publish


@dataclass(frozen=True)
class Speed:
    """Forward passes of pixels in memory, timed.

    Attributes:
        device: what computed.
        date: of the measurement, in UTC: YYYY-MM-DD.
        batch_sizes: images in a pass.
        images_per_second: of "teacher" and "student" a number for each of `batch_sizes`.
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
        PipelineError: there is no such file, or it is damaged.
    """
    remedy = "Measure again with `dvc repro --single-item --force measure_speed`."
    if not path.is_file():
        raise MissingError(f"there are no speeds at {path}. {remedy}")
    try:
        speed = Speed(**json.loads(path.read_text(encoding="utf-8")))
        _ = [f"{rate:.1f}" for role in ("teacher", "student") for rate in speed.images_per_second[role]]
        return speed
    except (ValueError, LookupError, TypeError) as error:
        raise DamagedError(f"{path} is damaged ({error!r}). {remedy}") from None
