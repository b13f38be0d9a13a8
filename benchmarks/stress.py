"""Circuits, an LSTM and an MLP over stacked observations under noise, dropout, delay and changes.

    python benchmarks/stress.py --steps 300000 --seed 0
    python benchmarks/stress.py --bodies           # trained with randomised bodies

All of them are trained alike: the same task, environments, control steps and learning rate, and all
of them get the elapsed time. Trains what is not trained yet in `runs/stress`, evaluates it as
stress.yaml says, and writes stress.csv and a figure for each test, with 95 % bands over episodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from table import print_table

from liquid_control import cli, envs
from liquid_control.commands.run_folder import existing_run
from liquid_control.commands.run_loader import load_agent, unseen_robots
from liquid_control.commands.stress import HEADER, Results, stressed, write_results
from liquid_control.recipes import Recipe, build_env, load_recipe
from liquid_control.recipes.stress import Stress, load_stress

HERE = Path(__file__).parent
BODIES = "env.bodies={mass: [0.7, 1.3], friction: [0.5, 1.5], gain: [0.8, 1.2]}"
WINDOW = 4  # observations that the MLP sees
MLP = f"MLP over {WINDOW} observations"


@dataclass
class Arguments:
    """Compare agents under stress."""

    recipes: tuple[str, ...] = tuple(
        f"half_cheetah/{name}_ppo" for name in ("ncp", "ncp_ltc", "lstm")
    )
    """Recipes of LiquidPPO, of one task."""

    steps: int = 300_000
    """Control steps of each training."""

    seed: int = 0
    """Of trainings and episodes."""

    bodies: bool = False
    """Train with bodies that differ from episode to episode."""

    stress: Path = HERE / "stress.yaml"
    """What is tried."""

    runs: Path = Path("runs/stress")
    """Folder of trainings and results."""


def trained(arguments: Arguments, name: str, changes: list[str]) -> Path:
    """Return the folder of a recipe's run, which is trained unless it is."""
    body = "bodies" if arguments.bodies else "model"
    folder = arguments.runs / f"{name.replace('/', '-')}-{body}-{arguments.steps}-{arguments.seed}"
    options = ["--seed", str(arguments.seed), "--folder", str(folder), "--quiet"]
    if cli.main(["train", name, *options, "--set", *changes]):
        raise SystemExit(f"the training of {name} failed")
    return folder


def of_circuit(folder: Path, stress: Stress) -> Results:
    """Evaluate a run."""
    recipe = load_recipe(folder / "config.yaml")
    env = build_env(recipe)
    agent = load_agent(recipe, existing_run(folder), env)
    env.close()
    return stressed(recipe, agent, stress, quiet=False)


def windows(env: VecEnv) -> VecEnv:
    """Return environments whose observations are the last few ones."""
    return envs.VecWindow(env, length=WINDOW)


def of_mlp(recipe: Recipe, stress: Stress, steps: int) -> Results:
    """Train SB3's PPO on windows of the recipe's environments, and evaluate it."""
    agent = recipe.agent
    normal = VecNormalize(
        build_env(recipe), norm_obs_keys=["observation"], gamma=agent.gamma, clip_obs=10.0
    )
    rate = agent.learning_rate
    model = PPO(
        "MultiInputPolicy",
        windows(normal),
        learning_rate=rate if isinstance(rate, float) else LinearSchedule(rate.start, rate.end, 1),
        n_steps=agent.n_steps,
        batch_size=agent.batch_size,
        n_epochs=agent.n_epochs,
        gamma=agent.gamma,
        gae_lambda=agent.gae_lambda,
        seed=recipe.seed,
        device="cpu",
        policy_kwargs={"log_std_init": recipe.policy.log_std_init or 0.0},
    ).learn(steps)

    def robots(changed: Recipe) -> VecEnv:
        unseen = VecNormalize(
            unseen_robots(changed, stress.episodes),
            training=False,
            norm_reward=False,
            norm_obs_keys=["observation"],
        )
        unseen.obs_rms = normal.obs_rms
        return windows(unseen)

    return stressed(recipe, model, stress, make_robots=robots, quiet=False)


def main(arguments: Arguments) -> None:
    """Train, evaluate, and print the table."""
    stress = load_stress(arguments.stress)
    changes = [f"agent.total_timesteps={arguments.steps}", "monitoring.every=null"]
    changes += ["env.privileged=null"]  # SB3's actor would see it
    changes += [BODIES] if arguments.bodies else []
    results = {}
    for name in arguments.recipes:
        folder = trained(arguments, name, changes)
        results[name.rpartition("/")[2]] = of_circuit(folder, stress)
    recipe = load_recipe(arguments.recipes[0], [*changes, f"seed={arguments.seed}"])
    results[MLP] = of_mlp(recipe, stress, arguments.steps)
    write_results(arguments.runs, results, stress, recipe.task)
    print_table(
        ("agent", *HEADER),
        [[name, *row.cells()] for name, each in results.items() for row in each.rows()],
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
