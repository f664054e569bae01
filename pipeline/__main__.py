"""`python -m pipeline` is the same program as `softlabel`."""

import atexit
import os
import signal
import sys

INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGHUP)


def main() -> None:
    """Runs the program. While its modules are imported, Ctrl-C ends it without a traceback.

    After an interruption, Python does not tear down TensorFlow and all else that was imported, which takes seconds.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pipeline.cli.main import main as run

    try:
        run()
    except SystemExit as ended:
        if ended.code in INTERRUPTED:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            os._exit(int(ended.code))
        raise


if __name__ == "__main__":
    main()
