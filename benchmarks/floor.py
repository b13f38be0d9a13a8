"""Returns of LiquidPPO's circuits against SB3's agents at equal settings, over tasks and seeds.

    python benchmarks/floor.py --tasks Hopper-v5 Walker2d-v5 --seeds 201 202 203 204 205
    python benchmarks/floor.py --observe positions --policies cfc lstm recurrent

All agents train at the task's nominal rate with 16 environments of 128 steps, minibatches of 64, 10
epochs, `log_std_init` -1 and a learning rate of 3e-4 that falls to zero. LiquidPPO learns from
sequences of 16 steps, with an encoder and an MLP critic of 64 units. SB3's PPO and sb3-contrib's
RecurrentPPO have VecNormalize and an MLP 64-64, or an LSTM of 64 units with a layer of 64.

Each training runs in a process with one thread, and its result is appended to a table. Trainings
that are in the table are not repeated, so that an interrupted comparison goes on.
"""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecExtractDictObs, VecNormalize
from table import print_table

from liquid_control import LiquidPPO, envs
from liquid_control.agents.evaluation import evaluate

Policy = Literal["cfc", "ltc", "ctrnn", "lstm", "dense", "mlp", "recurrent"]

UNSEEN = 2**31  # far above every seed of a training
EPISODES = 20
RETURNS = ("training_return", "deterministic_return", "deviation")
WIRING = {
    "kind": "ncp",
    "inter": 24,
    "command": 34,
    "motor": 32,
    "sensory_fanout": 12,
    "inter_fanout": 17,
    "recurrent_command_synapses": 578,
    "motor_fanin": 17,
}
DENSE = {"kind": "dense", "neurons": 64, "motor": 64}
CIRCUITS: dict[str, dict[str, Any]] = {
    "cfc": {"neurons": "cfc", "wiring": WIRING},
    "ltc": {"neurons": "ltc", "wiring": WIRING, "neuron_kwargs": {"ode_steps": 3}},
    "ctrnn": {"neurons": "ctrnn", "wiring": WIRING},
    "lstm": {"neurons": "lstm", "wiring": DENSE},
    "dense": {"neurons": "cfc", "wiring": DENSE},
}


@dataclass
class Arguments:
    """Returns of LiquidPPO's circuits against SB3's agents at equal settings."""

    tasks: tuple[str, ...] = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5")
    """Gymnasium tasks."""

    observe: Literal["full", "positions", "velocities"] = "full"
    """Part of the observation that agents get."""

    policies: tuple[Policy, ...] = ("cfc", "mlp")
    """Circuits of LiquidPPO; mlp is SB3's PPO, recurrent is sb3-contrib's RecurrentPPO."""

    seeds: tuple[int, ...] = (201, 202, 203, 204, 205)
    """Seeds of the trainings."""

    steps: int = 1_000_000
    """Control steps of a training."""

    jobs: int = 1
    """Number of parallel trainings."""

    table: Path = Path("docs/results/floor.csv")
    """Table of the results, to which rows are appended."""


@dataclass(frozen=True)
class Training:
    """A training: a row of the table without its results."""

    task: str
    observe: Literal["full", "positions", "velocities"]
    policy: str
    seed: int
    steps: int


@dataclass(frozen=True)
class Result(Training):
    """A row of the table: mean returns of the last 100 training episodes and of 20 unseen ones."""

    training_return: float
    deterministic_return: float
    deviation: float
    cpu_seconds: float


def settings(seed: int) -> dict[str, Any]:
    """Return the arguments that all agents share."""
    return {
        "n_steps": 128,
        "batch_size": 64,
        "learning_rate": LinearSchedule(3e-4, 0.0, 1.0),
        "seed": seed,
        "device": "cpu",
    }


def robots(training: Training, count: int, seed: int) -> VecEnv:
    """Return environments, with observations as the policy takes them."""
    robots = envs.make_vec(training.task, count, observe=training.observe, seed=seed, threads=1)
    return robots if training.policy in CIRCUITS else VecExtractDictObs(robots, "observation")


