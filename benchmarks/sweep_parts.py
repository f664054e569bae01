"""The parts of `benchmarks.sweep`, each a process, in the order in which they take turns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LABELS, OURS, PLAIN, DISTILLER = "labels", "ours", "plain", "keras Distiller"

PLAIN_OF_A_SEED = 2
"""Plain trainings beside the trainings of ours with one seed: all cost the same, whatever the temperature would be."""


@dataclass(frozen=True)
class Part:
    """A process.

    Attributes:
        kind: what it does: `LABELS`, `OURS`, `PLAIN` or `DISTILLER`.
        name: its own name.
        words: a module and its arguments.
        seeds: those that `student.seeds` of params.yaml has meanwhile.
    """

    kind: str
    name: str
    words: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def seed(self) -> int:
        """The seed of its trainings."""
        return self.seeds[-1]


def parts_of(temperatures: Sequence[int], seeds: Sequence[int]) -> list[Part]:
    """All parts of a sweep.

    The soft labels come first. Then each seed has its turn, in which `dvc repro` trains a student of each temperature
    and a baseline, as it does for who adds this seed to params.yaml. In the same turn, in a random order, stand plain
    trainings and one with the Distiller.
    """
    parts = [Part(LABELS, "labels", ("dvc", "repro", "soften"), (seeds[0],))]
    for number, seed in enumerate(seeds):
        so_far = tuple(seeds[: number + 1])
        whole = ("benchmarks.whole_training", "plain", "--seed", str(seed))
        turn = [Part(OURS, f"ours_seed{seed}", ("dvc", "repro"), so_far)]
        turn += [Part(PLAIN, f"plain{again + 1}_seed{seed}", whole, so_far) for again in range(PLAIN_OF_A_SEED)]
        online = ("benchmarks.whole_training", "distiller", "--seed", str(seed), "--temperature", str(temperatures[0]))
        turn.append(Part(DISTILLER, f"distiller_seed{seed}", online, so_far))
        parts += [turn[place] for place in np.random.default_rng(number).permutation(len(turn))]
    return parts
