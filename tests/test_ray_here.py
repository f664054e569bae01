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

from pipeline.cluster.connection import HERE_ALONE

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
import os, signal, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts in the background
from pipeline.cluster.connection import connected
from pipeline.cluster.settings import Cluster
with connected(Cluster(workers=1)):
    import ray
    address, token = ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"]
    ray.get(ray.remote(lambda: Path("began").write_text(f"{address} {token}")).remote())
    time.sleep(3600)
"""
CONNECTS = """
import sys
from pipeline.cluster.connection import connected
from pipeline.cluster.settings import Cluster
with connected(Cluster(sys.argv[1])) as room:
    print(room)
"""


def environment(home: Path) -> dict[str, str]:
    """Without what tests of clusters set, and with an empty home."""
    plain = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("RAY_")}
    (home / "tmp").mkdir(parents=True)
    return plain | {"PYTHONPATH": str(ROOT), "HOME": str(home), "TMPDIR": str(home / "tmp")}


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
    assert [*(tmp_path / "home/tmp").iterdir()] == []


def serves(process: psutil.Process) -> bool:
    return process.name() in ("gcs_server", "raylet")


def ends_of_connections(pid: int) -> set[str]:
    """The addresses at which processes listen, and to which they are connected."""
    started = psutil.Process(pid).children(recursive=True)
    assert not any("dashboard.py" in word for process in started for word in process.cmdline())
    connections = [connection for process in started for connection in process.net_connections("inet")]
    ends = [end.ip for connection in connections for end in (connection.laddr, connection.raddr) if end]
    return {end.removeprefix("::ffff:") for end in ends}


def test_ray_ends_with_the_process_that_started_it(tmp_path, monkeypatch):
    """By Ctrl-C, which tidies up, and by `kill -9`, which cannot. (Ray's monitors then notice after a minute.)

    Meanwhile, whoever has its token can connect with it, on this machine alone.
    """
    monkeypatch.chdir(tmp_path)
    environ = environment(tmp_path / "home")
    for ending in (signal.SIGINT, signal.SIGKILL):
        program = subprocess.Popen([sys.executable, "-c", WAITS], env=environ, stderr=subprocess.DEVNULL)
        wait_until(Path("began").exists, program)
        address, token = Path("began").read_text().split()
        Path("began").unlink()
        of_ray = [process for process in psutil.Process(program.pid).children(recursive=True) if serves(process)]
        assert {process.name() for process in of_ray} == {"gcs_server", "raylet"}
        if ending == signal.SIGINT:
            assert ends_of_connections(program.pid) == {"127.0.0.1"}
            (tmp_path / "home/.ray").mkdir()
            (tmp_path / "home/.ray/auth_token").write_text(token)
            other = [sys.executable, "-c", CONNECTS, address]
            done = subprocess.run(
                other,
                env=environ | HERE_ALONE | {"RAY_AUTH_MODE": "token"},
                capture_output=True,
                check=True,
                timeout=HANGS,
            )
            assert done.stdout == b"1\n"
        program.send_signal(ending)
        program.wait(HANGS)
        wait_until(lambda started=of_ray: all(map(has_ended, started)))
