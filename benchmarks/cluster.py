"""Cost of collecting on workers, and a model of what more machines would give.

    python benchmarks/cluster.py                                  # HalfCheetah's recipe, PPO
    python benchmarks/cluster.py --recipe configs/half_cheetah/ncp_sac.yaml \\
        --set agent.train_freq=32 agent.gradient_steps=128 agent.learning_starts=0

It measures what a control step costs a worker, the learner and the network: with blocks of several
sizes in this process, and with workers on two nodes of a Ray cluster on this machine. A model is
fitted to these figures and compared with the measured rate; its table follows. docs/cluster.md
states its assumptions. Costs are processor time, which other programs inflate less; the measured
rate and the share of waiting are not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from table import print_table

from liquid_control import LiquidSAC, WorkerVecEnv, envs
from liquid_control.collectors.blocks import Host, Request, Weights
from liquid_control.recipes import Recipe, build_agent, load_recipe

MACHINES = (1, 8, 64, 512)
SLOW_STEP = 10e-3  # seconds
SIZES = (1, 4, 16)  # environments in a block
ROUNDS = 5


@dataclass(frozen=True)
class Costs:
    """What was measured, in seconds and bytes."""

    act: float
    """Of a control step of a block, for any number of its environments."""
    step: float
    """Of an environment's control step, beside that."""
    learn: float
    """Of the learner, for each control step (PPO), or for each round (SAC)."""
    handle: float
    """Of the learner, for each worker in a round: receiving and joining its part."""
    start: float
    """Of a round, from its beginning to the first result, without acting."""
    bytes_per_step: float
    """Over the wire, without the weights."""
    weights: float
    """Bytes, to each machine in each round."""


@dataclass(frozen=True)
class Plan:
    """Who does what in a round."""

    per_machine: int
    """Environments of a machine, on one processor."""
    block: int
    """Environments that act together."""
    steps: int
    """Control steps of an environment in a round."""
    bandwidth: float
    """Bytes per second into and out of the learner."""
    latency: float
    """Seconds of a round trip."""
    is_beside: bool
    """Whether learning goes on while the next round is collected, and takes the same time
    for any number of machines (SAC); else it is proportional to the steps (PPO)."""

    def rate(self, costs: Costs, machines: int) -> tuple[float, float]:
        """Return control steps per second, and the share of time for which the learner waits."""
        steps = self.steps * self.per_machine * machines
        blocks = self.per_machine // self.block
        acting = self.steps * (costs.act * blocks + costs.step * self.per_machine)
        wire = (costs.bytes_per_step * steps + costs.weights * machines) / self.bandwidth
        collecting = acting + wire + costs.start + self.latency
        handling = costs.handle * machines
        if self.is_beside:
            learning = costs.learn + handling
            seconds = max(collecting, learning)
            return steps / seconds, max(collecting - learning, 0.0) / seconds
        learning = costs.learn * steps + handling
        return steps / (collecting + learning), collecting / (collecting + learning)


