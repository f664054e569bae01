"""The weight of each class in the loss, from what params.yaml says and from the labels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.images.index import Index
from pipeline.runtime.errors import ParameterError, nearest, quoted
from pipeline.training.recipe import ClassWeight, Phase, Recipe


def with_class_weights(recipe: Recipe, data: Index) -> Recipe:
    """A recipe in which `class_weight` of each phase is None, or names every class in the order of the class axis.

    Raises:
        ParameterError: a class is not named, or one that the data set does not have; or the weights are to be
            balanced, and a class has no labelled training image.
    """
    return replace(recipe, phases=[_weighted(phase, data) for phase in recipe.phases])


def _weighted(phase: Phase, data: Index) -> Phase:
    if phase.class_weight is None:
        return phase
    return replace(phase, class_weight=_of_each(phase.class_weight, data))


def _of_each(given: ClassWeight, data: Index) -> dict[str, float]:
    if not isinstance(given, Mapping):
        return balanced(data)
    refuse_other_names(given, data.class_names)
    return {name: given[name] for name in data.class_names}


def refuse_other_names(given: Mapping[str, float], class_names: Sequence[str]) -> None:
    """Compares the names of `class_weight` with those of the data set.

    Raises:
        ParameterError: a class is not named, or one that the data set does not have.
    """
    unknown, missing = sorted({*given} - {*class_names}), [name for name in class_names if name not in given]
    if unknown:
        near = nearest(unknown[0], class_names)
        hint = f" Did you mean {near!r}?" if near else ""
        raise ParameterError(
            f"class_weight names {quoted(unknown)}, which the data set does not have; its classes are "
            f"{quoted(class_names)}.{hint}"
        )
    if missing:
        raise ParameterError(
            f"class_weight has no number for {quoted(missing)}. Expected one for each class; 1 changes nothing."
        )


def balanced(data: Index) -> dict[str, float]:
    """N / (C n) of each of C classes, with n of the N labelled training images.

    Each class then weighs the same in the loss, and the mean weight of an image is 1.

    Raises:
        ParameterError: a class has no labelled training image.
    """
    counts = Counter(image.class_name for image in data.labelled("train"))
    without = [name for name in data.class_names if not counts[name]]
    if without:
        raise ParameterError(
            f"class_weight is balanced, and {quoted(without)} of {len(data.class_names)} classes have no labelled "
            "training image. Give a number for each class instead."
        )
    return {name: counts.total() / (len(data.class_names) * counts[name]) for name in data.class_names}
