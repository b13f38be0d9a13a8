"""Control steps per second of training by device: the compiled kernels on a CPU, PyTorch on a GPU.

    python benchmarks/devices.py --device cuda

The circuit of the recipes on HalfCheetah-v5, positions only, at a varying rate; and convolutions
over images of 64 x 64 pixels. One torch thread; both devices in turns, by the clock on the wall.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
import tyro
from recipe_wiring import NCP
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.vec_env import VecEnv
from table import print_table
from timing import in_turns

from liquid_control import LiquidPPO, LiquidSAC, envs


@dataclass
class Arguments:
    """Control steps per second of training by device."""

    device: str = "cuda"
    """The device that is compared with the CPU."""

    rounds: int = 3
    """Rounds in which each device trains once."""

    def __post_init__(self) -> None:
        try:
            compared = torch.device(self.device)
        except RuntimeError as error:
            raise SystemExit(f"--device: {error}") from error
        if compared.type == "cpu":
            raise SystemExit("--device is the device that is compared with the CPU, such as cuda")


@dataclass(frozen=True)
class Case:
    """A training: its environments, agent and steps."""

    name: str
    env: Callable[[], VecEnv]
    agent: type[Any]
    steps: int
    policy: dict[str, Any]
    options: dict[str, Any]

    def build(self, device: str) -> BaseAlgorithm:
        """Return the agent."""
        built: BaseAlgorithm = self.agent(
            "LiquidPolicy",
            self.env(),
            seed=0,
            device=device,
            policy_kwargs=self.policy,
            **self.options,
        )
        return built


def cheetahs(count: int) -> Callable[[], VecEnv]:
    """Return a function that makes this many HalfCheetahs."""
    interval = envs.Uniform(0.03, 0.1)
    return lambda: envs.make_vec(
        "HalfCheetah-v5", count, observe="positions", interval=interval, seed=0, threads=1
    )


def images() -> VecEnv:
    """Return environments whose random images cost little to make."""
    shape = {"screen_height": 64, "screen_width": 64, "n_channels": 1, "discrete": False}
    return make_vec_env(FakeImageEnv, 8, seed=0, env_kwargs=shape)


def on_policy(name: str, count: int, batch_size: int, steps: int, **policy: Any) -> Case:
    """Return a training of LiquidPPO with the settings of the recipes."""
    policy = {"wiring": NCP, "encoder": [64], "critic": "mlp", "critic_layers": [64, 64], **policy}
    return Case(
        f"PPO {name}, {count} environments, minibatches of {batch_size:,}",
        cheetahs(count),
        LiquidPPO,
        steps,
        policy,
        {"n_steps": 128, "batch_size": batch_size, "sequence_length": 16},
    )


CASES = (
    on_policy("NCP-CfC", 16, 64, 2048),
    on_policy(
        "NCP-LTC, 3 updates a step", 16, 64, 2048, neurons="ltc", neuron_kwargs={"ode_steps": 3}
    ),
    on_policy("NCP-LSTM", 16, 64, 2048, neurons="lstm"),
    on_policy("NCP-CfC", 64, 2048, 8192),
    on_policy("NCP-CfC", 512, 16384, 65536),
    Case(
        "SAC NCP-CfC, 4 updates of 1,024 a step of 16 environments",
        cheetahs(16),
        LiquidSAC,
        320,
        {"wiring": NCP, "encoder": [64]},
        {"learning_starts": 1000, "batch_size": 1024, "gradient_steps": 4},
    ),
    Case(
        "PPO with images",
        images,
        LiquidPPO,
        1024,
        {"wiring": NCP},
        {"n_steps": 128, "batch_size": 256, "sequence_length": 16, "n_epochs": 4},
    ),
)


def main(arguments: Arguments) -> None:
    """Measure every case and print a table."""
    torch.set_num_threads(1)
    rows = []
    for case in CASES:
        agents = {device: case.build(device) for device in ("cpu", arguments.device)}
        for agent in agents.values():
            agent.learn(max(case.steps, 1600))  # warm, and beyond `learning_starts`

        def goes_on(agent: BaseAlgorithm, steps: int) -> Callable[[], object]:
            return lambda: agent.learn(steps, reset_num_timesteps=False)

        sides = {device: goes_on(agent, case.steps) for device, agent in agents.items()}
        turns = in_turns(sides, rounds=arguments.rounds, clock=perf_counter)
        speeds = [f"{case.steps / turns.median(device):,.0f}" for device in sides]
        rows.append([case.name, *speeds, f"{turns.ratio(arguments.device, 'cpu'):.2f}"])
        print(*rows[-1], sep="  ", flush=True)
        for agent in agents.values():
            agent.env.close()  # type: ignore[union-attr]
    print()
    print_table(("training", "CPU", arguments.device, f"time {arguments.device} / CPU"), rows)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
