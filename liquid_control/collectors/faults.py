"""Reports of environments that fail during training."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecEnvWrapper

from liquid_control.checkpoints.durable import write_text
from liquid_control.collectors.finite_checks import NotFinite

DEAD = (EOFError, BrokenPipeError, ConnectionResetError)


@contextmanager
def report_faults(agent: BaseAlgorithm) -> Iterator[None]:
    """Store data that reproduces a non-finite number, and name a worker that died.

    The file `fault-<timesteps>.json` next to the logs names the quantity and the environment, and
    holds the last observation and the result of the environment's `reproduction`. For environments
    of `envs.make_vec` these are the seed, the action, and the state before the step:

        mujoco.mj_setState(model, data, fault["state"], mujoco.mjtState.mjSTATE_INTEGRATION)
        data.ctrl[:] = fault["action"]
        mujoco.mj_step(model, data, fault["substeps"])

    Non-finite numbers are written as text, "nan" and "inf".
    """
    try:
        with _closed_on_death(agent.env):
            yield
    except NotFinite as fault:
        path = _store(agent, fault)
        if path is not None:
            fault.add_note(f"Data that reproduces it is in {path}")
        raise
    except DEAD as error:
        died = _dead_worker(agent.env)
        if died is None:
            raise
        raise RuntimeError(
            f"the process of environment {died[0]} died (exit code {died[1]}); see its last "
            "output; a negative code is the signal that ended it"
        ) from error


def _store(agent: BaseAlgorithm, fault: NotFinite) -> Path | None:
    """Store a fault's data; None if there is no log folder or it cannot be written."""
    folder = agent.logger.dir
    if not folder:
        return None
    seen = agent._last_obs if fault.observation is None else fault.observation
    parts = seen if isinstance(seen, dict) else {"observation": seen}
    data: dict[str, Any] = {
        "quantity": fault.quantity,
        "environment": fault.environment,
        "timesteps": fault.timesteps,
        "observation": {
            name: np.asarray(values)[fault.environment].tolist()
            for name, values in parts.items()
            if values is not None
        },
    }
    if agent.env is not None and hasattr(agent.env, "reproduction"):
        data |= agent.env.reproduction(fault.environment)
    path = Path(folder) / f"fault-{fault.timesteps}.json"
    try:
        write_text(path, json.dumps(_plain(data), indent=1, allow_nan=False) + "\n")
    except OSError:
        return None
    return path


def _plain(value: Any) -> Any:
    """Return a copy of a value with non-finite numbers as text."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


@contextmanager
def _closed_on_death(env: VecEnv | None) -> Iterator[None]:
    """Close the pipe of a worker that dies, so that reading from it raises an EOFError.

    Workers started by `fork` hold the other ends of each other's pipes, so the death of one does
    not close its pipe, and the agent would wait forever.
    """
    workers = _workers(env)
    if workers is None or os.name != "posix":
        yield
        return
    lines = dict(
        zip((worker.sentinel for worker in workers.processes), workers.remotes, strict=True)
    )
    ours, watchers = Pipe()

    def watch() -> None:
        living = set(lines)
        while watchers not in (ended := wait([*living, watchers])):
            for sentinel in living.intersection(ended):
                living.remove(sentinel)
                if not lines[sentinel].closed:
                    with socket.socket(fileno=os.dup(lines[sentinel].fileno())) as line:
                        line.shutdown(socket.SHUT_RDWR)

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ours.close()
        watcher.join()
        watchers.close()


def _workers(env: VecEnv | None) -> SubprocVecEnv | None:
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    return env if isinstance(env, SubprocVecEnv) else None


def _dead_worker(env: VecEnv | None) -> tuple[int, int | None] | None:
    """Return the number of the environment whose process is dead, and its exit code."""
    workers = _workers(env)
    for index, process in enumerate(workers.processes if workers else []):
        process.join(timeout=1)
        if not process.is_alive():
            return index, process.exitcode
    return None
