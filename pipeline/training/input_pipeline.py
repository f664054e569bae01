"""Batches of images and targets; their order and views are functions of (seed, pass over the images)."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.images.augmentation import Augmentation
from pipeline.images.changed_while_read import named_if_changed
from pipeline.images.decoded_files import pixels_on_disk
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.index import Image
from pipeline.images.one_hot import OneHot, digest_of
from pipeline.images.random_words import philox_words
from pipeline.images.rendering import render_pictures, signature
from pipeline.images.resize import DEFAULT_RESIZE, Resize
from pipeline.images.sampling import sample_views
from pipeline.images.tf_data import mapped, mapped_in_turn, planned, prefetched
from pipeline.images.transforms import Pictures, Transforms, mixed_labels
from pipeline.images.unchanged import Unchanged
from pipeline.runtime.digests import fingerprint
from pipeline.runtime.kept_files import MEMORY_SHARE
from pipeline.runtime.workspace import work_folder
from pipeline.training.callbacks import RefuseChanged
from pipeline.training.recipe import Cache, Recipe

Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MOST_PLANNED, PLANNED_BYTES = 16, 2**22
"""One call of Python plans at most so many steps, and at most so many bytes unless a single step has more."""


class Supervision(Protocol):
    """The views and the targets of N images.

    Attributes:
        augmentation: the ranges of the views, and the fill mode.
        fingerprint: a digest of everything that decides views and targets.
    """

    augmentation: Augmentation
    fingerprint: str

    def view(self, number: int) -> int:
        """The view that pass `number` over the images shows."""

    def transforms(self, view: int) -> Transforms:
        """The transforms of one view of the N images, (N, ...); partners are rows among them."""

    def targets(self, view: int, rows: Ints) -> Floats32:
        """The targets (B, ...) of some images in one view."""


class HardLabels:
    """One-hot labels, with views that are sampled when they are needed.

    Args:
        ids: N image ids.
        one_hot: (N, C) labels.
        augmentation: the ranges from which the views are sampled.
        seed: the seed of the views.
        count: the number of views. None: every pass shows a new view.
    """

    def __init__(
        self, ids: Sequence[str], one_hot: OneHot | Floats32, augmentation: Augmentation, seed: int, count: int | None
    ) -> None:
        self.augmentation = augmentation
        self._ids, self._one_hot, self._seed, self._count = ids, one_hot, seed, count
        self._sampled: tuple[int, Transforms] | None = None
        self.fingerprint = fingerprint(
            labels=digest_of(one_hot), augmentation=asdict(augmentation), seed=seed, count=count
        )

    def view(self, number: int) -> int:
        """The next view in each pass; with a fixed number of views, the first follows the last.

        Views that are all untouched are one.
        """
        if self.augmentation.is_identity:
            return 0
        return number if self._count is None else number % self._count

    def transforms(self, view: int) -> Transforms:
        """The transforms of one view, (N, ...); those of the last view are kept."""
        if self._sampled is None or self._sampled[0] != view:
            self._sampled = view, sample_views(self.augmentation, self._seed, self._ids, view)
        return self._sampled[1]

    def targets(self, view: int, rows: Ints) -> Floats32:
        """The labels of some images, mixed as the view is: (B, C)."""
        if not self.augmentation.mixes:
            return self._one_hot[rows]
        return mixed_labels(self._one_hot, self.transforms(view), rows)


class Content(Sequence[tuple[str, str]]):
    """Id and SHA-256 of each of N images, made when they are asked for; a list would take 64 bytes for each."""

    def __init__(self, images: Sequence[Image]) -> None:
        self._images = images

    def __len__(self) -> int:
        """N."""
        return len(self._images)

    def __getitem__(self, row: Any) -> Any:
        """Those of one image."""
        image = self._images[row]
        return image.id, image.sha256


@dataclass(frozen=True)
class Examples:
    """Images with their views and targets.

    Attributes:
        content: id and SHA-256 of each image file.
        images: the pixels of the N images.
        supervision: the views and targets of the N images.
    """

    content: Sequence[tuple[str, str]]
    images: DecodedImages
    supervision: Supervision

    @property
    def content_sha256(self) -> str:
        """A digest of `content`."""
        digest = hashlib.sha256()
        for name, sha256 in self.content:
            digest.update(f"{name}\0{sha256}\0".encode())
        return digest.hexdigest()

    @classmethod
    def of(
        cls,
        images: Sequence[Image],
        input_shape: Sequence[int],
        supervision: Supervision,
        resize: Resize = DEFAULT_RESIZE,
        *,
        cache: Cache = "memory",
    ) -> "Examples":
        """The examples of N rows of the index, at a model's input size; `cache` does not change them.

        Raises:
            MismatchError: image files are missing or changed.
            OSError: the disk has too little room for the pixels.
        """
        unchanged = Unchanged(images)
        on_disk = None
        if cache == "disk":
            with named_if_changed(images):
                on_disk = pixels_on_disk(images, input_shape, work_folder() / "pixels", resize)
        paths = [image.path for image in images]
        keep = cache == "memory"
        pixels = DecodedImages(
            paths, input_shape, resize, keep=keep, on_disk=on_disk, at_once=False, unchanged=unchanged
        )
        if keep and not pixels.in_memory:
            print(
                f"the pixels of {len(pixels)} images, {pixels.size / 1e9:.1f} GB, do not fit in {MEMORY_SHARE:.0%} of "
                "the available memory, so they are decoded again in every pass. To keep them in a file, set "
                "`images.cache: disk` in params.yaml.",
                file=sys.stderr,
            )
        return cls(Content(images), pixels, supervision)


def steps_of_a_pass(examples: Examples, batch_size: int) -> int:
    """The number of batches that show every image once."""
    return -(-len(examples.images) // batch_size)


def shown_by(examples: Examples, batch_size: int, seed: int) -> Callable[[int], tuple[int, Ints]]:
    """What each step of a training shows: from the step's number to a view and the row numbers of B images.

    A training is a sequence of passes over the images. Each pass shows every image once, in an order sampled from
    (seed, pass), in the view of that pass. Its last batch may be smaller.
    """
    steps_in_pass, count = steps_of_a_pass(examples, batch_size), len(examples.images)

    @lru_cache(maxsize=2)  # sampled once for a pass, not for each of its batches
    def order(number: int) -> Ints:
        # Stable, so that equal words have the same order on every machine.
        return np.argsort(philox_words(count, "order", seed, number), kind="stable")

    def shown(step: int) -> tuple[int, Ints]:
        number, position = divmod(int(step), steps_in_pass)
        return examples.supervision.view(number), order(number)[position * batch_size : (position + 1) * batch_size]

    return shown


def training_batches(examples: Examples, batch_size: int, seed: int, steps: range) -> Any:
    """A `tf.data.Dataset` of (float32 images, targets): the batches of some `steps` of a training (`shown_by`)."""
    supervision, shown = examples.supervision, shown_by(examples, batch_size, seed)
    examples.images.load()

    def plan(step: int) -> tuple[Any, ...]:
        view, rows = shown(step)
        pictures = Pictures.of(supervision.transforms(view), rows)
        return supervision.targets(view, rows), pictures.rows, *pictures.arrays(supervision.augmentation)

    def load(targets: Any, rows: Any, partner: Any, *transforms: Any) -> tuple[Any, Any]:
        pixels = examples.images.rows(rows)
        return render_pictures(pixels, partner, supervision.augmentation, *transforms), targets

    rows = tf.TensorSpec((None,), tf.int64)
    arrays = (targets_signature(supervision), rows, *signature(supervision.augmentation))
    return prefetched(mapped(planned(steps, plan, arrays, _planned_at_once(batch_size, arrays)), load))


def _planned_at_once(batch_size: int, arrays: Sequence[Any]) -> int:
    """How many steps are planned in one call of Python: as many as take little memory."""
    bytes_of_row: int = sum(spec.dtype.size * int(np.prod(spec.shape[1:])) for spec in arrays)
    return max(1, min(MOST_PLANNED, PLANNED_BYTES // (batch_size * bytes_of_row)))


def validation_batches(examples: Examples, batch_size: int) -> Any:
    """A `tf.data.Dataset` of (float32 images, targets): all images, untouched and in order."""
    examples.images.load()
    return with_targets(examples.images.batches(batch_size), examples, batch_size)


def with_targets(inputs: Any, examples: Examples, batch_size: int) -> Any:
    """A `tf.data.Dataset` of batches of all images in order, with the targets of the first view."""
    count = len(examples.images)

    def targets(start: int) -> tuple[Floats32]:
        return (examples.supervision.targets(0, np.arange(start, min(start + batch_size, count))),)

    batches = planned(range(0, count, batch_size), targets, [targets_signature(examples.supervision)])
    # `planned` gives tuples of one array; Keras expects the array itself.
    return tf.data.Dataset.zip(inputs, mapped_in_turn(batches, lambda targets: targets))


class PixelBatches:
    """The batches of a phase: those of some steps, and of the validation images after each epoch.

    Args:
        train_on: the training examples.
        validate_on: the validation examples, untouched.
        recipe: how to train.
        steps: the steps of the phase that are to come.
    """

    def __init__(self, train_on: Examples, validate_on: Examples, recipe: Recipe, steps: range) -> None:
        self.train_on, self.validate_on, self.recipe, self.steps = train_on, validate_on, recipe, steps

    def training(self) -> Any:
        """As `training_batches`."""
        return training_batches(self.train_on, self.recipe.batch_size, self.recipe.seed, self.steps)

    def validation(self) -> Any:
        """As `validation_batches`."""
        return validation_batches(self.validate_on, self.recipe.batch_size)

    def callbacks(self) -> list[Any]:
        """What `fit` calls, before the state of an epoch is kept."""
        return [RefuseChanged([self.train_on.images, self.validate_on.images])]

    def in_use(self) -> AbstractContextManager[None]:
        """Around `fit`."""
        return nullcontext()


def targets_signature(supervision: Supervision) -> Any:
    """The `tf.TensorSpec` of a batch of targets."""
    width = supervision.targets(0, np.zeros(1, np.int64)).shape[1]
    return tf.TensorSpec((None, width), tf.float32)
