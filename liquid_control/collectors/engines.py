"""Engines, which start the workers of a `WorkerVecEnv`: in this process, or with Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from liquid_control.collectors.blocks import Host
from liquid_control.collectors.ray_workers import RayEngine


class Worker(Protocol):
    """A process with a `Host`, perhaps on another machine."""

    def start(self, method: str, *arguments: Any) -> Any:
        """Begin a call of the host's method, after those that were begun before."""

    def result(self, started: Any) -> Any:
        """Wait for a call's result.

        Raises:
            Lost: the worker died, and with it the state of its blocks.
        """

    def replace(self) -> None:
        """Start another process in the place of one that was lost."""


class Engine(Protocol):
    """Starts workers.

    Attributes:
        is_remote: whether what they exchange with the learner leaves its process.
    """

    is_remote: bool

    def start(self, make_host: Callable[[], Host]) -> Worker:
        """Start a worker."""

    def share(self, value: Any) -> Any:
        """Return what stands for a value in the arguments of several calls."""

    def close(self) -> None:
        """End the workers."""


class LocalWorker:
    """A host in this process; calls run when their results are asked for."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def start(self, method: str, *arguments: Any) -> Callable[[], Any]:
        """Return the call."""
        return partial(getattr(self.host, method), *arguments)

    def result(self, started: Callable[[], Any]) -> Any:
        """Call."""
        return started()

    def replace(self) -> None:
        """Do nothing; this process is never lost."""


class LocalEngine:
    """Blocks in this process, in the place of workers."""

    is_remote = False

    def __init__(self) -> None:
        self._hosts: list[Host] = []

    def start(self, make_host: Callable[[], Host]) -> LocalWorker:
        """Construct a host."""
        self._hosts.append(make_host())
        return LocalWorker(self._hosts[-1])

    def share(self, value: Any) -> Any:
        """Return the value."""
        return value

    def close(self) -> None:
        """Close the environments."""
        for host in self._hosts:
            host.close()


ENGINES: Mapping[str, Callable[[int, float, str | None], Engine]] = {"ray": RayEngine}
"""By name; called with the number of workers, the processors of each, and an address."""
