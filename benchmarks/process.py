"""This process: measures its peak memory, and holds back what it prints."""

import io
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path


def peak_mib() -> float:
    """Peak resident memory of this process."""
    # On Linux, `getrusage` would count the memory of the process that started this one.
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back what stages print."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
