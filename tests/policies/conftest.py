"""A small policy whose heads are lively enough for a test to notice a difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from liquid_control import LiquidPolicy

NOMINAL = 0.05
NEURONS = 12

PLAIN = spaces.Box(-5.0, 5.0, (3,))
PARTS = spaces.Dict({"joints": spaces.Box(-5.0, 5.0, (2,)), "mode": spaces.Discrete(3)})
TIMED = spaces.Dict({**PARTS.spaces, "elapsed_time": spaces.Box(0.0, np.inf, (1,))})
OBSERVATIONS = {"box": PLAIN, "dict": PARTS, "dict with time": TIMED}

ACTIONS = {
    "box": spaces.Box(-50.0, 50.0, (2,)),
    "box of two axes": spaces.Box(-50.0, 50.0, (2, 2)),
    "discrete": spaces.Discrete(4),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-binary": spaces.MultiBinary(3),
}


def make_policy(
    observations: spaces.Space[Any] = PLAIN,
    actions: spaces.Space[Any] = ACTIONS["box"],
    **options: Any,
) -> LiquidPolicy:
    """Seeded; its actions differ clearly from one state to another."""
    torch.manual_seed(0)
    options = {
        "wiring": {"kind": "auto_ncp", "neurons": NEURONS},
        "nominal_interval": NOMINAL,
    } | options
    policy = LiquidPolicy(observations, actions, lambda _: 1e-2, **options)
    with torch.no_grad():
        policy.action_net.weight.mul_(100)
        if policy.normalizer is not None:
            size = len(policy.normalizer.mean)
            policy.normalizer.update(torch.randn(20, size) * 2 + 1)
    return policy


def draw(space: spaces.Space[Any], steps: int, batch: int, seed: int = 0) -> Any:
    """Observations (steps, batch, ...); elapsed times of half to twice the nominal interval."""
    space.seed(seed)
    if isinstance(space, spaces.Dict):
        drawn = {key: draw(part, steps, batch, seed) for key, part in space.items()}
        if "elapsed_time" in drawn:
            rng = np.random.default_rng(seed)
            shape = (steps, batch, *space["elapsed_time"].shape)
            drawn["elapsed_time"] = rng.uniform(NOMINAL / 2, 2 * NOMINAL, shape).astype(np.float32)
        return drawn
    samples = np.array([space.sample() for _ in range(steps * batch)])
    return samples.reshape(steps, batch, *samples.shape[1:])


def at(observations: Any, *index: int) -> Any:
    """Entry of an array, or of each array of a dict."""
    if isinstance(observations, dict):
        return {key: value[index] for key, value in observations.items()}
    return observations[index]


def observe(policy: LiquidPolicy, observations: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and elapsed time of a whole sequence of observations, (steps, batch, ...)."""
    steps = len(
        next(iter(observations.values())) if isinstance(observations, dict) else observations
    )
    split = [policy.observe(policy.obs_to_tensor(at(observations, t))[0]) for t in range(steps)]
    features, elapsed_time = zip(*split, strict=True)
    return torch.stack(features), torch.stack(elapsed_time)


def predict_all(policy: LiquidPolicy, observations: Any, starts: NDArray[np.bool_]) -> NDArray[Any]:
    """Deterministic actions (steps, batch, ...), passing the state from step to step."""
    actions, state = [], None
    for t, start in enumerate(starts):
        action, state = policy.predict(at(observations, t), state, start, deterministic=True)
        actions.append(action)
    return np.stack(actions)
