"""Files of which a reader in Python never reads more at once than a well-formed file has it read."""

import io
from pathlib import Path


class BoundedReads(io.BufferedReader):
    """A file for readers that believe what a header says of its length.

    Args:
        path: the file.
        most: the bytes that may be read at once.
    """

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(io.FileIO(path))
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        """As that of any file.

        Raises:
            ValueError: it is asked for too much.
        """
        if size is not None and size > self._most:
            raise ValueError(f"a header of {size:,} bytes, where at most {self._most:,} are expected")
        return super().read(size)
