"""Time of one acting step, through a controller and through `predict`, with and without fusion.

    python benchmarks/acting.py
    python benchmarks/acting.py --neurons cfc lstm ltc --clock cpu

The policy of `make train`, and LiquidSAC's with as many inputs, but for the circuit, an NCP of 64
neurons: 17 numbers of an observation, elapsed time, an encoder of 64, and 6 actions. One torch
thread. "Fused" is one call of the compiled kernels (`policies/acting.py`); without fusion circuits
still run in the kernels. Both sides run in turns of a few steps, after as many steps that fill the
caches. Of all turns the fastest tenth counts: on a shared machine, other programs interrupt the
rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import tyro
from gymnasium import spaces
from table import print_table
from timing import Clock, in_turns
from training import CLOCKS

from liquid_control import LiquidPolicy, SoftLiquidPolicy
from liquid_control.policies import Controller

INTERVAL = 0.05
SPACE = spaces.Dict(
    {
        "observation": spaces.Box(-np.inf, np.inf, (17,), np.float64),
        "elapsed_time": spaces.Box(0.0, np.inf, (1,)),
    }
)
ACTIONS = spaces.Box(-1.0, 1.0, (6,))
Step = Callable[[], object]


@dataclass
class Arguments:
    """Time of one acting step, through a controller and through `predict`."""

    neurons: tuple[Literal["cfc", "ltc", "ctrnn", "lrc", "lstm", "gru"], ...] = ("cfc",)
    """Neurons of the circuits."""

    rounds: int = 1000
    """Turns of each side."""

    seconds: float = 0.0003
    """Length of a turn, or one step where that takes longer."""

    clock: Literal["wall", "cpu"] = "wall"
    """Measure wall time, or processor time."""


class Unfused(LiquidPolicy):
    """Leaves acting to PyTorch, as every subclass does."""


class UnfusedSoft(SoftLiquidPolicy):
    """Likewise."""


Policy = LiquidPolicy | SoftLiquidPolicy
KINDS: dict[str, tuple[type[Policy], type[Policy], dict[str, Any]]] = {
    "PPO": (LiquidPolicy, Unfused, {"critic": "mlp"}),
    "SAC": (SoftLiquidPolicy, UnfusedSoft, {}),
}


def make_policy(kind: type[Policy], neurons: str, options: dict[str, Any]) -> Policy:
    """Return a policy with random weights."""
    torch.manual_seed(0)
    return kind(
        SPACE,
        ACTIONS,
        lambda _: 3e-4,
        neurons=neurons,
        wiring={"kind": "auto_ncp", "neurons": 64},
        encoder=[64],
        nominal_interval=INTERVAL,
        **options,
    )


def steps(policy: Policy) -> dict[str, Step]:
    """Return functions that act once."""
    measured, ticks = np.random.default_rng(0).normal(size=17), itertools.count()
    observation = {"observation": measured, "elapsed_time": np.float32([INTERVAL])}
    controller = Controller(policy)
    _, state = policy.predict(observation)

    def control() -> object:
        return controller.step(measured, next(ticks) * INTERVAL)

    def predict(deterministic: bool) -> object:
        return policy.predict(observation, state, deterministic=deterministic)

    return {
        "controller.step": control,
        "predict, most likely": lambda: predict(True),
        "predict, sampled": lambda: predict(False),
    }


def fastest_tenth(seconds: Any) -> float:
    """Return what a tenth of all turns stays below."""
    return float(np.quantile(seconds, 0.1))


def main(arguments: Arguments) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    clock: Clock = CLOCKS[arguments.clock]
    rows = []
    for neurons, (name_of_kind, kind) in itertools.product(arguments.neurons, KINDS.items()):
        *kinds, options = kind
        fused_steps, plain_steps = (steps(make_policy(each, neurons, options)) for each in kinds)
        for name, step in fused_steps.items():
            sides = {"plain": plain_steps[name], "caches": step, "fused": step}
            turns = in_turns(sides, rounds=arguments.rounds, seconds=arguments.seconds, clock=clock)
            fused, plain = (fastest_tenth(turns.seconds[side]) for side in ("fused", "plain"))
            rows.append(
                [
                    name_of_kind,
                    neurons,
                    name,
                    f"{1e6 * fused:.1f}",
                    f"{1e6 * plain:.0f}",
                    f"{plain / fused:.0f}",
                ]
            )
    print_table(("agent", "neurons", "acting", "us", "us, not fused", "times as fast"), rows)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
