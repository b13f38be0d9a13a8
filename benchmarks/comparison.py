"""Returns of circuits and of SB3's agents at equal settings, over tasks, observations and rates.

    python benchmarks/comparison.py --tasks Hopper-v5 Walker2d-v5 --seeds 201 202 203 204 205
    python benchmarks/comparison.py --observe positions --agents LiquidPPO:lstm RecurrentPPO:lstm
    python benchmarks/comparison.py --rates varying --no-clock
    python benchmarks/comparison.py --study configs/benchmark/ppo_full.toml --dry-run
    python benchmarks/comparison.py --study configs/benchmark/ppo_horizon.toml --observe full
    python benchmarks/comparison_figures.py

All learning rates but that of SB3's SAC fall to zero. Agents on policy train in 16 environments of
128 steps with minibatches of 64, 10 epochs, and `log_std_init` -1. LiquidPPO learns from sequences
of 16 steps, with an encoder and an MLP critic of 64 units. SB3's PPO and sb3-contrib's RecurrentPPO
have VecNormalize and an MLP 64-64, or an LSTM of 64 units with a layer of 64. `stack` is an MLP
over four stacked observations, `-d` stands for derivatives of the observation as further features,
`-h` for critics that see three earlier observations and actions, and `-p` for privileged critics,
which see everything. LiquidSAC makes 4 updates of 1024 control steps after each step of its 16
environments, with critics of 128-128, circuits that learn at three tenths of its learning rate, and
four times SB3's tau, as it makes a quarter of the updates; SB3's SAC has its defaults, an update
for every control step.

Each training runs in a process with one thread, and its row is appended to a table. Trainings that
are in the table are not repeated, so that an interrupted comparison goes on. Seeds below 200 choose
the learning rate: give every agent that is compared the same seeds and `--learning-rates`.

The files in configs/benchmark/ are the studies that make up the whole comparison; each holds values
for these options, and `--dry-run` lists what its table lacks.
"""

from __future__ import annotations

import argparse
import subprocess
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from comparison_rows import POINTS, Observe, Rates, Result, Training, reported
from pydantic import TypeAdapter
from recipe_wiring import NCP
from rows import append, read
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecExtractDictObs,
    VecFrameStack,
    VecNormalize,
)
from table import print_table

from liquid_control import LiquidPPO, LiquidSAC, envs
from liquid_control.agents.evaluation import evaluate

UNSEEN = 2**31  # far above every seed of a training
EPISODES = 20
NUM_ENVS = 16
STACKED = 4
RATIOS = {"quarter": 0.25, "half": 0.5, "nominal": 1.0, "double": 2.0, "fourfold": 4.0}
NOISE, LOST = (10, 30, 100), (10, 30, 50)  # per cent

PRIVILEGED = "-p"
DENSE = {"kind": "dense", "neurons": 64, "motor": 64}
CIRCUITS: dict[str, dict[str, Any]] = {
    "cfc": {"neurons": "cfc", "wiring": NCP},
    "cfc-w": {
        "neurons": "cfc",
        "wiring": {**NCP, "motor": 128},
        "neuron_kwargs": {"memory_gain": 0.0},
    },
    "ltc": {"neurons": "ltc", "wiring": NCP, "neuron_kwargs": {"ode_steps": 3}},
    "ctrnn": {"neurons": "ctrnn", "wiring": NCP},
    "cfc-d": {"neurons": "cfc", "wiring": NCP, "derivatives": (0.0,)},
    "cfc-h": {"neurons": "cfc", "wiring": NCP, "critic_history": (1, 2, 3)},
    "cfc-p": {"neurons": "cfc", "wiring": NCP},
    "lrc": {"neurons": "lrc", "wiring": NCP},
    "dense": {"neurons": "cfc", "wiring": DENSE},
    "lstm": {"neurons": "lstm", "wiring": DENSE},
    "lstm-d": {"neurons": "lstm", "wiring": DENSE, "derivatives": (0.0,)},
    "gru": {"neurons": "gru", "wiring": DENSE},
}
THEIRS = ("PPO:mlp", "PPO:stack", "RecurrentPPO:lstm", "SAC:mlp", "SAC:stack")
AGENTS = tuple(f"{ours}:{name}" for ours in ("LiquidPPO", "LiquidSAC") for name in CIRCUITS)
AGENTS += THEIRS


