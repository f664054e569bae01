"""A Ray that `precompute` starts on this machine: it says nothing, leaves nothing, and ends with its process."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from conftest import copy_here
from real_project import ENVIRONMENT, HANGS, ROOT, has_ended, sha256, wait_until

RUNS = """
import sys
from pathlib import Path
from pipeline.cli.tensorflow_start import start_tensorflow

start_tensorflow()

from pipeline.cluster.settings import Cluster
from pipeline.images.views import UNTOUCHED
from pipeline.soft_labels.logit_storage import Dense
from pipeline.stages import precompute
precompute.run(
    index=Path("data/index.csv"), teacher=Path("models/teacher.keras"), views=UNTOUCHED,
    stored_as=Dense("float32"), batch_size=4, previous=[], output=Path("logits.h5"),
    cluster=Cluster(workers=1) if sys.argv[1] == "ray" else None,
)
"""
WAITS = """
import time
from pathlib import Path
from pipeline.cluster.connection import connected
from pipeline.cluster.settings import Cluster
with connected(Cluster(workers=1)):
    import ray
    ray.get(ray.remote(lambda: Path("began").touch()).remote())
    time.sleep(3600)
"""


def environment(home: Path) -> dict[str, str]:
    """Without what tests of clusters set, and with an empty home."""
    plain = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("RAY_")}
    home.mkdir()
    return plain | {"PYTHONPATH": str(ROOT), "HOME": str(home)}


def test_a_run_is_told_and_ends_as_one_without_ray(split_once, tmp_path, monkeypatch):
    copy_here(split_once, tmp_path, monkeypatch)
    environ = environment(tmp_path / "home")
    said = {}
    for engine in ("local", "ray"):
        done = subprocess.run(
            [sys.executable, "-c", RUNS, engine], env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        said[engine] = re.sub(r"(precompute: \d.*\n)|[\d.]+ views/s", "", done.stderr) + done.stdout
        digest = sha256(Path("logits.h5"))
        Path("logits.h5").rename(f"{engine}.h5")
        shutil.rmtree(".work")
    assert said["ray"] == said["local"]
    assert digest == sha256(Path("local.h5"))
    assert not (tmp_path / "home/.ray").exists()


def serves(process: psutil.Process) -> bool:
    return process.name() in ("gcs_server", "raylet")


def test_ray_ends_with_the_process_that_started_it(tmp_path, monkeypatch):
    """By Ctrl-C, which tidies up, and by `kill -9`, which cannot. (Ray's monitors then notice after a minute.)"""
    monkeypatch.chdir(tmp_path)
    environ = environment(tmp_path / "home")
    for ending in (signal.SIGINT, signal.SIGKILL):
        program = subprocess.Popen([sys.executable, "-c", WAITS], env=environ, stderr=subprocess.DEVNULL)
        wait_until(Path("began").exists, program)
        Path("began").unlink()
        of_ray = [process for process in psutil.Process(program.pid).children(recursive=True) if serves(process)]
        assert {process.name() for process in of_ray} == {"gcs_server", "raylet"}
        program.send_signal(ending)
        program.wait(HANGS)
        wait_until(lambda started=of_ray: all(map(has_ended, started)))
