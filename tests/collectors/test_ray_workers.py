"""Workers on a real cluster of Ray, of which processes are killed and nodes removed."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from liquid_control import LiquidPPO, LiquidSAC, WorkerVecEnv, envs
from liquid_control.collectors.finite_checks import NotFinite
from liquid_control.collectors.ray_workers import RayMissing

pytestmark = pytest.mark.slow

NUM_ENVS = 8
TOTAL = 3 * 16 * NUM_ENVS
WIRING = {"kind": "auto_ncp", "neurons": 8}
ROBOTS = partial(
    envs.make_vec,
    "InvertedPendulum-v5",
    observe="positions",
    interval={"kind": "uniform", "low": 0.02, "high": 0.08},
    threads=1,
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes on this machine: one for the learner, two for workers."""
    ray = pytest.importorskip("ray")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=2)
    cluster.add_node(num_cpus=2)
    ray.init(cluster.address, log_to_driver=False, logging_level="error")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def ppo(env: VecEnv) -> LiquidPPO:
    rollout = {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "seed": 1, "sequence_length": 8}
    return LiquidPPO("LiquidPolicy", env, policy_kwargs={"wiring": WIRING}, **rollout)


def sac(env: VecEnv) -> LiquidSAC:
    replay = {"learning_starts": 100, "batch_size": 16, "sequence_length": 4, "burn_in": 2}
    rounds = {"train_freq": 16, "gradient_steps": 3, "buffer_size": 1000, "seed": 1}
    policy = {"wiring": WIRING, "critic_layers": [8]}
    return LiquidSAC("LiquidPolicy", env, policy_kwargs=policy, **replay, **rounds)


def trained(
    agent: Callable[[VecEnv], Any],
    make: Callable[..., VecEnv] = ROBOTS,
    workers: int = 0,
    callback: BaseCallback | None = None,
) -> Any:
    env = WorkerVecEnv(make, NUM_ENVS, workers=workers, block=2, seed=0)
    try:
        return agent(env).learn(TOTAL, callback)
    finally:
        env.close()


def assert_same(agent: Any, other: Any) -> None:
    ours, theirs = agent.policy.state_dict(), other.policy.state_dict()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("agent", [ppo, sac])
def test_actors_and_this_process_give_the_same_weights(
    cluster: Any, agent: Callable[[VecEnv], Any]
) -> None:
    alone = trained(agent)
    for workers in (1, 4):
        assert_same(trained(agent, workers=workers), alone)


class Deadly(gym.Wrapper[Any, Any, Any, Any]):
    """Ends its process at its seventh step, if the file can be removed: once in all."""

    def __init__(self, env: gym.Env[Any, Any], file: Path, seconds: float = 0.0) -> None:
        super().__init__(env)
        self.file, self.seconds, self.played = file, seconds, 0

    def step(self, action: Any) -> Any:
        time.sleep(self.seconds)
        self.played += 1
        if self.played == 7:
            try:
                self.file.unlink()
            except FileNotFoundError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"played": np.array(self.played)}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        self.played = int(state["played"])


def deadly(file: Path, seconds: float = 0.0) -> Callable[..., VecEnv]:
    """What makes environments of which one ends its process, and steps take a while."""
    return partial(make_vec_env_of, file=file, seconds=seconds)


def make_vec_env_of(num_envs: int, seed: int | None, **options: Any) -> VecEnv:
    return make_vec_env(
        "CartPole-v1", num_envs, seed=seed, wrapper_class=Deadly, wrapper_kwargs=options
    )


def test_an_actor_that_is_killed_in_mid_rollout_is_replaced(cluster: Any, tmp_path: Path) -> None:
    alone = trained(ppo, deadly(tmp_path / "none"))
    (tmp_path / "once").touch()
    agent = trained(ppo, deadly(tmp_path / "once"), workers=2)
    assert agent.env.replaced == 1
    assert_same(agent, alone)


class RemoveNode(BaseCallback):
    """Removes a node with workers a moment after the second rollout has begun."""

    def __init__(self, cluster: Any, node: Any) -> None:
        super().__init__()
        self.rollouts, self.thread = 0, Thread(target=self.remove)
        self.cluster, self.node = cluster, node

    def remove(self) -> None:
        time.sleep(0.3)
        self.cluster.remove_node(self.node, allow_graceful=False)

    def _on_rollout_start(self) -> None:
        self.rollouts += 1
        if self.rollouts == 2:
            self.thread.start()

    def _on_step(self) -> bool:
        return True


def test_a_training_survives_the_loss_of_a_node(cluster: Any, tmp_path: Path) -> None:
    make = deadly(tmp_path / "none", seconds=0.02)  # a rollout takes seconds
    alone = trained(ppo, deadly(tmp_path / "none"))
    node = cluster.add_node(num_cpus=2)
    removal = RemoveNode(cluster, node)
    again = trained(ppo, make, 4, removal)
    removal.thread.join()
    assert 0 < again.env.replaced < 4
    assert_same(again, alone)


class Broken(gym.Wrapper[Any, Any, Any, Any]):
    """Returns observations that are no numbers in one of the environments."""

    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        return observation * np.nan, *rest

    def state_dict(self) -> dict[str, np.ndarray]:
        return {}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        pass


def broken(num_envs: int, seed: int | None) -> VecEnv:
    return make_vec_env("CartPole-v1", num_envs, seed=seed, wrapper_class=Broken)


def test_an_error_of_an_environment_is_raised_as_it_is(cluster: Any) -> None:
    with pytest.raises(NotFinite, match="observation of environment 0") as error:
        trained(ppo, broken, workers=2)
    assert error.value.timesteps == NUM_ENVS


def test_more_workers_than_the_cluster_has_room_for_are_refused(cluster: Any) -> None:
    with pytest.raises(ValueError, match="4 workers reserve 80 processors, and the cluster has 4"):
        WorkerVecEnv(ROBOTS, NUM_ENVS, workers=4, block=2, cpus=20)


def free_memory() -> float:
    """Bytes that programs can have."""
    (line,) = re.findall(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    return 1024 * float(line)


def tiny(num_envs: int, seed: int | None) -> VecEnv:
    return make_vec_env("CartPole-v1", num_envs, seed=seed)


def test_many_workers_with_tiny_tasks(cluster: Any) -> None:
    """There are 64 of them, or as many as fit: each takes a third of a gigabyte, for PyTorch."""
    count = 64
    while count * 0.4e9 > 0.8 * free_memory():
        count //= 2
    agents = []
    for workers in (0, count):
        env = WorkerVecEnv(tiny, 64, workers=workers, block=1, seed=0, cpus=1 / 32)
        agents.append(ppo(env).learn(2 * 16 * 64))
        env.close()
    assert_same(*agents)


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RayMissing, match=r"pip install \"liquid-control\[ray\]\""):
        WorkerVecEnv(ROBOTS, NUM_ENVS, workers=2)
