"""Reading a study: its plan, study.json, and the folders of its runs.

Folders may be untrusted, and runs unfinished. Unusable files are listed in the problems of the run
or the study, and the rest is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from liquid_control.agents.evaluation import TRAINED
from liquid_control.recipes import CommandError
from liquid_control.recipes.text import cut
from liquid_control.sweeps.results import (
    FINISHED,
    UNKNOWN,
    WAITING,
    Condition,
    RunResult,
    StudyResults,
)
from liquid_control.sweeps.run_files import (
    NO_LOG,
    FileError,
    count,
    number,
    printable,
    read_json,
    read_log,
    read_yaml,
    section,
    shown,
)

VERSION = 1
"""Version of study.json that is read here."""

MARKS = ("config.yaml", "run.json", "progress.csv")  # any of them makes a folder a run
MOST_CONDITIONS = 100  # as in a recipe
MOST_WAITING = 10_000


def read_study(folder: Path) -> StudyResults:
    """Read every run of a study; unusable files are listed in `problems`.

    Raises:
        CommandError: There is no such folder, no run in it, or the study has another version.
    """
    if not folder.is_dir():
        raise CommandError(f"{folder}: there is no such folder")
    plan, problems = _read_plan(folder / "study.json")
    recipes = section(plan, "recipes")
    found = dict(_run_folders(folder, problems))
    runs = [
        _read_run(path, name, recipes.get(name)) for name, paths in found.items() for path in paths
    ]
    if not runs:
        raise CommandError(
            f"{folder}: no runs in it; a study holds them as RECIPE/SEED, such as ncp_ppo/0"
        )
    runs += _waiting(plan, recipes, found)
    order = {shown(name): place for place, name in enumerate(recipes)}
    runs.sort(
        key=lambda run: (
            order.get(run.recipe, len(order)),
            _natural(run.recipe),
            -1 if run.seed is None else run.seed,
            _natural(run.path),
        )
    )
    command = plan.get("command")
    command = printable(command, 10_000) if isinstance(command, str) else ""
    return StudyResults(shown(folder.resolve().name), command, tuple(runs), tuple(problems))


def _read_plan(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return study.json, empty if it is unusable, and the problems with it."""
    try:
        plan = read_json(path)
    except FileNotFoundError:
        return {}, []
    except FileError as error:
        return {}, [f"{path.name} {error}; everything is derived from the folders of runs"]
    version = plan.get("version")
    if type(version) is not int:
        return {}, [f"{path.name} has no version; everything is derived from the folders of runs"]
    if version != VERSION:
        raise CommandError(
            f"{path} is of version {cut(str(version), 20)}, and this liquid_control reads version "
            f"{VERSION}; report with the version that made the study"
        )
    return plan, []


def _run_folders(folder: Path, problems: list[str]) -> Iterator[tuple[str, list[Path]]]:
    """Yield the folders of runs, by recipe name; add links to the problems."""
    for recipe in _folders(folder, problems):
        runs = [
            path
            for path in _folders(recipe, problems)
            if path.name.isdecimal() or any((path / name).exists() for name in MARKS)
        ]
        if runs:
            yield recipe.name, runs


def _folders(folder: Path, problems: list[str]) -> list[Path]:
    try:
        names = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        links = [path for path in names if path.is_symlink() and path.is_dir()]
        problems += [f"{shown(path.name)} is a link; it is not followed" for path in links]
        return [path for path in names if path.is_dir() and not path.is_symlink()]
    except OSError as error:
        problems.append(f"{shown(folder.name)} cannot be read: {error.strerror}")
        return []


def _waiting(
    plan: dict[str, Any], recipes: dict[str, Any], found: dict[str, list[Path]]
) -> list[RunResult]:
    """Return planned runs that have no folder yet; the trials of a search are not planned."""
    seeds = plan.get("seeds")
    known = [seed for seed in seeds if count(seed) is not None] if isinstance(seeds, list) else []
    if any(re.fullmatch(r"trial-\d+", name) for name in found):
        return []
    missing = (
        (name, seed)
        for name in recipes
        for seed in known
        if str(seed) not in {path.name for path in found.get(name, ())}
    )
    return [
        _describe(
            f"{shown(name)}/{seed}", name, recipes[name], seed, WAITING, "it has no folder yet"
        )
        for name, seed in islice(missing, MOST_WAITING)
    ]


