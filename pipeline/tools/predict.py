"""Labels images with a model, batch by batch."""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.deployed.files import Exported
from pipeline.deployed.pixels import model_pixels, refuse_other_preprocessing
from pipeline.images.places import whole_file
from pipeline.runtime.cores import usable_threads
from pipeline.runtime.errors import DamagedError, MismatchError, ParameterError, UnusableError, quoted


@dataclass(frozen=True)
class Labelled:
    """What a model says of one image.

    Attributes:
        path: of the image.
        predicted: the number of the most probable class.
        probabilities: (C,) of the classes.
    """

    path: str
    predicted: int
    probabilities: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Skipped:
    """An image that cannot be used.

    Attributes:
        path: of the image.
        reason: why, in words.
    """

    path: str
    reason: str


def labelled(
    model: Exported, paths: Sequence[str], *, temperature: float, batch_size: int, threads: int | None
) -> Generator[Labelled | Skipped]:
    """What a model says of images, in their order; of each batch when it is asked for.

    Close it if not all of it is read: it has threads.

    Args:
        model: the model.
        paths: of the images.
        temperature: T > 0 of softmax(logits / T).
        batch_size: how many images are decoded and run together.
        threads: how many threads decode; None: one for each core.

    Raises:
        MismatchError: the model's answers are not those of its classes, or it wants other images.
        UnusableError: the model gives no number for an image.
    """
    refuse_other_preprocessing(model.metadata)
    return _labelled(model, paths, temperature, batch_size, threads)


def _labelled(
    model: Exported, paths: Sequence[str], temperature: float, batch_size: int, threads: int | None
) -> Generator[Labelled | Skipped]:
    with ThreadPoolExecutor(threads or usable_threads()) as pool:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            read = dict(enumerate(pool.map(lambda path: _pixels(path, model), batch)))
            images = {place: image for place, image in read.items() if not isinstance(image, Skipped)}
            answers = dict(zip(images, _probabilities(model, [*images.values()], temperature), strict=True))
            for place, path in enumerate(batch):
                skipped = read[place]
                yield skipped if isinstance(skipped, Skipped) else _label(path, answers[place])


def _pixels(path: str, model: Exported) -> npt.NDArray[np.uint8] | Skipped:
    try:
        return model_pixels(whole_file(Path(path)), model.metadata)
    except (DamagedError, UnusableError) as error:
        return Skipped(path, str(error))
    except OSError as error:
        return Skipped(path, error.strerror or str(error))


def _probabilities(model: Exported, images: list[npt.NDArray[np.uint8]], temperature: float) -> npt.NDArray[np.float64]:
    """(N, C) of N images."""
    classes = len(model.metadata.class_names)
    if not images:
        return np.empty((0, classes))
    logits = model.logits(np.stack(images)).astype(np.float64) / temperature
    if logits.shape != (len(images), classes):
        raise MismatchError(
            f"the model gives {logits.shape[1:]} numbers for an image, and says that it knows {classes} classes. "
            "Export the student again."
        )
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def _label(path: str, probabilities: npt.NDArray[np.float64]) -> Labelled:
    if not np.isfinite(probabilities).all():
        raise UnusableError(f"the model gives no number for {path}: its weights may not be finite. Train it again.")
    return Labelled(path, int(np.argmax(probabilities)), probabilities)


def usable(answers: Iterator[Labelled | Skipped], skip: Callable[[Skipped], object] | None) -> Iterator[Labelled]:
    """The images that could be labelled.

    Args:
        answers: as `labelled` gives them.
        skip: is told of each image that could not; None: there must be none.

    Raises:
        UnusableError: there is one.
    """
    for answer in answers:
        if isinstance(answer, Labelled):
            yield answer
        elif skip is None:
            raise UnusableError(
                f"{answer.path} cannot be used: {answer.reason}. Replace or remove it, or skip such files with "
                "--keep-going."
            )
        else:
            skip(answer)


def refuse_lost(output: Path, read: Sequence[str | Path]) -> None:
    """Checks that no file that is read would be replaced by the answers.

    Raises:
        ParameterError: the output is one of them, under whatever name.
    """
    if output.is_file() and any(os.path.exists(path) and os.path.samefile(path, output) for path in read):
        raise ParameterError(
            f"--output {output} is the model or one of the images, and would replace it. Name another file."
        )


def refuse_other_classes(names: Sequence[str], expected: Sequence[str], file: Path) -> None:
    """Compares the classes of a model's file with those that a user expects.

    Raises:
        MismatchError: they differ, or have another order.
    """
    if list(names) != list(expected):
        what = "the same in another order" if sorted(names) == sorted(expected) else "others"
        raise MismatchError(
            f"{file} was made for the classes {quoted(names)}; expected were {what}: {quoted(expected)}. Name another "
            "model, or correct --classes."
        )
