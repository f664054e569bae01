"""The workers as actors of Ray."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.cluster.held_workers import AT_ONCE, LostError
from pipeline.cluster.settings import Cluster
from pipeline.cluster.worker import Order, Worker
from pipeline.runtime.errors import one_line
from pipeline.runtime.limits import in_environment, limits

CODE = Path(__file__).parents[2]
"""The folder from which workers import this program."""


class RayProcesses:
    """Starts, asks and ends actors on the cluster to which this process is connected.

    Args:
        order: what every worker needs to know.
        cluster: what a worker takes of a machine.
        kind: the class of the workers; a benchmark has its own.
    """

    def __init__(self, order: Order, cluster: Cluster, kind: type[Worker] | None = None) -> None:
        self._order, self._cluster, self._kind = order, cluster, kind or Worker

    def start(self) -> Any:
        """As `Processes.start`; the actor waits until a machine has room."""
        import ray

        code = os.pathsep.join(filter(None, [str(CODE), os.environ.get("PYTHONPATH")]))
        actor: Any = ray.remote(self._kind)
        return actor.options(
            num_cpus=self._cluster.cpus_per_worker,
            num_gpus=self._cluster.gpus_per_worker,
            max_restarts=0,  # `Leases` starts another one, and knows what is lost
            max_task_retries=0,
            max_concurrency=AT_ONCE,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": {"PYTHONPATH": code, "TMPDIR": _folder_of_ray(), **in_environment(limits())}},
        ).remote(self._order)

    def ask(self, worker: Any, method: str, *arguments: Any) -> Any:
        """As `Processes.ask`."""
        return getattr(worker, method).remote(*arguments)

    def wait(self, receipts: Sequence[Any], seconds: float) -> list[Any]:
        """As `Processes.wait`."""
        import ray

        asked = [*receipts]
        if not asked or not ray.wait(asked, timeout=seconds)[0]:
            return []
        return ray.wait(asked, num_returns=len(asked), timeout=0)[0]

    def answer(self, receipt: Any) -> Any:
        """As `Processes.answer`."""
        import ray

        try:
            return ray.get(receipt)
        except ray.exceptions.RayError as error:
            raise LostError(_reason(error)) from None

    def end(self, worker: Any) -> None:
        """As `Processes.end`."""
        import ray

        ray.kill(worker)

    def are_over(self) -> bool:
        """As `Processes.are_over`: other machines can join any cluster but one that was started here."""
        import ray

        nodes: Any = ray.nodes  # its module has no types
        return self._cluster.address is None and not any(node["Alive"] for node in nodes())


def _folder_of_ray() -> str:
    """Where temporary files go that a worker which is ended leaves: Ray removes them with its own."""
    import ray._private.worker

    node: Any = ray._private.worker._global_node
    return str(node.get_session_dir_path())


def _reason(error: Exception) -> str:
    """Why a worker ended, in one line, of the many that Ray tells."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Worker exit type" in line or "Error:" in line or "memory" in line]
    return one_line((telling or lines or [type(error).__name__])[-1])
