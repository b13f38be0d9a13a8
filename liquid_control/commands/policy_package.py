"""Packs a trained policy into one file, and unpacks it into a run."""

from __future__ import annotations

import io
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
import yaml
from jinja2 import Environment, StrictUndefined
from pydantic import BaseModel, ValidationError

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.checkpoints import CheckpointError, Contents, read
from liquid_control.checkpoints.archive import (
    ZIP_ERRORS,
    contents_of,
    pack_zip,
    read_file,
    unpack_zip,
    zipped,
)
from liquid_control.checkpoints.durable import replacing
from liquid_control.checkpoints.manifest import opened, sealed
from liquid_control.checkpoints.saved_agent import ACTS_ONLY
from liquid_control.commands.run_folder import Run, check_newest, plot_of, steps_of
from liquid_control.commands.run_state import read_state
from liquid_control.monitoring.report.page import visible
from liquid_control.recipes import CommandError, Recipe

FORMAT = "liquid_control policy"
VERSION = 1
SAVING = 60.0  # seconds; a copied or unpacked run's files are as old as each other
CARD, POLICY = "README.md", "policy.zip"
CARD_TEXT = """\
---
{{ front | safe }}
---
# {{ agent }} on {{ recipe.task }}

A circuit of {{ recipe.policy.neurons or "cfc" }} neurons, trained with liquid_control for
{{ training }}, seed {{ recipe.seed }}. It observes
{{ recipe.env.observe }}, and acts at intervals {{ intervals }}.

{% if figures %}
| intervals | seconds | ratio to nominal | episodes | mean return | std |
|---|---:|---:|---:|---:|---:|
{% for each in (figures.trained,) + figures.intervals %}
| {{ "as trained" if loop.first else "fixed" }} | {{ "%.4g" % each.interval_s }} \
| {{ "%.4g" % each.ratio }} | {{ each.episodes }} | {{ "{:,.1f}".format(each.mean_return) }} \
| {{ "{:,.1f}".format(each.std_return) }} |
{% endfor %}

{% if plot %}
![Return at each control rate](evaluation.png)

{% endif %}
{% endif %}
## Use

    liquid-control unpack {{ source }} --output RUN
    liquid-control evaluate RUN
    liquid-control record RUN

`config.yaml` is the recipe with every setting; `policy.zip` is what `{{ agent }}.load` takes. It
holds no code{% if acts_only %}, and only what acts: without critics it cannot be trained further\
{% endif %}.

## Limits

One training with one seed, in simulation, evaluated on the episodes above. Other tasks, other
rates and real robots were not tested; run it on a robot only with limits on torque and speed, and
with an emergency stop.
"""
AGENTS = {"ppo": "LiquidPPO", "sac": "LiquidSAC"}
_TEMPLATES = Environment(
    autoescape=True,
    finalize=visible,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Figures(BaseModel):
    """Returns at one control rate; see `Evaluation`."""

    interval_s: float
    ratio: float
    episodes: int
    mean_return: float
    std_return: float


class Results(BaseModel):
    """The file of an evaluation. Fields that earlier versions did not write are None."""

    intervals: tuple[Figures, ...]
    trained: Figures
    steps: int | None = None
    seed: int | None = None
    ratios: tuple[float, ...] | None = None

    def are_asked_for(self, recipe: Recipe, steps: int) -> bool:
        """Return whether a recipe asks for them, of its agent after `steps` control steps."""
        asked = recipe.evaluation
        pairs = (self.steps, steps), (self.seed, recipe.seed), (self.ratios, asked.ratios)
        return (
            {each.episodes for each in (self.trained, *self.intervals)} == {asked.episodes}
            and (self.ratios is not None or len(self.intervals) == len(asked.ratios))
            and all(mine is None or mine == theirs for mine, theirs in pairs)
        )


def pack(
    run: Run, recipe: Recipe, path: Path, source: str = "FILE", *, acts_only: bool = False
) -> dict[str, bytes]:
    """Write a run's policy, recipe, evaluation, film and card into one file; return them by name.

    The evaluation is the one that the recipe asks for, of the packed policy.

    Args:
        run: the run.
        recipe: its recipe.
        path: of the file.
        source: the argument of `unpack` in the card.
        acts_only: leave out the critics and optimizers.

    Raises:
        OSError: a file cannot be read or written.
        CheckpointError: the policy is damaged, or a file is a link.
        CommandError: an evaluation cannot be read, or `acts_only` is asked of a custom agent.
    """
    check_newest(run)
    policy = _acting(run) if acts_only else read_file(run.model)
    steps, state = steps_of(run.model), read_state(run)
    evaluation, results = _asked_evaluation(run, recipe, steps)
    found: dict[str, Path | None] = {
        CARD: None,
        "evaluation.json": evaluation,
        "evaluation.png": evaluation and plot_of(evaluation),
        "replay.mp4": _film(run),
    }
    plot = evaluation is not None and plot_of(evaluation).exists()
    text = card(
        recipe,
        steps,
        results,
        state.init if state else None,
        source,
        plot=plot,
        acts_only=ACTS_ONLY in contents_of(unpack_zip(policy)).data["agent"],
    )
    files = {CARD: text.encode(), POLICY: policy}
    for name, place in {**_places(run), **found}.items():
        if name not in files and place is not None and place.exists():
            files[name] = read_file(place)
    with replacing(path) as partial:
        partial.write_bytes(pack_zip(sealed(files, FORMAT, VERSION, task=recipe.task)))
    return files


def unpack(path: Path, folder: Path) -> Run:
    """Unpack a file that `pack` wrote into a run, after checking all of it.

    Raises:
        FileExistsError: the folder exists.
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged or invalid.
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


def holds(run: Run, path: Path) -> bool:
    """Return whether a run was unpacked from a file that `pack` wrote, after checking the file.

    Raises:
        CheckpointError: it is damaged or invalid.
    """
    files, places = _opened(path), _places(run)
    return all(
        places[name].exists() and read_file(places[name]) == files[name]
        for name in ("config.yaml", POLICY)
    )


def is_packed(path: Path) -> bool:
    """Whether a path is a file of a packed policy; its content is not checked."""
    try:
        with ZipFile(io.BytesIO(read_file(path))) as archive:
            return POLICY in archive.namelist()
    except (*ZIP_ERRORS, IsADirectoryError):  # CheckpointError is a ValueError
        return False


def read_packed(path: Path) -> Contents:
    """Return the agent in a file that `pack` wrote, after checking all of it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged or invalid.
    """
    policy = _opened(path)[POLICY]
    try:
        return contents_of(unpack_zip(policy))
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not loaded: {POLICY}: {error}") from error


def agent_of(
    contents: Contents, source: Path | str, device: torch.device | str = "cpu"
) -> LiquidPPO | LiquidSAC | None:
    """Return the agent of a checkpoint, without running code; None for a custom class.

    Raises:
        CheckpointError: it is invalid; the error names the source.
    """
    for kind in (LiquidPPO, LiquidSAC):
        if contents.kind == kind.__name__:
            return kind.from_contents(contents, device=device, source=source)
    return None


def _acting(run: Run) -> bytes:
    """Return a run's saved agent without its critics and optimizers."""
    contents = read(run.model)
    agent = agent_of(contents, run.model)
    if agent is None:
        raise CommandError(
            f"{run.model} holds a {contents.kind}, and of custom agents it is not known what acts; "
            "pack it without --acts-only"
        )
    return zipped(agent.state_dict(acts_only=True))


def _opened(path: Path) -> dict[str, bytes]:
    """Return the files of a packed policy, checked against its manifest."""
    names = re.compile("|".join(map(re.escape, (*_places(Run(path)), "manifest.json"))))
    try:
        _, files = opened(unpack_zip(read_file(path), names), FORMAT, VERSION)
        if not {"config.yaml", POLICY} <= files.keys():
            raise CheckpointError("it holds no policy with its recipe")
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not unpacked: {error}") from error
    return files


def card(
    recipe: Recipe,
    steps: int,
    results: Results | None,
    init: str | None,
    source: str,
    *,
    plot: bool,
    acts_only: bool,
) -> str:
    """Return a card in Hugging Face's format: metadata first, then text.

    Args:
        recipe: of the policy.
        steps: control steps of its training.
        results: of its evaluation.
        init: origin of its initial weights.
        source: the argument of `unpack`.
        plot: whether there is a plot of the results.
        acts_only: whether critics and optimizers were left out.
    """
    agent = AGENTS[recipe.agent.algorithm]
    result: dict[str, Any] = {
        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
        "dataset": {"name": recipe.task, "type": recipe.task},
    }
    if results:
        reward = f"{results.trained.mean_return:.2f} +/- {results.trained.std_return:.2f}"
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
    rendered: str = _TEMPLATES.from_string(CARD_TEXT).render(
        front=yaml.safe_dump(front, sort_keys=False).rstrip(),
        agent=agent,
        recipe=recipe,
        figures=results,
        training=_training(recipe, steps, init),
        source=source,
        plot=plot,
        acts_only=acts_only,
        intervals=_words(recipe.env.interval),
    )
    return rendered


def _training(recipe: Recipe, steps: int, init: str | None) -> str:
    """Return the length of a policy's training."""
    total = recipe.agent.total_timesteps
    text = f"{steps:,} control steps"
    if steps < total:
        text += f" of {total:,}, so that its training is not finished"
    return text if init is None else f"{text}, starting with the weights of {init}"


def _words(interval: float | dict[str, Any] | None) -> str:
    """Return words for a recipe's control intervals, to follow "intervals"."""
    if interval is None:
        return "of nominal length"
    if isinstance(interval, dict):
        return f"of the kind {_kind(interval)}, in seconds"
    return f"of {interval:g} s"


def _kind(settings: dict[str, Any]) -> str:
    """Return the kind of control intervals and its settings, which may be nested."""
    words = (
        f"{key} {_kind(value) if isinstance(value, dict) else value}"
        for key, value in settings.items()
        if key != "kind"
    )
    return f"`{settings['kind']}` ({', '.join(words)})"


def _asked_evaluation(
    run: Run, recipe: Recipe, steps: int
) -> tuple[Path, Results] | tuple[None, None]:
    """Return the evaluation that a recipe asks for, of its agent after `steps` control steps."""
    for path in (run.evaluation, *sorted(run.evaluations.glob("[!.]*.json"), reverse=True)):
        with suppress(FileNotFoundError):
            try:
                results = Results.model_validate_json(read_file(path))
            except ValidationError as error:
                raise CommandError(f"{path} holds no results of an evaluation") from error
            if results.are_asked_for(recipe, steps):
                return path, results
    asked = recipe.evaluation
    warnings.warn(
        f"it is packed without an evaluation; `evaluate` measures the {asked.episodes} episodes at "
        f"ratios {', '.join(f'{each:g}' for each in asked.ratios)} that its recipe asks for",
        stacklevel=3,
    )
    return None, None


def _places(run: Run) -> dict[str, Path]:
    """Return the path in a run of each member of a packed policy."""
    return {
        CARD: run.folder / CARD,
        "config.yaml": run.config,
        POLICY: run.model,
        "evaluation.json": run.evaluation,
        "evaluation.png": plot_of(run.evaluation),
        "replay.mp4": run.videos / "film.mp4",  # the name that Hugging Face shows
    }


def _film(run: Run) -> Path | None:
    """Return the newest complete film of a run, but not of an agent that trained since."""
    films = {path: path.stat().st_mtime for path in run.videos.glob("[!.]*.mp4")}
    newest = max(films, key=films.__getitem__, default=None)
    if newest is None or films[newest] > run.model.stat().st_mtime - SAVING:
        return newest
    warnings.warn(
        f"{newest} is left out, since it was recorded before {run.model.name} was saved; record it "
        "again",
        stacklevel=3,
    )
    return None
