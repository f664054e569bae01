"""A phase that is trained over features: which of them are kept, and the batches that `fit` gets in place of pixels."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import psutil
import tensorflow as tf

from pipeline.images.tf_data import BATCHES_AHEAD, PARALLEL_CALLS, mapped_in_turn, planned, prefetched
from pipeline.images.transforms import Transforms
from pipeline.runtime.errors import ParameterError
from pipeline.runtime.workspace import work_folder
from pipeline.training.callbacks import RefuseChanged
from pipeline.training.frozen_features import FrozenPart, ShownImages
from pipeline.training.input_pipeline import (
    Ints,
    PixelBatches,
    Supervision,
    shown_by,
    steps_of_a_pass,
    targets_signature,
    with_targets,
)
from pipeline.training.kept_features import FrozenCache, Room, Shown, choose, gigabytes
from pipeline.training.stored_features import StoredFeatures

STEPS_AHEAD = BATCHES_AHEAD + 2
"""How many steps beyond the current one the input pipeline may plan."""


class FeatureBatches:
    """The batches of a phase, with features in place of the pixels.

    Args:
        pixels: the batches of pixels.
        part: the frozen part, which turns pixels into features.
        steps_per_epoch: the number of batches in an epoch.
        cache: how features are kept.
        title: the name of the phase, for messages.
    """

    def __init__(
        self, pixels: PixelBatches, part: FrozenPart, steps_per_epoch: int, cache: FrozenCache, title: str
    ) -> None:
        self._pixels, self._part, self._steps_per_epoch = pixels, part, steps_per_epoch
        self._train_on = replace(pixels.train_on, supervision=_OneAtATime(pixels.train_on.supervision))
        self._shown = shown_by(self._train_on, pixels.recipe.batch_size, pixels.recipe.seed)
        self._error: ParameterError | None = None
        steps, in_pass = pixels.steps, steps_of_a_pass(pixels.train_on, pixels.recipe.batch_size)
        passes = range(steps.start // in_pass, (steps.stop - 1) // in_pass + 1)
        views = list(dict.fromkeys(pixels.train_on.supervision.view(number) for number in passes))
        epochs = len(steps) // steps_per_epoch
        self._training, of_training = _kept(
            part, ShownImages.in_views(self._train_on), views, len(steps) / in_pass, cache, "training images"
        )
        self._validation, of_validation = _kept(
            part, ShownImages.untouched(pixels.validate_on), [0], epochs, cache, "validation images"
        )
        print(
            f"{title} is trained over features, {_told(part, of_training, of_validation)}", file=sys.stderr, flush=True
        )

    def make_ready(self, number: int) -> None:
        """Computes what an epoch of those that are to come, counted from 0, needs, and the next one's first steps.

        It runs between epochs, in the main thread, which hears an interruption while it computes.
        """
        if self._validation is not None:
            self._validation.make_ready([0])
        if self._training is not None:
            start = number * self._steps_per_epoch
            ahead = self._pixels.steps[start : start + self._steps_per_epoch + STEPS_AHEAD]
            self._training.make_ready(self._shown(step)[0] for step in ahead)

    def training(self) -> Any:
        """A `tf.data.Dataset` of ((B, K) float32 features, targets) of all epochs."""
        supervision, stored = self._train_on.supervision, self._training
        if stored is None:
            in_pass = steps_of_a_pass(self._train_on, self._pixels.recipe.batch_size)
            sizes = [len(self._shown(step)[1]) for step in self._pixels.steps[:in_pass]]  # `rebatch` repeats them
            return self._streamed(self._pixels.training().unbatch().batch(self._part.at_once)).rebatch(sizes)

        def plan(step: int) -> tuple[Any, ...]:
            view, rows = self._shown(step)
            return stored.rows(view, rows).astype(np.float32), supervision.targets(view, rows)

        return _with_own_threads(planned(self._pixels.steps, plan, [self._signature, targets_signature(supervision)]))

    def validation(self) -> Any:
        """A `tf.data.Dataset` of ((B, K) float32 features, targets): all validation images in order."""
        stored, examples, batch_size = self._validation, self._pixels.validate_on, self._pixels.recipe.batch_size
        count = len(examples.images)
        if stored is None:
            examples.images.load()
            images = examples.images.batches(self._part.at_once)
            features = self._streamed(images).rebatch(batch_size)
        else:

            def plan(start: int) -> tuple[Any, ...]:
                return (stored.rows(0, np.arange(start, min(start + batch_size, count))).astype(np.float32),)

            starts = range(0, count, batch_size)
            features = mapped_in_turn(planned(starts, plan, [self._signature]), lambda rows: rows)
        return _with_own_threads(with_targets(features, examples, batch_size))

    def callbacks(self) -> list[Any]:
        """What `fit` calls, before all others."""
        pixels = self._pixels
        read = [(self._training, pixels.train_on.images), (self._validation, pixels.validate_on.images)]
        return [_MakeReady(self), RefuseChanged([images for stored, images in read if stored is None])]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Around `fit`.

        Raises:
            OSError: the disk has too little room.
            ParameterError: features are too large for their type.
        """
        self.make_ready(0)  # `fit` asks for batches before it calls anything
        try:
            yield
        except tf.errors.OpError:
            if self._error is None:
                raise
            raise self._error from None

    @property
    def _signature(self) -> Any:
        return tf.TensorSpec((None, self._part.values), tf.float32)

    def _streamed(self, batches: Any) -> Any:
        """Replaces the images of batches of at most P images by their features."""

        def features(pixels: Any) -> Any:
            try:
                return self._part.of_few(pixels).astype(np.float32)
            except ParameterError as error:
                self._error = error  # TensorFlow would turn it into an error of its own
                raise

        def replaced(pixels: Any, *others: Any) -> Any:
            rows = tf.numpy_function(features, [pixels], tf.float32, stateful=False)
            rows = tf.ensure_shape(rows, self._signature.shape)
            return (rows, *others) if others else rows

        return _with_own_threads(mapped_in_turn(batches, replaced))


