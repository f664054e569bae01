"""`python -m pipeline.cli.worker`: trains what another training asks for, one after another, in one started process.

It reads a line for each training, the words of its command as JSON, and answers each with a line, `DONE` or `FAILED`.
What the commands print goes to stderr. TensorFlow and the code of trainings are loaded before the first line comes.
"""

import gc
import json
import os
import sys
from collections.abc import Sequence

DONE, FAILED = "done", "failed"


def serve() -> None:
    """Answers lines until there are no more."""
    from pipeline.cli.tensorflow_start import start_tensorflow

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    start_tensorflow()
    import pipeline.params.reading
    import pipeline.stages.train_baseline
    import pipeline.stages.train_student  # noqa: F401, while it waits for the first line

    for line in sys.stdin:
        print(DONE if is_trained(json.loads(line)) else FAILED, file=answers)


def is_trained(words: Sequence[str]) -> bool:
    """Trains in this process, and returns whether that succeeded; if not, the reason is printed.

    Args:
        words: the command of a training, without `python -m pipeline`.
    """
    from pipeline.cli.main import main

    try:
        main.main([*words], standalone_mode=False)
    except Exception as error:  # of whatever kind: the stage of this training will raise it again
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return False
    finally:
        _forget()
    return True


def _forget() -> None:
    """Removes what Keras keeps of the last training, so that the next one has the names, and the bytes, of its own."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session()
    gc.collect()


if __name__ == "__main__":
    serve()
