"""The engine `ray` of the teacher's pass; the cluster is asked only if there is something to compute."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pipeline.cluster.connection import connected, refuse_without_ray
from pipeline.cluster.labeller import ClusterLabeller
from pipeline.cluster.leases import Leases
from pipeline.cluster.processes import RayProcesses
from pipeline.cluster.settings import Cluster
from pipeline.cluster.worker import Order
from pipeline.images.index import Index
from pipeline.models.ensembles import Teacher
from pipeline.teacher_pass.labellers import Labellers, StoredLabeller


class RayEngine:
    """Labels by the workers of a Ray cluster, which start when they are asked for the first time.

    Args:
        order: what every worker needs to know.
        cluster: the cluster.
        data: the index.
        opened: closes the connection.
    """

    def __init__(self, order: Order, cluster: Cluster, data: Index, opened: ExitStack) -> None:
        self._order, self._cluster, self._data, self._opened = order, cluster, data, opened
        self._leases: Leases | None = None

    def labellers(self, teacher: Teacher) -> Labellers:
        """What gives a teacher's logits; stored answers are read in this process."""
        if teacher.answers is not None:
            return Labellers(StoredLabeller(teacher.answers), None)
        if self._leases is None:
            count = self._opened.enter_context(connected(self._cluster))
            self._leases = Leases(RayProcesses(self._order, self._cluster), count)
        usual, in_full = (ClusterLabeller(self._leases, self._data, teacher.sha256, full) for full in (False, True))
        return Labellers(usual, None if teacher.in_full is None else in_full)


@contextmanager
def ray_engine(order: Order, cluster: Cluster, data: Index) -> Iterator[RayEngine]:
    """The engine; its workers, and a Ray that it started, end with the block.

    Raises:
        MissingError: Ray is not installed.
    """
    refuse_without_ray()
    with ExitStack() as opened:
        yield RayEngine(order, cluster, data, opened)
