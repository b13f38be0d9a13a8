"""Speed of batched MuJoCo envs against the physics alone, SB3's DummyVecEnv and envpool.

    python benchmarks/environments.py

All sides run in one process, in turns, a block of control steps with random actions each. The limit
is MuJoCo's own open loop in C (`mujoco.batch.Batch.rollout`): the same simulations from the same
states with the same controls and threads, without observations, rewards, or waiting for the slowest
thread before the next step. A step of u substeps is compared with u substeps of the limit.

The conditions of the last two rows are sensors, actuators, bodies and events together. Their time
is relative to the same envs without them: once with factors of one, pushes of zero and limits that
are never reached, so that the robots move as before, and once as drawn, where contacts become more
or fewer.

envpool 1.2.5 needs an environment of its own, and takes part in the turns from there:

    python -m venv build/envpool
    build/envpool/bin/pip install envpool==1.2.5
    python benchmarks/environments.py --envpool build/envpool/bin/python
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import mujoco
import numpy as np
import tyro
from mujoco.batch import Batch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv
from table import print_table
from timing import Clock, in_turns

from liquid_control import envs

CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
MANY, SOME = 64, 16
LONGEST = 10  # physics steps of the longest interval

SENSORS = [
    envs.Noise(0.01, bias=0.005),
    envs.Delay(0.01, 0.05),
    envs.Dropout(0.1),
    envs.Quantize(0.001),
]
STILL: dict[str, Any] = {
    "sensors": SENSORS,
    "actuators": [envs.RateLimit(1e6)],
    "bodies": envs.Randomize(mass=1.0, friction=1.0, gain=1.0, gravity=1.0),
    "events": [envs.Change(at=(10.0, 20.0), gain=1.0), envs.Push(every=5.0, impulse=0.0)],
}
DRAWN: dict[str, Any] = {
    "sensors": SENSORS,
    "actuators": [envs.Delay(0.0, 0.13), envs.RateLimit(20.0)],
    "bodies": envs.Randomize(
        mass=(0.7, 1.3), friction=(0.5, 1.5), gain=(0.8, 1.2), gravity=(0.9, 1.1)
    ),
    "events": [envs.Change(at=(10.0, 20.0), gain=0.5), envs.Push(every=5.0, impulse=2.0)],
}

# Runs in envpool's environment: builds the envs, then runs a block whenever a line arrives.
ENVPOOL = """
import sys
import envpool, numpy as np
task, count, threads, steps = sys.argv[1], *map(int, sys.argv[2:])
venv = envpool.make_gymnasium(task, num_envs=count, num_threads=threads, seed=0)
venv.reset()
low, high = venv.action_space.low, venv.action_space.high
rng = np.random.default_rng(0)
print("ready", flush=True)
for _ in sys.stdin:
    for _ in range(steps):
        venv.step(rng.uniform(low, high, (count, *low.shape)))
    print("done", flush=True)
"""


@dataclass
class Arguments:
    """Speed of batched MuJoCo envs."""

    tasks: list[str] = field(default_factory=lambda: ["HalfCheetah-v5", "Ant-v5"])
    """Gymnasium's MuJoCo tasks."""

    threads: int = 2
    """Threads of the batched envs, the limit and envpool."""

    rounds: int = 15
    """Rounds in which every side runs a block; the table shows medians over them."""

    steps: int = 40
    """Control steps of a block."""

    envpool: str | None = None
    """Interpreter of an environment that has envpool."""

    clock: Literal["wall", "cpu"] = "wall"
    """Measure wall time, or processor time on a shared machine."""


def random_actions(venv: VecEnv, steps: int) -> Any:
    """Return actions of a block, (steps, num_envs, actuators)."""
    low, high = venv.action_space.low, venv.action_space.high
    shape = (steps, venv.num_envs, *low.shape)
    return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)


def player(venv: VecEnv, steps: int) -> Callable[[], object]:
    """Return a block of steps of a VecEnv."""
    actions = random_actions(venv, steps)
    venv.reset()

    def block() -> None:
        for action in actions:
            venv.step(action)

    return block


