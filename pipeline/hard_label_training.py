"""Training on hard labels alone, as the teacher and the baseline are trained."""

from pathlib import Path
from typing import Any

import keras

from pipeline.batches import Examples, HardLabels
from pipeline.index import read_index
from pipeline.training import Recipe, train_to_files
from pipeline.views import Augmentation


def train_on_hard_labels(
    *,
    index: Path,
    model: dict[str, Any],
    recipe: Recipe,
    augmentation: Augmentation,
    view_seed: int,
    view_count: int | None,
    output: Path,
    history: Path,
) -> None:
    """Trains a model with softmax cross-entropy on the training images' labels.

    Args:
        index: `data/index.csv`.
        model: the arguments of `models.build`, apart from `classes` and `seed`.
        recipe: how to train.
        augmentation: the ranges from which the views of the training images are drawn.
        view_seed: of the views.
        view_count: how many views of each training image there are, shown epoch after epoch in turn; None for a
            new one in every epoch.
        output: the `.keras` file to write.
        history: the CSV file of the training curves to write.

    Raises:
        PipelineError: the index or the weights are missing, or training diverged.
    """
    data = read_index(index)
    train_images, val_images = data.split("train"), data.split("val")
    ids = [image.id for image in train_images]
    varied = HardLabels(ids, data.one_hot(train_images), augmentation, view_seed, view_count)
    untouched = HardLabels([image.id for image in val_images], data.one_hot(val_images), Augmentation(), 0, 1)
    train_to_files(
        model,
        data,
        Examples.of(train_images, model["input_shape"], varied),
        Examples.of(val_images, model["input_shape"], untouched),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        recipe=recipe,
        output=output,
        history=history,
    )
