"""Epochs of a phase that is trained over features: what they take wherever features are kept, and as float16.

An epoch runs what `fit.train` runs for such a phase, but for validation.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.epochs import MEMORY, UNTOUCHED, Data
from benchmarks.process import quiet
from benchmarks.quality_projects import inside
from benchmarks.quality_trainings import Changed
from benchmarks.variants import OURS, Pair
from pipeline.training import fit
from pipeline.training.feature_batches import FeatureBatches
from pipeline.training.frozen_features import FrozenPart, split_for
from pipeline.training.input_pipeline import PixelBatches, steps_of_a_pass
from pipeline.training.kept_features import FrozenCache
from pipeline.training.recipe import FeaturesDtype, Phase
from pipeline.training.steps_in_one_call import StepsInOneCall

NOTHING_KEPT, FIRST_PASS = "ours, nothing kept", "ours, first pass"
ON_DISK, IN_MEMORY, HALVES = "ours, kept on disk", "ours, kept in memory", "ours, on disk as float16"

NOT_KEPT, OF_MEMORY = FrozenCache("none"), FrozenCache("memory")
OF_DISK = FrozenCache("disk", trainings=2)
"""Another training uses them, too; features that are used once are not kept."""


@contextmanager
def in_a_folder() -> Iterator[None]:
    """Works in a new folder, where features are kept."""
    with tempfile.TemporaryDirectory() as name, inside(Path(name)):
        yield


class InOneView(Changed):
    """Supervision that shows one view in every pass.

    Args:
        supervision: that of all views.
        number: the view.
    """

    def __init__(self, supervision: Any, number: int) -> None:
        super().__init__(supervision)
        self._number = number

    def view(self, _number: int) -> int:
        """The view of a pass."""
        return self._number


class OverFeatures:
    """A phase that is trained over features.

    Args:
        pair: the models.
        phase: the phase; its frozen layers are split off.
        data: the data set; its pixels are read from memory.

    Attributes:
        student: the whole model.
        part: its frozen part.

    Raises:
        SystemExit: this phase is not trained over features.
    """

    def __init__(self, pair: Pair, phase: Phase, data: Data) -> None:
        self._data, self._recipe = data, pair.recipe
        self.student = pair.new_student()
        part = split_for(self.student, phase, pair.recipe.batch_size, "the phase")
        if part is None:
            raise SystemExit("nothing can be compared: this phase is not trained over features here.")
        self.part, self._rest = part, fit.compiled(part.cut.rest, phase, pair.loss, 1)
        self._steps = steps_of_a_pass(data.examples(MEMORY, OURS), pair.recipe.batch_size)
        self._rest.train_function = StepsInOneCall(self._rest, self._rest.train_step, self._steps)

    def batches(
        self, cache: FrozenCache, epochs: int, view: int | None = None, dtype: FeaturesDtype = "float32"
    ) -> FeatureBatches:
        """The batches of some epochs, which all show one view; None: the views in turn."""
        train_on, validate_on = (self._data.examples(MEMORY, shown) for shown in (OURS, UNTOUCHED))
        if view is not None:
            train_on = replace(train_on, supervision=InOneView(train_on.supervision, view))
        pixels = PixelBatches(train_on, validate_on, self._recipe, range(epochs * self._steps))
        with quiet():
            part = FrozenPart(self.part.cut, self.part.forward, dtype)
            return FeatureBatches(pixels, part, self._steps, cache, "the phase")

    def train(self, batches: FeatureBatches, epochs: int) -> None:
        """Trains some epochs: one call of `fit`."""
        with quiet(), batches.in_use():
            self._rest.fit(
                batches.training(),
                epochs=epochs,
                steps_per_epoch=1,
                shuffle=False,
                verbose=0,
                callbacks=batches.callbacks(),
            )

    def variants(self, epochs: int) -> dict[str, "Timed"]:
        """The epochs to be timed; one call trains `epochs` of them where features are kept: these may be short."""
        in_memory, new_views = self.batches(OF_MEMORY, epochs, view=0), count(1)
        makers: dict[str, tuple[int, Callable[[], FeatureBatches]]] = {
            NOTHING_KEPT: (1, lambda: self.batches(NOT_KEPT, 1, view=0)),
            FIRST_PASS: (1, lambda: self.batches(OF_DISK, 1, view=next(new_views))),
            ON_DISK: (epochs, lambda: self.batches(OF_DISK, epochs, view=0)),
            IN_MEMORY: (epochs, lambda: in_memory),
            HALVES: (epochs, lambda: self.batches(OF_DISK, epochs, view=0, dtype="float16")),
        }
        return {name: Timed(self, *made) for name, made in makers.items()}


class Timed:
    """Epochs of one variant. Their batches are made before: a training makes them once a phase.

    Args:
        training: the phase.
        epochs: of one call.
        make: makes their batches.
    """

    def __init__(self, training: OverFeatures, epochs: int, make: Callable[[], FeatureBatches]) -> None:
        self.epochs, self._training, self._make = epochs, training, make
        self._batches: FeatureBatches | None = None

    def before(self) -> None:
        """Makes the batches; not timed."""
        self._batches = self._make()

    def run(self) -> None:
        """Trains the epochs."""
        if self._batches is None:
            raise AssertionError("nothing was made before")
        self._training.train(self._batches, self.epochs)
