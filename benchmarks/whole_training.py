"""One training as it is run without kept features or a file of soft labels, in a process of its own.

    python -m benchmarks.whole_training (plain | distiller) --seed S [--temperature T]

Works in the folder of a project whose `split` has run, and writes `models/NAME_seedS.keras`: a student that was trained
on hard labels alone, or with Keras' Distiller and `models/teacher.keras`, as `benchmarks.whole_graph` does it.
"""

import argparse

from pipeline.cli.tensorflow_start import start_tensorflow


def main() -> None:
    """Trains one model and saves it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=("plain", "distiller"))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--temperature", default="4")
    given = parser.parse_args()
    start_tensorflow()  # as the stages do
    from benchmarks.whole_graph import trained

    trained(given.variant, given.seed, given.temperature).save(f"models/{given.variant}_seed{given.seed}.keras")


if __name__ == "__main__":
    main()
