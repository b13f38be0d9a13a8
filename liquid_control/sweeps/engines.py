"""Engines, on which the runs of a study are trained; they contain no scheduler."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from liquid_control.collectors.ray_workers import RayMissing, Unreachable, connect
from liquid_control.recipes import CommandError
from liquid_control.recipes.text import cut, one_line
from liquid_control.sweeps.worker import Command, Requeued, run_command

LOST = -int(getattr(signal, "SIGKILL", 9))
"""Exit code of a process that was killed, or whose machine was lost."""


class Process(Protocol):
    """A command that was started."""

    def poll(self) -> int | None:
        """Return the exit code, negative after a signal; None while it runs or waits."""

    def stop(self) -> None:
        """Ask it to save a checkpoint and end; do not wait for it."""


class Engine(Protocol):
    """Starts commands."""

    def capacity(self) -> int:
        """Return the default number of commands that run at once."""

    def start(self, command: Command) -> Process:
        """Start a command."""

    def close(self) -> None:
        """Release the engine's resources."""


class LocalProcess:
    """A command in a process of this machine."""

    def __init__(self, command: Command) -> None:
        with command.output.open("ab") as output:
            # A separate session: the driver passes Ctrl-C on, once.
            self._process = subprocess.Popen(
                command.arguments, stdout=output, stderr=output, start_new_session=True
            )

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Send SIGTERM."""
        if self._process.poll() is None:
            self._process.terminate()


class Local:
    """Processes of this machine."""

    def capacity(self) -> int:
        """Return the number of processors."""
        return os.cpu_count() or 1

    def start(self, command: Command) -> LocalProcess:
        """Start a process."""
        return LocalProcess(command)

    def close(self) -> None:
        """Do nothing."""


class Ray:
    """Tasks of Ray, on this machine or on a cluster whose machines share the folder of the study.

    Args:
        address: Of a running cluster, or "auto"; None starts Ray on this machine, and ends it.

    Raises:
        CommandError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, address: str | None = None) -> None:
        where = f"--address {cut(address)}" if address else "--on ray"
        try:
            self._ray, self._is_mine = connect(address)
        except RayMissing as error:
            raise CommandError(f"{where}: {error}") from error
        except Unreachable as error:
            raise CommandError(f"{where}: {cut(str(error), 300)}") from error
        # The driver detects a lost machine and restarts the command.
        self._run = self._ray.remote(num_cpus=1, max_retries=0)(run_command)

    def capacity(self) -> int:
        """Return the number of processors of the cluster."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def start(self, command: Command) -> RayProcess:
        """Start a task."""
        return RayProcess(self._ray, self._run.remote(command))

    def close(self) -> None:
        """Disconnect, if this engine has connected; Ray ends if it was started here."""
        if self._is_mine:
            self._ray.shutdown()


class RayProcess:
    """A command in a task of Ray."""

    def __init__(self, ray: Any, task: Any) -> None:
        self._ray, self._task = ray, task

    def poll(self) -> int | None:
        """Return the exit code, None while it runs or waits."""
        ready, _ = self._ray.wait([self._task], timeout=0)
        if not ready:
            return None
        try:
            return int(self._ray.get(self._task))
        except self._ray.exceptions.RayError:  # the worker or its machine was lost, or it stopped
            return LOST

    def stop(self) -> None:
        """Interrupt the task, which ends its command."""
        self._ray.cancel(self._task)


class Slurm:
    """Jobs of Slurm, or of submitit's executor for one machine.

    Args:
        folder: For submitit's files; shared by the machines.
        cluster: "slurm" or "local".
        parameters: Of submitit, such as timeout_min and slurm_partition.

    Raises:
        CommandError: submitit or Slurm is not installed, or a parameter is unknown.
    """

    def __init__(
        self, folder: Path, cluster: str = "slurm", parameters: Sequence[str] = ()
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise CommandError(
                '--on slurm needs submitit: pip install "liquid-control[slurm]"'
            ) from error
        given = dict(each.split("=", 1) for each in parameters if "=" in each)
        if len(given) < len(parameters):
            raise CommandError("--slurm takes KEY=VALUE, such as slurm_partition=cpu")
        values = {name: int(text) if text.isdigit() else text for name, text in given.items()}
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
            self._executor.update_parameters(
                **{"timeout_min": 24 * 60, "cpus_per_task": 1} | values
            )
        except (AssertionError, RuntimeError, NameError, TypeError, ValueError) as error:
            raise CommandError(f"--on slurm: {cut(one_line(error), 300)}") from error
        self._submitit = submitit

    def capacity(self) -> int:
        """Return more than any study has, since the queue limits the number."""
        return 1_000_000

    def start(self, command: Command) -> SlurmProcess:
        """Submit a job."""
        return SlurmProcess(self._executor.submit(Requeued(command)))

    def close(self) -> None:
        """Do nothing; jobs stay in the queue."""


class SlurmProcess:
    """A command in a job of Slurm."""

    def __init__(self, job: Any) -> None:
        self._job = job

    def poll(self) -> int | None:
        """Return the exit code, None while it runs or waits."""
        if not self._job.done():
            return None
        try:
            return int(self._job.result())
        except Exception:  # submitit raises the job's error, or reports that it is lost
            return LOST

    def stop(self) -> None:
        """Cancel the job; Slurm sends SIGTERM first."""
        self._job.cancel(check=False)


def train_command(recipe: Path, seed: int, folder: Path) -> Command:
    """Return the command that starts or resumes a run of a study."""
    arguments = ("train", str(recipe), "--seed", str(seed), "--folder", str(folder), "--quiet")
    return Command((sys.executable, "-m", "liquid_control", *arguments), folder / "output.log")
