"""The entries of `distill.loss`: which soft loss a student has, and its parameters.

`soft_losses` has the functions themselves, with their formulas. This module imports neither Keras nor TensorFlow.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from pipeline.runtime.ranges import Number, Share
from pipeline.runtime.temperatures import in_range

NAME = r"[a-z][a-z0-9_]*"
"""The name of a loss: it is part of file names, in which a capital T follows."""


@dataclass(frozen=True, kw_only=True)
class SoftLoss:
    """What every loss may set.

    Attributes:
        hard_label_weight: the weight of the hard labels with this loss; None: that of all losses,
            distill.hard_label_weight.
    """

    hard_label_weight: Share | None = None

    def as_json(self) -> dict[str, Any]:
        """The arguments from which `of` makes it again."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Softened(SoftLoss):
    """What every loss may set that softens the student's logits.

    Attributes:
        student_temperature: the temperature of the student's logits, from 0.000001 to 1000000; None: that of the
            teacher's, T.
    """

    student_temperature: Annotated[Number, AfterValidator(in_range)] | None = None


@dataclass(frozen=True, kw_only=True)
class Kl(Softened):
    """The KL divergence from the teacher's soft labels.

    Attributes:
        kind: the soft loss; by default the one that has the entry's name.
    """

    kind: Literal["kl"] = "kl"


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Softened):
    """The cross-entropy with the teacher's soft labels.

    Attributes:
        kind: the soft loss; by default the one that has the entry's name.
    """

    kind: Literal["cross_entropy"] = "cross_entropy"


AnySoftLoss = Kl | CrossEntropy
KINDS: dict[str, type[AnySoftLoss]] = {"kl": Kl, "cross_entropy": CrossEntropy}
"""The classes of soft losses by their `kind`."""


def of(description: Mapping[str, Any]) -> AnySoftLoss:
    """The soft loss that `as_json` describes."""
    return KINDS[description["kind"]](**description)


def with_kinds(entries: Any) -> Any:
    """`distill.loss` as it is written, in which each entry that names no kind has its own name as the kind."""
    if not isinstance(entries, dict):
        return entries
    return {name: {"kind": name, **entry} if isinstance(entry, dict) else entry for name, entry in entries.items()}
