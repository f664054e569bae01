"""A teacher without a network: its logits of each image and view are stored in its `.keras` file.

The file is a Keras model as well, from the number of a row to that row's logits. So it can be copied, shared and
averaged with other teachers like any teacher. Its record tells of which image and view each row is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from pipeline.models import keras_files
from pipeline.runtime.errors import DamagedError

Ints = npt.NDArray[np.integer[Any]]

ROWS = "logits"
"""The name of the layer that holds the logits."""


@dataclass(frozen=True)
class StoredAnswers:
    """The logits of a teacher, by image and view.

    Attributes:
        ids: N image ids, all different.
        views: (N,), how many views of each image have logits: the views 0 to n - 1. None: the logits of an image are
            those of all its views.
        logits: (R, C) float32; the rows of one image follow each other in the order of its views.
        rendering: the pixels and views that the teacher saw: `input_shape`, `decoder` and `resize` as soft-label files
            note them, `seed` and `augmentation` as `Views.as_json` has them. None: not known.
    """

    ids: Sequence[str]
    views: Ints | None
    logits: npt.NDArray[np.float32]
    rendering: Mapping[str, Any] | None = None

    @property
    def pixels(self) -> dict[str, Any] | None:
        """The part of `rendering` that soft-label files note as `preprocessing`; None if it is not known."""
        if self.rendering is None:
            return None
        return {name: self.rendering[name] for name in ("input_shape", "decoder", "resize")}

    @cached_property
    def _counts(self) -> Ints:
        return np.ones(len(self.ids), np.int64) if self.views is None else self.views

    @cached_property
    def _position(self) -> dict[str, int]:
        return {image_id: number for number, image_id in enumerate(self.ids)}

    @cached_property
    def _first_row(self) -> Ints:
        return np.cumsum(self._counts) - self._counts

    def without(self, ids: Sequence[str], views: int) -> list[str]:
        """Those images and views that have no logits, in words: "a.png", or "a.png (view 3)" if others of it have.

        Args:
            ids: the images.
            views: how many views of each of them are needed.
        """
        missing = []
        for image_id in ids:
            number = self._position.get(image_id)
            if number is None:
                missing.append(image_id)
            elif self.views is not None:
                missing += [f"{image_id} (view {view})" for view in range(int(self.views[number]), views)]
        return missing

    def of(self, ids: Sequence[str], views: Ints) -> npt.NDArray[np.float32]:
        """The logits of B images, each in one view: (B, C). All of them must be there."""
        first = self._first_row[[self._position[image_id] for image_id in ids]]
        rows = first if self.views is None else first + views
        return np.asarray(self.logits[rows])

    def save(self, path: Path, name: str, record: Mapping[str, Any]) -> None:
        """Writes the teacher's `.keras` file, in one step; the same answers give the same bytes.

        Args:
            path: the file to write.
            name: the name of the model.
            record: the rest of the record, as `keras_files.save` takes it.
        """
        keras.utils.clear_session()
        rows, classes = self.logits.shape
        layer = keras.layers.Embedding(rows, classes, embeddings_initializer="zeros", name=ROWS)
        model = keras.Sequential([keras.Input((), dtype="int32", name="row"), layer], name=name)
        layer.set_weights([self.logits])
        answers = {
            "ids": list(self.ids),
            "views": None if self.views is None else self.views.tolist(),
            "rendering": self.rendering,
        }
        keras_files.save(model, path, {**record, "answers": answers})


def stored_answers(model: Any, record: Mapping[str, Any], described: str) -> StoredAnswers:
    """The answers that `StoredAnswers.save` wrote.

    Args:
        model: the Keras model.
        record: the record of its file.
        described: how messages name the teacher.

    Raises:
        DamagedError: model and record do not belong together.
    """
    try:
        (logits,) = model.get_layer(ROWS).get_weights()
        answers = record["answers"]
        views = None if answers["views"] is None else np.array(answers["views"], np.int64)
        found = StoredAnswers(answers["ids"], views, np.asarray(logits, np.float32), answers["rendering"])
        whole = len(found.logits) == found._counts.sum() and len(set(found.ids)) == len(found.ids) == len(found._counts)
    except (LookupError, TypeError, ValueError, AttributeError):
        whole = False
    if not whole:
        raise DamagedError(
            f"{described} does not say of which images its logits are. Make it again with "
            "`dvc repro --single-item --force train_teacher`."
        )
    return found
