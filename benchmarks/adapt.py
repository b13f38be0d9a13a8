"""How fast an agent recovers on a robot that has changed: readout, all weights, or nothing learns.

    python benchmarks/adapt.py
    python benchmarks/adapt.py --task Hopper-v5 --observe full --gain 0.6

Trains LiquidPPO on a task, then weakens all motors for good, and goes on learning: with
`plasticity="readout"`, with all weights, and not at all. Reports returns on unseen episodes of the
changed robot after each round, and the control steps until they are back at a share of the return
before the change. Each row is a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import tyro
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from table import print_table

from liquid_control import LiquidPPO, envs
from liquid_control.agents.evaluation import evaluate

KINDS = ("none", "readout", "full")
UNSEEN = 10_000


@dataclass
class Arguments:
    """Compare what goes on learning on a changed robot."""

    task: str = "HalfCheetah-v5"
    """MuJoCo task."""

    observe: str = "positions"
    """What of it is observed."""

    neurons: str = "cfc"
    """Neurons of the circuit."""

    gain: float = 0.5
    """Factor of all motors after the change."""

    steps: int = 300_000
    """Control steps before the change."""

    more: int = 98_304
    """Control steps after it."""

    rounds: int = 6
    """Evaluations after the change."""

    share: float = 0.9
    """Of the return before the change, at which a robot has recovered."""

    episodes: int = 10
    """Of each evaluation."""

    learning_rate: float = 3e-4
    """After the change; before, it falls from this to zero."""

    kinds: tuple[str, ...] = KINDS
    """What goes on learning."""

    seeds: tuple[int, ...] = (0,)
    """Of trainings and episodes."""


def robots(arguments: Arguments, number: int, seed: int, gain: float) -> VecEnv:
    """Return environments at a varying rate, with weaker motors."""
    return envs.make_vec(
        arguments.task,
        number,
        observe=arguments.observe,
        interval=envs.Uniform(0.03, 0.1) if arguments.task == "HalfCheetah-v5" else None,
        bodies=None if gain == 1 else envs.Randomize(gain=(gain, gain)),
        seed=seed,
    )


def score(model: LiquidPPO, arguments: Arguments, seed: int, gain: float) -> float:
    """Return the mean return on unseen episodes."""
    env = robots(arguments, arguments.episodes, UNSEEN + seed, gain)
    mean = evaluate(model, env).mean
    env.close()
    return mean


def after_change(path: Path, kind: str, arguments: Arguments, seed: int) -> list[tuple[int, float]]:
    """Return control steps since the change, and returns."""
    env = robots(arguments, 16, seed + 1, arguments.gain)
    rate = arguments.learning_rate
    model = LiquidPPO.load(path, env=env, device="cpu", custom_objects={"learning_rate": rate})
    start = model.num_timesteps
    if kind != "none":
        model.set_plasticity(kind)
    course = [(0, score(model, arguments, seed, arguments.gain))]
    for _ in range(0 if kind == "none" else arguments.rounds):
        model.learn(arguments.more // arguments.rounds, reset_num_timesteps=False)
        steps = model.num_timesteps - start
        course.append((steps, score(model, arguments, seed, arguments.gain)))
    env.close()
    return course


def of_seed(arguments: Arguments, seed: int) -> list[list[str]]:
    """Return the rows of one seed."""
    env = robots(arguments, 16, seed, 1.0)
    options: dict[str, Any] = {"neurons": arguments.neurons, "log_std_init": -1.0}
    model = LiquidPPO(
        "LiquidPolicy",
        env,
        learning_rate=LinearSchedule(arguments.learning_rate, 0.0, 1.0),
        n_steps=128,
        batch_size=64,
        sequence_length=16,
        seed=seed,
        device="cpu",
        policy_kwargs=options,
    ).learn(arguments.steps)
    before = score(model, arguments, seed, 1.0)
    rows = []
    with TemporaryDirectory() as folder:
        model.save(path := Path(folder, "agent.zip"))
        env.close()
        for kind in arguments.kinds:
            course = after_change(path, kind, arguments, seed)
            goal = arguments.share * before
            steps = next((f"{steps:,}" for steps, mean in course if mean >= goal), "not reached")
            returns = " ".join(f"{mean:.0f}" for _, mean in course)
            rows.append([kind, str(seed), f"{before:.0f}", returns, steps])
            print(rows[-1], flush=True)
    return rows


def main(arguments: Arguments) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    rows = [row for seed in arguments.seeds for row in of_seed(arguments, seed)]
    goal = f"steps to {arguments.share:.0%}"
    print_table(("what learns", "seed", "return before", "returns after the change", goal), rows)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
