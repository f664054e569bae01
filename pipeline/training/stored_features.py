"""The features of whole views, in memory or in files of `.work/features/`.

A file holds the features of one view of N images, (N, K); its name is a fingerprint of what made them
(`runtime.kept_files`).
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from threading import RLock

import numpy as np

from pipeline.images.transforms import Transforms
from pipeline.runtime.kept_files import is_sound, is_there, write_kept
from pipeline.runtime.progress import Progress
from pipeline.training.frozen_features import Features, FrozenPart, Ints, ShownImages


class StoredFeatures:
    """The features of some views of N images; a view is computed when it is first asked for.

    Args:
        part: the frozen layers.
        shown: the images and their views.
        folder: the folder of the files; None keeps features in memory.
        title: the name of the images, for messages.
    """

    def __init__(self, part: FrozenPart, shown: ShownImages, folder: Path | None, title: str) -> None:
        self._part, self._shown, self._folder, self._title = part, shown, folder, title
        self._views: dict[int, Features] = {}
        self._files: dict[int, Path] = {}
        self._tested: set[int] = set()
        self._lock = RLock()  # `tf.data` asks from threads of its own

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return len(self._shown.images), self._part.values

    @property
    def size(self) -> int:
        """The bytes of one view."""
        return self.shape[0] * self.shape[1] * self._part.dtype.itemsize

    def existing(self, views: Iterable[int]) -> list[int]:
        """Those of some views of which earlier runs have left files."""
        return [view for view in views if is_there(self._file(view), self.size)]

    def rows(self, view: int, rows: Ints) -> Features:
        """The features of some images in one view: (B, K)."""
        if view not in self._views:
            self.make_ready([view])
        return self._views[view][rows]

    def make_ready(self, views: Iterable[int]) -> None:
        """Computes the features of some views that are not there yet.

        Raises:
            MismatchError: image files have changed since they were first compared with the index.
            OSError: the disk has too little room for a view.
            ParameterError: features are too large for their type.
        """
        with self._lock:
            missing = [view for view in dict.fromkeys(views) if view not in self._views]
            if self._folder is not None:
                self.take_earlier(missing)
            for view in missing:
                if view not in self._views:
                    self._views[view] = self._made(view)

    def take_earlier(self, views: Iterable[int]) -> None:
        """Opens the files that earlier runs have left of some views.

        All bytes are compared with the file's digest, and one batch of all files is computed again: other bits set a
        file aside.
        """
        with self._lock:
            untested = [view for view in self.existing(views) if view not in self._views.keys() | self._tested]
            self._tested.update(untested)  # each file is read, and complained of, once
            earlier = {view: self._opened(view) for view in untested if is_sound(self._file(view), self.size)}
            for some in _portions(earlier, self._part.at_once):
                for view, holds in self._compared(some).items():
                    if holds:
                        self._views[view] = some[view]
                        continue
                    print(
                        f"{self._file(view)} is left aside: the frozen layers give other features now (another "
                        "processor, device or library?)",
                        file=sys.stderr,
                    )

    def _compared(self, earlier: Mapping[int, Features]) -> dict[int, bool]:
        """Whether the frozen layers give some rows of V views again, bit for bit; there are P rows or a few less."""
        count, views = self.shape[0], list(earlier)
        of_one = np.unique(np.linspace(0, count - 1, max(1, self._part.at_once // len(views))).astype(np.intp))
        rows, of_view = np.repeat(of_one, len(views)), np.tile(np.arange(len(views)), len(of_one))
        transforms = [self._shown.transforms(view) for view in views]
        stacked = Transforms(**{name: np.stack([vars(of)[name] for of in transforms]) for name in vars(transforms[0])})
        now = np.concatenate([*self._part.of_views(self._shown, of_view, rows, stacked)])
        return {
            view: now[of_view == place].tobytes() == earlier[view][of_one].tobytes() for place, view in enumerate(views)
        }

    def _made(self, view: int) -> Features:
        if self._folder is not None:
            write_kept(self._file(view), self.size, self._computed(view))
            return self._opened(view)
        features = np.empty(self.shape, self._part.dtype)
        start = 0
        for block in self._computed(view):
            features[start : start + len(block)] = block
            start += len(block)
        return features

    def _computed(self, view: int) -> Iterator[Features]:
        self._shown.images.load()
        count, of_view = self.shape[0], self._shown.transforms(view)[None]
        title = f"features of {self._title}" + ("" if self._shown.augmentation.is_identity else f", view {view}")
        with Progress(title, count, "images", short_is_silent=True) as progress:
            for block in self._part.of_views(self._shown, np.zeros(count, np.intp), np.arange(count), of_view):
                yield block
                progress.advance(len(block))
        self._shown.images.refuse_changed()

    def _opened(self, view: int) -> Features:
        return np.memmap(self._file(view), self._part.dtype, "r", shape=self.shape)

    def _file(self, view: int) -> Path:
        if self._folder is None:
            raise AssertionError("features in memory have no file")
        if view not in self._files:
            name = self._part.fingerprint_of(self._shown, view)
            self._files[view] = self._folder / f"{name}.{self._part.dtype.name}"
        return self._files[view]


def _portions(views: Mapping[int, Features], count: int) -> Iterator[dict[int, Features]]:
    """The same views, at most `count` at a time."""
    names = list(views)
    for start in range(0, len(names), count):
        yield {name: views[name] for name in names[start : start + count]}
