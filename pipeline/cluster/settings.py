"""The part of `params.yaml` that says on which machines the teacher's pass runs."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.runtime.ranges import NotNegative, Positive


def an_address(value: str) -> str:
    """Checks the address of a cluster.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"auto|[^/\s]+:[0-9]+", value):
        raise ValueError(f"is {value!r}; expected auto, or host:port as `ray start --head` prints it")
    return value


def a_part_of_gpus(value: float) -> float:
    """Checks how many GPUs a worker takes: Ray shares out ten-thousandths of one, or whole ones.

    Raises:
        ValueError: it is neither.
    """
    if value % 1 and (value > 1 or round(value, 4) != value):
        raise ValueError(f"is {value}; expected a whole number, or a part of one GPU such as 0.5 or 0.0001")
    return value


Address = Annotated[str, Field(strict=True, description="auto, host:port"), AfterValidator(an_address)]
Gpus = Annotated[NotNegative, AfterValidator(a_part_of_gpus)]


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster and its workers, which change no result.

    Attributes:
        address: the cluster; auto: the one that runs on this machine; null: Ray is started here and ended afterwards.
        workers: how many processes run the teacher; null: as many as the cluster has room for.
        cpus_per_worker: the processor cores of a worker.
        gpus_per_worker: the GPUs of a worker; 0.5 if two workers share one, 0 for none.
    """

    address: Address | None = None
    workers: Positive | None = None
    cpus_per_worker: Positive = 1
    gpus_per_worker: Gpus = 0.0
