"""Stage `train_student`: trains the student on hard and soft labels.

The teacher is not needed here: `soft_targets_T<T>.h5` holds its answers for each image, and the temperature.
"""

from contextlib import ExitStack
from pathlib import Path

from pipeline.distillation.loss import DistillationLoss
from pipeline.distillation.targets import HardAndSoftLabels
from pipeline.distillation.teacher_answers import answers_for
from pipeline.images.index import Image, SplitName, read_index
from pipeline.images.resize import DEFAULT_RESIZE, Resize
from pipeline.images.views import Views
from pipeline.models.descriptions import Model
from pipeline.soft_labels.hdf5 import sealed_sha256
from pipeline.soft_labels.identity import Expected, refuse_other
from pipeline.soft_labels.reading import open_soft_targets
from pipeline.training import fit
from pipeline.training.callbacks import Watch
from pipeline.training.input_pipeline import Examples
from pipeline.training.kept_features import ALONE, FrozenCache
from pipeline.training.recipe import Cache, Recipe

CODE = ("stages/train_student.py", "distillation", "soft_labels", *fit.PACKAGES)
"""The code that decides what a student learns."""


def run(
    *,
    index: Path,
    soft_targets: Path,
    logits: Path,
    views: Views,
    loss: DistillationLoss,
    model: Model,
    recipe: Recipe,
    output: Path,
    history: Path,
    resize: Resize = DEFAULT_RESIZE,
    cache: Cache = "memory",
    cache_frozen: FrozenCache = ALONE,
    watch: Watch | None = None,
    note: str | None = None,
) -> None:
    """Writes a student's `.keras` file and its training curves.

    Args:
        index: `data/index.csv`.
        soft_targets: the `soft_targets_T<T>.h5` to learn from.
        logits: the `teacher_logits.h5` from which they must be made; not compared if it is missing. Rows of it are read
            where the loss needs logits that do not follow from the soft labels.
        views: the views that the file must hold; the student is trained on the stored ones.
        loss: the loss; its temperature must be that of the file.
        model: the model to train.
        recipe: how to train it.
        output: the `.keras` file to write.
        history: the CSV file to write.
        resize: how images are resized; the file must be made with the same.
        cache: where decoded pixels are kept; changes no result.
        cache_frozen: how what leaves frozen layers is kept; changes no result.
        watch: is called after each epoch.
        note: if it is given, the files are left in `.work/` with this note, and not written (`workspace.noted`).

    Raises:
        MissingError: the index, the soft labels or the weights are missing; or logits that the loss needs.
        DamagedError: one of them cannot be read.
        MismatchError: the soft labels have another temperature, other views, other images or other pixels; or images
            have changed since `split`; or the weights do not fit the model.
        ParameterError: training diverged; or the loss cannot be computed from the soft labels.
    """
    data = read_index(index)
    with ExitStack() as opened:
        file = opened.enter_context(open_soft_targets(soft_targets))
        expected = Expected(
            splits=("train", "val"),
            views=views,
            resize=resize,
            logits_sha256=sealed_sha256(logits) if logits.is_file() else None,
            temperature=loss.temperature,
        )
        refuse_other(file, data, expected)
        answers = opened.enter_context(answers_for(loss, file, logits))
        shown: dict[SplitName, list[Image]] = {"train": data.split("train"), "val": recipe.validation_images(data)}
        train_on, validate_on = (
            Examples.of(
                images,
                model.input_shape,
                HardAndSoftLabels(file, split, images, data.one_hot(images), answers),
                resize,
                cache=cache,
            )
            for split, images in shown.items()
        )
        with fit.trained(
            model,
            data,
            train_on,
            validate_on,
            loss=loss,
            recipe=recipe,
            output=output,
            code=CODE,
            cache_frozen=cache_frozen,
            watch=watch,
        ) as result:
            result.publish(output, history, note)
