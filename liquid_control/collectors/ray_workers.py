"""Workers that are actors of Ray, on this machine or on a cluster."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

REACHABLE = 10.0  # seconds
PATIENCE = 60.0  # seconds, until a warning says that a worker may not have been started


class Lost(Exception):  # noqa: N818  # an event; the worker is replaced
    """A worker died, or its machine was lost."""


class RayMissing(ImportError):  # noqa: N818  # reads well in tracebacks
    """Ray is not installed; the message says what to install."""


class Unreachable(ConnectionError):  # noqa: N818
    """Nothing answers at the address of a cluster, or Ray does not start."""


def connect(address: str | None, processors: float = 0.0) -> tuple[Any, bool]:
    """Connect this process to Ray.

    Args:
        address: host:port of a running cluster, or "auto"; None starts Ray on this machine.
        processors: minimum that Ray on this machine offers, even if it has fewer.

    Returns:
        the module `ray`, and whether the connection is new.

    Raises:
        RayMissing, Unreachable: the connection fails.
    """
    try:
        import ray
    except ImportError as error:
        raise RayMissing('Ray is not installed: pip install "liquid-control[ray]"') from error
    if ray.is_initialized():
        return ray, False
    _check_reachable(address)
    options: dict[str, Any] = {}
    if address is None:
        most = max(os.cpu_count() or 1, math.ceil(processors))
        options = {"include_dashboard": False, "num_cpus": most}
    try:
        ray.init(address or "local", log_to_driver=False, logging_level="error", **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise Unreachable(" ".join(str(error).split())) from error
    return ray, True


def _check_reachable(address: str | None) -> None:
    """Raise Unreachable if nothing answers at host:port, where Ray would wait for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=REACHABLE).close()
    except (OSError, OverflowError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise Unreachable(
            f"nothing answers there ({reason}); start a cluster with `ray start --head`, and give "
            "its address or auto"
        ) from error


class RayEngine:
    """Starts actors, spread over the machines of a cluster.

    Args:
        workers: their number.
        cpus: processors that each reserves.
        address: as in `connect`.

    Raises:
        RayMissing, Unreachable: as in `connect`.
        ValueError: the cluster has fewer processors than the workers reserve.
    """

    is_remote = True

    def __init__(self, workers: int, cpus: float, address: str | None) -> None:
        self._cpus = cpus
        self._ray, self._is_mine = connect(address, workers * cpus)
        self._workers: list[RayWorker] = []
        there = self._ray.cluster_resources().get("CPU", 0.0)
        if workers * cpus > there + 1e-6:
            self.close()
            raise ValueError(
                f"{workers} workers reserve {workers * cpus:g} processors, and the cluster has "
                f"{there:g}; use fewer workers or more machines, or let each reserve less"
            )

    def start(self, make_host: Callable[[], Any]) -> RayWorker:
        """Start an actor; its process may still be starting when this returns."""
        self._workers.append(RayWorker(self._ray, make_host, self._cpus))
        return self._workers[-1]

    def share(self, value: Any) -> Any:
        """Store a value in Ray, which copies it to each machine once."""
        return self._ray.put(value)

    def close(self) -> None:
        """End the actors, and Ray if it was started here."""
        if self._ray.is_initialized():
            for worker in self._workers:
                worker.end()
            if self._is_mine:
                self._ray.shutdown()


class RayWorker:
    """A worker in an actor of Ray."""

    def __init__(self, ray: Any, make_host: Callable[[], Any], cpus: float) -> None:
        self._ray, self._make_host, self._cpus = ray, make_host, cpus
        self._has_answered = False
        # A lost actor is replaced here, where the state of its blocks is known, and not by Ray.
        self._remote = ray.remote(num_cpus=cpus, max_restarts=0, scheduling_strategy="SPREAD")(
            _Actor
        )
        self._actor = self._remote.remote(make_host)

    def start(self, method: str, *arguments: Any) -> Any:
        """Begin a call."""
        return self._actor.call.remote(method, *arguments)

    def result(self, started: Any) -> Any:
        """Wait for a call; errors of the host are raised as they are."""
        errors = self._ray.exceptions
        try:
            if not self._has_answered and not self._ray.wait([started], timeout=PATIENCE)[0]:
                logger.warning(
                    "a worker has not answered for %g s; perhaps it waits for %g processors that "
                    "other programs reserve, see `ray status`",
                    PATIENCE,
                    self._cpus,
                )
            self._has_answered = True
            return self._ray.get(started)
        except errors.RayTaskError as error:
            cause = getattr(error, "cause", None)
            raise error if cause is None else cause from error
        except errors.RayError as error:
            raise Lost(" ".join(str(error).split())[:500]) from error

    def replace(self) -> None:
        """Start another actor."""
        self.end()  # it might only be unreachable, and continue
        self._actor, self._has_answered = self._remote.remote(self._make_host), False

    def end(self) -> None:
        """End the actor, if it is alive."""
        self._ray.kill(self._actor)


class _Actor:
    """A host in a process of Ray."""

    def __init__(self, make_host: Callable[[], Any]) -> None:
        self._host = make_host()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the host."""
        return getattr(self._host, method)(*arguments)
