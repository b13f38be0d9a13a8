"""Soft actor-critics that observe only positions: LiquidSAC against SB3's SAC with a window.

    python benchmarks/soft.py --picture docs/half_cheetah_sac.png

LiquidSAC is that of a recipe, at the task's nominal rate. SB3's SAC has its own defaults, an update
for every control step, and an MLP over the last observations together. Both step as many envs of
`envs.make_vec`. They learn side by side, each in a process of its own with one thread; after every
stretch of steps their most likely actions are judged over episodes that they have not seen.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import tyro
from picture import COLOURS, picture
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from table import print_table

from liquid_control import WindowReplayBuffer, envs
from liquid_control.recipes import Recipe, build_agent, build_env, load_recipe

SIDES = LIQUID, WINDOWED = "LiquidSAC, NCP-CfC", "SB3's SAC, MLP over a window"
UNSEEN = 2**31  # far above every seed of a training


@dataclass
class Arguments:
    """LiquidSAC against SB3's SAC with a window, positions only."""

    recipe: Path = Path("configs/half_cheetah/ncp_sac.yaml")
    """LiquidSAC's."""

    steps: int = 340_000
    """Control steps that each learns from, over all environments."""

    stretch: int = 10_000
    """Control steps between two evaluations."""

    window: int = 4
    """Number of observations in the window of SB3's SAC."""

    goal: float = 3000.0
    """Mean return whose first appearance is reported."""

    episodes: int = 10
    """Episodes of an evaluation."""

    seed: int = 0
    """Seed of both."""

    picture: Path | None = None
    """Draw the curves into this file."""


@dataclass
class Curve:
    """The evaluations of an agent: control steps, mean returns and seconds of learning."""

    steps: list[int] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def row(self, goal: float) -> list[str]:
        """Return the cells of the table."""
        reached = next((i for i, each in enumerate(self.returns) if each >= goal), None)
        when = ["never", ""]
        if reached is not None:
            when = [f"{self.steps[reached]:,}", f"{self.seconds[reached] / 60:.0f}"]
        speed = self.steps[-1] / self.seconds[-1]
        return [f"{max(self.returns):,.0f}", f"{self.returns[-1]:,.0f}", *when, f"{speed:,.0f}"]


def learn(name: str, arguments: Arguments) -> Curve:
    """Train one of `SIDES` for all of its steps."""
    torch.set_num_threads(1)
    changes = ["env.interval=null", "env.threads=1", f"seed={arguments.seed}"]
    changes += ["env.privileged=null"]  # SB3's actor would see it
    recipe = load_recipe(arguments.recipe, changes)
    env = build_env(recipe)
    unseen = build_env(recipe, num_envs=arguments.episodes, seed=UNSEEN + arguments.seed)
    agent: OffPolicyAlgorithm
    if name == LIQUID:
        agent = build_agent(recipe, env)
    else:
        unseen = envs.VecWindow(unseen, arguments.window)
        agent = feedforward(envs.VecWindow(env, arguments.window), recipe)
    curve, seconds = Curve(), 0.0
    while agent.num_timesteps < arguments.steps:
        start = time.perf_counter()
        agent.learn(arguments.stretch, reset_num_timesteps=False)
        seconds += time.perf_counter() - start
        mean, _ = evaluate_policy(agent, unseen, arguments.episodes)
        curve.steps.append(agent.num_timesteps)
        curve.returns.append(float(mean))
        curve.seconds.append(seconds)
        print(f"{name}: {agent.num_timesteps:,} steps, {seconds:.0f} s, {mean:,.0f}", flush=True)
    return curve


def feedforward(windows: VecEnv, recipe: Recipe) -> SAC:
    """Return SB3's SAC over windows, with its defaults except a longer start."""
    return SAC(
        "MultiInputPolicy",
        windows,
        learning_starts=recipe.agent.learning_starts,
        gradient_steps=-1,
        replay_buffer_class=WindowReplayBuffer,
        seed=recipe.seed,
        device="cpu",
    )


def draw(curves: dict[str, Curve], path: Path, title: str) -> None:
    """Draw return against control steps."""
    x, y = "control steps (thousands)", "mean return of unseen episodes"
    with picture(path, title, x, y) as axes:
        for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
            axes.plot(np.divide(curve.steps, 1000), curve.returns, color=colour, label=name)


def main(arguments: Arguments) -> None:
    """Train both; print every evaluation and a table, and draw the curves if requested."""
    processes = ProcessPoolExecutor(mp_context=get_context("spawn"))
    with processes as pool:
        curves = dict(zip(SIDES, pool.map(learn, SIDES, repeat(arguments)), strict=True))
    print()
    header = ("agent", "best", "last", f"steps to {arguments.goal:,.0f}", "minutes", "steps/s")
    print_table(header, [[name, *curve.row(arguments.goal)] for name, curve in curves.items()])
    if arguments.picture is not None:
        draw(curves, arguments.picture, f"{arguments.recipe.parent.name}, positions only")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
