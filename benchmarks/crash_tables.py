"""The tables of `benchmarks.crash_matrix`."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.crash_mending import LEFT_IN_TREE, LOST, OTHER, kind_of
from benchmarks.record import Record

if TYPE_CHECKING:
    from benchmarks.crash_matrix import Outcome
    from benchmarks.crash_queue import Queued


def add_tables(record: Record, outcomes: Sequence["Outcome"], queued: "Queued") -> None:
    """Adds the tables to a record, and prints what went wrong."""
    record.table(
        "Kills of each stage, by SIGKILL, SIGTERM and SIGINT.",
        ["stage", "way", "kills", "came too late", "runs to the end", "forgiven dvc", "wrong", "commit"],
        [
            [o.stage, o.way, *map(str, [o.hits, o.misses, o.ends, len(o.forgiven), len(o.wrong)]), o.commit]
            for o in outcomes
        ],
    )
    kinds = Counter(_kind(said) for outcome in outcomes for said in outcome.forgiven)
    record.table(
        "What dvc was forgiven.", ["what it was", "times"], [[kind, str(times)] for kind, times in kinds.most_common()]
    )
    heard = [outcome for outcome in outcomes if outcome.seconds]
    record.table(
        "Seconds from SIGINT or SIGTERM to the end of a stage alone; from SIGKILL, for comparison.",
        ["stage", "signals", "median", "95 %", "largest", "largest of SIGKILL"],
        [[o.stage, str(len(o.seconds)), *_quantiles(o.seconds), _quantiles(o.seconds_of_sigkill)[-1]] for o in heard],
    )
    record.table(
        "Two experiments in DVC's queue.",
        ["killed", "kills"],
        [
            *([victim, str(kills)] for victim, kills in queued.hits.items()),
            ["experiments that ended", str(queued.ends)],
            ["queued again", str(queued.again)],
            ["dvc's lock removed", str(queued.mended)],
            ["wrong", str(len(queued.wrong))],
            ["commit", queued.commit],
        ],
    )
    for outcome in outcomes:
        for what in outcome.wrong:
            print(f"WRONG: {outcome.stage} {outcome.way}: {what}")
    for what in queued.wrong:
        print(f"WRONG: queue: {what}")


def _kind(said: str) -> str:
    """What a text of `End.forgiven` tells of."""
    if said.startswith(LOST):
        return "dvc.lock lost something of other stages"
    if said.startswith(LEFT_IN_TREE):
        return "a file was left unfinished in the tree"
    kind = kind_of(said)
    return kind if kind != OTHER else (said.strip() or OTHER).splitlines()[-1]


def _quantiles(seconds: Sequence[float]) -> list[str]:
    return [f"{value:.2f}" for value in np.quantile(seconds, [0.5, 0.95, 1.0])] if seconds else ["-"] * 3
