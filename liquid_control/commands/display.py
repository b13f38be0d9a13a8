"""Output of the commands: the plan of a training, its progress, and results."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.agents.evaluation import Evaluation
from liquid_control.collectors.nominal_interval import nominal_interval
from liquid_control.commands.run_folder import Run
from liquid_control.envs.substeps import substep_bounds
from liquid_control.kernels import extension
from liquid_control.kernels.fused import compile_circuit
from liquid_control.policies import acting, fused, fused_soft, optimizer
from liquid_control.policies.distributions import Gaussian
from liquid_control.policies.soft import SoftLiquidPolicy
from liquid_control.recipes import Recipe


def plan(recipe: Recipe, agent: LiquidPPO | LiquidSAC, env: VecEnv, run: Run) -> str:
    """Return the settings of a training and the folder of its files, one per line."""
    circuit, critic = agent.policy.actor_circuit, agent.policy.critic
    wiring = circuit.wiring
    layers = ", ".join(f"{size} {name}" for name, size in wiring.layers)
    facts = {
        "task": f"{recipe.task}, observing {recipe.env.observe}",
        "interval": _interval(recipe, env),
        "actor": f"{type(circuit).__name__}, {wiring.neuron_count} neurons ({layers}), "
        f"{wiring.synapse_count:,} synapses, {_parameters(agent.policy.actor):,} parameters",
        "critic": f"{type(critic).__name__}, {_parameters(critic):,} parameters",
        "training": f"{recipe.agent.total_timesteps:,} control steps in {env.num_envs} "
        f"environments, sequences of {agent.sequence_length}, seed {recipe.seed}, {agent.device}",
        **paths(agent),
        "run": str(run.folder),
        "watch": f"{command('tensorboard')} --logdir {quote(str(run.folder.parent))}",
    }
    return "\n".join(f"[bold]{name:<9}[/]{escape(fact)}" for name, fact in facts.items())


def paths(agent: LiquidPPO | LiquidSAC) -> dict[str, str]:
    """Return the implementations of an agent's updates, and of its actions in one environment."""
    policy, kernels = agent.policy, f"compiled kernels ({extension.choose().in_use})"
    if isinstance(policy, SoftLiquidPolicy):
        circuit = policy.actor_circuit
        is_compiled = circuit.backend == "auto" and compile_circuit(circuit) is not None
        alone = f"{kernels} and PyTorch" if is_compiled else "PyTorch"
        why_not = fused_soft.why_not_fused(policy) or optimizer.why_not_fused(policy.optimizer)
        updates = f"{alone}: {why_not}" if why_not else kernels
    else:
        updates = f"PyTorch: {reason}" if (reason := fused.why_not_fused(policy)) else kernels
        if not reason and (reason := policy.optimizer.why_not_fused()):
            updates += f"; steps of the optimizer: PyTorch, since {reason}"
        elif not reason and not isinstance(policy.distribution, Gaussian):
            updates += "; the loss of its actions: PyTorch"
    reason = acting.why_not_fused(policy)
    return {"updates": updates, "acting": f"PyTorch: {reason}" if reason else kernels}


def results(evaluations: Mapping[str, Evaluation]) -> Table:
    """Return a table of the return at each control rate."""
    table = Table(title="Return of an episode at each control rate", title_justify="left")
    table.add_column("")
    for heading in ("interval (s)", "rate (Hz)", "episodes", "mean return", "std"):
        table.add_column(heading, justify="right")
    for name, each in evaluations.items():
        interval, rate = f"{each.interval:.4g}", f"{1 / each.interval:.4g}"
        mean, deviation = f"{each.mean:.1f}", f"{each.deviation:.1f}"
        table.add_row(name, interval, rate, str(len(each.returns)), mean, deviation)
    return table


def summary(run: Run, steps: int, evaluations: Mapping[str, Evaluation]) -> str:
    """Return the results of a training on one line."""
    means = ", ".join(f"{each.mean:,.1f} {name}" for name, each in evaluations.items())
    return f"{run.folder}: {steps:,} steps, return {means}"


def command(name: str) -> str:
    """Return the call, from the current folder, of a command installed with this Python."""
    if shutil.which(name):
        return name
    path = Path(sys.executable).with_name(name)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


class TrainingProgress(BaseCallback):
    """Updates a progress bar with the control steps and the mean return of recent episodes."""

    def __init__(self, bars: Progress, total: int) -> None:
        super().__init__()
        self._bars = bars
        self._bar = bars.add_task("training", total=total, mean="")

    def _on_step(self) -> bool:
        self._bars.update(self._bar, completed=self.num_timesteps)
        return True

    def _on_rollout_end(self) -> None:
        episodes = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        mean = f"mean return {safe_mean(episodes):.1f}" if episodes else ""
        self._bars.update(self._bar, mean=mean)


@contextmanager
def training_progress(total: int) -> Iterator[TrainingProgress]:
    """Show a progress bar within the context; yield the callback that updates it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[mean]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns) as bars:
        yield TrainingProgress(bars, total)


def _interval(recipe: Recipe, env: VecEnv) -> str:
    interval, nominal = recipe.env.rule, nominal_interval(env)
    (timestep,) = env.get_attr("timestep", indices=[0])
    low, high = (count * timestep for count in substep_bounds(interval, nominal, timestep))
    if low == high:
        bounds = f"{_milliseconds(low)} ({1 / low:.4g} Hz)"
    else:
        slowest = f"{1 / high:.4g}"
        bounds = f"{_milliseconds(low)} to {_milliseconds(high)} ({slowest} to {1 / low:.4g} Hz)"
    kind = interval.kind.replace("_", " ")
    return (
        f"{kind}, {bounds}; nominal {_milliseconds(nominal)} ({1 / nominal:.4g} Hz); "
        f"physics steps of {_milliseconds(timestep)}"
    )


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.4g} ms"


def _parameters(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters() if each.requires_grad)