def agent(training: Training, env: VecEnv) -> OnPolicyAlgorithm:
    """Return an untrained agent."""
    shared = settings(training.seed)
    if training.policy == "mlp":
        layers = {"net_arch": [64, 64], "log_std_init": -1.0}
        return PPO("MlpPolicy", env, policy_kwargs=layers, **shared)
    if training.policy == "recurrent":
        layers = {"net_arch": [64], "lstm_hidden_size": 64, "log_std_init": -1.0}
        return RecurrentPPO("MlpLstmPolicy", env, policy_kwargs=layers, **shared)
    circuit = {"encoder": [64], "critic": "mlp", "critic_layers": [64, 64], "log_std_init": -1.0}
    circuit |= CIRCUITS[training.policy]
    return LiquidPPO("LiquidPolicy", env, sequence_length=16, policy_kwargs=circuit, **shared)


def train(training: Training) -> Result:
    """Train and evaluate one agent."""
    torch.set_num_threads(1)
    env, unseen = robots(training, 16, training.seed), robots(training, EPISODES, UNSEEN)
    if training.policy not in CIRCUITS:
        env = VecNormalize(env)
        unseen = VecNormalize(unseen, training=False, norm_reward=False)
        unseen.obs_rms = env.obs_rms
    model = agent(training, env)
    start = time.process_time()
    model.learn(training.steps)
    seconds = time.process_time() - start
    assert model.ep_info_buffer is not None
    trained = float(np.mean([episode["r"] for episode in model.ep_info_buffer]))
    final = evaluate(model, unseen)
    return Result(
        **vars(training),
        training_return=round(trained, 1),
        deterministic_return=round(final.mean, 1),
        deviation=round(final.deviation, 1),
        cpu_seconds=round(seconds),
    )


def read(path: Path) -> list[Result]:
    """Return the rows of a table, none if there is no table yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Result(
                **{name: row[name] for name in ("task", "observe", "policy")},
                **{name: int(row[name]) for name in ("seed", "steps", "cpu_seconds")},
                **{name: float(row[name]) for name in RETURNS},
            )
            for row in csv.DictReader(file)
        ]


def append(path: Path, result: Result) -> None:
    """Append a row to a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    begins = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Result)], lineterminator="\n")
        if begins:
            writer.writeheader()
        writer.writerow(asdict(result))


def summary(results: Iterable[Result]) -> list[list[str]]:
    """Return the table's cells: means over seeds, and their ratio to those of an MLP."""
    groups: dict[tuple[str, ...], list[Result]] = defaultdict(list)
    for each in results:
        groups[each.task, each.observe, f"{each.steps:,}", each.policy].append(each)
    means = {
        key: [float(np.mean([getattr(each, name) for each in group])) for name in RETURNS[:2]]
        for key, group in groups.items()
    }
    rows = []
    for key, (trained, deterministic) in sorted(means.items()):
        control = means.get((*key[:3], "mlp"))
        ratio = "" if control is None else f"{trained / control[0]:.2f}"
        seeds = str(len(groups[key]))
        rows.append([*key, seeds, f"{trained:,.0f}", f"{deterministic:,.0f}", ratio])
    return rows


def main(arguments: Arguments) -> None:
    """Train what is not in the table yet, and print the table."""
    done = {
        (each.task, each.observe, each.policy, each.seed, each.steps)
        for each in read(arguments.table)
    }
    wanted = [
        Training(task, arguments.observe, policy, seed, arguments.steps)
        for seed, task, policy in product(arguments.seeds, arguments.tasks, arguments.policies)
    ]
    missing = [each for each in wanted if tuple(vars(each).values()) not in done]
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        for finished in as_completed([pool.submit(train, each) for each in missing]):
            append(arguments.table, finished.result())
            print(finished.result(), flush=True)
    header = (
        "task",
        "observe",
        "steps",
        "policy",
        "seeds",
        "training",
        "deterministic",
        "over mlp",
    )
    print_table(header, summary(read(arguments.table)))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
