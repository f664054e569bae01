"""Trainings as tasks of Ray: each runs on whatever machine of the cluster has room."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.cluster.connection import connected, refuse_without_ray
from pipeline.cluster.settings import Cluster
from pipeline.runtime.errors import one_line
from pipeline.tools import copied_training
from pipeline.tools.copied_training import Outcome, Project

RETRIES = 3
"""How often a training is begun again whose worker or machine was lost."""


def trained(
    project: Project, stages: Sequence[str], *, address: str | None, workers: int | None, cpus: int, gpus: float | None
) -> Iterator[Outcome]:
    """Runs trainings, several at a time, and yields how each went, in the order in which they end.

    Args:
        project: the project.
        stages: the names of their stages.
        address: of the cluster: "host:port", or "auto" for the one of this machine; None starts Ray on this machine.
        workers: how many trainings run at once; None: as many as have room.
        cpus: cores of each.
        gpus: GPUs of each; None: as `gpus_of_each` says.

    Raises:
        MissingError: Ray is not installed, no cluster answers, or no machine of it has room for a training.
    """
    refuse_without_ray()
    with connected(Cluster(address, workers, cpus, gpus or 0.0)) as room:
        import ray

        pickles: Any = ray.cloudpickle
        pickles.register_pickle_by_value(copied_training)
        task: Any = ray.remote(copied_training.train)
        resources: Any = ray.cluster_resources
        if gpus is None:
            gpus = gpus_of_each(resources())
        task = task.options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, scheduling_strategy="SPREAD")
        shared: Any = ray.put(project)
        print(f"{min(room, len(stages))} of {len(stages)} trainings run at once", file=sys.stderr, flush=True)
        to_do, running = [*stages], dict[Any, str]()
        while to_do or running:
            while to_do and len(running) < room:
                stage = to_do.pop(0)
                running[task.remote(shared, stage)] = stage
            (done, *_), _ = ray.wait([*running])
            yield _outcome(done, running.pop(done))


def gpus_of_each(resources: Mapping[str, float]) -> float:
    """One GPU for each training where a cluster has any: Ray hides them from a task that asks for none.

    Args:
        resources: what the cluster has, by Ray's names.
    """
    return min(1.0, resources.get("GPU", 0.0))


def _outcome(receipt: Any, stage: str) -> Outcome:
    import ray

    try:
        outcome: Outcome = ray.get(receipt)
    except ray.exceptions.RayTaskError as error:  # the machine is there: it cannot make a copy
        return Outcome(stage, False, "its machine", f"{type(error.cause).__name__}: {one_line(error.cause, 400)}")
    except ray.exceptions.RayError as error:
        return Outcome(stage, False, "a lost machine", one_line(error, 400))
    return outcome
