"""The state of callbacks, so that a resumed training calls them when an uninterrupted one would.

It holds the number of calls, the state of SB3's callbacks, and the evaluation environment of an
`EvalCallback`. Callbacks of other classes are included if they define

    def state_dict(self) -> dict[str, NDArray]
    def load_state_dict(self, state: dict[str, NDArray]) -> None  # ValueError, before any change
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    EvalCallback,
    EventCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
)

from liquid_control.checkpoints import env_state
from liquid_control.checkpoints.fields import COUNT, Arrays, Field, check_arrays

ENV, OWN = "env.", "own."  # prefixes of an environment's state, and of a custom class's state
# Attributes of SB3's classes in addition to `n_calls`; each is finite, or not set yet.
REMEMBERED: dict[type[BaseCallback], dict[str, Field]] = {
    EvalCallback: {
        "best_mean_reward": Field(),
        "last_mean_reward": Field(),
        "evaluations_timesteps": Field((None,), "iu", 0),
        "evaluations_results": Field((None, None)),
        "evaluations_length": Field((None, None), "iu", 0),
        "evaluations_successes": Field((None, None), "biuf"),  # 0.0 or 1.0 for some tasks
    },
    EveryNTimesteps: {"last_time_trigger": COUNT},
    StopTrainingOnMaxEpisodes: {"n_episodes": COUNT},
    StopTrainingOnNoModelImprovement: {
        "last_best_mean_reward": Field(),
        "no_improvement_evals": COUNT,
    },
}


def state_dict(callback: BaseCallback) -> Arrays:
    """Return the state of a callback and its children, by class and number within the class."""
    state: Arrays = {}
    for path, each in _paths(callback):
        part = {name: np.array(getattr(each, name)) for name in _fields(each)}
        part = {name: value for name, value in part.items() if value.size and _finite(value)}
        if isinstance(each, EvalCallback) and "last_mean_reward" in part:
            with suppress(env_state.UnknownStateError):  # loading warns of it
                part |= _prefixed(ENV, env_state.state_dict(each.eval_env))
        if _has_own(each):
            part |= _prefixed(OWN, each.state_dict())
        state |= _prefixed(f"{path}.", part)
    return state


def load_state_dict(callback: BaseCallback, state: Mapping[str, NDArray[Any]]) -> None:
    """Load what `state_dict` returned; callbacks that it does not name are unchanged.

    Raises:
        ValueError: it does not fit; evaluation environments may have been reset.
    """
    for path, each in _paths(callback):
        part = _without(f"{path}.", state)
        env, own = _without(ENV, part), _without(OWN, part)
        rest = {name: part[name] for name in part if not name.startswith((ENV, OWN))}
        fields = _fields(each)
        check_arrays(rest, {name: fields[name] for name in rest if name in fields}, path)
        if env and isinstance(each, EvalCallback):
            each.eval_env.reset()
            env_state.load_state_dict(each.eval_env, env)
        elif "last_mean_reward" in rest:
            warnings.warn(
                "the state of the environment of EvalCallback is unknown, so it evaluates "
                "different episodes than in an uninterrupted training",
                stacklevel=2,
            )
        if own and _has_own(each):
            each.load_state_dict(own)
        for name, value in rest.items():
            setattr(each, name, value.tolist())


def _paths(callback: BaseCallback) -> Iterator[tuple[str, Any]]:
    seen: Counter[str] = Counter()
    for each in walk(callback):
        kind = type(each).__name__
        yield f"{kind}.{seen[kind]}", each
        seen[kind] += 1


def walk(callback: object) -> Iterator[BaseCallback]:
    """Yield a callback and those that it calls; nothing for None and functions."""
    if not isinstance(callback, BaseCallback):
        return
    yield callback
    if isinstance(callback, CallbackList):
        for each in callback.callbacks:
            yield from walk(each)
    if isinstance(callback, EventCallback):
        yield from walk(callback.callback)
    if isinstance(callback, EvalCallback):
        yield from walk(callback.callback_on_new_best)


def _fields(callback: BaseCallback) -> dict[str, Field]:
    known = {"n_calls": COUNT}
    for kind, fields in REMEMBERED.items():
        known |= fields if isinstance(callback, kind) else {}
    return known


def _has_own(callback: Any) -> bool:
    return hasattr(callback, "state_dict") and hasattr(callback, "load_state_dict")


def _finite(value: NDArray[Any]) -> bool:
    return value.dtype.kind == "b" or bool(np.isfinite(value).all())


def _prefixed(prefix: str, arrays: Arrays) -> Arrays:
    return {f"{prefix}{name}": value for name, value in arrays.items()}


def _without(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    return {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }
