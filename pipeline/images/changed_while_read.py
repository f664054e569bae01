"""Image files that vanish or change while their pixels are read, and those that cannot be read after all."""

import gc
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import tensorflow as tf

from pipeline.images.checks import refuse_undecodable
from pipeline.images.index import Image, refuse_changed
from pipeline.runtime.errors import MismatchError


@contextmanager
def named_if_changed(images: Sequence[Image]) -> Iterator[None]:
    """Lets TensorFlow's error become one that names the image files that the block could not read.

    What the block has left unfinished ends here. A `tf.data` iterator that lives until Python itself ends waits for
    threads that wait for Python, without end.

    Args:
        images: rows of the index that the block reads.

    Raises:
        MismatchError: image files are missing or have changed since they were compared with the index.
        UnusableError: TensorFlow cannot decode image files, which `split` had not given to it (`checks`).
    """
    try:
        yield
    except (tf.errors.OpError, MismatchError) as error:
        _let_go(error)
        refuse_changed(images)
        if isinstance(error, tf.errors.InvalidArgumentError):
            refuse_undecodable({image.id: image.path for image in images}, compare_all=True)
        raise


def _let_go(error: BaseException) -> None:
    """Forgets the variables of all calls that an error has ended, also of those that Keras hides in its traceback."""
    earlier: BaseException | None = error
    while earlier is not None:
        for innermost, _ in traceback.walk_tb(earlier.__traceback__):
            frame: FrameType | None = innermost
            with suppress(RuntimeError):  # the frame is running
                while frame is not None:
                    caller = frame.f_back
                    frame.clear()
                    frame = caller
        earlier = earlier.__context__
    gc.collect()
