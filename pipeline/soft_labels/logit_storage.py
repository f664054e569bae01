"""How a teacher's logits are stored: all of them, or the k largest with a model of the others.

Each kind of storage names the columns of `teacher_logits.h5` and those of `soft_targets_T<T>.h5`. It turns logits into
the columns of the first file, these into the columns of the second, and those into the (R, C) array from which a
student learns. A column is an array of R rows; see `docs/format.md`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, TypeAdapter, ValidationError

from pipeline.runtime.errors import DamagedError, ParameterError, shortened
from pipeline.runtime.ranges import Positive

Dtype = Literal["float32", "float16"]

Columns = dict[str, npt.NDArray[Any]]
RowColumns = dict[str, tuple[tuple[int, ...], npt.DTypeLike]]
"""The shape of one row and the dtype, for each column."""

COLDEST = 1e-100
"""At this temperature the largest logit has all of the mass, to the last bit. Below it, divisions would overflow."""

CACHED_NUMBERS = 2**18
"""This many float64 stay in a processor's cache between the steps of a softmax, which makes it four times as fast."""


@dataclass(frozen=True)
class Dense:
    """Every logit.

    Attributes:
        kind: which logits are stored: all of them (dense), or the largest (topk).
        dtype: the dtype of the stored logits.
    """

    kind: Literal["dense"] = field(default="dense", kw_only=True)
    dtype: Dtype

    def as_json(self) -> dict[str, Any]:
        """The value of the file's attribute `storage`; `of` reads it."""
        return asdict(self)

    def columns(self, classes: int) -> RowColumns:
        """The columns of the logits file."""
        return {"logits": ((classes,), self.dtype)}

    def encode(self, logits: npt.NDArray[np.float32]) -> Columns:
        """Turns logits (R, C) into columns.

        Raises:
            ParameterError: a logit is too large for the dtype.
        """
        return {"logits": _rounded(logits, self.dtype)}

    def logits(self, columns: Columns, classes: int, temperature: float = 1.0) -> npt.NDArray[np.float32]:
        """The stored logits: (R, C) float32; they are the same for each temperature."""
        return columns["logits"].astype(np.float32)

    def predictions(self, columns: Columns) -> npt.NDArray[np.intp]:
        """The class of the largest logit: (R,)."""
        predictions: npt.NDArray[np.intp] = np.argmax(columns["logits"], axis=1)
        return predictions

    def extent(self, columns: Columns, classes: int) -> tuple[npt.NDArray[np.float64], ...]:
        """The smallest and the largest logit, and the sum of all: (R,) each."""
        logits = columns["logits"].astype(np.float64)
        return logits.min(axis=1), logits.max(axis=1), logits.sum(axis=1)

    def soft_columns(self, classes: int) -> RowColumns:
        """The columns of the soft-target file that hold the soft labels."""
        return {"soft": ((classes,), "float32")}

    def soften(self, columns: Columns, temperature: float, classes: int) -> Columns:
        """Softens stored logits: softmax(v / T)."""
        return {"soft": softmax(columns["logits"], temperature)}

    def probabilities(self, soft: Columns, classes: int) -> npt.NDArray[np.float32]:
        """The soft labels: (R, C) float32."""
        return soft["soft"]