class _MakeReady(keras.callbacks.Callback):
    """Computes what an epoch needs before it begins."""

    def __init__(self, batches: FeatureBatches) -> None:
        super().__init__()
        self.batches, self.epoch = batches, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.batches.make_ready(self.epoch)
        self.epoch += 1


def _kept(
    part: FrozenPart, shown: ShownImages, views: Sequence[int], passes: float, cache: FrozenCache, title: str
) -> tuple[StoredFeatures | None, tuple[str, int]]:
    """The kept features of some views, where they are, and how many bytes; None if they are computed in every step."""
    folder = work_folder() / "features"
    on_disk = StoredFeatures(part, shown, folder, title)
    how = Shown(len(shown.images), len(views), passes, cache.trainings)
    left = len(on_disk.existing(views)) * on_disk.size if _may_use_disk(cache) else 0
    choice = choose(cache.setting, how, len(views) * on_disk.size, room_for(folder), left)
    if choice.place == "none":
        return None, (f"computed in every step, since {choice.reason}", 0)
    size = len(views) * on_disk.size
    if choice.place == "memory":
        return StoredFeatures(part, shown, None, title), ("kept in memory", size)
    on_disk.take_earlier(views)
    return on_disk, (f"kept in {folder}", size)


def _told(part: FrozenPart, *kept: tuple[str, int]) -> str:
    """What is kept of training and validation images: a place, and bytes."""
    kind = "" if part.dtype == np.float32 else f" of {part.dtype.name}"
    texts = [f"{place} ({gigabytes(size)})" if size else place for place, size in kept]
    if kept[0][0] == kept[1][0]:
        total = sum(size for _, size in kept)
        told = f"which are {kept[0][0]}" + (f" ({gigabytes(total)})" if total else "")
    else:
        told = f"those of training images {texts[0]}, those of validation images {texts[1]}"
    return f"{part.values:,} numbers{kind} an image from {', '.join(part.cut.tensors)}, {told}"


def _may_use_disk(cache: FrozenCache) -> bool:
    return cache.setting == "disk" or (cache.setting == "auto" and cache.trainings > 1)


def room_for(folder: Path) -> Room:
    """The bytes that are free in memory, and on the disk of a folder, which need not exist."""
    disk = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return Room(psutil.virtual_memory().available, shutil.disk_usage(disk).free)


class _OneAtATime:
    """A supervision that several threads may ask: those of `tf.data`, and the main thread between epochs."""

    def __init__(self, supervision: Supervision) -> None:
        self._supervision, self._lock = supervision, Lock()
        self.augmentation, self.fingerprint = supervision.augmentation, supervision.fingerprint

    def view(self, number: int) -> int:
        return self._supervision.view(number)

    def transforms(self, view: int) -> Transforms:
        with self._lock:
            return self._supervision.transforms(view)

    def targets(self, view: int, rows: Ints) -> npt.NDArray[np.float32]:
        with self._lock:
            return self._supervision.targets(view, rows)


def _with_own_threads(data_set: Any) -> Any:
    """The same `tf.data.Dataset`, prefetched, in threads of its own.

    Its functions call TensorFlow again. In TensorFlow's own threads, of which there may be one, they would wait for
    themselves.
    """
    options = tf.data.Options()
    options.threading.private_threadpool_size = PARALLEL_CALLS + 2
    return prefetched(data_set).with_options(options)
