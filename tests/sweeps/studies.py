"""Made-up studies: the files that trainings leave behind, without the trainings."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

TASK = "HalfCheetah-v5"
TASKS = {"half_cheetah": ("HalfCheetah-v5", 0.05, 3000.0), "hopper": ("Hopper-v5", 0.008, 1500.0)}
RATIOS = (0.5, 1.0, 2.0)


def write_json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def write_recipe(path: Path, task: str = TASK, seed: int = 0, **others: Any) -> None:
    """Write a resolved recipe, as far as reports read it; JSON is YAML."""
    recipe = {
        "name": "made_up",
        "task": task,
        "env": {"observe": "positions", "interval": {"kind": "uniform", "low": 0.02, "high": 0.1}},
        "agent": {"algorithm": "ppo", "total_timesteps": 100_000},
        "policy": {"neurons": "cfc"},
        "seed": seed,
    }
    write_json(path, recipe | others)


def write_log(path: Path, rows: Iterable[tuple[float, float, float, float | None]]) -> None:
    """Write progress.csv: control steps, SB3's clock and rate, and the return."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(
            ["time/total_timesteps", "time/time_elapsed", "time/fps", "rollout/ep_rew_mean"]
        )
        table.writerows(rows)


def evaluation(mean: float, nominal: float = 0.05, spread: float = 10.0) -> dict[str, Any]:
    """An evaluation as trained, and at fixed rates: the faster, the better."""

    def entry(ratio: float, value: float) -> dict[str, Any]:
        return {
            "interval_s": round(ratio * nominal, 9),
            "ratio": ratio,
            "episodes": 20,
            "mean_return": value,
            "std_return": spread,
        }

    fixed = [entry(ratio, mean * (1.1 - 0.2 * (ratio - 0.5))) for ratio in RATIOS]
    return {"task": TASK, "steps": 0, "intervals": fixed, "trained": entry(1.2, mean)}


def write_run(
    folder: Path,
    mean: float = 1000.0,
    *,
    task: str = TASK,
    seed: int = 0,
    status: str = "finished",
    total: int = 100_000,
    share: float = 1.0,
    seconds: float = 600.0,
    nominal: float = 0.05,
    **recipe: Any,
) -> Path:
    """Write a run that came to a share of its steps; its return rises to `mean`."""
    agent = {"algorithm": "ppo", "total_timesteps": total}
    write_recipe(folder / "config.yaml", task, seed, **({"agent": agent} | recipe))
    steps = np.arange(1, round(50 * share) + 1) * total / 50
    noise = 1 + 0.03 * np.random.default_rng(seed).normal(size=len(steps))
    returns = mean * (1 - np.exp(-4 * steps / total)) * noise
    rate = int(total / seconds)
    rows = [
        (int(step), int(step / total * seconds), rate, round(float(value), 3))
        for step, value in zip(steps, returns, strict=True)
    ]
    write_log(folder / "progress.csv", rows)
    state = {"status": status, "steps": int(steps[-1]), "recipe": {}, "version": "0.1.0"}
    write_json(folder / "run.json", state)
    if status == "finished":
        write_json(folder / "evaluation.json", evaluation(mean, nominal))
    return folder


def write_study(
    folder: Path, recipes: Iterable[str] = ("ncp_ppo", "lstm_ppo", "dense_ppo"), seeds: int = 5
) -> Path:
    """Write a study of these recipes on two tasks, all runs of which are finished."""
    rng = np.random.default_rng(0)
    plan: dict[str, Any] = {
        "version": 1,
        "command": "liquid-control sweep configs/*/*.yaml --seeds 0-4",
        "recipes": {},
        "seeds": list(range(seeds)),
    }
    for prefix, (task, nominal, best) in TASKS.items():
        for place, recipe in enumerate(recipes):
            name = f"{prefix}-{recipe}"
            plan["recipes"][name] = {"task": task}
            for seed in range(seeds):
                mean = best * (1 - 0.25 * place) * (1 + 0.1 * rng.normal())
                seconds = 600 * (1 + 0.1 * rng.random()) * (place + 1)
                kwargs = {"task": task, "nominal": nominal, "seconds": seconds}
                write_run(folder / name / str(seed), mean, seed=seed, **kwargs)  # type: ignore[arg-type]
    write_json(folder / "study.json", plan)
    return folder
