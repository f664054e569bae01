"""Stage `train_baseline`: trains the student's model on the hard labels alone, on the same views as the student."""

from pathlib import Path

from pipeline.images.index import read_index
from pipeline.images.resize import DEFAULT_RESIZE, Resize
from pipeline.images.views import Views
from pipeline.models.descriptions import Model
from pipeline.training import fit
from pipeline.training.callbacks import Watch
from pipeline.training.hard_labels import trained_on_hard_labels
from pipeline.training.kept_features import ALONE, FrozenCache
from pipeline.training.recipe import Cache, Recipe

CODE = ("stages/train_baseline.py", *fit.PACKAGES)
"""The code that decides what a baseline learns."""


def run(
    *,
    index: Path,
    model: Model,
    recipe: Recipe,
    views: Views,
    output: Path,
    history: Path,
    resize: Resize = DEFAULT_RESIZE,
    cache: Cache = "memory",
    cache_frozen: FrozenCache = ALONE,
    watch: Watch | None = None,
    note: str | None = None,
) -> None:
    """Writes a baseline's `.keras` file and its training curves.

    Args:
        index: `data/index.csv`.
        model: the model to train.
        recipe: how to train it.
        views: the views of the training images.
        output: the `.keras` file to write.
        history: the CSV file to write, as `fit.Trained` has it.
        resize: how images are resized.
        cache: where decoded pixels are kept; changes no result.
        cache_frozen: how what leaves frozen layers is kept; changes no result.

    Raises:
        MissingError: the index or the weights are missing.
        DamagedError: one of them cannot be read.
        MismatchError: images have changed since `split`, or the weights do not fit the model.
        ParameterError: training diverged.
    """
    with trained_on_hard_labels(
        read_index(index),
        model=model,
        recipe=recipe,
        augmentation=views.augmentation,
        view_seed=views.seed,
        view_count=views.count,
        resize=resize,
        cache=cache,
        output=output,
        code=CODE,
        cache_frozen=cache_frozen,
        watch=watch,
    ) as result:
        result.publish(output, history, note)
