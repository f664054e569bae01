"""A copy of dvc.lock in `.work/`, for DVC writes the file itself in place.

When `dvc` is ended in that instant, also by Ctrl-C, its file is cut off, and DVC refuses it. So each stage that DVC
starts keeps a copy, which names everything that stages before it have made (docs/reliability.md says how to go on).
"""

import os
from contextlib import suppress
from pathlib import Path

from pipeline.runtime.errors import DamagedError
from pipeline.runtime.publish import replace_whole
from pipeline.runtime.text_files import read_bytes
from pipeline.runtime.workspace import in_a_copy, work_folder

LOCK = Path("dvc.lock")


def keep_copy() -> None:
    """Copies dvc.lock if DVC has started this process, which DVC does when it has written the file.

    An experiment in a copy of the repository has a file of its own, and begins anew from the one of the repository.
    """
    if "DVC_STAGE" not in os.environ or in_a_copy():
        return
    kept = work_folder() / LOCK.name
    with suppress(OSError, DamagedError):  # without the copy, git has an earlier one
        content = read_bytes(LOCK, "", "yaml_bytes")
        # Another `dvc` may be writing the file just now, and a text that is cut off rarely ends with a line.
        if content.endswith(b"\n") and not (kept.is_file() and kept.read_bytes() == content):
            kept.parent.mkdir(exist_ok=True)
            with replace_whole(kept) as partial:
                partial.write_bytes(content)
