"""Files of which a reader in Python never reads more at once than a well-formed file has it read."""

import io

READ_AT_ONCE = 4 * 2**20
"""Bytes: the directory of a zip file of 40,000 arrays, or far more than any header in a tar file."""


class BoundedReads(io.BufferedReader):
    """A file, opened by `BoundedReads(io.FileIO(path))`, for readers that believe what a header says of its length."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As that of any file.

        Raises:
            ValueError: it is asked for too much.
        """
        if size is not None and size > READ_AT_ONCE:
            raise ValueError(f"a header or directory of {size:,} bytes, where at most {READ_AT_ONCE:,} are expected")
        return super().read(size)
