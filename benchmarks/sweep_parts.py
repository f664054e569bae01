"""The parts of `benchmarks.sweep`, each a process, in the order in which they take turns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PRECOMPUTE, SOFTEN, FIRST, STUDENT, BASELINE = "precompute", "soften", "first student", "student", "baseline"
PLAIN, DISTILLER = "plain", "keras Distiller"
OURS = (PRECOMPUTE, SOFTEN, FIRST, STUDENT, BASELINE)

PLAIN_ONES = 6
"""No more plain trainings than these are measured: all cost the same, and an interval of their median needs six."""


@dataclass(frozen=True)
class Part:
    """A process.

    Attributes:
        kind: what it does: of `OURS`, `PLAIN` or `DISTILLER`. The first student is a kind of its own: it fills what the
            other trainings share.
        name: its own name.
        words: a module and its arguments.
    """

    kind: str
    name: str
    words: tuple[str, ...]


def parts_of(temperatures: Sequence[int], seeds: Sequence[int], loss: str) -> list[Part]:
    """All parts of a sweep.

    The teacher's pass comes first. Then trainings of ours at equal distances (`every`) have a plain one of their seed
    beside them, in a random order; one training with the Distiller for each seed stands among them, too.
    """
    parts = [Part(PRECOMPUTE, PRECOMPUTE, ("pipeline", "precompute"))]
    for temperature in temperatures:
        words = ("pipeline", "soften", "--temperature", str(temperature))
        parts.append(Part(SOFTEN, f"soften_T{temperature}", words))
    ours = _ours(temperatures, seeds, loss)
    for number, training in enumerate(ours):
        seed = str(seeds[number % len(seeds)])
        whole = ("benchmarks.whole_training", "plain", "--seed", seed)
        turn = [training]
        if number % every(len(ours)) == 0:
            turn.append(Part(PLAIN, f"plain{number + 1:02d}", whole))
        block, place = divmod(number, len(ours) // len(seeds))
        if place == len(ours) // len(seeds) // 2:
            seed = str(seeds[block])
            at = ("--temperature", str(temperatures[0]))
            online = ("benchmarks.whole_training", "distiller", "--seed", seed, *at)
            turn.append(Part(DISTILLER, f"distiller_seed{seed}", online))
        parts += [turn[place] for place in np.random.default_rng(number).permutation(len(turn))]
    return parts


def every(trainings: int) -> int:
    """How far apart the trainings are that have a plain one beside them."""
    return -(-trainings // PLAIN_ONES)


def _ours(temperatures: Sequence[int], seeds: Sequence[int], loss: str) -> list[Part]:
    """Students and baselines in the order in which DVC runs them."""
    parts: list[Part] = []
    for temperature in temperatures:
        for seed in seeds:
            options = ("--loss", loss, "--temperature", str(temperature), "--seed", str(seed))
            kind = STUDENT if parts else FIRST
            parts.append(Part(kind, f"student_T{temperature}_seed{seed}", ("pipeline", "train-student", *options)))
    baseline = ("pipeline", "train-baseline", "--seed")
    return parts + [Part(BASELINE, f"baseline_seed{seed}", (*baseline, str(seed))) for seed in seeds]
