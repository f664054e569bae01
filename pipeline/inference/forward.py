"""The forward pass of a trained model over many images.

The logits of an image depend only on the image, the model, the batch size and the kind of processor. They do not depend
on the other images. Two effects of rounding would break this:

- The rounding of a logit depends on the shape of the batch. So every batch has the same number of images.
- The rounding also depends on the place in the batch. Matrix products run in blocks of rows, and the rows left over at
  the end are summed in another order: with AVX2, places 30 and 31 of 32 round differently. These places depend on the
  processor, the model and the batch size. So they are found by a test, and no image is put there.

Where several GPUs are visible, batches go to them in turn. A GPU is used only if the test of places has the same
result on it, bit for bit, as on the first one. So the logits are those of one GPU.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.images.augmentation import Augmentation
from pipeline.images.decoded_images import DecodedImages
from pipeline.images.rendered_views import rendered_views
from pipeline.images.tf_data import prefetched
from pipeline.images.transforms import Transforms
from pipeline.inference.several_devices import OnDevice, in_turn
from pipeline.runtime.devices import accelerators
from pipeline.runtime.progress import Progress

Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

PROBES = 4
"""The number of images of noise that test the places of a batch.

One image shows a place that rounds differently in seven of eight cases (measured with two classes). So four images miss
such a place in one of 4,000 cases.
"""


class Forward:
    """The forward pass in inference mode, at one batch size.

    Args:
        model: from (B, height, width, channels) pixels, 0 to 255, to (B, C) logits.
        batch_size: B.
    """

    def __init__(self, model: Any, batch_size: int) -> None:
        tf.config.experimental.enable_op_determinism()
        self.batch_size, self.input_shape = batch_size, tuple(model.input_shape[1:])
        self._model = model
        self._forward = self._function()

    def _function(self) -> Any:
        """The forward pass as a new `tf.function`."""
        # One shape for every batch: the rounding depends on it.
        signature = tf.TensorSpec((self.batch_size, *self.input_shape), tf.float32)
        return tf.function(lambda pixels: self._model(pixels, training=False), input_signature=[signature])

    @property
    def places(self) -> Ints:
        """The P places of a batch that hold images, ascending: the largest set of places that round alike, or all."""
        return self._test[0]

    @property
    def is_steady(self) -> bool:
        """Whether an image has the same logits, bit for bit, in each of these places and beside any other images.

        This is not so if the model uses the whole batch or draws random numbers. It also counts as not so if fewer
        than half of the places round alike, because the pass would take more than twice as long. Then all places are
        used.
        """
        return self._test[1]

    @property
    def answers_sha256(self) -> str:
        """A digest of the logits of the images of noise, which differ if the model or the rounding does."""
        return self._test[2]

    @cached_property
    def _test(self) -> tuple[Ints, bool, str]:
        """The places, whether the model is steady, and the digest."""
        return self._tested(self._forward)

    def _tested(self, forward: Callable[[Any], Any]) -> tuple[Ints, bool, str]:
        """The same of a forward pass on any device; runs `PROBES` + 1 batches."""
        numbers = np.random.Generator(np.random.Philox(0))
        probes = numbers.uniform(0, 255, (PROBES, *self.input_shape)).astype(np.float32)
        alone = np.stack([_bits(forward(np.repeat(probe[None], self.batch_size, axis=0))) for probe in probes])
        of_place = alone.swapaxes(0, 1).reshape(self.batch_size, -1)
        alike: dict[str, list[int]] = {}
        for place, bits in enumerate(of_place):
            alike.setdefault(hashlib.sha256(bits.tobytes()).hexdigest(), []).append(place)
        # Of equally large groups the one with the lowest place, so that the choice never changes.
        answers, largest = max(alike.items(), key=lambda group: (len(group[1]), -group[1][0]))
        places = np.array(largest)
        mixed = np.arange(self.batch_size) % PROBES
        beside_others = _bits(forward(probes[mixed]))
        is_steady = (beside_others[places] == alone[mixed[places], places]).all() and 2 * len(places) >= self.batch_size
        return (places, True, answers) if is_steady else (np.arange(self.batch_size), False, answers)

    @cached_property
    def _others(self) -> list[OnDevice]:
        """The pass on every other GPU on which the test has the result that it has on the first."""
        others = [*enumerate(accelerators())][1:]
        if others and not self.is_steady:
            _tell_unused(len(others), "the logits of an image depend on the other images of its batch, or on chance")
            return []
        copies = [OnDevice(self._function(), device, number) for number, device in others]
        with ThreadPoolExecutor() as threads:
            alike = [copy for copy, agrees in zip(copies, threads.map(self._agrees, copies), strict=True) if agrees]
        if len(alike) < len(copies):
            _tell_unused(len(copies) - len(alike), "they round otherwise than the first one")
        return alike

    def _agrees(self, other: OnDevice) -> bool:
        places, is_steady, answers = self._tested(other)
        return np.array_equal(places, self.places) and (is_steady, answers) == (self.is_steady, self.answers_sha256)

    def __call__(self, batches: Any) -> Iterator[Floats32]:
        """The logits of each batch of a `tf.data.Dataset` of float32 pixels; batches of P images are the fastest."""
        return in_turn([self.of_few, *(partial(self._of_few, other) for other in self._others)], self._parts(batches))

    def _parts(self, batches: Any) -> Iterator[Any]:
        """The same images, at most P at a time."""
        for pixels in batches:
            for start in range(0, len(pixels), len(self.places)):
                with tf.device("CPU:0"):  # or every image would pass through the first GPU
                    part = pixels[start : start + len(self.places)]
                yield part

    def of_few(self, pixels: Any) -> Floats32:
        """The logits of R <= P images, (R, C): they are put in the places, and copies of the last one elsewhere.

        The first device computes them.
        """
        return self._of_few(self._forward, pixels)

    def _of_few(self, forward: Callable[[Any], Any], pixels: Any) -> Floats32:
        count = len(pixels)
        if count < self.batch_size:
            rows = np.full(self.batch_size, count - 1)
            rows[self.places[:count]] = np.arange(count)
            with tf.device("CPU:0"):
                pixels = tf.gather(pixels, rows)
        # float32 also of a model that computes in float16.
        logits: Floats32 = forward(pixels).numpy()[self.places[:count]].astype(np.float32)
        return logits

    def of_views(
        self,
        images: DecodedImages,
        views: Ints,
        rows: Ints,
        transforms: Transforms,
        augmentation: Augmentation,
    ) -> Iterator[Floats32]:
        """The logits of R views, in batches of P; the arguments are those of `rendered_views`."""
        if not len(rows):
            return
        portions = rendered_views(images, views, rows, transforms, augmentation)
        yield from self(prefetched(portions.rebatch(len(self.places))))


def _tell_unused(count: int, reason: str) -> None:
    print(f"{count} of {len(accelerators())} GPUs are not used for the forward pass: {reason}", file=sys.stderr)


def _bits(logits: Any) -> npt.NDArray[np.uint32]:
    """The bits of (B, C) logits: unlike the numbers, they distinguish -0 from 0, and NaN is equal to itself."""
    return np.ascontiguousarray(logits.numpy().astype(np.float32)).view(np.uint32)


def all_logits(model: Any, images: DecodedImages, batch_size: int, title: str) -> Floats32:
    """The model's outputs for the untouched images: (N, C) float32."""
    forward, blocks = Forward(model, batch_size), []
    if not forward.is_steady:
        print(
            f"warning: {title}: the logits of an image depend on the other images of its batch, or on random numbers",
            file=sys.stderr,
        )
    with Progress(title, len(images), "images") as progress:
        for logits in forward(images.batches(len(forward.places))):
            progress.advance(len(logits))
            blocks.append(logits)
    return np.concatenate(blocks)
