"""A training put down between two rollouts, and taken up again as if nothing had happened.

A snapshot holds what `save` writes and whatever else the rest of the training depends on: random
generators, environments, last observations, recurrent states, the replay, statistics of episodes,
and what was recorded but not logged yet. A training that goes on from one is bit-identical to one
that was never interrupted, on the same machine with the same number of torch threads: in its
weights, normalisers and logs, but for what the wall's clock tells.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from liquid_control.agents.replay import SequenceReplay
from liquid_control.checkpoints import CheckpointError, Contents
from liquid_control.checkpoints.env_state import CannotPutDownError, put_down, take_up
from liquid_control.checkpoints.logs import ResumableLogger, marks_of, pending_of, record_again
from liquid_control.checkpoints.rng import get_rng_state, set_rng_state

Arrays = Mapping[str, NDArray[Any]]

# What an agent remembers of the episodes under way, where it has such a thing.
STATES = ("_state", "_previous_actions", "return_normalizer.discounted")
EPISODE = ("r", "l", "t")  # return, length, and time at its end
OBSERVATION = "observation"  # of a space that is no Dict


def snapshot(agent: BaseAlgorithm, contents: Contents) -> Contents:
    """All that the rest of a training depends on, as it is before a rollout.

    An environment with a state that cannot be seen is left out; its episodes start anew.

    Args:
        agent: between two rollouts.
        contents: what its `save` writes now.

    Raises:
        ValueError: the training has not begun.
    """
    env, observation = agent.env, agent._last_obs
    if env is None or observation is None:
        raise ValueError("there is no training to put down; call learn() first")
    seen = observation if isinstance(observation, dict) else {OBSERVATION: observation}
    generators, generator_arrays = get_rng_state(agent.action_space, agent.observation_space)
    pending, pending_arrays = pending_of(agent.logger)
    episodes = [
        {key: each[key] for key in EPISODE if key in each} for each in agent.ep_info_buffer or ()
    ]
    notes, arrays = put_down(episodes, "episodes")
    training: dict[str, Any] = {
        "episodes": notes,
        "successes": [bool(each) for each in agent.ep_success_buffer or ()],
        "generators": generators,
        "pending": pending,
        "logs": marks_of(agent.logger),
    }
    tensors: dict[str, dict[str, Any]] = {
        "observations": _tensors(seen) | {"starts": torch.as_tensor(agent._last_episode_starts)},
        "states": {name: getattr(*_place(agent, name), None) for name in STATES},
        "generators": _tensors(generator_arrays),
        "pending": _tensors(pending_arrays),
        "episodes": _tensors(arrays),
    }
    try:
        training["environment"], arrays = put_down(env, "env")
        tensors["environment"] = _tensors(arrays)
    except CannotPutDownError as error:
        training["lost"] = str(error)
    if isinstance(replay := getattr(agent, "replay_buffer", None), SequenceReplay):
        tensors["replay"] = _tensors(replay.arrays())
    parts = {
        f"training.{name}": {key: each[key].clone() for key in each if each[key] is not None}
        for name, each in tensors.items()
    }
    return replace(
        contents,
        data={**contents.data, "training": training},
        tensors={**contents.tensors, **parts},
    )


def restore(
    agent: BaseAlgorithm, contents: Contents, source: str, logger: ResumableLogger | None = None
) -> None:
    """Let an agent that was built from a snapshot go on where that was taken.

    Args:
        agent: with environments made with the same arguments as those before.
        contents: from `snapshot`.
        source: for complaints.
        logger: what was logged after the snapshot is cut off, and the agent goes on with it.

    Raises:
        CheckpointError: the contents hold no training, or one in other environments.
    """
    training = contents.data.get("training")
    if training is None:
        raise CheckpointError(f"{source} holds an agent but no training to go on with; load() it")
    try:
        _restore(agent, training, contents, logger)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source} cannot be resumed: {error}") from error


def _restore(
    agent: BaseAlgorithm,
    training: Mapping[str, Any],
    contents: Contents,
    logger: ResumableLogger | None,
) -> None:
    tensors = {
        name.removeprefix("training."): dict(each)
        for name, each in contents.tensors.items()
        if name.startswith("training.")
    }
    env = agent.env
    assert env is not None
    window = agent._stats_window_size
    agent.ep_info_buffer = deque(maxlen=window)
    take_up(agent.ep_info_buffer, training["episodes"], _arrays(tensors["episodes"]), "episodes")
    agent.ep_success_buffer = deque(training["successes"], maxlen=window)
    if isinstance(replay := getattr(agent, "replay_buffer", None), SequenceReplay):
        replay.take_over(_arrays(tensors["replay"]))
    if "environment" in training:
        env.reset()  # whatever an environment has only then is there to be changed
        take_up(env, training["environment"], _arrays(tensors["environment"]), "env")
        seen = _arrays(tensors["observations"])
        agent._last_episode_starts = seen.pop("starts")
        agent._last_obs = seen[OBSERVATION] if _is_plain(agent) else seen
        for name, state in tensors["states"].items():
            setattr(*_place(agent, name), state.to(agent.device))
    else:
        warnings.warn(
            f"what {training['lost']} has for a state cannot be seen, so episodes start anew, and "
            "the training differs from one that was not interrupted",
            stacklevel=4,
        )
        agent._last_obs = env.reset()  # type: ignore[assignment]
        agent._last_episode_starts = np.ones(env.num_envs, dtype=bool)
    if logger is not None:
        logger.rewind(training["logs"])
        agent.set_logger(logger)
        record_again(logger, training["pending"], _arrays(tensors["pending"]))
    # Last, for all of the above may draw.
    spaces_ = agent.action_space, agent.observation_space
    set_rng_state(training["generators"], _arrays(tensors["generators"]), *spaces_)


def _place(agent: BaseAlgorithm, name: str) -> tuple[Any, str]:
    """What a dotted name is an attribute of, and the name there."""
    owner, _, attribute = name.rpartition(".")
    return getattr(agent, owner, None) if owner else agent, attribute


def _is_plain(agent: BaseAlgorithm) -> bool:
    """Whether observations are arrays, and no dicts of them."""
    return not hasattr(agent.observation_space, "spaces")


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
