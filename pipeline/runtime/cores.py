"""The processor cores that this process may use."""

import os
from contextlib import suppress
from pathlib import Path

CGROUP, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> float:
    """The cores that this process may use, as the system and its container allow."""
    cores: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in control_groups():
        with suppress(OSError, ValueError):  # no such limit, or "max"
            quota, period = (group / "cpu.max").read_text().split()
            cores = min(cores, int(quota) / int(period))
    return cores


def usable_threads() -> int:
    """How many threads compute at the same time: the usable cores that are whole, at least 1."""
    return max(1, int(usable_cores()))


def control_groups() -> list[Path]:
    """The folders of the control groups (version 2) that limit this process: its own, and those above it."""
    own = ""
    with suppress(OSError):
        for line in OWN_CGROUP.read_text().splitlines():
            own = line.removeprefix("0::/") if line.startswith("0::/") else own
    group = CGROUP / own
    return [group, *(above for above in group.parents if above.is_relative_to(CGROUP))]
