"""Connects this process with Ray, or starts Ray on this machine, and keeps quiet what Ray prints."""

import importlib.util
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from pipeline.cluster.settings import Cluster
from pipeline.runtime.cores import usable_threads
from pipeline.runtime.errors import MismatchError, MissingError, one_line
from pipeline.runtime.extras import how_to_install
from pipeline.runtime.native_stderr import native_stderr_kept

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": "^"}
"""Of the environment: Ray sends no statistics of its use, and prints no line of what happens to its processes, which
`Leases` tells in one."""

HERE_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Of the environment of a Ray that is started here: as on Windows and macOS, it listens on the loopback address alone,
and looks up no other."""

OBJECT_STORE_BYTES, BYTES_PER_WORKER = 512 * 2**20, 64 * 2**20
"""The shared memory of a Ray that is started here, at least, and for each worker. It holds blocks and answers that are
under way, two a worker."""

ANSWER_SECONDS = 20.0
"""How long a cluster may take to accept a connection; Ray itself would wait for minutes."""

SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS
"""The first bytes of a connection (RFC 9113, 3.4); the answer begins with a frame of settings, too."""

LONGEST_TEMPORARY = 40
"""Characters: Ray's sockets lie below the temporary folder, and the system limits their paths."""


def refuse_without_ray() -> None:
    """Checks that Ray is installed.

    Raises:
        MissingError: it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingError(
            f"Ray is not installed: {how_to_install('ray')}. The teacher's pass also runs without it, with "
            "precompute.engine: local."
        )


@contextmanager
def connected(cluster: Cluster) -> Iterator[int]:
    """Connects with the cluster; a Ray that is started here ends with the block.

    Yields:
        How many workers it can have.

    Raises:
        MissingError: no cluster answers, or none of its machines has room for a worker.
        MismatchError: it runs another version of Ray or of Python.
    """
    os.environ.update(QUIET)
    with ExitStack() as held:
        options: dict[str, Any] = {"address": cluster.address}
        if cluster.address is None:
            options = held.enter_context(_started_here(cluster))
        else:
            _refuse_silent(cluster.address)
        import ray  # only now: it reads the environment when it is imported

        if cluster.address is None:
            held.enter_context(_without_api_server())
        held.callback(_shut_down)
        with _sigterm_kept(), native_stderr_kept() as printed:
            try:
                ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, OSError, RuntimeError, TimeoutError, ValueError) as error:
                printed.seek(0)
                raise _refusal(error, printed.read().decode(errors="replace")) from None
        nodes: Any = ray.nodes  # its module has no types
        yield _room(nodes(), cluster)


def _refusal(error: Exception, printed: str) -> MismatchError | MissingError:
    """Why no Ray is there, by its error and by what its native code printed."""
    if "InvalidAuthToken" in printed:
        return MissingError(
            "the Ray cluster wants a token: set RAY_AUTH_MODE=token in the environment. All machines need the same "
            "~/.ray/auth_token, or the same RAY_AUTH_TOKEN, as the one on which `ray start --head` ran."
        )
    kind = MismatchError if "ersion mismatch" in str(error) else MissingError
    return kind(f"Ray does not start or answer: {one_line(error, 400)}")


@contextmanager
def _without_api_server() -> Iterator[None]:
    """Starts no API server: even without a dashboard, it asks the network in which cloud it runs.

    Ray has no setting for it. A Ray that starts it elsewhere than 2.60 does starts it here, too.
    """
    from ray._private import node

    of_node: Any = getattr(node, "Node", None)
    before = getattr(of_node, "start_api_server", None)
    if before is None:
        yield
        return
    of_node.start_api_server = lambda *_, **__: None
    try:
        yield
    finally:
        of_node.start_api_server = before


@contextmanager
def _started_here(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """What starts a Ray on this machine that only this process can use: whoever does not know its token is refused."""
    cores = cluster.workers * cluster.cpus_per_worker if cluster.workers else usable_threads()
    folder = tempfile.gettempdir() if len(tempfile.gettempdir()) <= LONGEST_TEMPORARY else "/tmp"  # noqa: S108
    private = HERE_ALONE | _secret()
    before = {name: os.environ.get(name) for name in private}
    os.environ.update(private)
    try:
        with tempfile.TemporaryDirectory(prefix="ray-", dir=folder, ignore_cleanup_errors=True) as temporary:
            yield {
                "address": "local",
                "num_cpus": cores,
                "include_dashboard": False,
                "object_store_memory": max(OBJECT_STORE_BYTES, BYTES_PER_WORKER * (cores // cluster.cpus_per_worker)),
                "_temp_dir": temporary,
            }
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


@cache
def _secret() -> dict[str, str]:
    """The token in the environment, one for this process: Ray reads it once, when it is imported."""
    if "ray" in sys.modules:  # by another program that uses this one, with its own settings
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _shut_down() -> None:
    import ray

    with _sigterm_kept():
        ray.shutdown()


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Keeps this program's own handling of SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse_silent(address: str) -> None:
    """Raises `MissingError` if nothing listens at an address, or something that does not speak HTTP/2, as Ray does."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), ANSWER_SECONDS) as asked:
            asked.sendall(HTTP_2)
            answers = asked.recv(len(SETTINGS))[3:4] == SETTINGS[3:4]
    except (OSError, OverflowError, UnicodeError) as error:
        reason = one_line(error)
    else:
        reason = "" if answers else "another program listens there"
    if reason:
        raise MissingError(
            f"no Ray cluster answers at {address}: {reason}. Start one with "
            "`ray start --head`, which prints its address; or give no address, which starts Ray here."
        )


def _room(nodes: list[dict[str, Any]], cluster: Cluster) -> int:
    """How many workers there will be.

    Raises:
        MissingError: no machine has room for one.
    """
    fitting = sum(_fitting(node["Resources"], cluster) for node in nodes if node["Alive"])
    asked = f"{_counted(cluster.cpus_per_worker, 'core')} and {_counted(cluster.gpus_per_worker, 'GPU')}"
    if not fitting and cluster.address is None:
        raise MissingError(f"this machine does not have {asked}, which each worker asks for. Ask for less.")
    if not fitting:
        raise MissingError(
            f"no machine of the Ray cluster has {asked}, which each worker asks for. Ask for less, or "
            "add machines with `ray start --address`."
        )
    if cluster.workers is not None and cluster.workers > fitting:
        print(
            f"the Ray cluster has room for {fitting} of {cluster.workers} workers of {asked}; the others wait for room",
            file=sys.stderr,
        )
    return cluster.workers or fitting


def _fitting(resources: dict[str, float], cluster: Cluster) -> int:
    fitting = int(resources.get("CPU", 0) // cluster.cpus_per_worker)
    if cluster.gpus_per_worker:
        fitting = min(fitting, int(resources.get("GPU", 0) / cluster.gpus_per_worker + 1e-6))
    return fitting


def _counted(number: float, name: str) -> str:
    return f"{number:g} {name}" if number == 1 else f"{number:g} {name}s"
