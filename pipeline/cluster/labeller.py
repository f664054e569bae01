"""A teacher's logits from the workers of a cluster."""

from collections.abc import Iterator
from functools import cached_property
from typing import cast

from pipeline.cluster.blocks import block_of, cuts
from pipeline.cluster.calls import Call
from pipeline.cluster.leases import Leases
from pipeline.cluster.worker import Failed, Labelled, Rounding
from pipeline.images.index import Index, refuse_changed
from pipeline.inference.forward import Ints
from pipeline.runtime.errors import MismatchError, UnusableError
from pipeline.teacher_pass.labellers import Answer, SplitOfViews


class ClusterLabeller:
    """Labels views as `ModelLabeller` does, by workers whose forward passes all round alike.

    Args:
        leases: gives work to the workers.
        data: the index.
        member: the digest of the file of the teacher's member.
        in_full: whether the member computes in its own precision where the pass is in a mixed one.
    """

    def __init__(self, leases: Leases, data: Index, member: str, in_full: bool) -> None:
        self._leases, self._data, self._member = leases, data, (member, in_full)

    @cached_property
    def _rounding(self) -> Rounding:
        """How the worker that answers first rounds.

        Raises:
            UnusableError: logits depend on the rest of the batch, which differs from one worker to another.
        """
        ((_, rounding),) = self._leases.answers([Call("rounding", self._member, self._member, size=0)])
        if isinstance(rounding, Failed):
            raise rounding.error
        if not rounding.is_steady:
            raise UnusableError(
                "the logits that this teacher gives for an image depend on the other images of its batch, or on "
                "chance, so they would depend on which worker of a cluster labels it. Another precompute.batch_size "
                "may help; or set precompute.engine: local."
            )
        return cast(Rounding, rounding)

    @property
    def at_once(self) -> int:
        """As `Labeller.at_once`."""
        return self._rounding.places

    @property
    def unused_places(self) -> int:
        """As `Labeller.unused_places`."""
        return self._rounding.batch_size - self._rounding.places

    @property
    def is_steady(self) -> bool:
        """As `Labeller.is_steady`: a teacher that is not is refused."""
        return self._rounding.is_steady

    def logits(self, split: SplitOfViews, views: Ints, rows: Ints) -> Iterator[Answer]:
        """As `Labeller.logits`, in the order in which workers answer.

        Raises:
            MismatchError: image files are missing or have changed; or workers round differently.
        """

        def refuse(failed: Failed) -> None:
            refuse_changed(self._data.split(split.name))  # the likely reason, told as the local engine tells it

        parts: dict[Call, slice] = {}
        at_once = self.at_once  # asked for now: while the blocks are under way, nothing else can be asked
        for call, answer in self._leases.answers(self._calls(split, views, rows, parts), refuse):
            if isinstance(answer, Failed):
                raise answer.error
            self._refuse_other_rounding(answer)
            part = parts.pop(call)
            for start in range(0, len(answer.logits), at_once):
                logits = answer.logits[start : start + at_once]
                yield slice(part.start + start, part.start + start + len(logits)), logits

    def _calls(self, split: SplitOfViews, views: Ints, rows: Ints, parts: dict[Call, slice]) -> Iterator[Call]:
        """The calls for all blocks; `parts` receives which views each of them is for."""
        paths = [image.path for image in self._data.split(split.name)]
        for part in cuts(len(rows), self.at_once, len(self._data.class_names), lambda: max(1, self._leases.placed)):
            block = block_of(paths, split.transforms, split.augmentation, views[part], rows[part])
            size = part.stop - part.start
            call = Call("logits", (*self._member, block), self._member, size, block.paths)
            parts[call] = part
            yield call

    def _refuse_other_rounding(self, labelled: Labelled) -> None:
        first, other = self._rounding, labelled.rounding
        if other.answers_sha256 != first.answers_sha256:
            raise MismatchError(
                f"two workers give other logits for the same image, bit for bit: {first.where} and {other.where}. "
                "Expected machines of one kind, with the same libraries. Take only such for one pass."
            )
