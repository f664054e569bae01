"""The ways in which inputs are made: by bytes, by structure, and by what reaches new code."""

import gc
import tempfile
from pathlib import Path
from types import FunctionType

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.fuzz.byte_changes import changed
from benchmarks.fuzz.session import Give
from benchmarks.fuzz.target import Target

BATCH = 500
"""Inputs that Hypothesis makes from one seed of its own."""

LONGEST_INPUT = 2**16
"""Bytes of an input that Atheris makes."""

NO_TIMEOUT = "-timeout=1000000"
"""For Atheris: the session itself looks after inputs that hang. To Atheris, 0 is a time as well."""


def by_bytes(target: Target, seeds: list[bytes], give: Give, first: int, count: int) -> None:
    """Input number n depends on n and the seeds alone."""
    for number in range(first, first + count):
        give(changed(seeds, target.words, number))


def by_structure(target: Target, seeds: list[bytes], give: Give, first: int, count: int) -> None:
    """Hypothesis draws from the target's strategy, 500 inputs from each seed of its own."""
    inputs = target.inputs(seeds) if target.inputs else st.sampled_from(seeds)
    for begin in range(first, first + count, BATCH):
        size = min(BATCH, first + count - begin)
        options = settings(
            max_examples=size,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        seed(begin)(options(given(inputs)(lambda content: give(content))))()


def by_coverage(target: Target, seeds: list[bytes], give: Give, first: int, count: int) -> None:
    """Atheris keeps inputs that reach new code of `pipeline`, and changes them further; it ends the process.

    Needs the package `atheris` (Linux; `make .venv/checked`).
    """
    import atheris

    gc.unfreeze()  # so that the functions are found
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and str(function.__module__).split(".")[0] == "pipeline":
            atheris.instrument_func(function)
    gc.freeze()
    with tempfile.TemporaryDirectory() as folder, atheris.instrument_imports(include=["pipeline"]):
        for number, content in enumerate(seeds):
            Path(folder, str(number)).write_bytes(content)
        options = [f"-runs={count}", f"-seed={first + 1}", f"-max_len={LONGEST_INPUT}", "-rss_limit_mb=0", NO_TIMEOUT]
        atheris.Setup(["atheris", *options, folder], give)
        atheris.Fuzz()
