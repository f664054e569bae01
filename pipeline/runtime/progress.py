"""The progress of long work: a bar on a terminal, in a log a line every `LOG_EVERY_SECONDS`."""

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

T = TypeVar("T")

LOG_EVERY_SECONDS = 15.0
SHORT_SECONDS = 1.0


class Progress:
    """Counts `unit`s up to `total` on stderr; use it as a context manager.

    Args:
        title: the name of the work.
        total: the number of units.
        unit: their name in the plural, such as "images".
        short_is_silent: whether short work prints nothing: in a log work that ends before the first line, on a
            terminal work of less than a second.
    """

    def __init__(self, title: str, total: int, unit: str, short_is_silent: bool = False) -> None:
        self.title, self.total, self.unit = title, total, unit
        self._prints_end = not short_is_silent
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
        """Ends the bar; prints count and speed, unless the work raised an error."""
        self.close()
        if kind is None and self._prints_end:
            self._line("done: ")

    def advance(self, count: int) -> None:
        """Counts `count` more units as done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._last_line >= LOG_EVERY_SECONDS:
            self._line("")

    def counted(self, units: Iterable[T]) -> Iterator[T]:
        """The same units, each of which is counted when the next one is asked for."""
        for unit in units:
            yield unit
            self.advance(1)

    def tell(self, line: str) -> None:
        """Prints a line on stderr, above the bar."""
        tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()

    def _line(self, prefix: str) -> None:
        self._last_line, self._prints_end = time.monotonic(), True
        rate = self.done / max(self._last_line - self._start, 1e-9)
        speed = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
        count = f"{self.done}/{self.total} {self.unit}"
        print(f"{self.title}: {prefix}{count}, {speed} {self.unit}/s", file=sys.stderr, flush=True)
