"""`python -m pipeline.cli.worker`: trains what another training asks for, one after another, in one started process.

It reads a line for each training, the words of its command as JSON, and answers each with a line, `DONE` or `FAILED`.
What the commands print goes to stderr.
"""

import gc
import json
import os
import sys

DONE, FAILED = "done", "failed"


def serve() -> None:
    """Answers lines until there are no more."""
    from pipeline.cli.main import main

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            main.main(json.loads(line), standalone_mode=False)
            answer = DONE
        except Exception as error:  # of whatever kind: the stage of this training will raise it again
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            answer = FAILED
        print(answer, file=answers)
        _forget()


def _forget() -> None:
    """Removes what Keras keeps of the last training, so that the next one has the names, and the bytes, of its own."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session()
    gc.collect()


if __name__ == "__main__":
    serve()
