"""The steps of the benchmark of a large index, at a small size: each runs as far as its name says."""

import json
import os
import subprocess
import sys

from benchmarks.index_steps import STEPS
from benchmarks.large_steps import INDEX

OTHERS = 48
EVERY_STEP = f"""
import json
from benchmarks.index_steps import STEPS, WITHOUT_MODELS, make, no_images
from benchmarks.large_run import TOP_10
from benchmarks.large_steps import Size
from pipeline.cli.tensorflow_start import start_tensorflow

size = Size(train=240, others={OTHERS}, classes=24, views=1, storage=TOP_10.as_json())
start_tensorflow()
make(size)
ended = []
for name, step in STEPS.items():
    with no_images(name not in WITHOUT_MODELS):
        step(size)
        continue
    ended.append(name)
print(json.dumps(ended))
"""


def test_every_step_runs_and_the_whole_ones_write_their_files(tmp_path):
    """In a process of its own: what stands in the place of images must be there before the stages are loaded."""
    done = subprocess.run(
        [sys.executable, "-c", EVERY_STEP],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    ended = json.loads(done.stdout.splitlines()[-1])
    assert ended == [name for name in STEPS if ", to the " in name]
    assert (tmp_path / "data/again.csv").read_bytes() == (tmp_path / INDEX).read_bytes()
    assert json.loads((tmp_path / "results/metrics.json").read_text())["test_images"] == OTHERS
    picture = "results/samples/class00_000000000.png"
    for file in ("data/of_split.csv", "results/report.html", "results/MODEL_CARD.md", "pack/README.md", picture):
        assert (tmp_path / file).is_file(), file
