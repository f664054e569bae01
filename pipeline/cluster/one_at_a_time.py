"""A forward pass that several threads share."""

import threading
from typing import Any

from pipeline.inference.forward import Floats32, Forward


class OneAtATime(Forward):
    """As `Forward`, but of all threads that call it one computes at a time, so that memory holds one batch.

    Args:
        model: as for `Forward`.
        batch_size: as for `Forward`.
        computing: the lock; those of one device share it.
    """

    def __init__(self, model: Any, batch_size: int, computing: threading.Lock) -> None:
        super().__init__(model, batch_size)
        self._computing = computing

    def of_few(self, pixels: Any) -> Floats32:
        """As `Forward.of_few`."""
        with self._computing:
            return super().of_few(pixels)
