"""`python -m pipeline` is the same program as `softlabel`."""

from pipeline.cli.main import main

if __name__ == "__main__":
    main()
