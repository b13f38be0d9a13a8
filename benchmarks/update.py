"""Where the time of an iteration of LiquidPPO goes, and what fused updates save.

    python benchmarks/update.py
    python benchmarks/update.py --task Walker2d-v5 --rounds 10

The agent of the recipe of `make train`: 16 envs x 128 steps, minibatches of 4 sequences of 16
steps, 10 epochs, an NCP of 90 CfC neurons, one torch thread. The first table splits an iteration
into physics, the arithmetic of updates, of acting, of circuits and networks elsewhere, and what is
around each of them. The second compares one epoch of 32 updates with and without the fused passes
(`policies/fused.py`), in turns; without them circuits still unroll in the kernels.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from unittest import mock

import mujoco
import torch
import tyro
from recipe_wiring import NCP
from table import print_table
from timing import Clock, in_turns
from torch import nn
from training import CLOCKS

from liquid_control import LiquidPPO, envs
from liquid_control.agents import surrogate
from liquid_control.envs.batched import BatchedVecEnv
from liquid_control.envs.physics import Physics
from liquid_control.kernels import fused, passes
from liquid_control.kernels.group import GroupActor
from liquid_control.kernels.learner import Learner
from liquid_control.kernels.passes import NetworkPass
from liquid_control.policies import optimizer
from liquid_control.policies.fused import FusedPolicy
from liquid_control.policies.optimizer import RecurrentAdam

NUM_ENVS, STEPS = 16, 128
REST = "the rest"


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
        policy_kwargs={"wiring": NCP, "log_std_init": -1.0},
    )


class Stopwatch:
    """Adds up seconds by part; time in a part that another one calls counts for that one alone."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds = clock, Counter[str]()
        self._parts, self._mark = [REST], clock()

    def switch(self) -> None:
        """Charge the seconds since the last switch to the part that was running."""
        now = self.clock()
        self.seconds[self._parts[-1]] += now - self._mark
        self._mark = now

    def timed(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the work, charged to a part."""

        def call(*arguments: Any, **options: Any) -> Any:
            self.switch()
            self._parts.append(part)
            try:
                return work(*arguments, **options)
            finally:
                self.switch()
                self._parts.pop()

        return call


# Each function, where it is looked up, and the part of an iteration that it belongs to.
WORK: list[tuple[Any, str, str]] = [
    (Physics, "step", "physics"),
    (BatchedVecEnv, "step", "environment, the rest"),
    *((module, "run_forward", "circuits") for module in (fused, passes)),
    *((module, "run_backward", "circuits") for module in (fused, passes)),
    *((NetworkPass, name, "networks") for name in ("forward", "backward")),
    (nn.Linear, "forward", "networks"),
    (Learner, "learn", "updates"),
    (Learner, "unroll", "circuits"),
    (GroupActor, "act", "acting"),
    (surrogate, "gaussian_surrogate", "loss and Adam"),
    (optimizer, "clipped_adam", "loss and Adam"),
    *((FusedPolicy, name, "acting, the rest") for name in ("act", "choose")),
    (LiquidPPO, "collect_rollouts", "collecting, the rest"),
    (LiquidPPO, "train", "learning, the rest"),
]
ARITHMETIC = ("physics", "updates", "acting", "circuits", "networks", "loss and Adam")


def breakdown(agent: LiquidPPO, rounds: int, clock: Clock) -> dict[str, float]:
    """Return the mean seconds of an iteration by part, over `rounds`."""
    with ExitStack() as stack:
        watch = Stopwatch(clock)
        for owner, name, part in WORK:
            work = watch.timed(part, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, work))
        watch.seconds.clear()
        agent.learn(rounds * NUM_ENVS * STEPS, reset_num_timesteps=False)
        watch.switch()
    names = dict.fromkeys([*ARITHMETIC, *(part for _, _, part in WORK), REST])
    return {part: watch.seconds[part] / rounds for part in names}


@contextmanager
def without_fusion() -> Iterator[None]:
    """Leave updates to autograd and PyTorch's Adam."""
    with (
        mock.patch.object(FusedPolicy, "of", return_value=None),
        mock.patch.object(RecurrentAdam, "memory", return_value=None),
    ):
        yield


def main(arguments: Arguments) -> None:
    """Print both tables."""
    mujoco.set_mju_user_warning(lambda message: None)
    torch.set_num_threads(1)
    clock, agent = CLOCKS[arguments.clock], make_agent(arguments.task)
    agent.learn(NUM_ENVS * STEPS)

    def epoch() -> None:
        fused = FusedPolicy.of(agent.policy)
        agent._epoch(defaultdict(list), fused, agent._seen(fused))

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
    overhead = 1 - sum(parts[part] for part in ARITHMETIC) / total
    print(f"\nneither physics nor arithmetic: {overhead:.0%}\n")
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
    main(tyro.cli(Arguments, description=__doc__))
