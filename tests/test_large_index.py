"""The steps of the benchmark of a large index, at a small size: each runs as far as it says."""

import json
from pathlib import Path

from benchmarks import index_steps
from benchmarks.index_steps import STEPS, WITHOUT_TENSORFLOW, make, no_images
from benchmarks.large_run import TOP_10
from benchmarks.large_steps import INDEX, Size
from pipeline.cli.tensorflow_start import start_tensorflow

SIZE = Size(train=240, others=48, classes=24, views=1, storage=TOP_10.as_json())


def test_every_step_runs_and_the_whole_ones_write_their_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(index_steps.PARAMS, "student.model.filters", [2, 2])
    start_tensorflow()
    make(SIZE)
    ended = []
    for name, step in STEPS.items():
        with no_images(name not in WITHOUT_TENSORFLOW):
            step(SIZE)
            continue
        ended.append(name)
    assert [name for name in STEPS if ", to " in name] == ended
    assert Path("data/again.csv").read_bytes() == INDEX.read_bytes()
    assert json.loads(Path("results/metrics.json").read_text())["test_images"] == SIZE.others
    written = [
        "results/report.html",
        "results/MODEL_CARD.md",
        "pack/README.md",
        "results/samples/class00_000000000.png",
    ]
    assert [file for file in written if not Path(file).is_file()] == []