@dataclass
class Arguments:
    """Returns of circuits and of SB3's agents at equal settings."""

    study: Path | None = None
    """A TOML file with values for the other options, which those of the command line replace."""

    tasks: tuple[str, ...] = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5")
    """Gymnasium's MuJoCo tasks."""

    observe: Observe = "full"
    """Part of the observation that agents get."""

    rates: Rates = "nominal"
    """The nominal interval, or intervals from half (0.4) to twice as long, constant in half of the
    episodes."""

    clock: bool = True
    """Whether agents observe the elapsed time."""

    agents: tuple[str, ...] = ("LiquidPPO:cfc", "PPO:mlp")
    """Algorithms and policies."""

    learning_rates: tuple[float, ...] = ()
    """Learning rates of every agent; by default 1e-3 for LiquidSAC, 3e-4 for the others."""

    gamma: float = Training.gamma
    """Discount of every agent: per nominal interval, of SB3's agents per step."""

    seeds: tuple[int, ...] = (201, 202, 203, 204, 205)
    """Seeds of the trainings."""

    steps: int = 1_000_000
    """Control steps of a training."""

    jobs: int = 1
    """Number of parallel trainings."""

    table: Path = Path("docs/results/results.csv")
    """Table of the results, to which rows are appended."""

    models: Path | None = None
    """Folder in which trained agents are saved."""

    dry_run: bool = False
    """List the trainings that the table lacks, and train nothing."""

    def __post_init__(self) -> None:
        if unknown := set(self.agents) - set(AGENTS):
            raise SystemExit(f"unknown agents {sorted(unknown)}; there are {', '.join(AGENTS)}")
        if not self.clock and any(agent.endswith(PRIVILEGED) for agent in self.agents):
            raise SystemExit(f"agents {PRIVILEGED} observe the elapsed time; leave out --no-clock")
        if min(self.steps, self.jobs) < 1:
            raise SystemExit(f"steps and jobs must be at least 1, got {self.steps} and {self.jobs}")
        if not 0 <= self.gamma <= 1:
            raise SystemExit(f"gamma must be from 0 to 1, got {self.gamma}")

    @classmethod
    def given(cls) -> Arguments:
        """Return the arguments of the command line, and those of its study."""
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--study", type=Path)
        path = first.parse_known_args()[0].study
        if path is None:
            return tyro.cli(cls, description=__doc__)
        try:
            written = tomllib.loads(path.read_text("utf-8"))
            if unknown := written.keys() - {field.name for field in fields(cls)}:
                raise ValueError(f"there is no option {min(unknown)!r}")
            study = TypeAdapter(cls).validate_python(written)
        except (OSError, ValueError) as error:  # of TOML and of values
            raise SystemExit(f"{path} is no study: {error}") from error
        return tyro.cli(cls, default=study, description=__doc__)


@dataclass(frozen=True)
class Robot:
    """A task, its nominal interval and its physics step in seconds."""

    task: str
    nominal: float
    timestep: float

    @classmethod
    def of(cls, task: str) -> Robot:
        """Measure a task."""
        env = envs.make(task)
        timestep = env.unwrapped.model.opt.timestep  # type: ignore[attr-defined]
        robot = cls(task, env.get_wrapper_attr("nominal_interval"), timestep)
        env.close()
        return robot

    def interval(self, ratio: float) -> float:
        """Return the interval of whole physics steps next to a ratio of the nominal one."""
        steps = max(1, round(ratio * self.nominal / self.timestep))
        return float(steps * self.timestep)

    def varying(self) -> envs.PerEpisode:
        """Return intervals from half to twice the nominal one, constant in half of the episodes."""
        return envs.PerEpisode(envs.Uniform(self.interval(0.5), self.interval(2.0)), share=0.5)

    def conditions(self) -> dict[str, dict[str, Any]]:
        """Return the environments' arguments by the column of the results."""
        return {
            **{f"at_{name}": {"interval": self.interval(r)} for name, r in RATIOS.items()},
            **{
                f"noise_{each}": {"sensors": [envs.Noise(each / 100, relative=True)]}
                for each in NOISE
            },
            **{f"lost_{each}": {"sensors": [envs.Dropout(each / 100)]} for each in LOST},
        }


