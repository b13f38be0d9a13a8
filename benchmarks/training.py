"""Training speed of LiquidPPO against sb3-contrib's RecurrentPPO and SB3's PPO at equal settings.

    python benchmarks/training.py

HalfCheetah-v5 at its nominal rate in SB3's DummyVecEnv, 16 envs x 256 steps, minibatches of 1024
steps, 10 epochs, observations and rewards normalised (by LiquidPPO itself, by VecNormalize for the
others). RecurrentPPO back-propagates through whole rollouts of 256 steps, and so does LiquidPPO
here. Everybody has an actor and a critic of their own, of 64 neurons. All sides run in one process,
in turns of one iteration (collect, then train), on one torch thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import mujoco
import torch
import tyro
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from table import print_table
from timing import in_turns

from liquid_control import LiquidPPO

ENVS, STEPS = 16, 256
SETTINGS: dict[str, Any] = {
    "n_steps": STEPS,
    "batch_size": 1024,
    "n_epochs": 10,
    "device": "cpu",
    "seed": 0,
}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
RECURRENT, FEEDFORWARD = "RecurrentPPO, LSTM 64", "PPO, MLP 64-64"


@dataclass
class Arguments:
    """Training speed of LiquidPPO against sb3-contrib's RecurrentPPO and SB3's PPO."""

    task: str = "HalfCheetah-v5"
    """Gymnasium task."""

    rounds: int = 5
    """Rounds in which every side trains for one iteration; the table shows medians over them."""

    sequence_length: int = STEPS
    """Control steps of truncated back-propagation in LiquidPPO; divides 256."""

    clock: Literal["wall", "cpu"] = "wall"
    """What a second is: of the clock on the wall, or of processor time on a machine others use."""


def liquid(arguments: Arguments, neurons: str, wiring: dict[str, Any]) -> OnPolicyAlgorithm:
    """Return a LiquidPPO agent with the given circuit."""
    return LiquidPPO(
        "LiquidPolicy",
        make_vec_env(arguments.task, ENVS, seed=0),
        sequence_length=arguments.sequence_length,
        policy_kwargs={"neurons": neurons, "wiring": wiring, "critic": "twin"},
        **SETTINGS,
    )


def agents(arguments: Arguments) -> dict[str, OnPolicyAlgorithm]:
    """Return every agent, each with envs of its own."""

    def normalised() -> VecNormalize:
        return VecNormalize(make_vec_env(arguments.task, ENVS, seed=0))

    full, sparse = {"kind": "dense", "neurons": 64}, {"kind": "auto_ncp", "neurons": 64}
    return {
        "LiquidPPO, NCP-CfC 64": liquid(arguments, "cfc", sparse),
        "LiquidPPO, dense CfC 64": liquid(arguments, "cfc", full),
        "LiquidPPO, LSTM 64": liquid(arguments, "lstm", full),
        RECURRENT: RecurrentPPO(
            "MlpLstmPolicy",
            normalised(),
            policy_kwargs={"lstm_hidden_size": 64, "net_arch": [64]},
            **SETTINGS,
        ),
        FEEDFORWARD: PPO(
            "MlpPolicy", normalised(), policy_kwargs={"net_arch": [64, 64]}, **SETTINGS
        ),
    }


def iteration(agent: OnPolicyAlgorithm) -> Callable[[], object]:
    """Return a function that trains `agent` for one more iteration."""
    return lambda: agent.learn(ENVS * STEPS, reset_num_timesteps=False)


def main(arguments: Arguments) -> None:
    """Measure every agent and print one table."""
    torch.set_num_threads(1)
    # Gymnasium's half_cheetah.xml uses an attribute that mujoco 4 deprecates; 80 envs would say so.
    mujoco.set_mju_user_warning(lambda message: None)
    work = {name: iteration(agent) for name, agent in agents(arguments).items()}
    turns = in_turns(work, rounds=arguments.rounds, clock=CLOCKS[arguments.clock])
    rows = [
        [
            name,
            f"{ENVS * STEPS / turns.median(name):,.0f}",
            f"{turns.ratio(RECURRENT, name):.2f}",
            f"{turns.ratio(FEEDFORWARD, name):.2f}",
        ]
        for name in work
    ]
    print(f"{arguments.task}, {arguments.clock} time, one torch thread\n")
    print_table(("agent", "steps/s", "x RecurrentPPO", "x PPO"), rows)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
