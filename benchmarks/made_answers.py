"""A teacher that answers at once: the logits of each view of made images, drawn by key, and an index of such images."""

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.images.index import Image, Index, SplitName

Ints = npt.NDArray[np.integer[Any]]

NUMBERS = {"train": 0, "val": 10**8, "test": 2 * 10**8}
"""The number of the first image of each split."""

WORDS_OF_A_STEP = 4
"""64-bit words that NumPy's Philox gives for one step of its counter."""

RIGHT = 0.9
"""The share of views whose largest logit is that of the labelled class."""

LIFT = 8.0
"""How much the logit of the answered class is raised; all others are uniform in [-4, 4)."""


def made_index(train: int, others: int, classes: int) -> Index:
    """An index of `train` training images and `others` validation and test images each, which have no files."""
    width = len(str(classes - 1))
    names = [f"class{number:0{width}}" for number in range(classes)]
    counts: dict[SplitName, int] = {"train": train, "val": others, "test": others}
    return Index(
        [
            _image(NUMBERS[split] + row, split, names[row % classes])
            for split, count in counts.items()
            for row in range(count)
        ],
        names,
    )


def _image(number: int, split: SplitName, class_name: str) -> Image:
    image_id = f"{class_name}_{number:09}.JPEG"
    return Image(image_id, f"data/split/{split}/{class_name}/{image_id}", class_name, split, "", f"{number:064x}")


class MadeAnswers:
    """In the place of `StoredAnswers`: answers that are computed from the key (image, view) when they are asked for.

    Args:
        classes: C.
        views: the number of views that keys tell apart.
        dies_after: after so many answers this process kills itself, without any chance to tidy up. None: never.

    Attributes:
        seconds: how long the answers took to draw.
    """

    def __init__(self, classes: int, views: int, dies_after: int | None = None) -> None:
        self.views = self.rendering = self.pixels = None
        self.seconds = 0.0
        self._classes, self._views, self._left = classes, views, dies_after

    def without(self, ids: Sequence[str], views: int) -> list[str]:
        """None: every image and view has an answer."""
        return []

    def of(self, ids: Sequence[str], views: Ints) -> npt.NDArray[np.float32]:
        """The logits of B images, each in one view: (B, C)."""
        start = time.perf_counter()
        if self._left is not None:
            self._left -= len(ids)
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        numbers = np.array([int(image_id[-14:-5]) for image_id in ids])
        labels = np.array([int(image_id[5:-15]) for image_id in ids])
        logits = logits_of(numbers * self._views + views, labels, self._classes)
        self.seconds += time.perf_counter() - start
        return logits


def logits_of(keys: Ints, labels: Ints, classes: int) -> npt.NDArray[np.float32]:
    """The logits of B keys: (B, C) uniform numbers, of which that of the answered class is raised.

    Args:
        keys: (B,); those that follow each other are drawn at once.
        labels: (B,) class indices.
        classes: C.
    """
    steps = -(-(classes + 2) // (4 * WORDS_OF_A_STEP))  # four numbers of 16 bits in a word
    stretches = np.split(keys, np.flatnonzero(np.diff(keys) != 1) + 1)
    words = np.concatenate(
        [
            np.random.Philox(key=18, counter=int(part[0]) * steps).random_raw(len(part) * steps * WORDS_OF_A_STEP)
            for part in stretches
        ]
    )
    drawn = words.astype("<u8", copy=False).view("<u2").reshape(len(keys), -1)
    logits = drawn[:, :classes].astype(np.float32)
    logits -= 2**15
    logits /= 2**13
    is_right = drawn[:, -1] < RIGHT * 2**16
    answered = np.where(is_right, labels, drawn[:, -2] % classes)
    logits[np.arange(len(keys)), answered] += LIFT
    return logits