class Curve(BaseCallback):
    """Mean returns of training episodes after equal shares of the steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.returns: list[int] = []

    def _on_step(self) -> bool:
        if self.num_timesteps * POINTS >= self.steps * (len(self.returns) + 1):
            self.returns.append(round(trained_return(self.model)))
        return True


def trained_return(model: BaseAlgorithm) -> float:
    """Return the mean of the last 100 training episodes, 0 before one has ended."""
    assert model.ep_info_buffer is not None
    return float(np.mean([each["r"] for each in model.ep_info_buffer] or [0.0]))


def usual_learning_rate(agent: str) -> float:
    """Return the learning rate of an agent that none was given for."""
    return 1e-3 if agent.startswith("LiquidSAC:") else 3e-4


def robots(training: Training, count: int, seed: int, **conditions: Any) -> VecEnv:
    """Return environments, with observations as the agent takes them."""
    if training.policy.endswith(PRIVILEGED):
        conditions = {"privileged": "full", **conditions}
    env = envs.make_vec(
        training.task, count, observe=training.observe, seed=seed, threads=1, **conditions
    )
    if not training.clock:
        env = VecExtractDictObs(env, "observation")
    return VecFrameStack(env, STACKED) if training.policy == "stack" else env


def normalised(training: Training, env: VecEnv) -> VecEnv:
    """Return what normalises observations and rewards of SB3's agents on policy."""
    if training.algorithm in ("PPO", "RecurrentPPO"):
        return VecNormalize(env, gamma=training.gamma, norm_obs_keys=normalised_keys(training))
    return env


def normalised_keys(training: Training) -> list[str] | None:
    """Return the keys that SB3's agents normalise; not a clock that always shows the same time.

    Its deviation is zero, so that every other interval would be as far away as can be.
    """
    return ["observation"] if training.clock and training.rates == "nominal" else None


def create(training: Training, env: VecEnv) -> BaseAlgorithm:
    """Return an untrained agent."""
    rate = training.learning_rate
    falling = LinearSchedule(rate, 0.0, 1.0)
    on_policy: dict[str, Any] = {"n_steps": 128, "batch_size": 64, "learning_rate": falling}
    shared: dict[str, Any] = {"gamma": training.gamma, "seed": training.seed, "device": "cpu"}
    kind = "MultiInput" if training.clock else "Mlp"
    layers: dict[str, Any] = {"net_arch": [64, 64], "log_std_init": -1.0}
    match training.algorithm:
        case "PPO":
            return PPO(f"{kind}Policy", env, policy_kwargs=layers, **on_policy, **shared)
        case "RecurrentPPO":
            layers |= {"net_arch": [64], "lstm_hidden_size": 64}
            return RecurrentPPO(
                f"{kind}LstmPolicy", env, policy_kwargs=layers, **on_policy, **shared
            )
        case "SAC":
            return SAC(f"{kind}Policy", env, learning_rate=rate, gradient_steps=-1, **shared)
    circuit = {"encoder": [64], **CIRCUITS[training.policy]}
    if training.algorithm == "LiquidSAC":
        return LiquidSAC(
            "LiquidPolicy",
            env,
            learning_rate=falling,
            recurrent_learning_rate=LinearSchedule(0.3 * rate, 0.0, 1.0),
            learning_starts=5000,
            gradient_steps=4,
            tau=0.02,
            policy_kwargs={"critic_layers": [128, 128], **circuit},
            **shared,
        )
    circuit |= {"critic": "mlp", "critic_layers": [64, 64], "log_std_init": -1.0}
    return LiquidPPO(
        "LiquidPolicy", env, sequence_length=16, policy_kwargs=circuit, **on_policy, **shared
    )


def train(training: Training, models: Path | None) -> Result:
    """Train one agent, and measure it."""
    robot = Robot.of(training.task)
    usual = {"interval": robot.varying()} if training.rates == "varying" else {}
    curve = Curve(training.steps)
    start = time.process_time()
    model, env = learn(training, usual, curve)
    seconds = time.process_time() - start
    if models is not None:
        where = f"{training.task}-{training.observe}-{training.rates}"
        how = f"{training.clock}-{training.gamma:g}-{training.algorithm}-{training.policy}"
        model.save(models / f"{where}-{how}-{training.seed}.zip")

    unseen = unseen_robots(training, env, usual)
    final = evaluate(model, unseen)
    measured = {
        column: round(evaluate(model, unseen_robots(training, env, usual | conditions)).mean, 1)
        for column, conditions in robot.conditions().items()
    }
    return Result(
        **vars(training),
        **measured,
        **sizes(model),
        commit=commit(),
        training_return=round(trained_return(model), 1),
        deterministic_return=round(final.mean, 1),
        deviation=round(final.deviation, 1),
        curve=tuple(curve.returns),
        cpu_seconds=round(seconds),
        microseconds=round(1e6 * seconds_per_decision(model, unseen), 1),
    )


def learn(
    training: Training, conditions: Mapping[str, Any], callback: BaseCallback | None = None
) -> tuple[BaseAlgorithm, VecEnv]:
    """Train an agent with one thread; return it, and its environments."""
    torch.set_num_threads(1)
    env = normalised(training, robots(training, NUM_ENVS, training.seed, **conditions))
    model = create(training, env)
    return model.learn(training.steps, callback=callback), env


