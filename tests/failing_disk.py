"""Runs a command in a project whose logits lie on a disk that fails as it is told: a file system in user space (FUSE).

It has one file, which can be read, and answers each call of the system by itself, without a library. Run by
`unshare -rm python failing_disk.py HOW COMMAND...` in the project, whose logits it shows on a disk of their own; HOW is
`full-quota`, `unreadable` or `gone`.
"""

import ctypes
import errno
import os
import signal
import stat
import struct
import subprocess
import sys
from pathlib import Path

FOLDER, NAME = Path("data/soft_labels"), "teacher_logits.h5"
PR_SET_PDEATHSIG = 1
"""Linux's number of the call by which a process ends with that which started it."""

ROOT, FILE = 1, 2
"""The numbers of the disk's folder and of its file."""

NO_DISK = 77
"""The exit code where the system lets nobody mount such a disk."""

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH = 1, 2, 3, 14, 15, 17, 18, 25
INIT, OPENDIR, READDIR, RELEASEDIR, CREATE, INTERRUPT, BATCH_FORGET = 26, 27, 28, 29, 35, 36, 42
MKNOD, MKDIR = 8, 9
"""Operations of the protocol (version 7.31; the kernel's include/uapi/linux/fuse.h)."""


class Disk:
    """What the disk answers.

    Args:
        content: of the file.
        how: how it fails.
    """

    def __init__(self, content: bytes, how: str) -> None:
        self._content, self._how = content, how

    def answer(self, operation: int, node: int, body: bytes) -> bytes:
        """The answer to a call.

        Raises:
            OSError: the call fails.
        """
        if operation == LOOKUP and body.rstrip(b"\0").decode() == NAME:
            return struct.pack("<QQQQII", FILE, 0, 3600, 3600, 0, 0) + self._attributes(FILE)
        if operation in (CREATE, MKNOD, MKDIR):
            raise OSError(errno.EDQUOT if self._how == "full-quota" else errno.EROFS, "")
        if operation == READ:
            return self._read(*struct.unpack_from("<QQI", body))
        fixed = {
            INIT: lambda: struct.pack("<IIIIHHIIHH32x", 7, 31, 65536, 0, 12, 9, 65536, 1, 16, 0),
            GETATTR: lambda: struct.pack("<QII", 3600, 0, 0) + self._attributes(node),
            OPEN: lambda: bytes(16),
            OPENDIR: lambda: bytes(16),
            STATFS: lambda: struct.pack("<5Q4I24x", 1000, 500, 500, 100, 50, 4096, 255, 4096, 0),
            **dict.fromkeys((READDIR, RELEASE, RELEASEDIR, FLUSH), bytes),
        }
        if operation not in fixed:
            raise OSError(errno.ENOENT if operation == LOOKUP else errno.ENOSYS, "")
        return fixed[operation]()

    def _read(self, handle: int, start: int, size: int) -> bytes:
        if self._how == "gone":
            os._exit(0)
        if self._how == "unreadable":
            raise OSError(errno.EIO, "")
        return self._content[start : start + size]

    def _attributes(self, node: int) -> bytes:
        mode, size = (stat.S_IFREG | 0o644, len(self._content)) if node == FILE else (stat.S_IFDIR | 0o755, 0)
        return struct.pack("<6Q10I", node, size, size // 512 + 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def serve(device: int, disk: Disk) -> None:
    """Answers all calls, until the disk is unmounted."""
    while True:
        try:
            call = os.read(device, 2**20)
        except OSError:
            return
        _, operation, unique, node = struct.unpack_from("<IIQQ", call)
        if operation in (FORGET, BATCH_FORGET, INTERRUPT):
            continue
        try:
            answer, failed = disk.answer(operation, node, call[40:]), 0
        except OSError as error:
            answer, failed = b"", -(error.errno or errno.EIO)
        os.write(device, struct.pack("<IiQ", 16 + len(answer), failed, unique) + answer)


def main(how: str, *command: str) -> int:
    """Mounts the disk, and runs the command; returns its exit code, or `NO_DISK`."""
    content = (FOLDER / NAME).read_bytes()
    options = b"fd=%d,rootmode=40755,user_id=0,group_id=0"
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        return NO_DISK
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"failing", os.fsencode(FOLDER), b"fuse.failing", 0, options % device):
        return NO_DISK
    if os.fork() == 0:
        library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        serve(device, Disk(content, how))
        os._exit(0)
    os.close(device)
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
