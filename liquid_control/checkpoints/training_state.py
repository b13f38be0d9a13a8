"""The state of a training between two rollouts.

It holds what the rest of a training depends on in addition to what `save` writes: random
generators, environments, last observations, recurrent states, the replay, episode statistics,
callbacks, and values recorded but not logged yet. A resumed training is bit-identical to an
uninterrupted one in weights, normalisers and logs, wall-clock times excepted, on one machine with
one number of torch threads.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from liquid_control.checkpoints import callback_state, env_state, logs, rng
from liquid_control.checkpoints.archive import Contents
from liquid_control.checkpoints.errors import CheckpointError
from liquid_control.checkpoints.fields import Arrays, Field, check_arrays
from liquid_control.checkpoints.logs import LogState, ResumableLogger

Groups: TypeAlias = dict[str, dict[str, Tensor]]
VERSION = 2
DATA = "training"
PREFIX = f"{DATA}."  # of the groups of tensors


def training_state(agent: Any, own: Mapping[str, Mapping[str, Tensor]]) -> Contents:
    """Return the state of a training before a rollout.

    An environment with unknown layers is left out; its episodes restart.

    Args:
        agent: between two rollouts.
        own: groups of tensors that the agent adds; "episodes" belongs to the current episodes.

    Raises:
        ValueError: the training has not begun.
    """
    env, observation = agent.env, agent._last_obs
    if env is None or observation is None:
        raise ValueError("the training has not begun; call learn() first")
    seen = observation if isinstance(observation, dict) else {"": observation}
    logged = logs.state_dict(agent.logger)
    data: dict[str, Any] = {"version": VERSION, "pending": logged.notes, "logs": logged.marks}
    arrays = {
        "statistics": _statistics(agent),
        "generators": rng.state_dict(agent.action_space, agent.observation_space),
        "pending": logged.arrays,
        "callbacks": {} if agent._callback is None else callback_state.state_dict(agent._callback),
    }
    groups = dict(own)
    try:
        arrays["environment"] = env_state.state_dict(env)
        arrays["observations"] = {f"observation.{key}": each for key, each in seen.items()}
        arrays["observations"]["starts"] = np.asarray(agent._last_episode_starts, bool)
    except env_state.UnknownStateError as error:
        data["unknown"] = str(error)
        groups.pop("episodes", None)
    groups |= {name: _tensors(each) for name, each in arrays.items()}
    tensors = {
        f"{PREFIX}{name}": {key: tensor.detach().clone() for key, tensor in group.items()}
        for name, group in groups.items()
    }
    return Contents(type(agent).__name__, {DATA: data}, tensors)


def load_training_state(agent: Any, contents: Contents, logger: ResumableLogger | None) -> None:
    """Load the state of a training into an agent that was built from the same checkpoint.

    Args:
        agent: with environments made with the same arguments as before.
        contents: of the checkpoint.
        logger: truncated at the checkpoint, then used by the agent.

    Raises:
        CheckpointError: the contents hold no training, or one in other environments.
    """
    if DATA not in contents.data:
        raise CheckpointError("it holds an agent but no training to resume; load() it instead")
    data = contents.data[DATA]
    if data.get("version") != VERSION:
        raise CheckpointError(
            f"its training state has version {data.get('version', 1)}, and this program resumes "
            f"{VERSION}; load() the agent in it, or resume with the version of liquid_control "
            "that wrote it"
        )
    groups: Groups = {
        name.removeprefix(PREFIX): dict(group)
        for name, group in contents.tensors.items()
        if name.startswith(PREFIX)
    }
    drawn_from = agent.action_space, agent.observation_space
    generators, statistics, pending = (
        _arrays(groups.pop(name)) for name in ("generators", "statistics", "pending")
    )
    environment, observations, callbacks = (
        _arrays(groups.pop(name, {})) for name in ("environment", "observations", "callbacks")
    )
    rng.check_state(generators, *drawn_from)
    count = Field((None,))
    fields = {
        "r": count,
        "l": Field((None,), "iu", 0),
        "t": count,
        "successes": Field((None,), "b"),
    }
    check_arrays(statistics, fields, "the episodes")
    logged = LogState(data["logs"], data["pending"], pending)
    logs.check_state(logged)
    if "unknown" not in data:
        _check_observations(agent, observations)
    agent.load_training_state_dict(groups)
    _load_statistics(agent, statistics)
    agent._resumed_callbacks = callbacks
    agent._last_obs = agent.env.reset()
    agent._last_episode_starts = np.ones(agent.env.num_envs, dtype=bool)
    if "unknown" in data:
        warnings.warn(
            f"the state of {data['unknown']} is unknown, so all episodes restart, and the training "
            "differs from an uninterrupted one; define state_dict and load_state_dict in these "
            "classes, see liquid_control.checkpoints.env_state",
            stacklevel=4,
        )
    else:
        env_state.load_state_dict(agent.env, environment)
        agent._last_episode_starts = observations.pop("starts")
        seen = {key.removeprefix("observation."): each for key, each in observations.items()}
        agent._last_obs = seen if isinstance(agent._last_obs, dict) else seen[""]
    if logger is not None:
        logs.load_state_dict(logger, logged)
        agent.set_logger(logger)
    rng.load_state_dict(generators, *drawn_from)  # last, since all of the above may draw


def _check_observations(agent: Any, observations: Arrays) -> None:
    fields = env_state.observation_fields(agent.observation_space, agent.env.num_envs)
    check_arrays(
        observations,
        {f"observation.{key}": field for key, field in fields.items()}
        | {"starts": Field((agent.env.num_envs,), "b")},
        "the observations",
    )


def _statistics(agent: BaseAlgorithm) -> Arrays:
    """Returns, lengths, times and successes of recent episodes."""
    episodes = list(agent.ep_info_buffer or ())
    successes = np.array(agent.ep_success_buffer or (), bool)
    return {
        "r": np.array([each["r"] for each in episodes] or np.empty(0)),
        "l": np.array([each["l"] for each in episodes], np.int64),
        "t": np.array([each.get("t", 0.0) for each in episodes], np.float64),
        "successes": successes,
    }


def _load_statistics(agent: BaseAlgorithm, state: Arrays) -> None:
    window = agent._stats_window_size
    names = ("r", "l", "t")
    rows = zip(*(state[name] for name in names), strict=True)
    agent.ep_info_buffer = deque((dict(zip(names, row, strict=True)) for row in rows), window)
    agent.ep_success_buffer = deque(state["successes"].tolist(), window)


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
