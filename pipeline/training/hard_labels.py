"""Training on hard labels alone: teachers and baselines."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.images.augmentation import Augmentation
from pipeline.images.index import Index
from pipeline.images.resize import Resize
from pipeline.models.descriptions import Model
from pipeline.training.callbacks import Watch
from pipeline.training.fit import Trained, trained
from pipeline.training.hard_loss import HardLoss
from pipeline.training.input_pipeline import Examples, HardLabels
from pipeline.training.kept_features import ALONE, FrozenCache
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
    code: Sequence[str],
    cache_frozen: FrozenCache = ALONE,
    watch: Watch | None = None,
) -> AbstractContextManager[Trained]:
    """Trains a model with softmax cross-entropy on the labels of the training images that have one.

    Args:
        data: the index.
        model: the description of the model.
        recipe: how to train.
        augmentation: the ranges from which the views of the training images are sampled.
        view_seed: the seed of the views.
        view_count: the number of views of each training image; each pass shows the next one. None: every pass shows a
            new view.
        resize: how images are resized.
        cache: where decoded pixels are kept.
        output: the `.keras` file for which the model is trained.
        code: the code that decides what the model learns, as in `workspace`.
        cache_frozen: how what leaves frozen layers is kept.
        watch: is called after each epoch.

    Raises:
        MismatchError: image files are missing or changed, or the weights belong to another model.
        MissingError: the model's pretrained weights are missing.
        ParameterError: the model cannot be built, the training diverged, or the recipe does not fit the classes.
        BusyError: another process is writing `output`.
    """
    train_images, val_images = data.labelled("train"), recipe.validation_images(data)
    ids = [image.id for image in train_images]
    augmented = HardLabels(ids, data.one_hot(train_images), augmentation, view_seed, view_count)
    untouched = HardLabels([image.id for image in val_images], data.one_hot(val_images), Augmentation(), 0, 1)
    return trained(
        model,
        data,
        Examples.of(train_images, model.input_shape, augmented, resize, cache=cache),
        Examples.of(val_images, model.input_shape, untouched, resize, cache=cache),
        loss=HardLoss(),
        recipe=recipe,
        output=output,
        code=code,
        cache_frozen=cache_frozen,
        watch=watch,
    )