def main() -> None:
    arguments = parse()
    recipe = load_recipe(arguments.recipe, ["env.workers=0", *arguments.set])
    torch.set_num_threads(1)
    make = maker(recipe)
    blocks = {size: block_seconds(recipe, make, size) for size in SIZES}
    step, act = np.polyfit(list(blocks), list(blocks.values()), 1)
    print(f"{recipe.task}, {recipe.agent.algorithm}, {arguments.workers} workers on two nodes\n")
    print_table(
        ("environments in a block", "us per control step of the block", "us per environment"),
        [
            (str(size), f"{seconds * 1e6:.0f}", f"{seconds / size * 1e6:.0f}")
            for size, seconds in blocks.items()
        ],
    )
    with cluster(arguments.workers):
        found = measure(recipe, make, arguments.workers)
    costs = replace(found.costs, act=float(act), step=float(step))
    is_sac = recipe.agent.algorithm == "sac"
    wire = arguments.gigabits * 1e9 / 8, arguments.latency
    share = recipe.env.num_envs // arguments.workers
    here = Plan(share, recipe.env.block or share, found.steps, *wire, is_sac)
    plan = Plan(arguments.per_machine, arguments.per_machine, found.steps, *wire, is_sac)
    expected, waiting = here.rate(costs, arguments.workers)
    figures = {
        "act, per step of a block (us)": costs.act * 1e6,
        "step, per environment (us)": costs.step * 1e6,
        "learn, per round (ms)" if is_sac else "learn, per control step (us)": costs.learn
        * (1e3 if is_sac else 1e6),
        "handle, per worker and round (ms)": costs.handle * 1e3,
        "start, per round (ms)": costs.start * 1e3,
        "payload, per control step (bytes)": found.payload,
        "over the wire, per control step (bytes)": found.wire,
        "of which weights (bytes)": found.wire - costs.bytes_per_step,
        "weights, per machine and round (bytes)": costs.weights,
        "learner waits (share of time)": found.waits,
        "the same by the model": waiting,
        "control steps per second": found.rate,
        "the same by the model, on an idle machine": expected,
    }
    print()
    print_table(("measured", ""), [(name, f"{value:.3g}") for name, value in figures.items()])
    rows = []
    for name, cost in (("as measured", costs.step), ("10 ms", SLOW_STEP)):
        alone = plan.rate(replace(costs, step=cost), 1)[0]
        for machines in MACHINES:
            rate, waits = plan.rate(replace(costs, step=cost), machines)
            rows.append(
                (name, str(machines), f"{rate:,.0f}", f"{rate / alone:.1f}", f"{waits:.0%}")
            )
    print(f"\nmodel, {plan.per_machine} environments a machine, {plan.steps} steps a round\n")
    header = ("step", "machines", "control steps/s", "times one machine", "learner waits")
    print_table(header, rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipe", type=Path, default=Path("configs/half_cheetah/ncp_ppo.yaml"))
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--per-machine", type=int, default=16, help="environments, in the model")
    parser.add_argument("--gigabits", type=float, default=1.0, help="per second, in the model")
    parser.add_argument("--latency", type=float, default=1e-3, help="seconds, in the model")
    return parser.parse_args()


def maker(recipe: Recipe) -> Any:
    env = recipe.env
    return partial(
        envs.make_vec, recipe.task, observe=env.observe, interval=env.interval, threads=1
    )


def block_seconds(recipe: Recipe, make: Any, size: int) -> float:
    """Seconds of a control step of a block in this process."""
    env = WorkerVecEnv(make, size, block=size, seed=0)
    policy = build_agent(recipe, env).policy
    host = Host(make, [0], size, 0)
    (started,) = host.reset([(0, [{}] * size)])
    state = policy.initial_actor_state(size).numpy()
    request = Request(64, started.observation, np.ones(size, bool), state, 0, size, 0)
    weights, seconds = Weights.of(policy), []
    for _ in range(ROUNDS):
        before = time.process_time()
        (part,) = host.collect(weights, [request])
        seconds.append((time.process_time() - before) / request.steps)
        request = request._replace(observation=part.observation, episode_start=np.zeros(size, bool))
    return median(seconds)


@contextmanager
def cluster(workers: int) -> Iterator[None]:
    """A Ray cluster with a node for the learner and two for the workers, on this machine."""
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        nodes.add_node(num_cpus=-(-workers // 2))
    ray.init(nodes.address, log_to_driver=False, logging_level="error")
    try:
        yield
    finally:
        ray.shutdown()
        nodes.shutdown()


@dataclass(frozen=True)
class Found:
    """What a training on workers showed."""

    costs: Costs
    payload: float
    wire: float
    waits: float
    rate: float
    steps: int


class Watch(BaseCallback):
    """Notes when rounds begin, what the environments say of them, and the traffic."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[float] = []
        self.spent: list[float] = []  # processor time
        self.received: list[int] = []
        self.waits: list[float] = []

    def _on_rollout_start(self) -> None:
        self.begun.append(time.perf_counter())
        self.spent.append(time.process_time())
        self.received.append(received_bytes())

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.waits.append(self.training_env._waiting)  # type: ignore[attr-defined]


def measure(recipe: Recipe, make: Any, workers: int) -> Found:
    """Train on the cluster's workers, and take rounds apart."""
    env = WorkerVecEnv(make, recipe.env.num_envs, workers=workers, block=recipe.env.block, seed=0)
    agent = build_agent(recipe, env)
    is_sac = isinstance(agent, LiquidSAC)
    steps = agent.train_freq.frequency if is_sac else agent.n_steps  # type: ignore[union-attr]
    count = steps * env.num_envs
    watch = Watch()
    agent.learn((2 + ROUNDS) * count, watch)
    seconds = np.diff(watch.begun)[1:]
    waits = median(watch.waits[2:])
    handle = handling(agent, env, steps)
    learn = median(np.diff(watch.spent)[1:]) - workers * handle
    wire = median(np.diff(watch.received)[1:]) / count
    sizes = Weights.of(agent.policy).tensors
    weights = float(sum(array.nbytes for array in sizes.values()))
    costs = Costs(
        act=0.0,
        step=0.0,
        learn=learn if is_sac else learn / count,
        handle=handle,
        start=starting(env),
        bytes_per_step=wire - weights * workers / count,
        weights=weights,
    )
    found = Found(costs, env._bytes, wire, waits, count / median(seconds), steps)
    env.close()
    return found


def handling(agent: Any, env: WorkerVecEnv, steps: int) -> float:
    """Seconds that the learner takes for each worker once its part has come."""
    seconds = []
    policy, count = agent.policy, env.num_envs
    observation = env.reset()
    starts = np.ones(count, bool)
    for _ in range(ROUNDS):
        state = policy.initial_actor_state(count)
        env.begin(policy, observation, starts, state, steps, timesteps=0)
        wait_for(env)
        before = time.process_time()
        collected = env.finish()
        seconds.append(time.process_time() - before)
        observation, starts = collected.observation, collected.starts
    return median(seconds) / len(env._workers)


def wait_for(env: WorkerVecEnv) -> None:
    import ray

    assert env._round is not None
    ray.wait(env._round.calls, num_returns=len(env._round.calls), fetch_local=True)


def starting(env: WorkerVecEnv) -> float:
    """Seconds of the shortest round trip to a worker."""
    seconds = []
    for _ in range(4 * ROUNDS):
        before = time.perf_counter()
        env.get_attr("render_mode", indices=0)
        seconds.append(time.perf_counter() - before)
    return median(seconds)


def received_bytes() -> int:
    """Bytes that this machine has received over its loopback device."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[0])
    return 0


if __name__ == "__main__":
    main()
