"""The teacher's pass on a real Ray cluster of two nodes, whose workers, nodes and driver end at their worst moments."""

import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from cluster_workers import AtOnce, Obedient, by_value, give, was_obeyed
from conftest import MODEL
from onnx_graphs import classifier, write
from real_project import ENVIRONMENT, HANGS, ROOT, marked, sha256, wait_until

from pipeline.cluster import leases
from pipeline.cluster.blocks import cuts
from pipeline.cluster.settings import Cluster
from pipeline.images import unchanged
from pipeline.images.augmentation import Augmentation, Mixing
from pipeline.images.index import read_index, refuse_changed
from pipeline.images.views import Views
from pipeline.models.teacher_file import GivenTeacher
from pipeline.runtime.errors import MismatchError
from pipeline.soft_labels.logit_storage import Dense
from pipeline.stages import precompute, train_teacher
from pipeline.teacher_pass import labelling
from pipeline.teacher_pass.unfinished_logits import UnfinishedLogits

VIEWS = Views(12, 1, Augmentation(rotation=0.1, mixup=Mixing(share=0.3, alpha=1.0)))
OUTPUT = Path("teacher_logits.h5")
INDEX, TEACHER = Path("data/index.csv"), Path("models/teacher.keras")
OF_TESTS = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="module")
def nodes():
    """A cluster: a head that runs no worker, and two nodes that have room for one each."""
    os.environ.update(OF_TESTS)
    from ray.cluster_utils import Cluster as RayCluster

    made = RayCluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


@pytest.fixture
def workers(nodes):
    """The two workers of the cluster."""
    return Cluster(address=nodes.address, workers=2)


