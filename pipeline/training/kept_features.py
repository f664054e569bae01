"""Where features are kept: what leaves the frozen layers of a phase, for each view of each image, or nowhere.

The rule is a function of numbers alone, so that `softlabel plan` can tell what a training will do. It changes no
result: a training over features is the same whether they are kept or computed in every pass.
"""

from dataclasses import dataclass
from typing import Literal

from pipeline.runtime.kept_files import MEMORY_SHARE
from pipeline.training.recipe import CacheFrozen

Place = Literal["memory", "disk", "none"]
"""Where they are kept."""

DISK_SHARE = 0.5
"""`auto` writes files that take at most this share of what is free on the disk."""


@dataclass(frozen=True)
class FrozenCache:
    """How a training keeps features.

    Attributes:
        setting: `student.cache_frozen`.
        trainings: how many trainings show the same views of the same images to the same initial weights, this one
            included.
    """

    setting: CacheFrozen = "auto"
    trainings: int = 1


ALONE = FrozenCache()


@dataclass(frozen=True)
class Shown:
    """How often the rest of a phase shows the views of N images.

    Attributes:
        images: N.
        views: V, the number of different views.
        passes: the number of passes over the images, each in one view; the last one may be a part.
        trainings: how many trainings show the same to the same frozen weights, this one included.
    """

    images: int
    views: int
    passes: float
    trainings: int

    def size(self, values: int, itemsize: int) -> int:
        """The bytes of all features, of `values` numbers of `itemsize` bytes each."""
        return self.images * self.views * values * itemsize


@dataclass(frozen=True)
class Room:
    """The bytes that are free.

    Attributes:
        memory: the available memory.
        disk: the free space on the disk of `.work/`.
    """

    memory: int
    disk: int


@dataclass(frozen=True)
class Choice:
    """Where features are kept.

    Attributes:
        place: memory, disk or none.
        reason: why they are kept nowhere, as half a sentence; "" if they are kept.
    """

    place: Place
    reason: str = ""


ONCE = "each view is shown less than twice"


def choose(setting: CacheFrozen, shown: Shown, size: int, room: Room, on_disk: int = 0) -> Choice:
    """Where the features of N images are kept.

    What would be used once is never kept. `auto` prefers the disk if other trainings can use the features, too.

    Args:
        setting: where they are to be kept.
        shown: how often they are used.
        size: the bytes of all of them.
        room: the bytes that are free.
        on_disk: how many of the bytes earlier trainings have left on the disk.
    """
    here, by_others = shown.passes >= 2 * shown.views, shown.trainings > 1
    if setting == "none":
        return Choice("none", "student.cache_frozen is none")
    if shown.passes * (1 if setting == "memory" else shown.trainings) < 2 * shown.views:
        return Choice("none", ONCE)
    if setting == "disk":
        return Choice("disk")
    full = []
    if setting == "auto" and by_others:
        if size - on_disk <= DISK_SHARE * room.disk:
            return Choice("disk")
        full.append(f"{DISK_SHARE:.0%} of the free disk, {gigabytes(room.disk)}")
    if here:
        if size <= MEMORY_SHARE * room.memory:
            return Choice("memory")
        full.append(f"{MEMORY_SHARE:.0%} of the available memory, {gigabytes(room.memory)}")
    return Choice("none", f"{gigabytes(size - on_disk)} are more than {', and than '.join(full)}")


def gigabytes(size: int) -> str:
    """A number of bytes in GB, or in MB where it is less than one GB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
