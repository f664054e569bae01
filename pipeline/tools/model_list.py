"""Command `models`: the architectures that params.yaml can name."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import keras

from pipeline.evaluation.text_table import aligned
from pipeline.models import hub
from pipeline.models.applications import Part, applications, weights_folder, weights_in
from pipeline.runtime.errors import ParameterError, nearest
from pipeline.runtime.progress import Progress


@dataclass(frozen=True)
class ListedModel:
    """An architecture of `keras.applications`.

    Attributes:
        name: as params.yaml names it.
        parameters: the number of its weights, with the head for ImageNet's 1,000 classes.
        side: height and width in pixels for which it was made; None if it has no such size.
        weights: which of its ImageNet weights are in Keras' folder.
    """

    name: str
    parameters: int
    side: int | None
    weights: frozenset[Part]


def listed(names: Sequence[str]) -> Iterator[ListedModel]:
    """Describes architectures, one after the other; each is built without memory for its weights.

    Args:
        names: theirs; all of them if there are none.

    Raises:
        ParameterError: there is no such architecture.
    """
    chosen = names or sorted(applications())
    for name in chosen:
        if name in ("cnn", "mlp"):
            raise ParameterError(
                f"{name} has no fixed size and no pretrained weights: params.yaml describes its layers, and "
                "`softlabel plan` counts its operations."
            )
        if name not in applications():
            near = nearest(name, applications())
            raise ParameterError(
                f"keras.applications has no {name!r}. "
                + (f"Did you mean {near!r}?" if near else "`softlabel models` lists what it has.")
            )
    present = weights_in(weights_folder())
    with Progress("models", len(chosen), "architectures", short_is_silent=True) as progress:
        for name in chosen:
            with keras.StatelessScope():  # variables have a shape here, and no memory
                model = applications()[name].constructor(weights=None)
            yield ListedModel(name, model.count_params(), model.input_shape[1], frozenset(present.get(name, ())))
            keras.utils.clear_session(free_memory=False)
            progress.advance(1)


def as_text(models: Iterable[ListedModel]) -> str:
    """A table of architectures."""
    rows = [
        [
            model.name,
            f"{model.parameters:>11,}",
            f"{model.side} x {model.side}" if model.side else "any size",
            " and ".join(sorted(model.weights)) or "none",
        ]
        for model in models
    ]
    return "\n".join(
        [
            *aligned([["architecture", "parameters", "made for", "ImageNet weights here"], *rows], str.ljust),
            "",
            "`architecture` names one of these, or cnn or mlp, which have no pretrained weights. Parameters: with the",
            "head for ImageNet's 1,000 classes. `weights: imagenet` loads a backbone's weights, and downloads them if",
            f"there are none in {weights_folder()}; a MobileNet has other weights for each width and size.",
            f"The presets of keras_hub come on top: `softlabel models keras_hub` lists them{_if_missing()}.",
        ]
    )


def _if_missing() -> str:
    return "" if hub.is_installed() else f", after {hub.INSTALL}"


def listed_presets(names: Sequence[str]) -> list[hub.Preset]:
    """The image classifiers of keras_hub.

    Args:
        names: what was asked for: "keras_hub" alone.

    Raises:
        MissingError: keras_hub is not installed.
        ParameterError: other names stand beside it.
    """
    if len(names) > 1:
        raise ParameterError(f"keras_hub lists all its presets: give it alone, not {' '.join(names)}.")
    return hub.presets()


def presets_as_text(presets: Iterable[hub.Preset]) -> str:
    """A table of presets of keras_hub."""
    rows = [[each.name, f"{each.parameters:>13,}", "yes" if each.is_here else "no"] for each in presets]
    return "\n".join(
        [
            *aligned([["preset", "parameters", "on this machine"], *rows], str.ljust),
            "",
            "`architecture: keras_hub:PRESET` is the backbone of a preset: one of these, an address such as",
            "hf://timm/NAME, or a folder that `save_to_preset` wrote. `train_teacher: {model: keras_hub:PRESET}` is",
            "the classifier with its own head. Parameters: without the head. Presets are downloaded when first used.",
        ]
    )
