"""What several test files share: a small data set, a project that was reproduced, and which tests are slow.

A test that starts another process, or that takes longer than about two seconds, is marked `slow`; `make quick` runs the
others. A test that is not marked cannot start a process: the interpreter refuses it.
"""

import gc
import os
import platform
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from pipeline.models.descriptions import Cnn
from pipeline.runtime import tried_files
from pipeline.runtime.separate_process import outcome, run_separately, value_of

MODEL = Cnn(  # for the data set below
    input_shape=(12, 12, 3),
    weights=None,
    filters=[2],
    downsampling="stride",
    pooling="flatten",
    batch_normalization=False,
    dropout=0.0,
)
COLUMNS = ["Image Name", "Majority Vote Label", "Number of Annotators who Selected SSA (Out of 7)", "Partition"]

SLOW_FILES = {
    "alone", "benchmarks", "cluster", "described_teachers", "dvc_cache", "end_to_end", "ensembles", "experiments",
    "foreign_readers", "frozen_part", "frozen_training", "full_disk", "gitignore", "given_logits", "given_teachers",
    "hub", "image_cache", "increments", "inference", "init_remote", "inspect_file", "interruption",
    "interruption_of_commands", "jax", "large_index", "large_run", "models", "onnx_session", "orphan", "parity",
    "plan", "precision", "processors", "quality", "ray_here", "recipes", "render_views", "resize", "run_cache",
    "separate_process", "several_devices", "shards_run", "sharing", "stages", "sweep", "teacher_checks",
    "temperature_range", "tensorflow_start", "training", "unlabelled_run", "use_elsewhere", "vanished_images",
    "verify", "wheel",
}  # fmt: skip
"""The tests of `test_<name>.py` start processes, or train so many models that together they take too long for
`make quick`. In other files each slow test carries the mark itself."""

SLOW_FIXTURES = {"reproduced", "hostile", "chromium", "ran", "finished"}
"""So is every test that uses one of these."""

LONGEST_FIRST = [
    "interruption", "sweep", "experiments", "sharing", "quickstart", "parity", "presets", "training", "ensembles",
    "increments", "report", "models", "stages", "jax", "processors", "use_elsewhere", "run_cache", "image_cache",
    "precision", "readme",
]  # fmt: skip
"""The files that take longest. They run first, so that no process is left with one of them when the others are done."""

STARTS_A_PROCESS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"}
"""Events of Python's audit hooks."""

may_start_processes = True


def refuse_processes(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook, which sees what module-scoped fixtures and libraries start, too."""
    if event in STARTS_A_PROCESS and not may_start_processes:
        raise RuntimeError(f"a test that starts a process ({event} {arguments[:1]}) is marked with @pytest.mark.slow")


for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    # Ignored as under `nohup`, or as of a script's job in the background. Programs inherit that, but no function of
    # Python: this process goes on ignoring the signal, and the programs that tests start do not.
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

platform.processor()  # h5py asks for it when it is loaded; the first answer takes a process, and is kept
sys.addaudithook(refuse_processes)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    global may_start_processes
    may_start_processes = item.get_closest_marker("slow") is not None
    try:
        return (yield)
    finally:
        may_start_processes = True
        if nextitem is None or nextitem.path != item.path:
            keep_from_garbage_collection()


@pytest.fixture(autouse=True)
def _no_watcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands start a process beside them that watches TensorFlow load; in this process it is loaded already."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr("pipeline.cli.tensorflow_start._native_stderr_held_back", nullcontext)


def _in_a_process_or_here(function: Any, *arguments: Any, path: Path, remedy: str, **limits: int) -> Any:
    """Files of others are tried in a process of its own; while a test runs that may start none, in this one."""
    if may_start_processes:
        return run_separately(function, *arguments, path=path, remedy=remedy, **limits)
    return value_of(outcome(function, arguments), path, remedy)


tried_files.run_separately = _in_a_process_or_here


gc.disable()  # while TensorFlow and 4,000 tests are loaded, none of which goes before the end


def pytest_collection_finish() -> None:
    keep_from_garbage_collection()
    gc.enable()


def keep_from_garbage_collection() -> None:
    """Hides what is alive now from the garbage collector for ever.

    TensorFlow and pytest hold half a million objects, and each full collection would look at all of them.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what is slow, and puts the longest files first."""
    for item in items:
        if name_of_file(item) in SLOW_FILES or SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(name_of_file(item), len(places)))


def name_of_file(item: pytest.Item) -> str:
    return item.path.stem.removeprefix("test_")


def write_data_set(folder: Path, per_class: int = 20, side: int = 12) -> None:
    """Writes annotations.csv and images/ with two classes that brightness tells apart, a little noisily."""
    import tensorflow as tf

    noise = np.random.default_rng(7)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(2 * per_class):
        label, brightness = [("HP", 90), ("SSA", 160)][number % 2]
        pixels = np.clip(noise.normal(brightness, 45, (side, side, 3)), 0, 255).astype(np.uint8)
        name = f"MHIST_{number:03d}.png"
        (folder / "images" / name).write_bytes(tf.io.encode_png(pixels).numpy())
        rows.append([name, label, str(number % 8), "test" if number % 10 >= 7 else "train"])
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "annotations.csv", index=False)


def mhist_in(folder: Path, val_fraction: float = 0.3) -> dict[str, object]:
    """The settings of `split` for a data set in MHIST's layout."""
    return {
        "data": folder,
        "annotations": Path("annotations.csv"),
        "images": Path("images"),
        "val_fraction": val_fraction,
    }


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """A folder with annotations.csv and images/ of 40 small images in two classes."""
    folder = tmp_path / "raw"
    write_data_set(folder)
    return folder


def copy_here(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes a copy of a project the current folder; returns its data set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    return tmp_path / "raw"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved, as they are saved."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig

    def remember(figure: Any, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", remember)
    return figures


@pytest.fixture(scope="session")
def split_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project to be copied: `data_set` after `split`, and an untrained teacher."""
    from pipeline.models import keras_files
    from pipeline.stages import split

    folder = tmp_path_factory.mktemp("split_once")
    write_data_set(folder / "raw")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DVC_ROOT", raising=False)
        split.run(
            layout="mhist",
            settings=mhist_in(folder / "raw"),
            split_folder=Path("data/split"),
            index=Path("data/index.csv"),
        )
        keras_files.save(MODEL.build(classes=2, seed=1), Path("models/teacher.keras"), None)
    return folder


@pytest.fixture
def unlabelled(split_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data set of a copy of `split_once`, which is the current folder."""
    return copy_here(split_once, tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository on a small data set, after one `dvc repro` that nothing interrupted; to be copied.

    It ran without a network, and `real_project.audited`: test_alone.py looks at what it did outside of its folder. One
    for all processes of pytest-xdist: the first that needs it makes it, and the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "reproduced/project"
    with FileLock(base / "reproduced.lock"):
        if not folder.exists():
            make_reproduced(base / "unfinished/project")
            (base / "unfinished").rename(base / "reproduced")
    return folder


def make_reproduced(folder: Path) -> None:
    from real_project import audited, copy_repository, make_small, run, stages_run, without_network

    folder.mkdir(parents=True)
    copy_repository(folder)
    make_small(folder)
    with audited(folder.parent):
        said = run(*without_network(), "dvc", "repro", cwd=folder)
    assert stages_run(said) == [
        "split", "train_teacher", "describe_teacher", "precompute", "soften@4", "train_student@kl-4-1",
        "train_baseline@1", "evaluate", "export@best", "measure_speed", "measure_exports", "report", "model_card",
    ]  # fmt: skip
