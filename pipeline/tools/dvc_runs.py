"""What DVC is asked about the project's stages, and made to do with them."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from pipeline.runtime.errors import MismatchError, one_line


def stale(stages: Sequence[str]) -> list[str]:
    """The stages that DVC would run to bring some stages up to date: these and those before them.

    Raises:
        MismatchError: DVC cannot tell.
    """
    with _repository() as repository:
        return [stage.addressing for stage in repository.reproduce([*stages], dry=True, allow_missing=True)]


def push(outputs: Sequence[str]) -> None:
    """Pushes outputs of stages to the default remote, and what DVC knows of earlier runs.

    Raises:
        MismatchError: DVC cannot push them.
    """
    with _repository() as repository:
        repository.push([*outputs], run_cache=True)


def take(stages: Sequence[str]) -> None:
    """Takes from the remote what stages have made elsewhere from the same dependencies, and notes it in dvc.lock.

    Raises:
        MismatchError: DVC fails.
    """
    if stages:
        with _repository() as repository:
            repository.reproduce([*stages], single_item=True, pull=True)


@contextmanager
def _repository() -> Iterator[Any]:
    """DVC's repository here; what DVC tells of single stages is not shown."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logger = logging.getLogger("dvc")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), Repo() as repository:
            yield repository
    except DvcException as error:
        raise MismatchError(f"DVC says: {one_line(error, 400)}") from None
    finally:
        logger.setLevel(before)