@pytest.fixture(scope="module")
def undisturbed(split_once, tmp_path_factory):
    """The digest of the file that a local run makes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(split_once, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        compute(None)
    return sha256(folder / OUTPUT)


@pytest.fixture
def obedient(unlabelled, monkeypatch):
    """A project in which workers obey orders, and in which the pass writes each batch at once."""
    by_value(Obedient, monkeypatch)
    monkeypatch.setattr(labelling, "WRITING_SHARE", np.inf)
    return unlabelled


def compute(cluster):
    precompute.run(
        index=INDEX,
        teacher=TEACHER,
        views=VIEWS,
        stored_as=Dense("float32"),
        batch_size=4,
        previous=[],
        output=OUTPUT,
        cluster=cluster,
    )


def interrupted_locally(monkeypatch):
    """Stops a local run when it has written one block of training views."""
    compute_split = labelling.TeacherPass._compute

    def stop(self, split, progress):
        if split.name == "train":
            (part, logits), *_ = self._logits(split, np.zeros(4, np.intp), np.arange(4))
            self.unfinished.put("train", np.zeros(4, np.intp)[part], np.arange(4)[part], self.unfinished.encode(logits))
            raise KeyboardInterrupt
        compute_split(self, split, progress)

    with monkeypatch.context() as patch:
        patch.setattr(labelling.TeacherPass, "_compute", stop)
        with pytest.raises(KeyboardInterrupt):
            compute(None)


def test_a_local_run_goes_on_with_workers_that_end(obedient, workers, undisturbed, monkeypatch, capfd):
    """One is killed, one hangs, and one ends as one that is out of memory does."""
    monkeypatch.setattr(leases, "LEAST_SECONDS", 1.0)
    monkeypatch.setattr(leases, "LEASE", 3)
    interrupted_locally(monkeypatch)
    before = marked(Path.cwd())
    assert before > 4
    capfd.readouterr()
    give("kill", "stop", "exit")
    compute(workers)
    assert all(was_obeyed(order) for order in ("kill", "stop", "exit"))
    assert sha256(OUTPUT) == undisturbed
    told = capfd.readouterr().err.splitlines()
    assert f"precompute: continuing after {before} of" in told[0]
    ours = ("a worker is lost (", "validation accuracy", "precompute: ")
    others = [line for line in told[1:] if not line.startswith(ours)]
    assert others == []  # of Ray, too
    assert sum(line.startswith("a worker is lost (") for line in told) >= 2


DRIVER = """
import sys
import numpy as np, pytest
sys.path.insert(0, sys.argv[1])
import cluster_workers, test_cluster
from pipeline.cluster.settings import Cluster
from pipeline.teacher_pass import labelling
labelling.WRITING_SHARE = np.inf
cluster_workers.by_value(cluster_workers.Obedient, pytest.MonkeyPatch())
test_cluster.compute(Cluster(address=sys.argv[2], workers=2))
"""


def test_what_a_killed_driver_has_done_is_kept(obedient, nodes, undisturbed, capsys):
    """Its workers hold at their second block; the pass goes on in one process."""
    give("hold_later")
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(Path(__file__).parent), nodes.address],
        env=ENVIRONMENT | OF_TESTS | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    wait_until(lambda: marked(Path.cwd()) > 0 and [*Path("orders").glob("held.*")], driver)
    driver.kill()
    driver.wait()
    done = marked(Path.cwd())
    pids = [int(file.suffix[1:]) for file in Path("orders").glob("began.*")]
    assert pids
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    compute(None)
    assert f"precompute: continuing after {done} of" in capsys.readouterr().err
    assert sha256(OUTPUT) == undisturbed


def test_a_damaged_image_is_told_by_both_engines_alike(unlabelled, workers, monkeypatch):
    """It is damaged when the stage has compared all images with the index."""
    damaged = Path(read_index(INDEX).split("val")[3].path)
    whole = damaged.read_bytes()

    def compare_then_damage(*arguments, **options):
        refuse_changed(*arguments, **options)
        damaged.write_bytes(whole[:40])

    monkeypatch.setattr(unchanged, "refuse_changed", compare_then_damage)
    told = []
    for cluster in (None, replace(workers, workers=1)):
        damaged.write_bytes(whole)
        with pytest.raises(MismatchError) as refused:
            compute(cluster)
        told.append(str(refused.value))
    assert told[0] == told[1]
    assert f"1 image file(s) are missing or not those of the index: {damaged}" in told[0]


def test_an_ensemble_with_an_onnx_graph_has_the_same_bytes(unlabelled, workers):
    bright = np.tile(np.array([[-1.0, 1.0]], np.float32) / 432 / 16, (432, 1))
    graph = write(classifier(kernel=bright, bias=np.array([8, -8], np.float32), shape=(12, 12, 3)))
    MODEL.build(classes=2, seed=2).save("network.keras")
    members = [GivenTeacher(model=str(graph)), GivenTeacher(model="network.keras")]
    train_teacher.run(
        index=INDEX, teachers=members, average="probabilities", output=TEACHER, history=Path("history.csv")
    )
    compute(None)
    expected = sha256(OUTPUT)
    OUTPUT.unlink()
    shutil.rmtree(".work")
    compute(workers)
    assert sha256(OUTPUT) == expected


def test_workers_that_answer_at_once_wait_for_the_writer(unlabelled, workers, monkeypatch):
    """However fast they are, two blocks of each are under way; the file is the one that the answers make."""
    by_value(AtOnce, monkeypatch)
    Path("answered").mkdir()
    ahead = []
    put = UnfinishedLogits.put

    def slow(self, split, views, rows, columns):
        put(self, split, views, rows, columns)
        done = marked(Path.cwd())
        ahead.append(sum(int(file.name.partition("_")[0]) for file in Path("answered").iterdir()) - done)

    monkeypatch.setattr(labelling, "WRITING_SHARE", np.inf)
    monkeypatch.setattr(UnfinishedLogits, "put", slow)
    monkeypatch.setattr(labelling, "judge", lambda *arguments: None)
    compute(workers)
    views = VIEWS.count * len(read_index(INDEX).split("train"))
    largest = max(part.stop - part.start for part in cuts(views, 4, 2, workers=2))
    assert max(ahead) <= 2 * leases.AT_ONCE * largest < views / 2
    assert len(ahead) > 20


def test_a_pass_goes_on_when_a_node_is_gone(obedient, nodes, workers, undisturbed, monkeypatch):
    """The last test of the cluster: one of its two nodes goes while both have blocks."""
    monkeypatch.setattr(leases, "LEAST_SECONDS", 1.0)
    give("hold")

    def remove():
        wait_until(lambda: len([*Path("orders").glob("held.*")]) == 2)
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
        Path("orders/hold").unlink()

    removing = threading.Thread(target=remove)
    removing.start()
    compute(workers)
    removing.join(HANGS)
    assert sha256(OUTPUT) == undisturbed
