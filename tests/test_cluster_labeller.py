"""What a cluster's workers may not do, and what is told before one is asked; without a cluster."""

import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from documents import blocks
from real_project import ROOT
from ruamel.yaml import YAML

from pipeline.cli.arguments import of_precompute
from pipeline.cluster import connection, worker
from pipeline.cluster.connection import connected, refuse_without_ray
from pipeline.cluster.labeller import ClusterLabeller
from pipeline.cluster.settings import Cluster
from pipeline.cluster.worker import Failed, Labelled, Rounding
from pipeline.images.augmentation import Augmentation
from pipeline.images.index import Image, Index
from pipeline.images.transforms import Transforms
from pipeline.params.reading import read_params
from pipeline.runtime.errors import DamagedError, MismatchError, MissingError, ParameterError, UnusableError
from pipeline.soft_labels.writing import rows_of_split
from pipeline.teacher_pass.labellers import SplitOfViews, in_order

FIRST = Rounding(batch_size=4, places=3, is_steady=True, answers_sha256="a", where="one (x86)")
DATA = Index([Image(f"{number}.png", f"{number}.png", "ab"[number % 2], "val", "", "0" * 64) for number in range(10)])


class Answering:
    """In place of `Leases`: the logits of a view are its row and its number; answers come in the reverse order."""

    placed = 2

    def __init__(self, rounding=FIRST, other=FIRST, last=None):
        self.rounding, self.other, self.last = rounding, other, last

    def answers(self, calls, examine=None):
        calls = [*calls]
        if calls[0].method == "rounding":
            return iter([(calls[0], self.rounding)])
        answers = [(call, self.labelled(call.arguments[2])) for call in reversed(calls)]
        if self.last is not None and self.last.kind != "told":
            examine(self.last)
        return iter(answers if self.last is None else [*answers[:-1], (answers[-1][0], self.last)])

    def labelled(self, block):
        rows = [int(block.paths[row].removesuffix(".png")) for row in block.rows]
        return Labelled(np.stack([rows, block.views], axis=1).astype(np.float32), self.other)


def logits(**answering):
    split = SplitOfViews("val", rows_of_split(DATA, "val"), Augmentation(), Transforms.of((2, 10)))
    rows, views = np.repeat(np.arange(10), 2), np.tile([0, 1], 10)
    labeller = ClusterLabeller(Answering(**answering), DATA, "member", False)
    return [*labeller.logits(split, views, rows)]


def test_answers_in_any_order_find_their_places():
    answers = logits()
    assert [part.start for part, _ in answers] != sorted(part.start for part, _ in answers)
    assert max(len(batch) for _, batch in answers) == FIRST.places
    assert in_order(answers)[:, 0].tolist() == np.repeat(np.arange(10), 2).tolist()


def test_workers_that_round_differently_are_refused():
    with pytest.raises(MismatchError, match=re.escape("bit for bit: one (x86) and two (arm)")):
        logits(other=replace(FIRST, answers_sha256="b", where="two (arm)"))


def test_a_teacher_that_is_not_steady_is_refused():
    with pytest.raises(UnusableError, match=r"set precompute\.engine: local"):
        logits(rounding=replace(FIRST, is_steady=False))


def test_an_image_that_changed_is_the_reason_that_is_told(tmp_path, monkeypatch):
    """None of the ten files is there."""
    monkeypatch.chdir(tmp_path)
    failed = Failed(UnusableError("a worker on one failed: NotFoundError: 3.png"), "other")
    with pytest.raises(MismatchError, match="10 image file"):
        logits(last=failed)
    monkeypatch.setattr("pipeline.cluster.labeller.refuse_changed", lambda images: None)
    with pytest.raises(UnusableError, match="a worker on one failed"):
        logits(last=failed)


def test_what_a_worker_says_of_the_teacher_is_told():
    with pytest.raises(DamagedError, match="cannot be read"):
        logits(rounding=Failed(DamagedError("teacher.keras cannot be read")))


def test_without_ray_the_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=re.escape("`pip install -e '.[ray]'`")):
        refuse_without_ray()


def test_a_cluster_that_does_not_answer_is_told_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    cluster = Cluster(address=address)
    with (
        pytest.raises(MissingError, match=f"answers at {address}: .*ray start --head"),
        connected(cluster),
    ):
        pass


@pytest.mark.parametrize("address", ["a..b:80", f"{'a' * 64}.org:80", "localhost:99999"])
def test_an_address_that_cannot_be_one_is_told(address):
    with pytest.raises(MissingError, match=re.escape(f"no Ray cluster answers at {address}")):
        connection._refuse_silent(address)


