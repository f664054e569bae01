"""Progress of long work: a bar on a terminal, a plain line now and then in a log."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

LOG_EVERY_SECONDS = 15.0
SHORT_SECONDS = 1.0


class Progress:
    """Counts `unit`s up to `total` on stderr; use it as a context manager.

    Args:
        title: what is being done.
        total: how many units there are.
        unit: their name in the plural, such as "images".
        short_is_silent: whether nothing is said of what is too short for a line, or on a terminal takes no second.
    """

    def __init__(self, title: str, total: int, unit: str, short_is_silent: bool = False) -> None:
        self.title, self.total, self.unit = title, total, unit
        self._tells_end = not short_is_silent
        self.done = 0
        self._start = self._last_line = time.monotonic()
        delay = SHORT_SECONDS if short_is_silent else 0
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, desc=title, unit=f" {unit}", leave=False, delay=delay)

    def __enter__(self) -> Self:
        """Starts counting."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the bar; if the work ended well, prints what it took."""
        self.close()
        if kind is None and self._tells_end:
            self._line("done: ")

    def advance(self, count: int) -> None:
        """Notes that `count` more units are done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._last_line >= LOG_EVERY_SECONDS:
            self._line("")

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()

    def _line(self, prefix: str) -> None:
        self._last_line, self._tells_end = time.monotonic(), True
        rate = self.done / max(self._last_line - self._start, 1e-9)
        speed = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
        count = f"{self.done}/{self.total} {self.unit}"
        print(f"{self.title}: {prefix}{count}, {speed} {self.unit}/s", file=sys.stderr, flush=True)
