"""Which image files can be used: those that Pillow reads, and of which TensorFlow reads the same pixels.

The second decode would double the time of photographs. JPEG files of one form (`jpeg_form`) go through the same steps
of a decoder. So one file of each form in every `TOGETHER` is compared, and every file that has no such form.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.images.decoding import COMPONENTS, by_tensorflow
from pipeline.images.headers import JPEG, PNG
from pipeline.images.image_files import read_pixels
from pipeline.images.jpeg_form import JpegForm, form_of
from pipeline.images.places import read_bytes
from pipeline.runtime.errors import DamagedError, UnusableError, all_named
from pipeline.runtime.parallel import TOGETHER, in_threads

SMALL = 2**18
"""The most bytes of pixels of a picture that is decoded together with others. One call for each would take longer than
the decoding of a small picture; many large ones would fill the memory."""

UNREAD = "damaged: Pillow reads it, TensorFlow does not"


def refuse_undecodable(files: Mapping[str, str | Path], compare_all: bool = False) -> None:
    """Refuses image files that cannot be used.

    Args:
        files: where the image files lie (`places`), by the names that messages show.
        compare_all: as for `problems_of`.

    Raises:
        UnusableError: some files cannot be used; the message names each with the reason.
    """
    problems = in_threads(lambda part: problems_of(map(read_bytes, part), compare_all), files.values())
    refuse_problems({name: problem for name, problem in zip(files, problems, strict=True) if problem}, len(files))


def refuse_problems(problems: Mapping[str, str], count: int) -> None:
    """Refuses image files in which a problem was found.

    Args:
        problems: the problem of each file that has one, by the names that messages show.
        count: how many files were looked at.

    Raises:
        UnusableError: there is a problem; the message names each.
    """
    if problems:
        bad = [f"{name} ({problem})" for name, problem in problems.items()]
        raise UnusableError(
            f"{len(bad)} of {count} image files cannot be used: {all_named(bad)}. Replace them with intact images "
            "of at most 8 bits a channel (PNG, JPEG, BMP, GIF, TIFF or WebP), or remove them from the data set."
        )


def problems_of(contents: Iterable[bytes], compare_all: bool = False) -> list[str | None]:
    """Why image files cannot be used, each from its bytes; None if it can.

    Args:
        contents: the bytes of up to `TOGETHER` files. Those of a large picture are let go before the next are taken.
        compare_all: whether TensorFlow decodes every file that it will decode in a stage, also JPEG files of a form of
            which it has read one as Pillow does.
    """
    problems: list[str | None] = []
    alike: set[JpegForm] = set()
    small: dict[int, tuple[bytes, npt.NDArray[np.uint8]]] = {}
    for number, content in enumerate(contents):
        problem = None
        try:
            expected = read_pixels(content)
            form = None if compare_all else form_of(content)
            if form in alike or not _is_read_by_tensorflow(content):
                pass
            elif form is None and expected.nbytes <= SMALL:
                small[number] = (content, expected)
            else:
                problem = _compared(content, expected)
                if form and not problem:
                    alike.add(form)
        except (DamagedError, UnusableError) as error:
            problem = str(error)
        except tf.errors.OpError:
            problem = UNREAD
        problems.append(problem)
    for number, problem in zip(small, _compared_together([*small.values()]), strict=True):
        problems[number] = problem
    return problems


def _is_read_by_tensorflow(content: bytes) -> bool:
    if content.startswith(JPEG):
        return tf.image.extract_jpeg_shape(content).numpy()[2] in COMPONENTS
    return content.startswith(PNG)


def _compared(content: bytes, expected: npt.NDArray[np.uint8]) -> str | None:
    """The problem of a file that Pillow reads as `expected`, if TensorFlow reads it otherwise."""
    try:
        return _difference(by_tensorflow(content), expected)
    except tf.errors.OpError:
        return UNREAD


def _compared_together(files: Sequence[tuple[bytes, npt.NDArray[np.uint8]]]) -> list[str | None]:
    """As `_compared`, of up to `TOGETHER` files."""
    if not files:
        return []
    contents = [content for content, _ in files]
    try:
        decoded = _decoder()(tf.constant(contents + contents[:1] * (TOGETHER - len(contents))))
    except tf.errors.OpError:  # it does not tell of which file
        return [_compared(*file) for file in files]
    return [_difference(pixels, expected) for pixels, (_, expected) in zip(decoded, files, strict=False)]


@cache
def _decoder() -> Any:
    """A graph that decodes `TOGETHER` files in one call, in parallel, and takes half the time of as many calls."""

    def decoded(contents: Any) -> Any:
        return [by_tensorflow(content) for content in tf.unstack(contents)]

    return tf.function(decoded).get_concrete_function(tf.TensorSpec((TOGETHER,), tf.string))


def _difference(pixels: Any, expected: npt.NDArray[np.uint8]) -> str | None:
    if np.array_equal(pixels.numpy(), expected):
        return None
    # Each library fills in what an unfinished progressive JPEG file lacks.
    return "unfinished: TensorFlow reads other pixels than Pillow"
