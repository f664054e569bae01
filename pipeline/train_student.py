"""Stage `train_student`: trains the student on hard and soft labels, from the file alone.

The teacher is not needed here: what it said of each image is in `soft_targets_T<T>.h5`, and so is the
temperature.
"""

from pathlib import Path
from typing import Any

from pipeline.batches import Examples
from pipeline.errors import PipelineError
from pipeline.index import Index, read_index
from pipeline.losses import DistillationLoss
from pipeline.soft_labels import read_soft_targets
from pipeline.targets import hard_and_soft_labels
from pipeline.training import Recipe, train_to_files


def run(
    *,
    index: Path,
    soft_targets: Path,
    temperature: float,
    hard_label_weight: float,
    scale_by_temperature_squared: bool,
    model: dict[str, Any],
    recipe: Recipe,
    output: Path,
    history: Path,
) -> None:
    """Writes a student's `.keras` file and its training curves.

    Args:
        index: `data/index.csv`.
        soft_targets: the `soft_targets_T<T>.h5` to learn from.
        temperature: T that the file is expected to hold; the loss takes T from the file.
        hard_label_weight: as in `DistillationLoss`.
        scale_by_temperature_squared: as in `DistillationLoss`.
        model: the arguments of `models.build`, apart from `classes` and `seed`.
        recipe: how to train.
        output: the `.keras` file to write.
        history: the CSV file to write.

    Raises:
        PipelineError: the soft labels are missing, damaged, of another temperature or other images; the
            weights are missing; or training diverged.
    """
    data = read_index(index)
    train_on, stored = _examples(data, "train", soft_targets, model)
    validate_on, _ = _examples(data, "val", soft_targets, model)
    if stored != temperature:
        raise PipelineError(
            f"{soft_targets} was softened at temperature {stored:g}, not {temperature:g}. "
            "Make it again with `dvc repro --single-item --force soften`."
        )
    train_to_files(
        {**model, "classes": len(data.class_names)},
        train_on,
        validate_on,
        loss=DistillationLoss(stored, hard_label_weight, scale_by_temperature_squared),
        recipe=recipe,
        output=output,
        history=history,
    )


def _examples(data: Index, split: str, path: Path, model: dict[str, Any]) -> tuple[Examples, float]:
    soft_targets = read_soft_targets(path, split)
    images = data.split(split)
    targets = hard_and_soft_labels(data, images, soft_targets, path)
    return Examples.of(images, model["input_shape"], targets), soft_targets.temperature
