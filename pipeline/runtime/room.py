"""Room that threads share: each takes what it needs, such as memory, and the others wait."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """What is taken at the moment, by all threads."""

    def __init__(self) -> None:
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def of(self, amount: int, most: int) -> Iterator[None]:
        """Waits until so much can be taken, and holds it.

        Args:
            amount: how much; where it is more than `most`, nobody else holds anything meanwhile.
            most: how much all threads may hold at a time.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + amount <= most)
            self._taken += amount
        try:
            yield
        finally:
            with self._changed:
                self._taken -= amount
                self._changed.notify_all()
