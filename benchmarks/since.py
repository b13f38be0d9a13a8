"""Training time of an earlier commit over that of this tree, with the recipe of that commit.

    python benchmarks/since.py
    python benchmarks/since.py --recipe half_cheetah/ncp_sac --steps 15000

Checks the commit out in a temporary folder, compiles its kernels, and trains its recipe with the
code of both trees, in turns, each in a process of its own: nobody watches, nothing is saved. Also
reports the mean return of the last training episodes of each, so that one sees that they learn
alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

import tyro
from table import print_table

HERE = Path(__file__).parent.parent
TRAIN = """
import json, sys, time
import mujoco, yaml
from stable_baselines3.common.utils import LinearSchedule
from liquid_control import LiquidPPO, LiquidSAC, envs

mujoco.set_mju_user_warning(lambda message: None)
recipe, seed, steps = yaml.load(open(sys.argv[1]), yaml.BaseLoader), *map(int, sys.argv[2:])

def plain(value):
    if isinstance(value, dict):
        if value.keys() == {"start", "end"}:
            return LinearSchedule(float(value["start"]), float(value["end"]), 1.0)
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return value

env, agent, policy = (plain(recipe[key]) for key in ("env", "agent", "policy"))
interval = env["interval"]
kind = {"ppo": LiquidPPO, "sac": LiquidSAC}[agent.pop("algorithm", "ppo")]
agent.pop("total_timesteps")
robots = envs.make_vec(
    recipe["task"],
    env["num_envs"],
    observe=env["observe"],
    interval=envs.Uniform(interval["low"], interval["high"]),
    seed=seed,
)
model = kind("LiquidPolicy", robots, seed=seed, device="cpu", policy_kwargs=policy, **agent)
start = time.perf_counter()
model.learn(steps)
seconds = time.perf_counter() - start
returns = [episode["r"] for episode in model.ep_info_buffer]
print(json.dumps([seconds, sum(returns) / max(len(returns), 1)]))
"""


@dataclass
class Arguments:
    """Training time of an earlier commit over that of this tree."""

    commit: str = "98cb1c9"
    """The earlier commit."""

    recipe: str = "half_cheetah/ncp_ppo"
    """A recipe that the commit has, with a uniform interval."""

    steps: int = 1_000_000
    """Control steps of a training."""

    rounds: int = 1
    """Trainings of each side."""

    seed: int = 0
    """Of the first round."""


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Yield the folder of a commit, with compiled kernels."""
    with TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        git = ["git", "-C", str(HERE), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
            subprocess.run(build, cwd=tree, check=True, stdout=subprocess.DEVNULL)
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def train(tree: Path, recipe: Path, seed: int, steps: int) -> tuple[float, float]:
    """Return the seconds of a training with the code of a tree, and the last episodes' return."""
    found = subprocess.run(
        [sys.executable, "-c", TRAIN, str(recipe), str(seed), str(steps)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        check=True,
        stdout=subprocess.PIPE,
    )
    seconds, earned = json.loads(found.stdout.splitlines()[-1])
    return seconds, earned


def main(arguments: Arguments) -> None:
    """Print the table."""
    results: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with checked_out(arguments.commit) as before:
        recipe = before / "configs" / f"{arguments.recipe}.yaml"
        for round_ in range(arguments.rounds):
            for name, tree in ((arguments.commit, before), ("this tree", HERE)):
                found = train(tree, recipe, arguments.seed + round_, arguments.steps)
                results[name].append(found)
                print(f"{name}: {found[0]:.1f} s, return {found[1]:.0f}", flush=True)
    old = results[arguments.commit]
    ratios = [
        mine / theirs for (mine, _), (theirs, _) in zip(results["this tree"], old, strict=True)
    ]
    print()
    print_table(
        (arguments.recipe, "s", "steps/s", "return of the last episodes"),
        [
            [
                name,
                f"{(seconds := median(each[0] for each in found)):.1f}",
                f"{arguments.steps / seconds:,.0f}",
                f"{mean(each[1] for each in found):,.0f}",
            ]
            for name, found in results.items()
        ],
    )
    print(f"\ntime over that of {arguments.commit}: {median(ratios):.2f}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
