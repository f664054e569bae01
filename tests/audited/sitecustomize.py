"""Notes what a process does with networks, pickles and files that it writes, in the file that AUDITED names.

Python runs this when it starts with this folder in PYTHONPATH; so the processes that it starts are noted, too.
"""

import json
import os
import sys

NAMED = os.environ.get("AUDITED")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.sendto"}
MADE = {"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "sqlite3.connect": 0}
"""Of events, which argument is the name that appears."""


def noted(event, arguments):
    """What is noted of an event, as text; None of others."""
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
        return None if isinstance(arguments[0], int) else os.path.abspath(os.fsdecode(arguments[0]))
    if event in MADE and not isinstance(arguments[MADE[event]], int):
        return os.path.abspath(os.fsdecode(arguments[MADE[event]]))
    if event in NETWORK:
        address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
        return None if isinstance(address, str | bytes) and event == "socket.connect" else repr(address)
    return ".".join(arguments) if event == "pickle.find_class" else None


if NAMED:
    log = os.open(NAMED, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    by = " ".join(map(os.path.basename, sys.orig_argv))[:200]

    def note(event, arguments):
        """The hook: one write a line, so that lines of several processes do not mix."""
        if event == "open" or event in MADE or event in NETWORK or event == "pickle.find_class":
            said = noted(event, arguments)
            if said is not None:
                os.write(log, (json.dumps([by, event, said]) + "\n").encode())

    sys.addaudithook(note)
