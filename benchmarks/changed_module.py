"""Runs tests with one module changed, each time in a process of its own."""

import gc
import importlib.abc
import importlib.util
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import closing
from importlib.machinery import ModuleSpec, SourceFileLoader
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parents[1]

LOADED_BEFORE = (
    "tensorflow", "keras", "pandas", "h5py", "scipy.special", "matplotlib", "pydantic", "click", "tqdm", "pytest",
    "hypothesis.extra.numpy",
)  # fmt: skip
"""What every process would load; one process loads it for all."""

TIMES_AS_LONG = 5
"""A mutant may take so many times the processor seconds of the tests without a change; then it is killed."""


def file_of(module: str) -> Path:
    """The file of a module."""
    return ROOT / f"{module.replace('.', '/')}.py"


def load_packages() -> None:
    """Loads what is no part of the program, and hides it from the garbage collector of the processes to come."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for package in LOADED_BEFORE:
        importlib.import_module(package)
    gc.collect()
    gc.freeze()


class Suite:
    """Test files, which pass without a change; tests that failed with one run first the next time.

    Args:
        names: of the files, as in `TESTS`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._files = [str(ROOT / f"tests/test_{name}.py") for name in names]
        self._first: list[str] = []
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._must_pass(self._files)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.allowed_seconds = round(TIMES_AS_LONG * seconds) + 10

    def killers_must_pass(self) -> None:
        """Runs those that failed without a change, in the order in which they run first.

        Raises:
            SystemExit: one fails.
        """
        if self._first:
            self._must_pass([str(ROOT / test) for test in self._first])

    def _must_pass(self, tests: Sequence[str]) -> None:
        code, failed = run_tests(None, "", tests, self._first, None)
        if code != 0:
            raise SystemExit(f"{failed or ', '.join(tests)} does not pass as it is")

    def kill(self, module: str, source: str) -> bool:
        """Whether a test fails, or the process ends in another way, with a changed module."""
        code, failed = run_tests(module, source, self._files, tuple(self._first), self.allowed_seconds)
        if failed:
            self._first = [failed, *(test for test in self._first if test != failed)]
        return code != 0


def run_tests(
    module: str | None, source: str, files: Sequence[str], first: Sequence[str], seconds: int | None
) -> tuple[int | None, str]:
    """Runs pytest in a process of its own.

    Args:
        module: the module to change, if any.
        source: what it is changed to.
        files: the files of tests, or single tests.
        first: those tests that run before the others.
        seconds: how long the processor may work for them.

    Returns:
        The exit code, and the test that failed, if there is one.
    """
    context = get_context("fork")
    failed = context.SimpleQueue()
    process = context.Process(target=_run_tests, args=(module, source, files, Order(first, failed), seconds))
    process.start()
    process.join()
    with closing(failed):
        return process.exitcode, "" if failed.empty() else failed.get()


class Order:
    """A plugin of pytest: some tests run before the others, and the one that fails is told.

    Args:
        first: those that run first, in this order.
        failed: takes the one that fails.
    """

    def __init__(self, first: Sequence[str], failed: SimpleQueue[str]) -> None:
        self._places = {test: place for place, test in enumerate(first)}
        self._failed = failed

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Sorts the tests."""
        items.sort(key=lambda item: self._places.get(item.nodeid, len(self._places)))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Tells of a failure."""
        if report.failed:
            self._failed.put(report.nodeid)


class ChangedLoader(SourceFileLoader):
    """Loads a module from another source than its file's."""

    def __init__(self, name: str, source: str) -> None:
        super().__init__(name, str(file_of(name)))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        """The changed source, compiled."""
        return compile(self._source, self.path, "exec")


class ChangedFinder(importlib.abc.MetaPathFinder):
    """Finds the one module that is changed."""

    def __init__(self, name: str, source: str) -> None:
        self._name, self._loader = name, ChangedLoader(name, source)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """None for every other module."""
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._loader.path, loader=self._loader)


def _run_tests(module: str | None, source: str, files: Sequence[str], order: Order, seconds: int | None) -> None:
    import hypothesis
    import pytest

    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    if seconds:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if module:
        sys.meta_path.insert(0, ChangedFinder(module, source))
    generated = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutants", phases=generated, derandomize=True, database=None)
    hypothesis.settings.load_profile("mutants")
    options = ["-x", "-q", "--tb=no", "--assert=plain", "-m", "not slow", "-p", "no:cacheprovider"]
    options += ["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    os._exit(int(pytest.main([*options, *files], plugins=[order])))