def unseen_robots(training: Training, env: VecEnv, conditions: Mapping[str, Any]) -> VecEnv:
    """Return environments of an evaluation, with the moments of observations of the training."""
    unseen = robots(training, EPISODES, UNSEEN, **conditions)
    if isinstance(env, VecNormalize):
        unseen = VecNormalize(
            unseen, training=False, norm_reward=False, norm_obs_keys=normalised_keys(training)
        )
        unseen.obs_rms = env.obs_rms
    return unseen


def sizes(model: BaseAlgorithm) -> dict[str, int]:
    """Return the actor's parameters, and the synapses of its circuit if it has one."""
    policy: Any = model.policy
    others = ("critic", "value", "vf", "target")
    actor = [
        parameter.numel()
        for name, parameter in policy.named_parameters()
        if not any(part in name for part in others)
    ]
    found = {"parameters": sum(actor)}
    if isinstance(model, LiquidPPO | LiquidSAC):
        found["synapses"] = policy.actor_circuit.wiring.synapse_count
    return found


def seconds_per_decision(model: BaseAlgorithm, env: VecEnv) -> float:
    """Return processor time of `predict` for one robot, the shortest of several loops."""
    observation: Any = env.reset()
    one = (
        {name: part[:1] for name, part in observation.items()}
        if isinstance(observation, dict)
        else observation[:1]
    )
    state, begins = None, np.zeros(1, dtype=bool)
    _, state = model.predict(one, None, np.ones(1, dtype=bool), deterministic=True)
    loops = []
    for _ in range(10):
        start = time.process_time()
        for _ in range(100):
            _, state = model.predict(one, state, begins, deterministic=True)
        loops.append((time.process_time() - start) / 100)
    return min(loops)


def commit() -> str:
    """Return the commit of this file; "-dirty" if anything but results differs from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    found = subprocess.run([*git, "describe", "--always"], capture_output=True, check=False)
    changed = [*git, "diff", "--quiet", "HEAD", "--", ":/", ":(top,exclude)docs/results"]
    is_dirty = subprocess.run(changed, capture_output=True, check=False).returncode == 1
    return found.stdout.decode().strip() + "-dirty" * is_dirty


def summary(results: Iterable[Result]) -> list[list[str]]:
    """Return the table's cells: means over seeds, and their ratio to those of SB3's PPO."""
    groups: dict[tuple[str, ...], list[Result]] = defaultdict(list)
    for each in results:
        key = each.task, each.observe, each.rates, each.settings, f"{each.steps:,}", each.agent
        groups[key].append(each)
    means = {
        key: [
            float(np.mean([getattr(each, name) for each in group]))
            for name in ("training_return", "deterministic_return")
        ]
        for key, group in groups.items()
    }
    rows = []
    for key, (trained, deterministic) in sorted(means.items()):
        control = means.get((*key[:-1], "PPO:mlp"))
        ratio = "" if control is None else f"{trained / control[0]:.2f}"
        seeds = str(len(groups[key]))
        rows.append([*key, seeds, f"{trained:,.0f}", f"{deterministic:,.0f}", ratio])
    return rows


def main(arguments: Arguments) -> None:
    """Train what is not in the table yet, and print the table."""
    done = {each.training.key for each in read(arguments.table, Result)}
    wanted = [
        Training(
            task,
            arguments.observe,
            arguments.rates,
            arguments.clock,
            *agent.split(":"),
            learning_rate=rate,
            seed=seed,
            steps=arguments.steps,
            gamma=arguments.gamma,
        )
        for seed, task, agent in product(arguments.seeds, arguments.tasks, arguments.agents)
        for rate in arguments.learning_rates or (usual_learning_rate(agent),)
    ]
    missing = [each for each in wanted if each.key not in done]
    if arguments.dry_run:
        for each in missing:
            print(*vars(each).values())
        print(f"{len(missing)} of {len(wanted)} trainings are missing")
        return
    if arguments.models is not None:
        arguments.models.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        for finished in as_completed(
            [pool.submit(train, each, arguments.models) for each in missing]
        ):
            append(arguments.table, finished.result())
            print(finished.result(), flush=True)
    header = (
        "task",
        "observe",
        "rates",
        "",
        "steps",
        "agent",
        "seeds",
        "training",
        "deterministic",
        "over PPO:mlp",
    )
    print_table(header, summary(reported(read(arguments.table, Result))))


if __name__ == "__main__":
    main(Arguments.given())
