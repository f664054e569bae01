"""Training on hard labels alone, as the teacher and the baseline are trained."""

from pathlib import Path
from typing import Any

import keras

from pipeline.batches import Examples
from pipeline.index import read_index
from pipeline.training import Recipe, train_to_files


def train_on_hard_labels(*, index: Path, model: dict[str, Any], recipe: Recipe, output: Path, history: Path) -> None:
    """Trains a model with softmax cross-entropy on the training images' labels.

    Args:
        index: `data/index.csv`.
        model: the arguments of `models.build`, apart from `classes` and `seed`.
        recipe: how to train.
        output: the `.keras` file to write.
        history: the CSV file of the training curves to write.

    Raises:
        PipelineError: the index or the weights are missing, or training diverged.
    """
    data = read_index(index)
    train_on, validate_on = (
        Examples.of(images, model["input_shape"], data.one_hot(images))
        for images in (data.split("train"), data.split("val"))
    )
    train_to_files(
        {**model, "classes": len(data.class_names)},
        train_on,
        validate_on,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        recipe=recipe,
        output=output,
        history=history,
    )
