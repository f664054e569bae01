"""What `benchmarks.sweep` says of its times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.paired import interval_of_median, ratios, spread
from benchmarks.sweep_parts import BASELINE, DISTILLER, FIRST, OURS, PLAIN, PRECOMPUTE, SOFTEN, STUDENT, Part, every
from benchmarks.sweep_project import Sweep
from benchmarks.timed_parts import Taken

GOALS = "goals: ours at most 0.4 of plain, 0.1 of the Distiller"

Table = tuple[str, Sequence[str], list[list[str]]]


@dataclass(frozen=True)
class Measured:
    """A sweep that was measured.

    Attributes:
        sweep: what was trained.
        epochs: of each training; as many as there are views.
        taken: the time of each part.
        features: the bytes of kept features.
    """

    sweep: Sweep
    epochs: int
    taken: Mapping[Part, Taken]
    features: int

    def of(self, *kinds: str) -> list[Taken]:
        """The times of the parts of some kinds, in their order."""
        return [taken for part, taken in self.taken.items() if part.kind in kinds]

    def trained(self) -> list[Taken]:
        """The trainings of ours with a plain one beside them, in the order of the plain ones."""
        return self.of(FIRST, STUDENT, BASELINE)[:: every(self.sweep.trainings)]

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        parts = {part.name: vars(taken) for part, taken in self.taken.items()}
        return {"parts": parts, "features": self.features, "counts": self.sweep.counts}


@dataclass(frozen=True)
class Total:
    """The time of many processes together.

    Attributes:
        processes: how many.
        seconds: on the clock, one after another.
        processor: seconds of processor time.
    """

    processes: int
    seconds: float
    processor: float


def total(taken: Sequence[Taken]) -> Total:
    """Their sum."""
    return Total(len(taken), sum(each.seconds for each in taken), sum(each.processor for each in taken))


def as_many(taken: Sequence[Taken], processes: int) -> Total:
    """The sum for another number of processes, which all take as long as those that were measured."""
    some = total(taken)
    return Total(processes, some.seconds / len(taken) * processes, some.processor / len(taken) * processes)


def of_the_sweep(run: Measured) -> Table:
    """The parts of each sweep and their sums, in minutes."""
    counts, students = run.sweep.counts, len(run.sweep.temperatures) * len(run.sweep.seeds)
    once = counts["train"] * run.epochs + counts["val"] + counts["test"]
    in_steps = students * run.epochs * (counts["train"] + counts["val"])
    ours = total(run.of(*OURS))
    plain, online = as_many(run.of(PLAIN), run.sweep.trainings), as_many(run.of(DISTILLER), students)
    named = [
        ("ours: precompute", total(run.of(PRECOMPUTE)), once),
        ("ours: soften", total(run.of(SOFTEN)), 0),
        ("ours: students", total(run.of(FIRST, STUDENT)), 0),
        ("ours: baselines", total(run.of(BASELINE)), 0),
        ("ours, all", ours, once),
        (f"plain trainings ({len(run.of(PLAIN))} of them measured)", plain, 0),
        (f"keras Distiller ({len(run.of(DISTILLER))} of them measured)", online, in_steps),
    ]
    rows = []
    for name, of, passes in named:
        compared = [f"{of.seconds / other.seconds:.3f}" for other in (plain, online)]
        rows.append([name, str(of.processes), f"{passes:,}", *_minutes(of), *compared])
    sweep = run.sweep
    title = (
        f"System 1: {len(sweep.temperatures)} temperatures, {len(sweep.seeds)} seeds and their baselines, "
        f"{run.epochs} epochs of {sweep.images} images, end to end; {GOALS}"
    )
    header = ["", "processes", "images through the teacher", "minutes", "of processor time"]
    return title, [*header, "of plain", "of the Distiller"], rows


def _minutes(of: Total) -> list[str]:
    return [f"{of.seconds / 60:.2f}", f"{of.processor / 60:.2f}"]


def of_one_training(run: Measured) -> Table:
    """One process of each kind, in seconds."""
    rows = []
    for name, taken in (
        ("ours, the first student", run.of(FIRST)),
        ("ours, another student", run.of(STUDENT)),
        ("ours, a baseline", run.of(BASELINE)),
        ("plain", run.of(PLAIN)),
        ("keras Distiller", run.of(DISTILLER)),
    ):
        seconds = [[each.seconds for each in taken], [each.processor for each in taken]]
        rows.append([name, *(spread(values) if values else "-" for values in seconds), "", ""])
    paired = ratios([each.seconds for each in run.trained()], [each.seconds for each in run.of(PLAIN)])
    rows.append(["ours, each training", "", "", spread(paired), interval_of_median(paired)])
    title = f"System 1, {run.sweep.images} images: one process; ours keeps {run.features / 1e6:,.0f} MB of features"
    return title, ["", "s", "s of processor time", "of the plain one beside it", "its median, 95 %"], rows
