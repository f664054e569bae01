"""What `benchmarks.sweep` says of its times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.sweep_parts import DISTILLER, LABELS, OURS, PLAIN, Part
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

    def of(self, *kinds: str, seed: int | None = None) -> list[Taken]:
        """The times of the parts of some kinds, in their order; with a seed, of its turn alone."""
        return [taken for part, taken in self.taken.items() if part.kind in kinds and seed in (None, part.seed)]

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        parts = {part.name: vars(taken) for part, taken in self.taken.items()}
        return {"parts": parts, "features": self.features, "counts": self.sweep.counts}


def together(taken: Sequence[Taken], times: float = 1) -> Taken:
    """Their sum, so many times."""
    seconds, processor = (sum(getattr(each, name) for each in taken) for name in ("seconds", "processor"))
    return Taken(times * seconds, times * processor)


def of_the_sweep(run: Measured) -> Table:
    """The parts of each sweep and their sums, in minutes."""
    sweep, counts = run.sweep, run.sweep.counts
    distilled, plain = run.of(DISTILLER), run.of(PLAIN)
    of_a_plain = together(plain, 1 / len(plain))
    all_plain = together([of_a_plain], sweep.trainings)
    online = together(distilled, sweep.students / len(distilled))
    all_online = together([online, together([of_a_plain], sweep.trainings - sweep.students)])
    labels, ours = together(run.of(LABELS)), together(run.of(OURS))
    once = counts["train"] * run.epochs + counts["val"] + counts["test"]
    in_steps = sweep.students * run.epochs * (counts["train"] + counts["val"])
    rows = []
    for name, of, trainings, passes in (
        ("ours: the teacher's pass and soft labels", labels, 0, once),
        ("ours: students and baselines", ours, sweep.trainings, 0),
        ("ours, all", together([labels, ours]), sweep.trainings, once),
        (f"plain trainings ({len(plain)} of them measured)", all_plain, sweep.trainings, 0),
        (f"keras Distiller ({len(distilled)} measured) and baselines", all_online, sweep.trainings, in_steps),
    ):
        compared = [f"{of.seconds / other.seconds:.3f}" for other in (all_plain, all_online)]
        minutes = [f"{seconds / 60:.2f}" for seconds in (of.seconds, of.processor)]
        rows.append(
            [name, str(trainings), f"{passes:,}", *minutes, f"{of.processor / all_plain.processor:.3f}", *compared]
        )
    title = (
        f"System 1: {len(sweep.temperatures)} temperatures, {len(sweep.seeds)} seeds and their baselines, "
        f"{run.epochs} epochs of {sweep.images} images, end to end; {GOALS}"
    )
    header = ["", "trainings", "images through the teacher", "minutes", "of processor time", "of plain's"]
    return title, [*header, "minutes, of plain", "of the Distiller"], rows


def of_each_seed(run: Measured) -> Table:
    """What a training took, on average, in the turn of each seed, in seconds."""
    rows = []
    trainings = run.sweep.trainings // len(run.sweep.seeds)
    for number, seed in enumerate(run.sweep.seeds):
        ours, plain, online = (run.of(kind, seed=seed) for kind in (OURS, PLAIN, DISTILLER))
        of_ours, of_plain = together(ours, 1 / trainings), together(plain, 1 / len(plain))
        of_online = together(online, 1 / len(online))
        seconds = [f"{of.seconds:.1f} ({of.processor:.1f})" for of in (of_ours, of_plain, of_online)]
        ratios = f"{of_ours.seconds / of_plain.seconds:.3f} ({of_ours.processor / of_plain.processor:.3f})"
        rows.append([f"{seed}{', which keeps the features' if number == 0 else ''}", *seconds, ratios])
    title = (
        f"System 1, {run.sweep.images} images: s a training (of processor time); ours keeps "
        f"{run.features / 1e6:,.0f} MB of features"
    )
    return title, ["seed", f"ours, {trainings} by one `dvc repro`", "plain", "keras Distiller", "ours, of plain"], rows
