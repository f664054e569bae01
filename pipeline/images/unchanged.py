"""Image files that must keep the content that the index says until their pixels have been read."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.images.index import Image, refuse_changed
from pipeline.images.places import file_of, is_in_shard
from pipeline.runtime.errors import MismatchError, all_named
from pipeline.runtime.seen_files import settled_state_of, state_of

UNKNOWN = -1
"""In place of the state of a file that had just changed, whose further changes might not be seen; no hash is -1."""


class Unchanged:
    """Image files that are compared with the index now, and can be compared again when they have been read.

    A file that has the state of the first comparison (`seen_files.state_of`) had its content all the time.

    Args:
        images: N rows of the index.

    Raises:
        MismatchError: files are missing or have other content.
    """

    def __init__(self, images: Sequence[Image]) -> None:
        self._images = images
        self._states = np.fromiter((_settled(image) for image in images), np.int64, len(images))
        refuse_changed(images)

    @property
    def contents_sha256(self) -> str:
        """A digest of the contents of all files, in order."""
        digest = hashlib.sha256()
        for image in self._images:
            digest.update(image.sha256.encode())
        return digest.hexdigest()

    def refuse_changed(self, rows: npt.NDArray[np.integer[Any]] | None = None) -> None:
        """Compares files again: one look at the state of each, and the content of those in another state.

        Args:
            rows: which of the N; None means all.

        Raises:
            MismatchError: files are missing or have other content, or had it for a while.
        """
        numbers = range(len(self._images)) if rows is None else rows.tolist()
        images, states = self._images, self._states
        others = [row for row in numbers if hash(state_of(_file(images[row]))) != states[row]]
        if not others:
            return
        now = [_settled(images[row]) for row in others]
        refuse_changed([images[row] for row in others])
        changed = [images[row].path for row in others if states[row] != UNKNOWN]
        if changed:
            raise MismatchError(
                f"{len(changed)} image file(s) changed while they were read, though they now have the content of the "
                f"index: {all_named(changed)}. What was made of them is not kept. Run this again while nothing writes "
                "to them; it continues where it stopped."
            )
        states[others] = now


def _settled(image: Image) -> int:
    state = settled_state_of(_file(image))
    return UNKNOWN if state is None else hash(state)


def _file(image: Image) -> str | Path:
    """Without a `Path` for a file of its own: making one takes as long as the look at its state."""
    return file_of(image.path) if is_in_shard(image.path) else image.path