def _read_run(folder: Path, name: str, planned: object) -> RunResult:
    """Read a run, with its config.yaml or else the recipe of the study's plan."""
    problems: list[str] = []

    def attempt(read: Any, file: str, otherwise: Any) -> Any:
        try:
            return read(folder / file)
        except FileNotFoundError:
            return otherwise
        except FileError as error:
            problems.append(f"{file} {error}")
            return otherwise

    recipe = attempt(read_yaml, "config.yaml", planned)
    state = attempt(read_json, "run.json", {})
    log = attempt(read_log, "progress.csv", NO_LOG)
    conditions = _conditions(attempt(read_json, "evaluation.json", {}), problems)
    trained = count(state.get("steps")) or 0
    steps = max(trained, int(log.steps[-1]) if len(log.steps) else 0)
    total = count(section(recipe, "agent").get("total_timesteps"))
    status = state.get("status")
    if isinstance(status, str) and status:
        status = shown(cut(status, 40))
    elif not state:  # of an earlier version: finished if it was trained and evaluated
        done = bool(conditions) and total is not None and steps >= total
        status = FINISHED if done else UNKNOWN
    else:
        problems.append("run.json has no status")
        status = UNKNOWN
    if status == FINISHED and not any(each.name == TRAINED for each in conditions):
        problems.append(f"it is finished, but evaluation.json has no results {TRAINED}")
    described = _describe(
        f"{shown(name)}/{shown(folder.name)}", name, recipe, _seed(recipe, folder), status, ""
    )
    version = state.get("version")
    known = {
        "steps": steps,
        "conditions": conditions,
        "log": log,
        "version": shown(version) if isinstance(version, str) and version else "",
        "reason": _reason(folder, state, status, steps, total),
        "problems": tuple(problems),
    }
    return RunResult(**(vars(described) | known))


def _describe(
    path: str, name: str, recipe: object, seed: int | None, status: str, reason: str
) -> RunResult:
    """Return a run of which only the recipe is known."""
    env, policy, agent = (section(recipe, key) for key in ("env", "policy", "agent"))
    algorithm = agent.get("algorithm", "ppo") if agent else ""
    observe = env.get("observe", "full") if isinstance(recipe, dict) else ""
    if isinstance(observe, list):
        observe = f"indices {' '.join(map(str, observe))}"
    task = recipe.get("task") if isinstance(recipe, dict) else None
    return RunResult(
        path=path,
        recipe=shown(name),
        seed=seed,
        task=shown(task) if isinstance(task, str) and task else "",
        observe=shown(observe) if observe else "",
        agent=shown(algorithm) if algorithm else "",
        neurons=shown(policy["neurons"]) if policy.get("neurons") else "",
        intervals=cut(repr(env.get("interval")), 1000),
        status=status,
        steps=0,
        total_timesteps=count(agent.get("total_timesteps")),
        conditions=(),
        log=NO_LOG,
        version="",
        reason=reason,
        problems=(),
    )


def _conditions(evaluation: dict[str, Any], problems: list[str]) -> tuple[Condition, ...]:
    """Return the results in an evaluation.json; invalid ones become a problem."""
    fixed = evaluation.get("intervals")
    entries = [(TRAINED, evaluation["trained"])] if "trained" in evaluation else []
    if isinstance(fixed, list):
        entries += [("", each) for each in fixed[:MOST_CONDITIONS]]
    conditions: dict[str, Condition] = {}
    for name, entry in entries:
        keys = ("interval_s", "ratio", "mean_return", "std_return", "episodes")
        known = entry if isinstance(entry, dict) else {}
        interval, ratio, mean, deviation, episodes = (number(known.get(key)) for key in keys)
        sound = mean is not None and deviation is not None and deviation >= 0 and episodes
        if not (sound and _positive(interval) and _positive(ratio)):
            problems.append(f"evaluation.json: {name or 'an interval'} has no usable results")
            continue
        name = name or f"{ratio:g}x nominal"
        conditions[name] = Condition(name, interval, mean, deviation, int(episodes))  # type: ignore[arg-type]
    return tuple(conditions.values())


def _positive(value: float | None) -> bool:
    """Whether a number is an interval in seconds, or a ratio of intervals, that can be plotted."""
    return value is not None and 1e-6 <= value <= 1e6


def _seed(recipe: object, folder: Path) -> int | None:
    """Return the seed in a recipe, or else the number at the end of the folder's name."""
    seed = count(recipe.get("seed")) if isinstance(recipe, dict) else None
    if seed is not None:
        return seed
    digits = re.search(r"[0-9]{1,10}$", folder.name)
    return int(digits[0]) if digits else None


def _reason(folder: Path, state: dict[str, Any], status: str, steps: int, total: int | None) -> str:
    """Return why a run is not finished; empty if it is."""
    if status == FINISHED:
        return ""
    parts = [f"it has reached {steps:,}{'' if total is None else f' of {total:,}'} control steps"]
    if status == "training":
        parts.append("it is being trained, or its process was killed")
    if isinstance(given := state.get("reason"), str) and given.strip():
        parts.append(printable(given, 300))
    parts += _faults(folder)
    try:
        written = datetime.fromtimestamp((folder / "progress.csv").lstat().st_mtime)
        parts.append(f"its log was last written at {written:%Y-%m-%d %H:%M}")
    except (OSError, ValueError, OverflowError):
        parts.append("it has no log")
    return "; ".join(parts)


def _faults(folder: Path) -> Iterator[str]:
    """Yield descriptions of numbers that were not finite."""
    for path in sorted(folder.glob("fault-*.json"))[:3]:
        try:
            fault = read_json(path)
        except (FileError, FileNotFoundError):
            continue
        quantity = shown(cut(str(fault.get("quantity", "a number")), 60))
        yield f"{quantity} was not finite after {shown(fault.get('timesteps'))} control steps"


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in names by their value."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"([0-9]{1,18})", name)
    ]
