"""`python -m pipeline` is the same program as `softlabel`."""

import signal


def main() -> None:
    """Runs the program; while its modules are imported, Ctrl-C ends it without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pipeline.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
