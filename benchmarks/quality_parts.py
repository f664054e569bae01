"""What `benchmarks.quality` trains: its parts, in the order of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.quality_outcomes import Outcomes, Training
from benchmarks.quality_set_ups import LOSSES, RULES, TEACHERS, WEIGHTS, of_rule, says_something

TUNING_SEED = 101
"""No seed of the comparison, so that the validation images choose nothing that the test images have seen."""


@dataclass(frozen=True)
class Size:
    """How much is trained.

    Attributes:
        seeds: of each comparison.
        weights: of the hard labels, among which the validation images choose; one is not compared.
        views: the numbers V.
        of_views: the seeds of the students that see V views.
    """

    seeds: Sequence[int]
    weights: Sequence[float]
    views: Sequence[int]
    of_views: Sequence[int]


FULL = Size((1, 2, 3, 4, 5), WEIGHTS, (1, 2, 5, 10, 20, 50), (1, 2, 3))
QUICK = Size((1, 2), (0.5,), (1, 3), (1, 2))


class Plan:
    """The trainings of some parts. Which ones there are becomes known as the first ones end.

    Args:
        parts: names of `PARTS`, with the set-ups that each is about.
        size: how much is trained.
        outcomes: what has ended.
    """

    def __init__(self, parts: Mapping[str, Sequence[str]], size: Size, outcomes: Outcomes) -> None:
        self.parts, self.size, self.outcomes = parts, size, outcomes

    def trainings(self) -> list[Training]:
        """All trainings that are known by now; those that have ended are among them."""
        wanted: dict[Training, None] = {}
        for part, set_ups in self.parts.items():
            for set_up in set_ups:
                wanted |= dict.fromkeys(PARTS[part](self, set_up))
        return [*wanted]

    def tuning(self, set_up: str, loss: str) -> list[Training]:
        """The trainings that choose the weight of a loss; none if there is one weight alone."""
        weights = self.size.weights
        return [Training(set_up, loss, weight, TUNING_SEED) for weight in weights] if len(weights) > 1 else []

    def weight(self, set_up: str, loss: str) -> float | None:
        """The weight with the best validation accuracy, then the lowest cross-entropy; None if it is not known yet."""
        ended = [self.outcomes.get(training) for training in self.tuning(set_up, loss)]
        if any(outcome is None for outcome in ended):
            return None
        scores = [(-of.validation["accuracy"], of.validation["cross_entropy"]) for of in ended if of is not None]
        best = min(range(len(scores)), key=scores.__getitem__) if scores else 0
        return self.size.weights[best]

    def of_loss(self, set_up: str, loss: str) -> list[Training]:
        """A loss with its chosen weight, for each seed; empty if that is not known yet."""
        weight = self.weight(set_up, loss)
        if weight is None:
            return []
        return [Training(set_up, loss, weight, seed, each_epoch=loss == "kl") for seed in self.size.seeds]

    def baselines(self, set_up: str) -> list[Training]:
        """The baseline of each seed."""
        return [Training(set_up, "", 1.0, seed, each_epoch=True) for seed in self.size.seeds]

    def of_losses(self, set_up: str) -> list[Training]:
        """All losses, and the baseline."""
        losses = [loss for loss in LOSSES if says_something(loss, set_up)]
        tuning = [training for loss in losses for training in self.tuning(set_up, loss)]
        return [*self.baselines(set_up), *tuning, *(one for loss in losses for one in self.of_loss(set_up, loss))]

    def of_views(self, base: str) -> list[Training]:
        """Students of plain and of mixed views for each V, and with baselines those of one and of the most."""
        weight = self.weight(base, "kl")
        if weight is None:
            return self.tuning(base, "kl")
        return [*self.tuning(base, "kl"), *(one for row in self.rows_of_views(base, weight).values() for one in row)]

    def rows_of_views(self, base: str, weight: float) -> dict[tuple[str, str, int], list[Training]]:
        """The trainings of each seed, by the views (plain, mixed, untouched), the model (kl, baseline) and V."""
        numbers, seeds = self.size.views, self.size.of_views
        rows = {
            (kind, "kl", count): [Training(f"{base}_{kind}", "kl", weight, seed, views=count) for seed in seeds]
            for kind in ("views", "mixed")
            for count in numbers
        }
        rows |= {
            (kind, "baseline", count): [Training(f"{base}_{kind}", "", 1.0, seed, views=count) for seed in seeds]
            for kind in ("views", "mixed")
            for count in (numbers[0], numbers[-1])
        }
        rows["untouched", "kl", 1] = [Training(f"{base}_untouched", "kl", weight, seed) for seed in seeds]
        rows["untouched", "baseline", 1] = [Training(f"{base}_untouched", "", 1.0, seed) for seed in seeds]
        return rows

    def of_topk(self, _set_up: str) -> list[Training]:
        """Students from the k largest logits of 100 classes, with and without a tail, and from all."""
        return [training for row in self.rows_of_topk().values() for training in row]

    def rows_of_topk(self) -> dict[str, list[Training]]:
        """The trainings of each seed, by what the student learns from."""
        seeds, weight = self.size.seeds, WEIGHTS[0]
        rows = {
            "all 100 logits": ("pairs", None),
            "top 50, and a model of the others": ("pairs_top50", None),
            "top 10, and a model of the others": ("pairs_top10", None),
            "top 10 alone": ("pairs_top10", 10),
        }
        students = {
            name: [Training(set_up, "kl", weight, seed, largest=largest) for seed in seeds]
            for name, (set_up, largest) in rows.items()
        }
        return {"baseline": [Training("pairs", "", 1.0, seed) for seed in seeds], **students}

    def of_teachers(self, base: str) -> list[Training]:
        """Students of teachers that each of `RULES` has kept."""
        weight = self.weight(base, "kl")
        if weight is None:
            return self.tuning(base, "kl")
        rows = self.rows_of_teachers(weight).values()
        return [*self.tuning(base, "kl"), *(training for row in rows for training in row)]

    def rows_of_teachers(self, weight: float) -> dict[str, list[Training]]:
        """The trainings of each rule: two students of each teacher."""
        return {
            rule: [Training(of_rule(rule, teacher), "kl", weight, seed) for teacher in TEACHERS for seed in (1, 2)]
            for rule in RULES
        }


PARTS = {"losses": Plan.of_losses, "views": Plan.of_views, "topk": Plan.of_topk, "teachers": Plan.of_teachers}
"""The trainings of each part, for one set-up."""
