"""The trainings of `benchmarks.quality` and their outcomes: a file each, which no two processes make at once."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.evaluation.contributions import Contributions, contributions
from pipeline.evaluation.metrics import Floats, Ints, summarise


@dataclass(frozen=True)
class Training:
    """A student, or a baseline, of one set-up.

    Attributes:
        set_up: the set-up.
        loss: the loss of `quality_set_ups.LOSSES`; empty for a baseline.
        weight: the weight of the hard labels.
        seed: the seed of the training.
        views: the first V views are shown in turn; None: all that are stored.
        largest: how many soft labels of each row are left, the largest ones, with the sum 1; None: all.
        each_epoch: whether the answers of the epoch that each of `RULES` chooses are kept.
    """

    set_up: str
    loss: str
    weight: float
    seed: int
    views: int | None = None
    largest: int | None = None
    each_epoch: bool = False

    @property
    def name(self) -> str:
        """The name of its file."""
        loss = "".join(sign if sign.isalnum() else "_" for sign in self.loss)
        model = f"{loss}_weight{self.weight:g}" if self.loss else "baseline"
        options = [f"V{self.views}"] * (self.views is not None) + [f"largest{self.largest}"] * (
            self.largest is not None
        )
        return "_".join([model, *options, *["epochs"] * self.each_epoch, f"seed{self.seed}"])


@dataclass(frozen=True)
class Outcome:
    """What a training led to.

    Attributes:
        logits: the answers to the test images at the best epoch by accuracy, (N, C).
        chosen: the same at the epoch of each of `RULES`, if they were kept.
        epochs: the epochs of each of `RULES`, counted from 1.
        validation: `accuracy` and `cross_entropy` on the validation images at the best epoch.
        seconds: of processor time that the training took.
    """

    logits: Floats
    chosen: dict[str, Floats]
    epochs: dict[str, int]
    validation: dict[str, float]
    seconds: float

    def save(self, path: Path) -> None:
        """Writes the file in one step."""
        partial = path.with_suffix(".partial")
        told = json.dumps({"epochs": self.epochs, "validation": self.validation, "seconds": self.seconds})
        with partial.open("wb") as file:
            chosen = {f"by_{rule}": logits for rule, logits in self.chosen.items()}
            np.savez(file, allow_pickle=False, told=np.array(told), logits=self.logits, **chosen)
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Outcome":
        """Reads the file."""
        with np.load(path, allow_pickle=False) as file:
            chosen = {name.removeprefix("by_"): file[name] for name in file.files if name.startswith("by_")}
            return cls(file["logits"], chosen, **json.loads(str(file["told"])))


class Outcomes:
    """The outcomes of trainings, in the projects of a folder.

    Args:
        work: the folder.
    """

    def __init__(self, work: Path) -> None:
        self.work = work
        self._read: dict[Training, Outcome] = {}

    def path(self, training: Training) -> Path:
        """The file of a training."""
        return self.work / training.set_up / "trainings" / f"{training.name}.npz"

    def get(self, training: Training) -> Outcome | None:
        """The outcome; None if it is not there yet."""
        if training not in self._read:
            if not self.path(training).is_file():
                return None
            self._read[training] = Outcome.read(self.path(training))
        return self._read[training]

    def __getitem__(self, training: Training) -> Outcome:
        """The outcome of a training that has ended."""
        outcome = self.get(training)
        if outcome is None:
            raise KeyError(training.name)
        return outcome


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether no other process works on this file; the block may then make it. A kill ends the claim."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield not path.is_file()


class TestImages:
    """The labels of a set-up's test images, and the teacher's answers to them.

    Args:
        project: the folder of the set-up.
    """

    __test__ = False

    def __init__(self, project: Path) -> None:
        from pipeline.images.index import read_index
        from pipeline.soft_labels.identity import rows_of
        from pipeline.soft_labels.reading import open_logits

        data = read_index(project / "data/index.csv")
        images = data.split("test")
        self.class_names = data.class_names
        self.labels: Ints = np.array(data.labels(images))
        with open_logits(project / "data/soft_labels/teacher_logits.h5") as file:
            rows = rows_of(file, "test", [image.id for image in images])
            self.teacher: Floats = np.asarray(file.storage.logits(file.columns("test", 0), file.classes))[rows]

    def metrics(self, logits: Floats) -> dict[str, float]:
        """Every metric of answers (N, C)."""
        return summarise(logits, self.labels, self.teacher)

    def contributions(self, logits: Floats) -> Contributions:
        """What each image contributes to each of them."""
        return contributions(logits, self.labels, self.teacher)