@dataclass(frozen=True)
class TopK:
    """The k largest logits, and the mean and variance of the others, the tail.

    Attributes:
        kind: which logits are stored: all of them (dense), or the largest (topk).
        k: how many logits are kept; fewer than there are classes.
        dtype: the dtype of the kept logits.
    """

    kind: Literal["topk"] = field(default="topk", kw_only=True)
    k: Positive
    dtype: Annotated[Dtype, Field(default="float16")]  # params.yaml may leave it out, a file may not

    def as_json(self) -> dict[str, Any]:
        """The value of the file's attribute `storage`; `of` reads it."""
        return asdict(self)

    def columns(self, classes: int) -> RowColumns:
        """The columns of the logits file.

        Raises:
            ParameterError: there are not more than k classes.
        """
        if self.k >= classes:
            raise ParameterError(
                f"precompute.storage keeps the {self.k} largest logits, but there are only {classes} classes. "
                "Set kind: dense, or a smaller k."
            )
        return {
            "index": ((self.k,), _index_dtype(classes)),
            "value": ((self.k,), self.dtype),
            "tail_mean": ((), "float32"),
            "tail_variance": ((), "float32"),
        }

    def encode(self, logits: npt.NDArray[np.float32]) -> Columns:
        """Turns logits (R, C) into columns; among equal logits the first classes are kept.

        Raises:
            ParameterError: a logit is too large for the dtype.
        """
        step = max(1, CACHED_NUMBERS // logits.shape[1])
        parts = [self._encode(logits[start : start + step]) for start in range(0, len(logits), step)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _encode(self, logits: npt.NDArray[np.float32]) -> Columns:
        count, classes = logits.shape
        kept = self._largest(logits)
        index = np.nonzero(kept)[1].reshape(count, self.k)
        value = np.take_along_axis(logits, index, axis=1)
        order = np.argsort(-value, axis=1, kind="stable")
        tail = logits[~kept].reshape(count, classes - self.k).astype(np.float64)
        return {
            "index": np.take_along_axis(index, order, axis=1).astype(_index_dtype(classes)),
            "value": _rounded(np.take_along_axis(value, order, axis=1), self.dtype),
            "tail_mean": _rounded(tail.mean(axis=1), "float32"),
            "tail_variance": _rounded(tail.var(axis=1), "float32"),
        }

    def _largest(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Which logits (R, C) are kept: k of each row; a search for the smallest of them is faster than a sort."""
        smallest = np.partition(logits, -self.k, axis=1)[:, -self.k, None]
        kept = logits >= smallest
        (tied,) = np.nonzero(np.count_nonzero(kept, axis=1) > self.k)
        equal, above = logits[tied] == smallest[tied], logits[tied] > smallest[tied]
        kept[tied] = above | (equal & (np.cumsum(equal, axis=1) <= self.k - above.sum(axis=1, keepdims=True)))
        return kept

    def predictions(self, columns: Columns) -> npt.NDArray[np.intp]:
        """The class of the largest logit: (R,)."""
        return columns["index"][:, 0].astype(np.intp)

    def logits(self, columns: Columns, classes: int, temperature: float = 1.0) -> npt.NDArray[np.float32]:
        """The kept logits, and for the others of a row one that gives them their mass at T: (R, C) float32."""
        return _spread(columns["index"], columns["value"], self._tail_logit(columns, temperature), classes)

    def extent(self, columns: Columns, classes: int) -> tuple[npt.NDArray[np.float64], ...]:
        """The smallest (or the mean of the tail, if smaller) and the largest logit, and the sum of all: (R,) each."""
        kept, tail = columns["value"].astype(np.float64), columns["tail_mean"].astype(np.float64)
        return np.minimum(kept[:, -1], tail), kept[:, 0], kept.sum(axis=1) + (classes - self.k) * tail

    def soft_columns(self, classes: int) -> RowColumns:
        """The columns of the soft-target file that hold the soft labels."""
        return {
            "index": ((self.k,), _index_dtype(classes)),
            "probability": ((self.k,), "float32"),
            "tail": ((), "float32"),
        }

    def soften(self, columns: Columns, temperature: float, classes: int) -> Columns:
        """Softens stored logits; the mass of the tail is modelled (`docs/format.md`)."""
        temperature = max(temperature, COLDEST)
        value = columns["value"].astype(np.float64)
        largest = value[:, 0]
        powers = np.exp((value - largest[:, None]) / temperature)
        tail = (classes - self.k) * np.exp((self._tail_logit(columns, temperature) - largest) / temperature)
        total = powers.sum(axis=1) + tail
        return {
            "index": columns["index"],
            "probability": (powers / total[:, None]).astype(np.float32),
            "tail": (tail / total).astype(np.float32),
        }

    def probabilities(self, soft: Columns, classes: int) -> npt.NDArray[np.float32]:
        """The soft labels, with the mass of the tail spread evenly: (R, C) float32."""
        return _spread(soft["index"], soft["probability"], soft["tail"] / np.float32(classes - self.k), classes)

    def _tail_logit(self, columns: Columns, temperature: float) -> npt.NDArray[np.float64]:
        """The logit which, if all C - k logits of the tail had it, would give the tail its modelled mass: (R,).

        It is T log E[exp(v / T)] for v from a normal distribution with the tail's mean and variance. The distribution
        is cut off at the smallest kept logit, since no logit of the tail is larger. For any distribution, this logit is
        at least the mean (Jensen) and at most the smallest kept logit.
        """
        from scipy.special import log_ndtr  # SciPy takes longer to load than all else that a light stage needs

        smallest = columns["value"][:, -1].astype(np.float64) / temperature
        mean = np.minimum(columns["tail_mean"].astype(np.float64) / temperature, smallest)
        # A tail of equal logits has the deviation 0, and nothing can be divided by it.
        deviation = np.maximum(np.sqrt(columns["tail_variance"].astype(np.float64)) / temperature, 1e-9)
        cut = (smallest - mean) / deviation
        log_power = mean + deviation**2 / 2 + log_ndtr(cut - deviation) - log_ndtr(cut)
        return np.asarray(temperature * np.clip(log_power, mean, smallest))


Storage = Dense | TopK
KINDS: dict[str, type[Storage]] = {"dense": Dense, "topk": TopK}
CHECKS = {name: TypeAdapter(kind) for name, kind in KINDS.items()}


def of(description: Mapping[str, Any]) -> Storage:
    """The storage that `as_json` describes.

    Raises:
        LookupError, TypeError, ValueError: it describes none.
    """
    storage = KINDS[description["kind"]](**description)
    try:
        CHECKS[description["kind"]].validate_python(storage.as_json())
    except ValidationError:
        raise ValueError(f"its storage is {shortened(repr(storage), 100)}") from None
    return storage


def softmax(logits: npt.NDArray[Any], temperature: float) -> npt.NDArray[np.float32]:
    """softmax(v / T) along the last axis, computed in float64 and rounded once to float32."""
    rows = np.reshape(logits, (-1, np.shape(logits)[-1]))
    softened = np.empty(rows.shape, np.float32)
    step = max(1, CACHED_NUMBERS // rows.shape[1])
    for part in (slice(start, start + step) for start in range(0, len(rows), step)):
        powers = rows[part].astype(np.float64)
        powers -= powers.max(axis=1, keepdims=True)
        with np.errstate(over="ignore"):  # at a tiny temperature -inf, whose power is 0
            powers /= temperature
        np.exp(powers, out=powers)
        powers /= powers.sum(axis=1, keepdims=True)
        softened[part] = powers
    return softened.reshape(np.shape(logits))


def _index_dtype(classes: int) -> str:
    return "uint16" if classes <= 2**16 else "uint32"


def _rounded(logits: npt.NDArray[Any], dtype: Dtype) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        rounded = logits.astype(dtype)
    if not np.isfinite(rounded).all():
        raise ParameterError(
            f"the teacher gives logits up to {np.abs(logits).max():.3g}, which {dtype} cannot hold. "
            "Set precompute.storage to {kind: dense, dtype: float32}."
        )
    return rounded


def _spread(
    index: npt.NDArray[Any], kept: npt.NDArray[Any], others: npt.NDArray[Any], classes: int
) -> npt.NDArray[np.float32]:
    """Rows of C values: the kept values at their `index`, and the row's value in `others` at all other places."""
    if index.size and index.max() >= classes:
        raise DamagedError(
            f"a row of soft labels names class {index.max()} of {classes} classes. Make their file again with "
            "`dvc repro --force`."
        )
    dense = np.repeat(others.astype(np.float32)[:, None], classes, axis=1)
    np.put_along_axis(dense, index.astype(np.intp), kept.astype(np.float32), axis=1)
    return dense
