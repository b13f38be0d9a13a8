"""Agents that are saved without code: files of numbers and JSON instead of SB3's pickles."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypeVar

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import GymEnv, TrainFreq
from stable_baselines3.common.utils import check_for_correct_spaces, get_system_info
from torch import Tensor
from torch.optim import Optimizer

from liquid_control.agents.snapshot import restore
from liquid_control.checkpoints import CheckpointError, Contents, read, write
from liquid_control.checkpoints.logs import ResumableLogger
from liquid_control.checkpoints.retention import CheckpointManager
from liquid_control.checkpoints.schedules import (
    UNKNOWN,
    schedule_from_json,
    schedule_to_json,
)
from liquid_control.checkpoints.spaces import space_from_json, space_to_json

SelfAgent = TypeVar("SelfAgent", bound="SavedAgent")

COUNTERS = (
    "num_timesteps",
    "_total_timesteps",
    "_num_timesteps_at_start",
    "_n_updates",
    "_episode_num",
    "_current_progress_remaining",
)
# Arguments that say where an agent runs rather than what it is, or are part of policy_kwargs.
ELSEWHERE = {
    "self",
    "policy",
    "env",
    "device",
    "verbose",
    "tensorboard_log",
    "normalize_observations",
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
    "replay_buffer_class",
    "replay_buffer_kwargs",
    "_init_setup_model",
}
# What building an agent from data that describe none may end in.
IMPOSSIBLE = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
WIDEST = 2**14  # neurons or units in one layer of a network that is loaded


class SavedAgent(BaseAlgorithm):
    """`save`, `load` and `set_parameters` of SB3, on checkpoints that hold no code.

    See `liquid_control.checkpoints` for their form. What SB3 keeps beside them, such as its
    environment and the replay buffer, is not part of one either.
    """

    def save(
        self,
        path: str | Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Save weights, optimizers, arguments and counters in one file, whole or not at all.

        Args:
            path: gets the suffix zip if it has none.
            exclude: must be None; a checkpoint always holds the same.
            include: likewise.

        Raises:
            OSError: it cannot be written; what was there before is as it was.
        """
        if isinstance(path, io.IOBase) or exclude is not None or include is not None:
            raise TypeError("save takes a path, and a checkpoint always holds the same")
        write(_as_zip(path), self.contents())

    @classmethod
    def load(
        cls: type[SelfAgent],
        path: str | Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        trust: bool = False,
        **kwargs: Any,
    ) -> SelfAgent:
        """Load an agent that `save` wrote. Nothing in the file is run, and damage is found.

        Args:
            path: of the file; the suffix zip may be left out.
            env: to train in; None is enough to predict.
            device: where it runs.
            custom_objects: arguments to replace, by name; the ones that a file cannot hold, such as
                a learning rate that is a function, have to be here.
            print_system_info: print SB3's system information.
            force_reset: as in SB3; a loaded agent always resets its environment.
            trust: let SB3 load one of its own zip files, which runs whatever code is in it.
            **kwargs: arguments to replace, as in custom_objects.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: it is damaged, holds another agent, or none.
        """
        if trust:
            return super().load(
                path, env, device, custom_objects, print_system_info, force_reset, **kwargs
            )
        if print_system_info:
            get_system_info()
        if isinstance(path, io.IOBase):
            raise TypeError("load takes a path")
        path = _as_zip(path)
        return cls.from_contents(
            read(path), env, device, str(path), {**(custom_objects or {}), **kwargs}
        )

    def set_parameters(
        self,
        load_path_or_dict: str | Path | dict[str, Any],
        exact_match: bool = True,
        device: torch.device | str = "auto",
        *,
        trust: bool = False,
    ) -> None:
        """Load weights and optimizers into this agent; arguments as in `load` and in SB3.

        Raises:
            CheckpointError: the file is damaged, or does not fit this agent.
        """
        if trust or isinstance(load_path_or_dict, dict):
            super().set_parameters(load_path_or_dict, exact_match, device)  # type: ignore[arg-type]
            return
        path = _as_zip(load_path_or_dict)
        contents = read(path)
        with _complaints(f"{path} does not fit this agent"):
            self._take_parameters(_of_kind(contents, type(self)), exact_match)

    def contents(self) -> Contents:
        """What `save` writes."""
        names, variables = self._get_torch_save_params()
        data: dict[str, Any] = {
            "agent": {
                "arguments": {name: _to_json(self._argument(name)) for name in _arguments(self)},
                "counters": {name: getattr(self, name) for name in COUNTERS},
                "observation_space": space_to_json(self.observation_space),
                "action_space": space_to_json(self.action_space),
                "n_envs": self.n_envs,
            }
        }
        tensors: dict[str, dict[str, Tensor]] = {
            "variables": {
                name: value for name in variables if (value := getattr(self, name)) is not None
            }
        }
        groups = {}
        for name in names:
            part = _attribute(self, name)
            if part is None:
                continue
            if isinstance(part, Optimizer):
                tensors[name], groups[name] = _optimizer_to_plain(part)
            else:
                tensors[name] = part.state_dict()
        data["optimizers"] = groups
        copies = {
            name: {key: tensor.detach().clone() for key, tensor in each.items()}
            for name, each in tensors.items()
        }
        return Contents(type(self).__name__, deepcopy(data), copies)

    @classmethod
    def from_contents(
        cls: type[SelfAgent],
        contents: Contents,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        source: str = "the checkpoint",
        replaced: Mapping[str, Any] | None = None,
    ) -> SelfAgent:
        """The agent that `contents` described; arguments as in `load`.

        Raises:
            CheckpointError: no agent of this class can be built from it; it names the source.
        """
        replaced = replaced or {}
        with _complaints(f"{source} is not loaded"):
            described = _of_kind(contents, cls).data["agent"]
            arguments = {**described["arguments"], **replaced}
            for name, value in arguments.items():
                if value == UNKNOWN:
                    raise CheckpointError(
                        f"{name} is an object that a file cannot hold; pass it again, as "
                        f"custom_objects={{{name!r}: ...}}"
                    )
            _check_widths(arguments["policy_kwargs"])
            observation_space = space_from_json(described["observation_space"])
            action_space = space_from_json(described["action_space"])
        if env is not None:
            env = cls._wrap_env(env)
            check_for_correct_spaces(env, observation_space, action_space)
        with _complaints(f"{source} is not loaded"):
            given = {name: _from_json(value) for name, value in arguments.items()}
            agent = cls("LiquidPolicy", env, device=device, _init_setup_model=False, **given)  # type: ignore[call-arg]
            agent.observation_space, agent.action_space = observation_space, action_space
            agent.n_envs = int(described["n_envs"]) if env is None else env.num_envs
            for name in COUNTERS:
                setattr(agent, name, described["counters"][name])
            agent._setup_model()
            agent._take_parameters(contents, exact_match=True)
        return agent

    @classmethod
    def resume(
        cls: type[SelfAgent],
        checkpoints: str | Path,
        env: GymEnv,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        *,
        logger: ResumableLogger | None = None,
    ) -> SelfAgent:
        """Take up a training that was interrupted, from its newest whole checkpoint.

        `learn(total - model.num_timesteps, reset_num_timesteps=False)` then ends bit for bit as
        `learn(total)` would have, see `liquid_control.agents.snapshot`.

        Args:
            checkpoints: the folder in which `ResumeCallback` kept them.
            env: made with the same arguments as before; it goes on where it was, unless its state
                is out of sight, as in processes of its own.
            device: where it runs.
            custom_objects: arguments that a file cannot hold, as in `load`.
            logger: on the folder of the logs, which go on from there.

        Raises:
            FileNotFoundError: there is no checkpoint.
            CheckpointError: none is whole, or it holds another agent or other environments.
        """
        path, contents = CheckpointManager(checkpoints).latest()
        agent = cls.from_contents(contents, env, device, str(path), custom_objects)
        restore(agent, contents, str(path), logger)
        return agent

    def _take_parameters(self, contents: Contents, exact_match: bool) -> None:
        groups = contents.data["optimizers"]
        parameters = {
            name: _optimizer_from_plain(tensors, groups[name]) if name in groups else dict(tensors)
            for name, tensors in contents.tensors.items()
            if name in self._get_torch_save_params()[0]
        }
        for name in parameters.keys() - groups.keys():
            _check_fit(name, parameters[name], _attribute(self, name).state_dict(), exact_match)
        super().set_parameters(parameters, exact_match)  # type: ignore[arg-type]
        with torch.no_grad():
            for name, value in contents.tensors["variables"].items():
                getattr(self, name).copy_(value)

    def _argument(self, name: str) -> Any:
        return getattr(self, name) if hasattr(self, name) else getattr(self, f"_{name}")


