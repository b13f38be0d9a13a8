"""Policies of every kind with random weights, and recorded observations for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from liquid_control import LiquidPolicy, SoftLiquidPolicy
from liquid_control.policies.stateful import StatefulPolicy

NOMINAL = 0.05
VECTOR = spaces.Box(-np.inf, np.inf, (5,))
TIMED = spaces.Dict({"observation": VECTOR, "elapsed_time": spaces.Box(0.0, np.inf, (1,))})
MIXED = spaces.Dict(
    {
        "modes": spaces.MultiDiscrete([3, 4]),
        "box": spaces.Box(-5.0, 5.0, (2, 3)),
        "elapsed_time": spaces.Box(0.0, np.inf, (1,)),
        "double": spaces.Box(-5.0, 5.0, (2,), np.float64),
        "mode": spaces.Discrete(5),
        "flags": spaces.MultiBinary(2),
    }
)
ACTIONS = spaces.Box(np.float32([-1, -2, 0]), np.float32([1, 0.5, 3]))
CIRCUITS: Mapping[str, Mapping[str, Any]] = {
    "cfc": {"neurons": "cfc"},
    "cfc, no gate": {"neurons": "cfc", "neuron_kwargs": {"mode": "no_gate"}},
    "cfc, pure": {"neurons": "cfc", "neuron_kwargs": {"mode": "pure"}},
    "cfc, memory": {"neurons": "cfc", "neuron_kwargs": {"memory": "lstm"}},
    "ltc": {"neurons": "ltc"},
    "ltc, euler": {"neurons": "ltc", "neuron_kwargs": {"solver": "euler", "ode_steps": 60}},
    "ltc, rk4, memory": {
        "neurons": "ltc",
        "neuron_kwargs": {"solver": "rk4", "memory": "lstm", "ode_steps": 40},
    },
    "ctrnn": {"neurons": "ctrnn"},
    "ctrnn, rk4": {"neurons": "ctrnn", "neuron_kwargs": {"solver": "rk4", "ode_steps": 30}},
    "ctrnn, memory": {"neurons": "ctrnn", "neuron_kwargs": {"memory": "lstm"}},
    "lrc": {"neurons": "lrc"},
    "lrc, rk4, memory": {
        "neurons": "lrc",
        "neuron_kwargs": {"solver": "rk4", "memory": "lstm", "ode_steps": 40},
    },
    "lstm": {"neurons": "lstm"},
    "gru": {"neurons": "gru"},
    "derivatives": {"derivatives": [0.0, 0.1]},
}
SLOW = {
    "ltc, euler",
    "ltc, rk4, memory",
    "ctrnn, rk4",
    "ctrnn, memory",
    "cfc, pure",
    "lrc",
    "lrc, rk4, memory",
}
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CIRCUITS]
WIRING = {"kind": "auto_ncp", "neurons": 16, "motor": 4}


def make_policy(
    kind: type[StatefulPolicy] = LiquidPolicy,
    observations: spaces.Space[Any] = TIMED,
    actions: spaces.Space[Any] = ACTIONS,
    *,
    seed: int = 0,
    **options: Any,
) -> Any:
    """Return a policy with random parameters everywhere, and a normaliser that saw something."""
    torch.manual_seed(seed)
    settings = {"wiring": WIRING, "encoder": None, "nominal_interval": NOMINAL, **options}
    policy: Any = kind(observations, actions, lambda _: 1e-3, **settings)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if not name.endswith(("conductance", "steepness", "capacitance", "leak", "log_std")):
                parameter.add_(0.1 * torch.randn_like(parameter))
        if kind is not SoftLiquidPolicy:
            policy.action_net.weight.mul_(10)  # the initial ones hardly act
        if policy.normalizer is not None:
            rows = 0.5 + 2 * torch.randn(100, len(policy.normalizer.shift))
            derived = slice(policy.derivatives.observed, policy.derivatives.width)
            rows[:, derived] /= NOMINAL
            policy.normalizer.update(rows)
    policy.set_training_mode(False)
    return policy


def record(policy: Any, steps: int, *, seed: int = 0) -> Sequence[tuple[Any, float, bool]]:
    """Return observations, jittered elapsed times, and where episodes start."""
    rng = np.random.default_rng(seed)
    nominal = policy.nominal_interval
    recorded = []
    for step in range(steps):
        start = step == 0 or bool(rng.random() < 0.01)
        elapsed = nominal if start else float(np.float32(nominal * np.exp(rng.uniform(-1.5, 1.5))))
        recorded.append((_draw(policy.observation_space, rng, elapsed), elapsed, start))
    return recorded


def flat(observation: Any) -> Any:
    """Return an observation as the one array that C takes."""
    if not isinstance(observation, dict):
        return np.ravel(observation).astype(np.float32)
    parts = [value for name, value in observation.items() if name != "elapsed_time"]
    return np.concatenate([np.ravel(part).astype(np.float32) for part in parts])


def _draw(space: spaces.Space[Any], rng: Any, elapsed: float) -> Any:
    if isinstance(space, spaces.Dict):
        return {
            name: np.float32([elapsed]) if name == "elapsed_time" else _draw(part, rng, elapsed)
            for name, part in space.spaces.items()
        }
    if isinstance(space, spaces.Box):
        return rng.normal(0.5, 2, space.shape).astype(space.dtype)
    space.seed(int(rng.integers(2**31)))
    return space.sample()


SOFT: Mapping[str, Mapping[str, Any]] = {
    "soft": {},
    "soft, encoder": {"encoder": [7]},
    "soft, shared encoder": {"encoder": [9, 6], "share_encoder": True},
    "soft, head": {"actor_layers": [8]},
    "soft, ltc": {"neurons": "ltc"},
    "soft, derivatives": {"derivatives": [0.0], "encoder": [7]},
}
SOFT_NAMES = [
    pytest.param(name, marks=() if name in {"soft", "soft, encoder"} else pytest.mark.slow)
    for name in SOFT
]


def soft_policy(**options: Any) -> Any:
    """Return a SoftLiquidPolicy, as `make_policy` does."""
    wiring = {"kind": "auto_ncp", "neurons": 20, "motor": 6}
    return make_policy(SoftLiquidPolicy, **{"wiring": wiring, **options})
