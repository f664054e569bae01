"""A kind of file that is fuzzed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis.strategies import SearchStrategy

GIB = 2**30


@dataclass(frozen=True)
class Target:
    """A kind of file, and how the program reads one.

    Attributes:
        seeds: makes the contents of some small, valid files. It is called once, in a process of its own.
        run: reads a file as the program does, and returns if the program would go on. It may change the file before (to
            make a seal right again). What is large, such as TensorFlow, is imported in here, not by the module.
        inputs: makes, from the seeds, a strategy of contents that are changed by structure; None: by bytes only.
        file: the name of the file.
        words: bytes that mean something in such a file; changes by bytes put them in.
        memory: the bytes that one input may take beyond what the process had when it began.
    """

    seeds: Callable[[], Sequence[bytes]]
    run: Callable[[Path], object]
    inputs: Callable[[Sequence[bytes]], SearchStrategy[bytes]] | None = None
    file: str = "input"
    words: Sequence[bytes] = ()
    memory: int = GIB
