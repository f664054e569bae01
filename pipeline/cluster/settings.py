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


Address = Annotated[str, Field(strict=True, description="auto, host:port"), AfterValidator(an_address)]


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
    gpus_per_worker: NotNegative = 0.0
