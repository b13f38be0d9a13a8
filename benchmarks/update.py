"""Where the time of an iteration of LiquidPPO goes, and what fused updates save.

    python benchmarks/update.py
    python benchmarks/update.py --task Walker2d-v5 --rounds 10

The agent of the recipe of `make train`: 16 envs x 128 steps, minibatches of 4 sequences of 16
steps, 10 epochs, an NCP of 90 CfC neurons, one torch thread. The first table splits an iteration
into its parts. The second compares one epoch of 32 updates with and without the fused passes
(`policies/fused.py`), in turns; without them circuits still unroll in the kernels.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from unittest import mock

import mujoco
import torch
import tyro
from table import print_table
from timing import Clock, in_turns
from training import CLOCKS

from liquid_control import LiquidPPO, envs
from liquid_control.policies.fused import FusedPolicy
from liquid_control.policies.optimizer import RecurrentAdam

NUM_ENVS, STEPS = 16, 128
WIRING = {
    "kind": "ncp",
    "inter": 24,
    "command": 34,
    "motor": 32,
    "sensory_fanout": 12,
    "inter_fanout": 17,
    "recurrent_command_synapses": 578,
    "motor_fanin": 17,
}


@dataclass
class Arguments:
    """Where the time of an iteration of LiquidPPO goes."""

    task: str = "HalfCheetah-v5"
    """Gymnasium task."""

    rounds: int = 5
    """Iterations of the first table, and turns of the second."""

    clock: Literal["wall", "cpu"] = "cpu"
    """Measure processor time, or wall time."""


def make_agent(task: str) -> LiquidPPO:
    """Return an untrained agent."""
    return LiquidPPO(
        "LiquidPolicy",
        envs.make_vec(task, NUM_ENVS, seed=0),
        n_steps=STEPS,
        batch_size=64,
        sequence_length=16,
        seed=0,
        device="cpu",
        policy_kwargs={"wiring": WIRING, "log_std_init": -1.0},
    )


def breakdown(agent: LiquidPPO, rounds: int, clock: Clock) -> dict[str, float]:
    """Return the mean seconds of an iteration by component, over `rounds`."""
    seconds: Counter[str] = Counter()

    def timed(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = clock()
            result = work(*arguments, **options)
            seconds[part] += clock() - start
            return result

        return call

    loss = agent._loss

    def timed_loss(*arguments: Any) -> Any:
        start = clock()
        first, losses, backward = loss(*arguments)
        seconds["forward and loss"] += clock() - start
        return first, losses, timed("backward", backward)

    assert agent.env is not None
    owners: list[tuple[str, Any, str]] = [
        ("physics", agent.env, "step"),
        ("acting", agent.policy, "forward"),
        ("collecting", agent, "collect_rollouts"),
        ("learning", agent, "train"),
        ("recomputed states", agent, "_recompute_states"),
        ("optimizer", agent.policy.optimizer, "clipped_step"),
    ]
    for part, owner, name in owners:
        setattr(owner, name, timed(part, getattr(owner, name)))
    agent._loss = timed_loss  # type: ignore[method-assign]
    agent.learn(rounds * NUM_ENVS * STEPS, reset_num_timesteps=False)
    acting = ("physics", "acting")
    learning = ("recomputed states", "forward and loss", "backward", "optimizer")
    found = {
        **{part: seconds[part] for part in acting},
        "collecting, the rest": seconds["collecting"] - sum(seconds[part] for part in acting),
        **{part: seconds[part] for part in learning},
        "learning, the rest": seconds["learning"] - sum(seconds[part] for part in learning),
    }
    return {part: total / rounds for part, total in found.items()}


@contextmanager
def without_fusion() -> Iterator[None]:
    """Leave updates to autograd and PyTorch's Adam."""
    with (
        mock.patch.object(FusedPolicy, "of", return_value=None),
        mock.patch.object(RecurrentAdam, "_states", return_value=[]),
    ):
        yield


def main(arguments: Arguments) -> None:
    """Print both tables."""
    mujoco.set_mju_user_warning(lambda message: None)
    torch.set_num_threads(1)
    clock, agent = CLOCKS[arguments.clock], make_agent(arguments.task)
    agent.learn(NUM_ENVS * STEPS)

    def epoch() -> None:
        agent._epoch(defaultdict(list))

    def plain_epoch() -> None:
        with without_fusion():
            epoch()

    sides = {"fused": epoch, "autograd": plain_epoch}
    turns = in_turns(sides, rounds=arguments.rounds, clock=clock)
    parts = breakdown(agent, arguments.rounds, clock)
    total = sum(parts.values())
    print_table(
        ("an iteration of 2,048 steps", "ms", "%"),
        [
            [part, f"{1000 * seconds:.1f}", f"{100 * seconds / total:.0f}"]
            for part, seconds in parts.items()
        ],
    )
    print()
    updates = NUM_ENVS * STEPS // agent.batch_size
    print_table(
        ("an update", "us", "x autograd"),
        [
            [
                side,
                f"{1e6 * turns.median(side) / updates:.0f}",
                f"{turns.ratio('autograd', side):.2f}",
            ]
            for side in sides
        ],
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
