"""Whether stored answers are of the images and views that are needed, before they are copied."""

import json
import sys
from collections.abc import Sequence

from pipeline.images.index import SPLITS, Index
from pipeline.images.resize import Resize, rendering_of
from pipeline.images.views import Views
from pipeline.models.ensembles import Teacher
from pipeline.models.stored_answers import StoredAnswers
from pipeline.runtime.errors import MismatchError, all_named

AGAIN = "then take them in again with `dvc repro --single-item --force train_teacher`"


def refuse_unanswered(teachers: Sequence[Teacher], data: Index, views: Views, resize: Resize) -> None:
    """Compares the stored answers of some teachers with the images and views that need logits.

    Raises:
        MismatchError: an image or view has none, or they are of other views.
    """
    for teacher in teachers:
        if teacher.answers is not None:
            _refuse_one_answer_for_two_images(teacher.answers, teacher.described, views)
            _refuse_missing(teacher.answers, teacher.described, data, views)
            _refuse_other_views(teacher.answers, teacher.described, data, views, resize)


def _refuse_one_answer_for_two_images(answers: StoredAnswers, described: str, views: Views) -> None:
    if answers.views is None and views.augmentation.mixes:
        raise MismatchError(
            f"{described} has one answer for each image, but views.augmentation mixes images (mixup, cutmix): it has "
            "no answer to a picture of two. Expected an answer to each view. Leave mixup and cutmix out, or take a "
            "teacher that sees the views: a model, or a table with a row for each picture of `softlabel render-views`."
        )


def _refuse_missing(answers: StoredAnswers, described: str, data: Index, views: Views) -> None:
    missing = [
        name
        for split in SPLITS
        for name in answers.without([image.id for image in data.split(split)], views.of_split(split).count)
    ]
    if missing:
        raise MismatchError(
            f"{described} has no answer to {len(missing)} image(s) or view(s): "
            f"{all_named(missing, 'without-logits')}. Expected one row for each image, and for each training image "
            f"{views.count} view(s), as views.count says. Add them to the table (`softlabel render-views` writes the "
            f"pictures), {AGAIN}."
        )


def _refuse_other_views(answers: StoredAnswers, described: str, data: Index, views: Views, resize: Resize) -> None:
    shown = answers.rendering
    if shown is None:
        if answers.views is not None and not views.augmentation.is_identity:
            print(
                f"warning: {described} does not say of which views it is, so nobody can see whether the student sees "
                "the same ones. Put the text `rendering` of views.json into it (docs/guide.md).",
                file=sys.stderr,
            )
        return
    now = json.loads(rendering_of(shown["input_shape"], resize, views, data))
    different = [
        f"{name} {shown.get(name)}, expected {value}" for name, value in now.items() if shown.get(name) != value
    ]
    if different:
        raise MismatchError(
            f"{described} is of other views than those of params.yaml: "
            f"{'; '.join(different)}. Label the views of `softlabel render-views` again, {AGAIN}; or set `views` and "
            "`images.resize` as they were."
        )
