"""Packs a trained policy into one file, and unpacks it into a run."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import yaml
from jinja2 import StrictUndefined, Template

from liquid_control.checkpoints import CheckpointError, Contents, read
from liquid_control.checkpoints.archive import contents_of, pack_zip, read_file, unpack_zip
from liquid_control.checkpoints.durable import replacing
from liquid_control.checkpoints.manifest import opened, sealed
from liquid_control.commands.run_folder import Run
from liquid_control.recipes import Recipe

FORMAT = "liquid_control policy"
VERSION = 1
CARD, POLICY = "README.md", "policy.zip"
CARD_TEXT = """\
---
{{ front }}
---
# {{ agent }} on {{ recipe.task }}

A circuit of {{ recipe.policy.neurons or "cfc" }} neurons, trained with liquid_control for
{{ "{:,}".format(recipe.agent.total_timesteps) }} control steps, seed {{ recipe.seed }}. It observes
{{ recipe.env.observe }}, and acts at intervals {{ intervals }}.

{% if figures %}
| intervals | seconds | episodes | mean return | std |
|---|---:|---:|---:|---:|
{% for each in [figures.trained] + figures.intervals %}
| {{ "as trained" if loop.first else "fixed" }} | {{ "%.4g" % each.interval_s }} \
| {{ each.episodes }} | {{ "{:,.1f}".format(each.mean_return) }} \
| {{ "{:,.1f}".format(each.std_return) }} |
{% endfor %}

![Return at each control rate](evaluation.png)

{% endif %}
## Use

    liquid-control unpack FILE --output RUN
    liquid-control evaluate RUN
    liquid-control record RUN

`config.yaml` is the recipe with every setting; `policy.zip` is what `{{ agent }}.load` takes. It
holds no code.

## Limits

One training with one seed, in simulation, evaluated on the episodes above. Other tasks, other
rates and real robots were not tested; run it on a robot only with limits on torque and speed, and
with an emergency stop.
"""
AGENTS = {"ppo": "LiquidPPO", "sac": "LiquidSAC"}


def pack(run: Run, recipe: Recipe, path: Path) -> list[str]:
    """Write a run's policy, recipe, evaluation, film and card into one file; return their names.

    Raises:
        OSError: something cannot be read or written.
        CheckpointError: the policy is damaged.
    """
    read(run.model)
    files = {CARD: card(run, recipe).encode()}
    for name, source in _places(run).items():
        if name != CARD and source.exists():
            files[name] = source.read_bytes()
    with replacing(path) as partial:
        partial.write_bytes(pack_zip(sealed(files, FORMAT, VERSION, task=recipe.task)))
    return list(files)


def unpack(path: Path, folder: Path) -> Run:
    """Unpack a file that `pack` wrote into a run, after checking all of it.

    Raises:
        FileExistsError: the folder exists.
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or something else.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder")
    files = _opened(path)
    with replacing(folder) as partial:
        places = _places(Run(partial))
        for name, content in files.items():
            places[name].parent.mkdir(parents=True, exist_ok=True)
            places[name].write_bytes(content)
        read(Run(partial).model)
    return Run(folder)


def is_packed(path: Path) -> bool:
    """Whether a path is a file that holds a policy as `pack` writes it; it is not checked."""
    try:
        with ZipFile(io.BytesIO(read_file(path))) as archive:
            return POLICY in archive.namelist()
    except (BadZipFile, CheckpointError, IsADirectoryError):
        return False


def read_packed(path: Path) -> Contents:
    """The agent in a file that `pack` wrote, after checking all of it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, or something else.
    """
    policy = _opened(path)[POLICY]
    try:
        return contents_of(unpack_zip(policy))
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not loaded: {POLICY}: {error}") from error


def _opened(path: Path) -> dict[str, bytes]:
    """The files of a packed policy, checked against its manifest."""
    names = re.compile("|".join(map(re.escape, (*_places(Run(path)), "manifest.json"))))
    try:
        _, files = opened(unpack_zip(read_file(path), names), FORMAT, VERSION)
        if not {"config.yaml", POLICY} <= files.keys():
            raise CheckpointError("it holds no policy with its recipe")
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not unpacked: {error}") from error
    return files


def card(run: Run, recipe: Recipe) -> str:
    """A card in the form that Hugging Face reads: data in front, then text."""
    agent, figures = AGENTS[recipe.agent.algorithm], _figures(run)
    result: dict[str, Any] = {
        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
        "dataset": {"name": recipe.task, "type": recipe.task},
    }
    if figures:
        trained = figures["trained"]
        reward = f"{trained['mean_return']:.2f} +/- {trained['std_return']:.2f}"
        metric = {"type": "mean_reward", "name": "mean_reward", "value": reward, "verified": False}
        result["metrics"] = [metric]
    front = {
        "library_name": "stable-baselines3",
        "tags": [
            "reinforcement-learning",
            "deep-reinforcement-learning",
            "stable-baselines3",
            "liquid-control",
            "mujoco",
            recipe.task,
        ],
        "model-index": [{"name": agent, "results": [result]}],
    }
    text = Template(CARD_TEXT, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    rendered: str = text.render(
        front=yaml.safe_dump(front, sort_keys=False).rstrip(),
        agent=agent,
        recipe=recipe,
        figures=figures,
        intervals=_words(recipe.env.interval),
    )
    return rendered


def _words(interval: float | dict[str, Any] | None) -> str:
    """A recipe's control intervals, in words that follow the word."""
    if interval is None:
        return "of nominal length"
    if isinstance(interval, dict):
        settings = (f"{key} {value}" for key, value in interval.items() if key != "kind")
        return f"of the kind `{interval['kind']}` ({', '.join(settings)}; in seconds)"
    return f"of {interval:g} s"


def _figures(run: Run) -> dict[str, Any] | None:
    if not run.evaluation.exists():
        return None
    figures: dict[str, Any] = json.loads(run.evaluation.read_text("utf-8"))
    return figures


def _places(run: Run) -> dict[str, Path]:
    """Where each member of a packed policy lies in a run."""
    return {
        CARD: run.folder / CARD,
        "config.yaml": run.config,
        POLICY: run.model,
        "evaluation.json": run.evaluation,
        "evaluation.png": run.plot,
        "replay.mp4": _film(run),  # the name that Hugging Face shows
    }


def _film(run: Run) -> Path:
    """The newest film of a run, or where `record` would put one."""
    films = sorted(run.videos.glob("*.mp4"), key=lambda path: path.stat().st_mtime)
    return films[-1] if films else run.videos / "film.mp4"
