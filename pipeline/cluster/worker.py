"""A process that runs the teacher on blocks of views; Ray starts it on some machine of the cluster."""

import os
import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.runtime.errors import MismatchError, MissingError, PipelineError, UnusableError, is_of_memory, one_line

if TYPE_CHECKING:
    from pipeline.cluster.blocks import Block
    from pipeline.images.resize import Resize
    from pipeline.models.ensembles import Teacher
    from pipeline.soft_labels.reading import Precision


T = TypeVar("T")


@dataclass(frozen=True)
class Order:
    """What a worker needs to know of the pass.

    Attributes:
        folder: the absolute path of the project's folder.
        teacher: the teacher's file, relative to the folder or absolute.
        teacher_sha256: its digest.
        class_names: C names.
        batch_size: images in one forward pass.
        precision: that of the forward pass.
        resize: how images are resized.
        threads: how many threads compute.
        gpus: how many GPUs the worker has.
    """

    folder: str
    teacher: str
    teacher_sha256: str
    class_names: tuple[str, ...]
    batch_size: int
    precision: "Precision"
    resize: "Resize"
    threads: int
    gpus: float


@dataclass(frozen=True)
class Rounding:
    """How a worker's forward pass rounds.

    Attributes:
        batch_size: images in one forward pass.
        places: how many of its places hold images.
        is_steady: as `Forward.is_steady`.
        answers_sha256: as `Forward.answers_sha256`.
        where: the worker's machine and its processor, in words.
    """

    batch_size: int
    places: int
    is_steady: bool
    answers_sha256: str
    where: str


@dataclass(frozen=True)
class Labelled:
    """The logits of a block, (R, C), and how the worker that gave them rounds."""

    logits: npt.NDArray[np.float32]
    rounding: Rounding


@dataclass(frozen=True)
class Failed:
    """Why a worker could not do what it was asked for.

    Attributes:
        error: the reason, for the user.
        kind: told: this program looked for it, and every worker would find it. Memory ran out, or another library
            raised it: another worker may succeed.
    """

    error: PipelineError
    kind: Literal["told", "memory", "other"] = "told"


class Worker:
    """Labels blocks with the members of a teacher, each in one precision.

    Two threads may call it, so that the images of a block are decoded while the teacher sees those of another one. The
    teacher itself sees one batch at a time.

    Args:
        order: what it needs to know.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self._loading, self._computing = threading.Lock(), threading.Lock()
        self._members: dict[str, Teacher] = {}
        self._forwards: dict[tuple[str, bool], Any] = {}

    def placed(self) -> None:
        """Answers as soon as the process runs."""

    def ready(self) -> Failed | None:
        """Loads the teacher."""
        return _told(self._load)

    def rounding(self, member: str, in_full: bool) -> Rounding | Failed:
        """How the forward pass of a member rounds.

        Args:
            member: the digest of its file.
            in_full: whether it computes in its own precision where the pass is in a mixed one.
        """
        return _told(lambda: self._rounding(member, in_full))

    def logits(self, member: str, in_full: bool, block: "Block") -> Labelled | Failed:
        """The logits of the views of a block; the other arguments are those of `rounding`."""
        return _told(lambda: Labelled(self._logits(member, in_full, block), self._rounding(member, in_full)))

    def _load(self) -> None:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        import tensorflow as tf

        from pipeline.runtime.devices import hide_gpus, share_gpus
        from pipeline.runtime.digests import sha256_file
        from pipeline.teacher_pass.precision import load_in_precision

        tf.config.threading.set_intra_op_parallelism_threads(self.order.threads)
        tf.config.threading.set_inter_op_parallelism_threads(self.order.threads)
        hide_gpus() if self.order.gpus == 0 else share_gpus()
        _enter(self.order.folder)
        teacher = Path(self.order.teacher)
        if not teacher.is_file() or sha256_file(teacher) != self.order.teacher_sha256:
            raise MismatchError(
                f"the teacher {teacher} that {_where()} finds in {self.order.folder} is not that of the pass. All "
                "machines must see the project in the same folder."
            )
        loaded = load_in_precision(teacher, self.order.class_names, self.order.precision)
        self._members = {member.sha256: member for member in loaded.members}

    def _forward(self, member: str, in_full: bool) -> Any:
        from pipeline.cluster.one_at_a_time import OneAtATime

        with self._loading:
            if (member, in_full) not in self._forwards:
                teacher = self._members[member]
                model = teacher.in_full if in_full else teacher.model
                forward = OneAtATime(model, self.order.batch_size, self._computing)
                forward.places  # noqa: B018  # the test of the places runs now, while no other thread computes
                self._forwards[member, in_full] = forward
            return self._forwards[member, in_full]

    def _rounding(self, member: str, in_full: bool) -> Rounding:
        forward = self._forward(member, in_full)
        return Rounding(forward.batch_size, len(forward.places), forward.is_steady, forward.answers_sha256, _where())

    def _logits(self, member: str, in_full: bool, block: "Block") -> npt.NDArray[np.float32]:
        from pipeline.images.decoded_images import DecodedImages

        forward = self._forward(member, in_full)
        images = DecodedImages(block.paths, forward.input_shape, self.order.resize, keep=False)
        batches = forward.of_views(images, block.views, block.rows, block.transforms, block.augmentation)
        return np.concatenate([*batches])


def _told(action: Callable[[], T]) -> T | Failed:
    """What an action returns; an error is returned too, since those of other libraries do not survive the way."""
    try:
        return action()
    except PipelineError as error:
        return Failed(error)
    except ModuleNotFoundError as error:
        return Failed(MissingError(f"{_where()} lacks the package {error.name}: install the same packages everywhere."))
    except Exception as error:  # of any library: the worker lives on, and the user learns why
        kind = type(error).__name__
        told = UnusableError(f"a worker on {_where()} failed: {kind}: {one_line(error)}")
        return Failed(told, "memory" if is_of_memory(error) else "other")


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError:
        raise MissingError(
            f"{_where()} does not see the folder {folder}. All machines must see the project in the same folder."
        ) from None


def _where() -> str:
    return f"{platform.node()} ({platform.processor() or platform.machine()})"
