"""What goes wrong in an environment is reported, and can be made to happen again."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from liquid_control import LiquidPPO, LiquidSAC, envs
from liquid_control.collectors.finite_checks import NotFinite

SMALL: dict[type[Any], dict[str, Any]] = {
    LiquidPPO: {"n_steps": 32, "batch_size": 32, "n_epochs": 1},
    LiquidSAC: {"learning_starts": 8, "batch_size": 16, "sequence_length": 4, "burn_in": 2},
}
WIRING = {"wiring": {"kind": "auto_ncp", "neurons": 16}}


class Breaking:
    """A task in which one robot's reward, or observation, is broken from some step on."""

    def __init__(self, task: Any, quantity: str, after: int) -> None:
        self.task, self.quantity, self.after = task, quantity, after
        self.steps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def _broken(self, values: Any) -> Any:
        if self.steps >= self.after:
            values = values.copy()
            values[1] = np.nan
        return values

    def reward(self, *arguments: Any) -> Any:
        self.steps += 1
        rewards = self.task.reward(*arguments)
        return self._broken(rewards) if self.quantity == "rewards" else rewards

    def observation(self, *arguments: Any) -> Any:
        seen = self.task.observation(*arguments)
        return self._broken(seen) if self.quantity == "observation" else seen


@pytest.mark.parametrize("quantity", ["rewards", "observation"])
@pytest.mark.parametrize("agent", [LiquidPPO, LiquidSAC])
def test_a_number_that_is_not_finite_can_be_reproduced(
    agent: type[Any], quantity: str, tmp_path: Path
) -> None:
    interval = envs.Uniform(0.02, 0.1)
    venv: Any = envs.make_vec("HalfCheetah-v5", 3, interval=interval, seed=7, threads=1)
    venv.task = Breaking(venv.task, quantity, after=5)
    model = agent("LiquidPolicy", venv, seed=0, policy_kwargs=WIRING, **SMALL[agent])
    model.set_logger(configure(str(tmp_path), []))
    before = {name: value.clone() for name, value in model.policy.actor.state_dict().items()}
    with pytest.raises(NotFinite, match=f"{quantity} of environment 1 not finite") as caught:
        model.learn(96)
    if agent is LiquidPPO:
        assert all(
            value.equal(before[name]) for name, value in model.policy.actor.state_dict().items()
        )
    (path,) = tmp_path.glob("fault-*.json")
    assert str(path) in caught.value.__notes__[0]
    fault = json.loads(path.read_text())
    assert (fault["quantity"], fault["environment"], fault["seed"]) == (quantity, 1, 8)
    assert fault["timesteps"] == 15  # five steps of three environments
    assert len(fault["observation"]["observation"]) == 17

    physics, data = venv.physics, mujoco.MjData(venv.env.unwrapped.model)
    state = mujoco.mjtState.mjSTATE_INTEGRATION
    mujoco.mj_setState(venv.env.unwrapped.model, data, np.array(fault["state"]), state)
    data.ctrl[:] = fault["action"]
    mujoco.mj_step(venv.env.unwrapped.model, data, fault["substeps"])
    assert data.qpos.tolist() == physics.simulations.qpos[1].tolist()
    assert data.qvel.tolist() == physics.simulations.qvel[1].tolist()


@pytest.mark.parametrize("agent", [LiquidPPO, LiquidSAC])
def test_the_first_action_can_be_reproduced_too(agent: type[Any], tmp_path: Path) -> None:
    venv: Any = envs.make_vec("HalfCheetah-v5", 3, seed=7, threads=1)
    model = agent("LiquidPolicy", venv, seed=0, policy_kwargs=WIRING, **SMALL[agent])
    model.set_logger(configure(str(tmp_path), []))
    for weight in model.policy.actor.parameters():
        weight.data.fill_(np.nan)
    if agent is LiquidSAC:
        model.learning_starts = 0
    with pytest.raises(NotFinite, match="actions of environment 0 not finite"):
        model.learn(96)
    (path,) = tmp_path.glob("fault-0.json")
    fault = json.loads(path.read_text())
    assert (fault["quantity"], fault["seed"], fault["substeps"]) == ("actions", 7, 0)
    data = mujoco.MjData(venv.env.unwrapped.model)
    state = mujoco.mjtState.mjSTATE_INTEGRATION
    mujoco.mj_setState(venv.env.unwrapped.model, data, np.array(fault["state"]), state)
    assert data.qpos.tolist() == venv.physics.simulations.qpos[0].tolist()


class Fragile(gym.Wrapper):  # type: ignore[type-arg]
    """Falls apart at its fourth step."""

    steps = 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == 4:
            raise RuntimeError("a leg came off")
        return self.env.step(action)


def fragile() -> gym.Env[Any, Any]:
    return Fragile(gym.make("Pendulum-v1"))


def robust() -> gym.Env[Any, Any]:
    return gym.make("Pendulum-v1")


@pytest.mark.parametrize("agent", [LiquidPPO, LiquidSAC])
def test_an_error_of_an_environment_is_shown_as_it_is(agent: type[Any]) -> None:
    venv = DummyVecEnv([robust, fragile])
    model = agent("LiquidPolicy", venv, policy_kwargs=WIRING, **SMALL[agent])
    with pytest.raises(RuntimeError, match="a leg came off"):
        model.learn(64)


class Kill(BaseCallback):
    """Ends the process of the second environment."""

    def _on_step(self) -> bool:
        if self.n_calls == 3:
            processes: Any = self.training_env.processes  # type: ignore[attr-defined]
            os.kill(processes[1].pid, signal.SIGKILL)
        return True


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("makers", "callback", "message", "start_method"),
    [
        ([robust, robust], Kill, r"process of environment 1 died \(exit code -9\)", "fork"),
        pytest.param(  # whose processes import everything again
            [robust, robust],
            Kill,
            r"process of environment 1 died \(exit code -9\)",
            "forkserver",
            marks=pytest.mark.slow,
        ),
        ([robust, fragile], None, r"process of environment 1 died \(exit code 1\)", "fork"),
    ],
)
def test_a_worker_that_died_is_named_and_nothing_hangs(
    makers: list[Callable[[], Any]],
    callback: type[BaseCallback] | None,
    message: str,
    start_method: str,
) -> None:
    venv = SubprocVecEnv(makers, start_method)
    model = LiquidPPO("LiquidPolicy", venv, policy_kwargs=WIRING, **SMALL[LiquidPPO])
    start = time.perf_counter()
    with pytest.raises(RuntimeError, match=message):
        model.learn(128, callback and callback())
    assert time.perf_counter() - start < 10
    for process in venv.processes:
        process.terminate()