def limit(venv: envs.BatchedVecEnv, threads: int, steps: int) -> Callable[[], object]:
    """Return a block of open-loop physics that starts from the state of the batched envs."""
    robot = venv.env.unwrapped
    batch = Batch(robot.model, venv.num_envs, threads)
    qpos, qvel = batch.bind("qpos"), batch.bind("qvel")
    now = venv.physics.simulations
    held = np.repeat(random_actions(venv, steps), robot.frame_skip, axis=0)
    controls = held.swapaxes(0, 1).astype(np.float64)

    def block() -> None:
        qpos[:], qvel[:] = now.qpos, now.qvel
        batch.rollout(len(held), controls, record=())

    return block


def envpool_block(python: str, task: str, threads: int, steps: int) -> Callable[[], object]:
    """Return a block of steps in envpool's own environment."""
    arguments = [task, *map(str, (MANY, threads, steps))]
    child = subprocess.Popen(
        [python, "-c", ENVPOOL, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def wait_for(word: str) -> None:
        if child.stdout.readline().strip() != word:
            sys.exit(f"{python} cannot run envpool with {task}; see --help for how to install it")

    def block() -> None:
        child.stdin.write("\n")
        child.stdin.flush()
        wait_for("done")

    wait_for("ready")
    return block


def ratios(task: str, arguments: Arguments) -> dict[str, float]:
    """Return the speed of the batched envs relative to each other implementation."""
    threads, steps = arguments.threads, arguments.steps

    def batched(count: int, **rate: Any) -> VecEnv:
        return envs.make_vec(task, count, seed=0, threads=threads, **rate)

    nominal = batched(MANY)
    robot = nominal.env.unwrapped
    timestep = robot.model.opt.timestep
    variable = batched(MANY, interval=envs.Uniform(timestep, LONGEST * timestep))
    sides = {
        "limit": limit(nominal, threads, steps),
        "nominal": player(nominal, steps),
        "variable": player(variable, steps),
        "some": player(batched(SOME), steps),
        "dummy": player(make_vec_env(task, SOME, seed=0), steps),
        "still": player(batched(MANY, **STILL), steps),
        "drawn": player(batched(MANY, **DRAWN), steps),
    }
    if arguments.envpool:
        sides["envpool"] = envpool_block(arguments.envpool, task, threads, steps)
    turns = in_turns(sides, rounds=arguments.rounds, clock=CLOCKS[arguments.clock])
    more = (1 + LONGEST) / 2 / robot.frame_skip  # substeps of the variable rate, on average
    result = {
        "steps/s, 64 envs": MANY * steps / turns.median("nominal"),
        "/ limit, 64 envs": turns.ratio("limit", "nominal"),
        f"/ limit, 64 envs, 1 to {LONGEST} substeps": more * turns.ratio("limit", "variable"),
        "/ DummyVecEnv, 16 envs": turns.ratio("dummy", "some"),
        "time with conditions, same motion": turns.ratio("still", "nominal"),
        "time with conditions, as drawn": turns.ratio("drawn", "nominal"),
    }
    if arguments.envpool:
        result["/ envpool, 64 envs"] = turns.ratio("envpool", "nominal")
    return result


def main(arguments: Arguments) -> None:
    """Measure every task and print the table."""
    if arguments.envpool and arguments.clock == "cpu":
        sys.exit("--clock cpu does not see the processor time of envpool's process; use wall")
    # Gymnasium's half_cheetah.xml uses an attribute that mujoco 4 deprecates; every env says so.
    mujoco.set_mju_user_warning(lambda message: None)
    columns = [ratios(task, arguments) for task in arguments.tasks]
    rows = [
        [
            name,
            *(
                f"{column[name]:,.0f}" if name.startswith("s") else f"{column[name]:.2f}"
                for column in columns
            ),
        ]
        for name in columns[0]
    ]
    print(f"batched envs, {arguments.threads} threads, {arguments.clock} time\n")
    print_table(("batched envs", *arguments.tasks), rows)
    if not arguments.envpool:
        print("\nenvpool: left out; --help says how to give it an environment")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