def test_another_program_that_listens_is_told():
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:

        def greets():
            with server.accept()[0] as asked:
                asked.recv(100)
                asked.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        pool.submit(greets)
        with pytest.raises(MissingError, match="another program listens there"):
            connection._refuse_silent(f"127.0.0.1:{server.getsockname()[1]}")


def test_a_token_that_ray_refuses_is_told_in_one_line(monkeypatch, capfd):
    import ray

    def refused(**_):
        os.write(2, b"gcs_client.cc:210: Unauthenticated: RPC error: InvalidAuthToken\n")
        raise ConnectionError("Failed to connect")

    monkeypatch.setattr(ray, "init", refused)
    with pytest.raises(MissingError, match="set RAY_AUTH_MODE=token"), connected(Cluster(address="auto")):
        pass
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("message", ["Version mismatch: Ray 2.9", "version mismatch"])
def test_another_version_of_ray_is_a_mismatch(message):
    assert isinstance(connection._refusal(RuntimeError(message), ""), MismatchError)
    assert isinstance(connection._refusal(RuntimeError("no answer"), ""), MissingError)


def read_with(path, **changes):
    """The parameters of the default with other values in `precompute.ray`."""
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    params["precompute"]["ray"].update(changes)
    YAML(typ="safe").dump(params, path)
    return read_params(path)


@pytest.mark.parametrize("gpus", [0.00001, 1.5])
def test_a_part_of_a_gpu_that_ray_cannot_give_is_refused(tmp_path, gpus):
    with pytest.raises(ParameterError, match=r"precompute\.ray\.gpus_per_worker: .*expected a whole number, or a part"):
        read_with(tmp_path / "params.yaml", gpus_per_worker=gpus)


@pytest.mark.parametrize(
    ("cluster", "count"),
    [
        (Cluster(), 7),
        (Cluster(workers=2), 2),
        (Cluster(workers=9), 9),
        (Cluster(cpus_per_worker=2), 3),
        (Cluster(gpus_per_worker=0.5), 4),
        (Cluster(cpus_per_worker=3, gpus_per_worker=1.0), 1),
    ],
)
def test_a_cluster_has_room_for_so_many_workers(cluster, count, capsys):
    """Machines of four and three cores, the first with two GPUs; and one that is gone."""
    machines = [
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    assert connection._room(machines, cluster) == count
    assert ("room for 7 of 9 workers" in capsys.readouterr().err) == (cluster.workers == 9)


def test_a_worker_for_which_no_machine_has_room_is_refused():
    machines = [{"Alive": True, "Resources": {"CPU": 4.0}}] * 2
    with pytest.raises(
        MissingError, match=r"no machine of the Ray cluster has 5 cores and 0 GPUs.*ray start --address"
    ):
        connection._room(machines, Cluster("head:6379", cpus_per_worker=5))
    with pytest.raises(MissingError, match=r"does not have 1 core and 1 GPU, which .* Ask for less\.$"):
        connection._room(machines, Cluster(gpus_per_worker=1.0))


def test_the_example_of_the_document_is_valid(tmp_path):
    (block,) = blocks(ROOT / "docs/scale.md", "The pass on a cluster", "yaml")
    params = YAML(typ="safe").load(ROOT / "params.yaml") | YAML(typ="safe").load(block)
    file = tmp_path / "params.yaml"
    YAML(typ="safe").dump(params, file)
    read = read_params(file).precompute
    assert (read.engine, read.ray) == ("ray", Cluster(cpus_per_worker=4, gpus_per_worker=1.0))


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "http://head:6379", "head:port"])
def test_an_address_is_a_host_and_a_port(tmp_path, address):
    with pytest.raises(ParameterError, match=r"precompute\.ray\.address: .*expected auto, or host:port"):
        read_with(tmp_path / "params.yaml", address=address)


@pytest.mark.parametrize(("engine", "cluster"), [("local", None), ("ray", Cluster(workers=3))])
def test_the_cluster_reaches_the_stage_with_the_engine_ray(tmp_path, monkeypatch, engine, cluster):
    monkeypatch.chdir(tmp_path)
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    params["precompute"] |= {"engine": engine, "ray": {"workers": 3}}
    YAML(typ="safe").dump(params, Path("params.yaml"))
    assert of_precompute(read_params())["cluster"] == cluster


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (type("ResourceExhaustedError", (Exception,), {}), "memory"),
        (MemoryError, "memory"),
        (type("InternalError", (Exception,), {}), "other"),
    ],
)
def test_an_error_of_another_library_says_whether_memory_ran_out(error, kind):
    def fail():
        raise error("too much")

    failed = worker._told(fail)
    assert (failed.kind, str(failed.error).rpartition("failed: ")[2]) == (kind, f"{error.__name__}: too much")
