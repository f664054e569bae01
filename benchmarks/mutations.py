"""Which small changes of the loss, views, targets, storage and identity the tests notice.

Each mutant (`benchmarks.mutants`) takes the place of its module in a process of its own, which runs the tests that are
named here for the module until one fails: then the mutant is killed. All that survive are in the record. Some of them
change nothing that a test could see; `benchmarks/mutants_explained.csv` says why.

Takes an hour for all mutants; --share takes some of them, drawn by --seed. After tests were added, --survivors tries
again those alone that survived before and are not explained, of modules that did not change.

python -m benchmarks.mutations [MODULE ...]
"""

import csv
import json
import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.changed_module import Suite, file_of, load_packages
from benchmarks.mutants import Mutant, mutants
from benchmarks.record import RESULTS, Record, arguments, commit
from pipeline.runtime.digests import sha256_bytes

EXPLAINED = Path(__file__).with_name("mutants_explained.csv")
HEADER = ("module", "commit", "mutants", "tried", "killed", "survived", "of them explained", "killed or explained, %")

TESTS = {
    "distillation.loss": ("loss", "soft_losses"),
    "distillation.soft_losses": ("soft_losses", "loss"),
    "distillation.descriptions": ("loss", "params", "listing", "hard_loss"),
    "distillation.targets": ("targets", "mixed_views", "unlabelled_soft_labels"),
    "distillation.teacher_answers": ("teacher_answers",),
    "images.views": ("views", "targets", "sampling"),
    "images.sampling": ("sampling", "views", "mixed_views"),
    "images.transforms": ("sampling", "rendering", "views", "mixed_views"),
    "images.random_words": ("views", "sampling"),
    "images.augmentation": ("sampling", "views", "params", "mixed_views"),
    "images.operations": ("sampling", "pixel_operations", "views"),
    "images.pixel_operations": ("pixel_operations", "rendering"),
    "images.rendering": ("rendering", "mixed_views", "pixel_operations"),
    "soft_labels.logit_storage": ("logit_storage", "soft_labels"),
    "soft_labels.identity": ("identity", "unlabelled_soft_labels"),
    "soft_labels.layout": ("golden", "identity", "soft_labels"),
    "soft_labels.answers": ("unlabelled_soft_labels",),
    "soft_labels.hdf5": ("golden", "soft_labels", "unfinished_logits"),
    "soft_labels.reading": ("golden", "targets", "unlabelled_soft_labels", "mixed_views", "precision", "soft_labels"),
    "soft_labels.writing": ("golden", "soft_labels"),
}
"""The tests of each module: `tests/test_<name>.py`, those that run in one process, quick ones first."""


def main() -> None:
    """Tries the mutants of each module; the record keeps those of other modules."""
    options = arguments(
        __doc__,
        ("names", {"nargs": "*", "metavar": "MODULE", "help": "Such as distillation.loss.  [default: all]"}),
        ("--share", {"type": float, "default": 1.0, "help": "The share of each module's mutants.  [default: 1]"}),
        ("--processes", {"type": int, "default": os.cpu_count(), "help": "At the same time.  [default: one a core]"}),
        ("--survivors", {"action": "store_true", "help": "Only those that survived, unexplained."}),
        ("--seed", {"type": int, "default": 1, "help": "What they are drawn by.  [default: 1]"}),
    )
    if unknown := sorted(set(options.names) - set(TESTS)):
        raise SystemExit(f"no tests are named for {', '.join(unknown)}: take {', '.join(TESTS)}")
    load_packages()
    output = options.output or RESULTS / ("mutations_quick.json" if options.quick else "mutations.json")
    found = json.loads(output.read_text(encoding="utf-8"))["measured"] if output.exists() else {}
    for name in options.names or TESTS:
        found[name] = tried(name, options, found.get(name, {}) if options.survivors else {})
        write({name: found[name] for name in TESTS if name in found}, options)


def tried(name: str, options: Any, before: dict[str, Any]) -> dict[str, Any]:
    """What became of a module's mutants, as JSON; what was killed `before` is not tried again, if that is the same."""
    text = file_of(f"pipeline.{name}").read_text(encoding="utf-8")
    every = mutants(text)
    share = 5 / len(every) if options.quick else options.share
    drawn = [one for one in every if random.Random(f"{options.seed} {one.source}").random() < share]  # noqa: S311
    same = {"source_sha256": sha256_bytes(text.encode()), "share": share, "seed": options.seed}
    same |= {"mutants": len(every), "tried": len(drawn)}
    explained = explanations(name)
    known = []
    if before.items() >= same.items():
        known = [one for one in before["survived"] if (one["function"], one["change"]) in explained]
        left = {(one["function"], one["change"]) for one in before["survived"]} - {*explained}
        drawn = [one for one in drawn if (one.function, one.change) in left]
        if not drawn:
            return before
    return {"commit": commit(), **same, "survived": known + survivors_of(name, drawn, options.processes)}


def survivors_of(name: str, drawn: Sequence[Mutant], processes: int) -> list[dict[str, Any]]:
    """Those mutants of a module that survived, as JSON."""
    begun = time.monotonic()
    tests = Suite(TESTS[name])
    survived = []
    with ThreadPoolExecutor(processes) as pool:
        killed = pool.map(lambda mutant: tests.kill(f"pipeline.{name}", mutant.source), drawn)
        for number, (mutant, is_dead) in enumerate(zip(drawn, killed, strict=True), 1):
            survived += [] if is_dead else [mutant]
            said = f"{name}: {number} of {len(drawn)}, {len(survived)} survived, {time.monotonic() - begun:.0f} s"
            print(f"\r{said}", end="", flush=True)
    print()
    tests.killers_must_pass()
    return [{"function": one.function, "line": one.line, "change": one.change} for one in survived]


def explanations(name: str) -> dict[tuple[str, str], str]:
    """Why mutants of a module cannot be noticed, by function and change."""
    with EXPLAINED.open(newline="", encoding="utf-8") as file:
        return {(row["function"], row["change"]): row["why"] for row in csv.DictReader(file) if row["module"] == name}


def write(found: dict[str, dict[str, Any]], options: Any) -> None:
    """Writes the record."""
    record = Record("mutations", options)
    record.document["command"] = "python -m benchmarks.mutations"
    for name, module in found.items():
        explained = explanations(name)
        for one in module["survived"]:
            one["why"] = explained.get((one["function"], one["change"]), "")
    rows = [row(name, **module) for name, module in found.items()]
    record.table("Small changes of the code, and how many of them the tests notice", HEADER, rows)
    record.keep(**found)
    record.write()


def row(name: str, mutants: int, tried: int, survived: Sequence[dict[str, Any]], **options: Any) -> list[str]:
    """The counts of one module."""
    explained = sum(bool(one["why"]) for one in survived)
    killed = tried - len(survived)
    share = f"{100 * (killed + explained) / max(tried, 1):.1f}"
    return [name, options["commit"], *map(str, (mutants, tried, killed, len(survived), explained)), share]


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
