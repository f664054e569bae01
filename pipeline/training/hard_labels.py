"""Training on hard labels alone, as teachers and baselines are trained."""

from contextlib import AbstractContextManager
from pathlib import Path

import keras

from pipeline.images.index import Index
from pipeline.images.resize import Resize
from pipeline.images.views import Augmentation
from pipeline.models.descriptions import Model
from pipeline.training.fit import Trained, trained
from pipeline.training.input_pipeline import Examples, HardLabels
from pipeline.training.recipe import Cache, Recipe


def trained_on_hard_labels(
    data: Index,
    *,
    model: Model,
    recipe: Recipe,
    augmentation: Augmentation,
    view_seed: int,
    view_count: int | None,
    resize: Resize,
    cache: Cache,
    output: Path,
) -> AbstractContextManager[Trained]:
    """Trains a model with softmax cross-entropy on the training images' labels.

    Args:
        data: the index.
        model: what to train.
        recipe: how to train.
        augmentation: the ranges from which the views of the training images are sampled.
        view_seed: of the views.
        view_count: how many views of each training image there are, shown pass after pass in turn; None for a
            new one in every pass.
        resize: how images are resized.
        cache: where decoded pixels are kept.
        output: the `.keras` file that it is for.

    Raises:
        PipelineError: image files are missing or changed, the weights are missing, or training diverged.
    """
    train_images, val_images = data.split("train"), recipe.validation_images(data)
    ids = [image.id for image in train_images]
    varied = HardLabels(ids, data.one_hot(train_images), augmentation, view_seed, view_count)
    untouched = HardLabels([image.id for image in val_images], data.one_hot(val_images), Augmentation(), 0, 1)
    return trained(
        model,
        data,
        Examples.of(train_images, model.input_shape, varied, resize, cache=cache),
        Examples.of(val_images, model.input_shape, untouched, resize, cache=cache),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        recipe=recipe,
        output=output,
    )