def _arguments(agent: SavedAgent) -> list[str]:
    """The arguments of its constructor that say what an agent is."""
    parameters = signature(type(agent).__init__).parameters.values()
    named = [each.name for each in parameters if each.kind is not Parameter.VAR_KEYWORD]
    return [name for name in named if name not in ELSEWHERE]


def _to_json(value: Any) -> Any:
    if isinstance(value, TrainFreq):
        return [value.frequency, value.unit.value]
    return UNKNOWN if isinstance(value, ActionNoise) else schedule_to_json(value)


def _from_json(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else schedule_from_json(value)


def _of_kind(contents: Contents, agent: type[SavedAgent]) -> Contents:
    if contents.kind != agent.__name__:
        raise CheckpointError(f"it holds a {contents.kind}, and this is {agent.__name__}")
    return contents


def _check_fit(
    name: str, given: Mapping[str, Tensor], own: Mapping[str, Tensor], exact_match: bool
) -> None:
    """Refuse other tensors than there are before any is taken; torch would take those that fit."""
    if exact_match and (different := given.keys() ^ own.keys()):
        raise CheckpointError(f"its {name} differs in {', '.join(sorted(different))}")
    for key in sorted(given.keys() & own.keys()):
        if given[key].shape != own[key].shape:
            theirs, ours = list(given[key].shape), list(own[key].shape)
            raise CheckpointError(f"{key} of its {name} is {theirs}, and here it is {ours}")


def _check_widths(value: Any) -> None:
    """Refuse a policy that would fill the memory before its weights are found not to fit."""
    if isinstance(value, int) and value > WIDEST:
        raise CheckpointError(f"its policy has a layer of {value}, and {WIDEST} is the most")
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            _check_widths(part)


@contextmanager
def _complaints(about: str) -> Iterator[None]:
    """Let whatever cannot be built from a file be a word about that file."""
    try:
        yield
    except (
        AssertionError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise CheckpointError(f"{about}: {error}") from error


def _as_zip(path: str | Path) -> Path:
    """The path that SB3 would take: with the suffix zip, if it has none."""
    path = Path(path)
    return path if path.suffix or path.is_dir() else path.with_suffix(".zip")


def _attribute(agent: BaseAlgorithm, name: str) -> Any:
    """What a dotted name stands for, such as "policy.optimizer"."""
    part: Any = agent
    for each in name.split("."):
        part = getattr(part, each)
    return part


def _optimizer_to_plain(optimizer: Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The state of each parameter as tensors, "<number>.<name>", and the groups as JSON."""
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": torch.as_tensor(value)
        for index, values in state["state"].items()
        for name, value in values.items()
    }
    return tensors, state["param_groups"]


def _optimizer_from_plain(
    tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for key in sorted(tensors, key=lambda key: int(key.split(".")[0])):
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensors[key]
    plain = [
        {name: tuple(value) if name == "betas" else value for name, value in group.items()}
        for group in groups
    ]
    return {"state": state, "param_groups": plain}
