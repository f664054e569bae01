"""The tables of `benchmarks.quality`, from the outcomes of its trainings."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from benchmarks.quality_outcomes import Outcome, TestImages, Training
from benchmarks.quality_parts import Plan
from benchmarks.quality_set_ups import LOSSES, RULES, says_something
from pipeline.evaluation.metrics import Floats, MetricName
from pipeline.evaluation.uncertainty import interval_of_difference

Table = tuple[str, list[str], list[list[str]]]
"""Title, header and rows."""
Answers = Sequence[Floats]
"""The logits (N, C) of each seed."""

KEPT: tuple[MetricName, ...] = ("accuracy", "balanced_accuracy", "auc", "nll", "ece")
"""What the record has of each training."""
BOTH: tuple[MetricName, ...] = ("accuracy", "nll")
PER_CENT: tuple[MetricName, ...] = ("accuracy", "balanced_accuracy")
"""Metrics that are written in per cent; differences of them in points."""


class Comparison:
    """What models of a set-up do on its test images.

    Args:
        images: the test images.
    """

    def __init__(self, images: TestImages) -> None:
        self.images = images

    def mean(self, answers: Answers, metric: MetricName) -> str:
        """The mean over seeds, with the standard deviation."""
        values = [_scale(metric) * self.images.metrics(logits)[metric] for logits in answers]
        deviation = f" ±{np.std(values, ddof=1):.{_digits(metric)}f}" if len(values) > 1 else ""
        return f"{np.mean(values):.{_digits(metric)}f}{deviation}"

    def difference(self, first: Answers, second: Answers, metric: MetricName) -> str:
        """The mean of first minus second, paired by seed and image, with its 95 % interval."""
        pairs = [*zip(first, second, strict=True)]
        values = np.stack([self._parts(one, metric) - self._parts(other, metric) for one, other in pairs])
        ends = interval_of_difference(metric, values, self.images.labels) or [float("nan")] * 2
        mean, low, high = (_scale(metric) * value for value in (float(values.mean()), *ends))
        digits = _digits(metric)
        return f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"

    def _parts(self, logits: Floats, metric: MetricName) -> Floats:
        return self.images.contributions(logits)[metric]


def _scale(metric: MetricName) -> float:
    return 100.0 if metric in PER_CENT else 1.0


def _digits(metric: MetricName) -> int:
    return 1 if metric in PER_CENT else 3


def tables_of(plan: Plan) -> Iterator[Table]:
    """The tables of all parts, in the order of the page."""

    @cache
    def comparison(set_up: str) -> Comparison:
        return Comparison(TestImages(plan.outcomes.work / set_up))

    def answers(trainings: Sequence[Training]) -> list[Floats]:
        return [plan.outcomes[training].logits for training in trainings]

    tables: dict[str, Callable[[str], Iterator[Table]]] = {
        "losses": lambda set_up: _of_losses(plan, set_up, comparison(set_up)),
        "views": lambda base: _of_views(plan, base, comparison, answers),
        "topk": lambda _: _of_topk(plan, comparison, answers),
        "teachers": lambda base: _of_teachers(plan, base, comparison, answers),
    }
    for part, set_ups in plan.parts.items():
        for set_up in set_ups:
            yield from tables[part](set_up)
    if "losses" in plan.parts:
        yield from _of_rules(plan, plan.parts["losses"], comparison)


def _of_losses(plan: Plan, set_up: str, compared: Comparison) -> Iterator[Table]:
    """All losses on one data set."""
    seeds = len(plan.size.seeds)
    losses = [loss for loss in LOSSES if says_something(loss, set_up)]
    outcomes = {loss: [plan.outcomes[one] for one in plan.of_loss(set_up, loss)] for loss in losses}
    baseline = [plan.outcomes[one] for one in plan.baselines(set_up)]
    alone, kl = _logits(baseline), _logits(outcomes["kl"])
    rows = [["teacher", "", *_levels(compared, [compared.images.teacher]), "", "", ""]]
    rows.append(
        ["baseline", "", *_levels(compared, alone), "", compared.difference(alone, kl, "accuracy"), _time(baseline)]
    )
    for loss, of_seeds in outcomes.items():
        own = _logits(of_seeds)
        gains = [compared.difference(own, alone, "accuracy"), compared.difference(own, kl, "accuracy")]
        gains[1] = "" if loss == "kl" else gains[1]
        rows.append([loss, f"{plan.weight(set_up, loss):g}", *_levels(compared, own), *gains, _time(of_seeds)])
    header = ["", "w", "accuracy, %", "NLL", "less baseline, points", "less kl, points", "CPU seconds"]
    yield f"{set_up}: losses, {len(compared.images.labels):,} test images, {seeds} seeds", header, rows
    nll = [
        [
            loss,
            compared.difference(_logits(of), alone, "nll"),
            compared.difference(_logits(of), kl, "nll") if loss != "kl" else "",
        ]
        for loss, of in outcomes.items()
    ]
    yield f"{set_up}: losses, NLL, differences in nats (lower is better)", ["", "less baseline", "less kl"], nll


def _levels(compared: Comparison, answers: Answers) -> list[str]:
    return [compared.mean(answers, "accuracy"), compared.mean(answers, "nll")]


def _logits(outcomes: Sequence[Outcome]) -> list[Floats]:
    return [outcome.logits for outcome in outcomes]


def _time(outcomes: Sequence[Outcome]) -> str:
    return f"{np.median([outcome.seconds for outcome in outcomes]):.1f}"


def _of_views(
    plan: Plan,
    base: str,
    comparison: Callable[[str], Comparison],
    answers: Callable[[Sequence[Training]], list[Floats]],
) -> Iterator[Table]:
    """Students and baselines by the number of views."""
    weight = plan.weight(base, "kl")
    trainings = plan.rows_of_views(base, 0.0 if weight is None else weight)
    logits, compared = {row: answers(of_seeds) for row, of_seeds in trainings.items()}, comparison(base)
    titles = {"views": "plain", "mixed": "mixed", "untouched": "untouched image"}
    rows = []
    for (kind, model, count), own in logits.items():
        without = logits["untouched", model, 1]
        gain = "" if kind == "untouched" else compared.difference(own, without, "accuracy")
        plain = compared.difference(own, logits["views", model, count], "accuracy") if kind == "mixed" else ""
        rows.append([model, titles[kind], str(count), *_levels(compared, own), gain, plain])
    header = ["", "views", "V", "accuracy, %", "NLL", "less the untouched image, points", "mixed less plain, points"]
    yield f"{base}: number of views, {len(plan.size.of_views)} seeds", header, rows


def _of_topk(
    plan: Plan, comparison: Callable[[str], Comparison], answers: Callable[[Sequence[Training]], list[Floats]]
) -> Iterator[Table]:
    """Students of top-k files."""
    compared, trainings = comparison("pairs"), plan.rows_of_topk()
    logits = {name: answers(of_seeds) for name, of_seeds in trainings.items()}
    whole = logits["all 100 logits"]
    rows = [["teacher", *_levels(compared, [compared.images.teacher]), ""]]
    rows += [
        [name, *_levels(compared, own), compared.difference(own, whole, "accuracy") if own is not whole else ""]
        for name, own in logits.items()
    ]
    header = ["learns from", "accuracy, %", "NLL", "less all logits, points"]
    yield f"100 classes: what is kept of the teacher's logits, {len(plan.size.seeds)} seeds", header, rows


def _of_rules(plan: Plan, set_ups: Sequence[str], comparison: Callable[[str], Comparison]) -> Iterator[Table]:
    """The epochs that each rule chooses, and how good they are."""
    rows = []
    for set_up in set_ups:
        for model, trainings in (("kl", plan.of_loss(set_up, "kl")), ("baseline", plan.baselines(set_up))):
            outcomes, compared = [plan.outcomes[one] for one in trainings], comparison(set_up)
            first = [outcome.chosen["accuracy"] for outcome in outcomes]
            for rule in RULES:
                own = [outcome.chosen[rule] for outcome in outcomes]
                epoch = f"{np.mean([outcome.epochs[rule] for outcome in outcomes]):.1f}"
                differences = [compared.difference(own, first, metric) if rule != "accuracy" else "" for metric in BOTH]
                rows.append([set_up, model, rule, epoch, *_levels(compared, own), *differences])
    header = ["", "", "select_by", "epoch", "accuracy, %", "NLL", "less accuracy's, points", "less accuracy's NLL"]
    yield "Which epoch is kept", header, rows


def _of_teachers(
    plan: Plan,
    base: str,
    comparison: Callable[[str], Comparison],
    answers: Callable[[Sequence[Training]], list[Floats]],
) -> Iterator[Table]:
    """Teachers of which each rule kept an epoch, and their students."""
    weight = plan.weight(base, "kl")
    trainings = plan.rows_of_teachers(0.0 if weight is None else weight)
    students = {rule: answers(of_rule) for rule, of_rule in trainings.items()}
    teachers = {
        rule: [comparison(set_up).images.teacher for set_up in dict.fromkeys(one.set_up for one in of_rule)]
        for rule, of_rule in trainings.items()
    }
    compared, rows = comparison(base), []
    for model, models in (("teacher", teachers), ("student", students)):
        for rule, own in models.items():
            first = models["accuracy"]
            gains = [compared.difference(own, first, metric) if rule != "accuracy" else "" for metric in BOTH]
            rows.append([model, rule, *_levels(compared, own), *gains])
    header = ["", "select_by", "accuracy, %", "NLL", "less accuracy's, points", "less accuracy's NLL"]
    yield (
        f"{base}: epoch of the teacher that is kept, {len(teachers['auc'])} teachers, two students each",
        header,
        rows,
    )


def measured(plan: Plan) -> dict[str, Any]:
    """The raw numbers for the record: `KEPT` of every training, by set-up."""
    documents: dict[str, Any] = {}
    images: dict[str, TestImages] = {}
    for training in plan.trainings():
        if training.set_up not in images:
            images[training.set_up] = TestImages(plan.outcomes.work / training.set_up)
        outcome = plan.outcomes[training]
        found = images[training.set_up].metrics(outcome.logits)
        metrics = {name: round(found[name], 5) for name in KEPT if name in found}
        documents.setdefault(training.set_up, {})[training.name] = metrics | {"seconds": round(outcome.seconds, 2)}
    return documents
