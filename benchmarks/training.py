"""Training speed of LiquidPPO against sb3-contrib's RecurrentPPO and SB3's PPO at equal settings.

    python benchmarks/training.py
    python benchmarks/training.py --num-envs 64

HalfCheetah-v5 at its nominal rate, 16 envs x 256 steps, minibatches of 1024 steps, 10 epochs,
observations and rewards normalised (by LiquidPPO itself, by VecNormalize for the others). LiquidPPO
steps the envs of `envs.make_vec`, and in one row SB3's DummyVecEnv, as the others do. RecurrentPPO
back-propagates through whole rollouts of 256 steps; LiquidPPO through sequences of 128
(`--sequence-length 256`: as RecurrentPPO). All agents have separate actors and critics of 64
neurons. All sides run in one process, in turns of one iteration (collect, then train), with each of
the numbers of torch threads; a row shows the number with which its side was fastest. Batched envs
simulate on all processors. The last column is the time over that of LiquidPPO's first agent;
`update.py` shows where such time goes.
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
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from table import print_table
from timing import Clock, in_turns

from liquid_control import LiquidPPO, envs

STEPS = 256
SETTINGS: dict[str, Any] = {
    "n_steps": STEPS,
    "batch_size": 1024,
    "n_epochs": 10,
    "device": "cpu",
    "seed": 0,
}
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
LIQUID = "LiquidPPO, NCP-CfC 64"
RECURRENT, FEEDFORWARD = "RecurrentPPO, LSTM 64", "PPO, MLP 64-64"


@dataclass
class Arguments:
    """Training speed of LiquidPPO against sb3-contrib's RecurrentPPO and SB3's PPO."""

    task: str = "HalfCheetah-v5"
    """Gymnasium task."""

    num_envs: int = 16
    """Environments that each agent steps."""

    rounds: int = 5
    """Rounds in which every side trains for one iteration; the table shows medians over them."""

    threads: tuple[int, ...] = (1, 2)
    """Numbers of torch threads that every side tries."""

    sequence_length: int = 128
    """Control steps of truncated back-propagation in LiquidPPO; divides 256."""

    clock: Literal["wall", "cpu"] = "wall"
    """Measure wall time, or processor time on a shared machine."""


def liquid(
    arguments: Arguments, neurons: str, wiring: dict[str, Any], env: VecEnv | None = None
) -> LiquidPPO:
    """Return a LiquidPPO agent with the given circuit, in `env` or our own."""
    return LiquidPPO(
        "LiquidPolicy",
        env or envs.make_vec(arguments.task, arguments.num_envs, seed=0),
        sequence_length=arguments.sequence_length,
        policy_kwargs={"neurons": neurons, "wiring": wiring, "critic": "twin"},
        **SETTINGS,
    )


def agents(arguments: Arguments) -> dict[str, OnPolicyAlgorithm]:
    """Return all agents, each with its own envs."""

    def one_by_one() -> VecEnv:
        return make_vec_env(arguments.task, arguments.num_envs, seed=0)

    full, sparse = {"kind": "dense", "neurons": 64}, {"kind": "auto_ncp", "neurons": 64}
    return {
        LIQUID: liquid(arguments, "cfc", sparse),
        "LiquidPPO, dense CfC 64": liquid(arguments, "cfc", full),
        "LiquidPPO, NCP-CfC 64, DummyVecEnv": liquid(arguments, "cfc", sparse, one_by_one()),
        "LiquidPPO, LSTM 64": liquid(arguments, "lstm", full),
        RECURRENT: RecurrentPPO(
            "MlpLstmPolicy",
            VecNormalize(one_by_one()),
            policy_kwargs={"lstm_hidden_size": 64, "net_arch": [64]},
            **SETTINGS,
        ),
        FEEDFORWARD: PPO(
            "MlpPolicy",
            VecNormalize(one_by_one()),
            policy_kwargs={"net_arch": [64, 64]},
            **SETTINGS,
        ),
    }


def iteration(agent: OnPolicyAlgorithm, threads: int) -> Callable[[], object]:
    """Return a function that trains `agent` for one iteration with a number of torch threads."""

    def learn() -> None:
        torch.set_num_threads(threads)
        agent.learn(agent.n_envs * STEPS, reset_num_timesteps=False)

    return learn


def main(arguments: Arguments) -> None:
    """Measure every agent and print both tables."""
    # Gymnasium's half_cheetah.xml uses an attribute that mujoco 4 deprecates; 80 envs would say so.
    mujoco.set_mju_user_warning(lambda message: None)
    clock, trained = CLOCKS[arguments.clock], agents(arguments)
    work = {
        (name, threads): iteration(agent, threads)
        for name, agent in trained.items()
        for threads in arguments.threads
    }
    turns = in_turns(work, rounds=arguments.rounds, clock=clock)
    best = {
        name: min(((name, threads) for threads in arguments.threads), key=turns.median)
        for name in trained
    }
    rows = [
        [
            name,
            str(side[1]),
            f"{arguments.num_envs * STEPS / turns.median(side):,.0f}",
            f"{turns.ratio(best[RECURRENT], side):.2f}",
            f"{turns.ratio(best[FEEDFORWARD], side):.2f}",
            f"{turns.ratio(side, best[LIQUID]):.2f}",
        ]
        for name, side in best.items()
    ]
    print(f"{arguments.task}, {arguments.num_envs} envs, {arguments.clock} time\n")
    print_table(
        ("agent", "torch threads", "steps/s", "x RecurrentPPO", "x PPO", f"time over {LIQUID}"),
        rows,
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
