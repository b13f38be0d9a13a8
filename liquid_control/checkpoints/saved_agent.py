"""SB3 agents saved without code: numbers and JSON instead of pickles."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from itertools import chain
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import torch
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.utils import check_for_correct_spaces, get_device, get_system_info
from torch import Tensor
from torch.optim import Optimizer

from liquid_control.checkpoints import agent_arguments, callback_state, optimizer_state
from liquid_control.checkpoints.agent_arguments import ELSEWHERE, PASSED
from liquid_control.checkpoints.archive import Contents, read, write
from liquid_control.checkpoints.errors import CheckpointError
from liquid_control.checkpoints.fields import Arrays, check_like
from liquid_control.checkpoints.logs import ResumableLogger
from liquid_control.checkpoints.retention import CheckpointManager
from liquid_control.checkpoints.sb3_json import UNKNOWN, space_from_json, space_to_json
from liquid_control.checkpoints.training_state import Groups, load_training_state, training_state

SelfAgent = TypeVar("SelfAgent", bound="SavedAgent")

POLICY = "LiquidPolicy"  # alias of the agents' default policy
MOST_ENVS = 2**16
MOST_TIMESTEPS = 2**52  # of a `learn` without an end
MOST_FEATURES = 10  # for each weight; an actor has more weights than it observes features
COMPILED = "_orig_mod."  # inserted by torch.compile into the names of weights
NORMALIZES = "normalize_observations"
ACTS_ONLY = "acts_only"  # in files without critics and optimizers
NORMALIZED = "vec_normalize"  # in files of agents that observed what a VecNormalize normalised


class SavedAgent(BaseAlgorithm):
    """SB3's `save`, `load` and `set_parameters`, on checkpoints that hold no code.

    See `liquid_control.checkpoints` for the format. As in SB3, the environment and the replay
    buffer are not saved.
    """

    acts_only = False
    """Whether it cannot be trained, since the file that it was loaded from has no critics."""
    _was_normalized = False  # where the file that it was loaded from was written
    _callback: BaseCallback | None = None  # of the last `learn`
    _resumed_callbacks: Arrays | None = None  # their state, until the next `learn`

    def save(
        self,
        path: str | Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Save weights, optimizers, arguments and counters in one file, atomically.

        Arguments of a subclass are saved if the agent has them as attributes of the same name. A
        warning names arguments that a file cannot hold, such as functions; `load` asks for them.

        Args:
            path: gets the suffix zip if it has none.
            exclude: must be None; the contents of a file are fixed.
            include: likewise.

        Raises:
            OSError: it cannot be written; an existing file is unchanged.
        """
        if isinstance(path, io.IOBase) or exclude is not None or include is not None:
            raise TypeError(
                "save takes a path, and no exclude or include, since the contents of a file are "
                "fixed; leave them out, and pass arguments to replace to load"
            )
        path = Path(path)
        write(path if path.suffix else _zipped(path), self.state_dict())

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
        """Load an agent that `save` wrote. No code in the file is run, and damage is detected.

        Args:
            path: of the file; the suffix zip may be left out.
            env: to train in; None is enough to predict.
            device: where it runs.
            custom_objects: arguments to replace, by name; unknown names are ignored, as in SB3.
                Arguments that a file cannot hold are required, such as a learning rate that is a
                function, or `policy_class` if the agent was saved with a custom policy class.
            print_system_info: print SB3's system information.
            force_reset: as in SB3; a loaded agent always resets its environment.
            trust: let SB3 load one of its own zip files, which runs any code in it.
            **kwargs: arguments to replace, as in custom_objects.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: it is damaged, holds another agent or none, or does not fit the given
                arguments.
            TypeError: a name in kwargs is not an argument of the agent.
        """
        if trust:
            return super().load(
                path, env, device, custom_objects, print_system_info, force_reset, **kwargs
            )
        if print_system_info:
            get_system_info()
        if isinstance(path, io.IOBase):
            raise TypeError("load takes a path")
        path = found(path)
        if unknown := kwargs.keys() - agent_arguments.names_of(cls) - {"policy_class"}:
            raise TypeError(f"{cls.__name__} has no argument {min(unknown)!r} to replace")
        replaced = {**(custom_objects or {}), **kwargs}
        return cls.from_contents(read(path), env, device, path, replaced)

    def set_parameters(
        self,
        load_path_or_dict: str | Path | dict[str, Any],
        exact_match: bool = True,
        device: torch.device | str = "auto",
        *,
        trust: bool = False,
    ) -> None:
        """Load weights and optimizers into this agent; arguments as in `load` and in SB3.

        If the file holds only what acts, this agent can no longer be trained, unless `exact_match`
        is false: then it keeps its own critics and optimizers.

        Raises:
            CheckpointError: the file is damaged, or does not fit this agent.
        """
        if trust or isinstance(load_path_or_dict, dict):
            super().set_parameters(load_path_or_dict, exact_match, device)  # type: ignore[arg-type]
            self.acts_only = self.acts_only and not exact_match
            return
        path = found(load_path_or_dict)
        contents = read(path)
        with _errors_name(f"{path} does not fit this agent"):
            self.load_state_dict(contents, exact_match=exact_match)

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
        """Resume a training that was interrupted, from its newest whole checkpoint.

        `learn(total - model.num_timesteps, reset_num_timesteps=False)` then ends bit for bit as
        `learn(total)` would have, see `liquid_control.checkpoints.training_state`.

        Args:
            checkpoints: the folder of `ResumeCallback`.
            env: made with the same arguments as before. It continues where it was, unless a part of
                it is unknown, such as processes; then a warning names it and episodes restart.
            device: where it runs.
            custom_objects: arguments that a file cannot hold, as in `load`.
            logger: in the folder of the logs, which it continues.

        Raises:
            FileNotFoundError: there is no checkpoint.
            CheckpointError: none is intact, or it holds another agent or other environments.
        """
        path, contents = CheckpointManager(checkpoints).latest()
        agent = cls.from_contents(contents, env, device, path, custom_objects)
        with _errors_name(f"{path} cannot be resumed"):
            load_training_state(agent, contents, logger)
        return agent

    def state_dict(self, *, training: bool = False, acts_only: bool = False) -> Contents:
        """Return copies of what `save` writes.

        Args:
            training: and of what `resume` needs.
            acts_only: leave out critics and optimizers. An agent of these contents acts, and cannot
                be trained. It is implied where this agent itself has been loaded from such.

        Raises:
            ValueError: a weight is not finite or not of single precision, or `training` is true and
                has not begun.
        """
        arguments = {
            name: agent_arguments.to_json(self._argument(name))
            for name in agent_arguments.names_of(type(self)) - ELSEWHERE
        }
        if lost := sorted(name for name, value in arguments.items() if value == UNKNOWN):
            warnings.warn(
                f"a file cannot hold the {' and '.join(lost)} of this {type(self).__name__}, so "
                "load needs it in custom_objects; numbers and SB3's LinearSchedule can be saved",
                stacklevel=3,
            )
        data: dict[str, Any] = {
            "agent": {
                "policy": _policy_name(type(self), self.policy_class),
                "arguments": arguments,
                "counters": self._counters(),
                "observation_space": space_to_json(self.observation_space),
                "action_space": space_to_json(self.action_space),
                "n_envs": int(self.n_envs),
            },
            "optimizers": {},
        }
        if self._observes_normalized():
            data["agent"][NORMALIZED] = True
        self._check_precision()
        if acts_only or self.acts_only:
            data["agent"][ACTS_ONLY] = True
            tensors: Groups = {"policy": _acting_weights(self.policy)}
        else:
            modules, optimizers = self._saved_parts()
            tensors = {name: _weights(module) for name, module in modules.items()}
            tensors["variables"] = self._variables()
            for name, optimizer in optimizers.items():
                tensors[name], data["optimizers"][name] = optimizer_state.state_dict(optimizer)
        copies = {
            name: {key: tensor.detach().clone() for key, tensor in each.items()}
            for name, each in tensors.items()
        }
        for name, each in copies.items():
            for key, tensor in each.items():
                if not torch.isfinite(tensor).all():
                    raise ValueError(f"{key} of {name} is not finite, so the agent is not saved")
        contents = Contents(type(self).__name__, deepcopy(data), copies)
        if not training:
            return contents
        more = training_state(self, self.training_state_dict())
        return replace(
            contents,
            data={**contents.data, **more.data},
            tensors={**contents.tensors, **more.tensors},
        )

    def load_state_dict(self, contents: Contents, *, exact_match: bool = True) -> None:
        """Load weights and optimizers from what `state_dict` returned.

        Args:
            contents: checked before anything is changed.
            exact_match: False ignores weights that only one of the two has.

        Raises:
            CheckpointError: they do not fit this agent; nothing is changed then.
        """
        described = _of_kind(contents, type(self)).data["agent"]
        _check_policy(described, _policy_name(type(self), self.policy_class))
        if described.get(ACTS_ONLY):
            weights, own = contents.tensors["policy"], _acting_weights(self.policy)
            _check_weights(weights, own, "policy", exact_match=exact_match)
            if exact_match:
                _check_circuit(described, weights, self.policy)
            _load_weights(self.policy, weights)
            self._was_normalized = bool(described.get(NORMALIZED))
            self.acts_only = self.acts_only or exact_match
            return
        self._was_normalized = bool(described.get(NORMALIZED))
        modules, optimizers = self._saved_parts()
        tensors, groups = contents.tensors, contents.data["optimizers"]
        states = {}
        for name, module in modules.items():
            _check_weights(tensors[name], _weights(module), name, exact_match=exact_match)
        if exact_match:
            _check_circuit(described, tensors["policy"], self.policy)
        check_like(tensors["variables"], self._variables(), "variables")
        for name, optimizer in optimizers.items():
            states[name] = optimizer_state.torch_state_dict(
                tensors[name], groups[name], optimizer, name
            )
        for name, module in modules.items():
            _load_weights(module, tensors[name])
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(states[name])
        with torch.no_grad():
            for name, variable in self._variables().items():
                variable.copy_(tensors["variables"][name])
        self.acts_only = False

    def training_state_dict(self) -> Groups:
        """Return groups of tensors that a resumed training needs beyond what `save` writes.

        The group "episodes" belongs to the current episodes, and is left out if they restart.
        """
        return {}

    def load_training_state_dict(self, state: Groups) -> None:
        """Load what `training_state_dict` returned.

        Raises:
            CheckpointError: it does not fit this agent; nothing is changed then.
        """
        if state:
            raise CheckpointError(f"it holds {', '.join(sorted(state))}, which is not used here")

    @classmethod
    def from_contents(
        cls: type[SelfAgent],
        contents: Contents,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        source: str | Path = "the checkpoint",
        replaced: Mapping[str, Any] | None = None,
    ) -> SelfAgent:
        """Build the agent of a checkpoint; arguments as in `load`, errors name the source."""
        policy = (replaced or {}).get("policy_class", POLICY)
        known = agent_arguments.names_of(cls) - PASSED
        given = {name: (replaced or {})[name] for name in known & (replaced or {}).keys()}
        with _errors_name(f"{source} is not loaded"):
            described = _of_kind(contents, cls).data["agent"]
            _check_policy(described, _policy_name(cls, policy))
            if unknown := described["arguments"].keys() - (known - ELSEWHERE):
                raise CheckpointError(f"{cls.__name__} has no argument {min(unknown)!r}")
            written = described["arguments"]
            saved = {name: agent_arguments.from_json(value) for name, value in written.items()}
            for name in saved.keys() - given.keys():
                if saved[name] == UNKNOWN:
                    raise CheckpointError(
                        f"{name} is an object that a file cannot hold; pass it again, as "
                        f"custom_objects={{{name!r}: ...}}"
                    )
            unchanged = {name: saved[name] for name in saved.keys() - given.keys()}
            agent_arguments.check_types(cls, unchanged)
            if not isinstance(saved["policy_kwargs"], dict):
                raise CheckpointError("its policy_kwargs are not a mapping")
            weights = sum(tensor.numel() for tensor in contents.tensors["policy"].values())
            agent_arguments.check_numbers(
                described["arguments"], weights, without_critics=bool(described.get(ACTS_ONLY))
            )
            observation_space = space_from_json(described["observation_space"])
            action_space = space_from_json(described["action_space"])
            if flatdim(action_space) > weights:
                raise CheckpointError(
                    f"it has {weights} weights, too few for {flatdim(action_space)} actions"
                )
            if (features := _feature_count(observation_space)) > MOST_FEATURES * weights:
                raise CheckpointError(
                    f"it has {weights} weights, too few for {features} observations"
                )
            n_envs = _count(described, "n_envs", 1, MOST_ENVS)
        if env is not None:
            env = cls._wrap_env(env)
            with _errors_name(f"{source} is not loaded"):
                check_for_correct_spaces(env, observation_space, action_space)
        names = " and ".join([*sorted(given), *(["device"] if device != "auto" else [])])
        with _errors_name(f"{source} is not loaded" + f" with the {names} given" * bool(names)):
            arguments = {**saved, **given}
            if NORMALIZES in given and "policy_kwargs" not in given:  # they hold it as well
                arguments["policy_kwargs"] |= {NORMALIZES: given[NORMALIZES]}
            device = cls.choose_device(device, observation_space)
            agent = cls(policy, env, device=device, _init_setup_model=False, **arguments)  # type: ignore[call-arg]
            agent.observation_space, agent.action_space = observation_space, action_space
            agent.n_envs = n_envs if env is None else env.num_envs
            agent._setup_model()
        hint = ""  # older versions saved only those options of the policy that were given
        if (
            "policy_kwargs" not in given
            and agent.policy_kwargs.keys() - saved["policy_kwargs"].keys()
        ):
            hint = ", perhaps because its policy had other defaults then; pass policy_kwargs"
        with _errors_name(f"{source} is not loaded{hint}"):
            agent._load_counters(described["counters"])
            agent.load_state_dict(contents)
        return agent

    @staticmethod
    def choose_device(name: torch.device | str, space: spaces.Space[Any] | None) -> Any:
        """Return the device that `name`, which may be "auto", stands for with such observations."""
        return get_device(name)

    def _check_policy_class(self) -> None:
        """Raise a ValueError for a policy of another algorithm."""
        known, kind = self.policy_aliases[POLICY], self.policy_class
        if not issubclass(kind, known):
            agent = type(self).__name__
            raise ValueError(
                f"{agent} trains a {known.__name__}, got a {kind.__name__}; use {POLICY!r}, or "
                f"{kind.__name__} in its own algorithm"
            )

    def _setup_learn(
        self, total_timesteps: float, *arguments: Any, **options: Any
    ) -> tuple[int, BaseCallback]:
        if self.acts_only:
            raise ValueError(
                "this agent acts, but cannot be trained: the file that it was loaded from holds no "
                "critics and no optimizer. Train from a file that does, or give a new agent its "
                "weights with set_parameters(..., exact_match=False)"
            )
        if self.env is None:
            raise ValueError(
                f"this {type(self).__name__} has no environment to train in; pass one to "
                "load(path, env=...), or to set_env"
            )
        return super()._setup_learn(_whole(total_timesteps), *arguments, **options)

    def _observes_normalized(self) -> bool:
        """Whether a VecNormalize around the environment normalises what the policy observes."""
        if self.env is None:
            return self._was_normalized
        normalizer = self.get_vec_normalize_env()
        return normalizer is not None and normalizer.norm_obs

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        self._callback = super()._init_callback(callback, progress_bar)
        if self._resumed_callbacks is not None:
            callback_state.load_state_dict(self._callback, self._resumed_callbacks)
            self._resumed_callbacks = None
        return self._callback

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies, without the callback, which holds what `learn` did last."""
        return {**vars(self), "_callback": None}

    def _excluded_save_params(self) -> list[str]:
        ours = ("acts_only", "_was_normalized", "_callback", "_resumed_callbacks")
        return [*super()._excluded_save_params(), *ours]

    def _counters(self) -> dict[str, Any]:
        return {
            "num_timesteps": int(self.num_timesteps),
            "_total_timesteps": int(self._total_timesteps),
            "_num_timesteps_at_start": 0,  # set by `learn`; depends on interruptions
            "_n_updates": self._n_updates,
            "_episode_num": self._episode_num,
            "_current_progress_remaining": self._current_progress_remaining,
        }

    def _load_counters(self, counters: Mapping[str, Any]) -> None:
        self.num_timesteps = _count(counters, "num_timesteps")
        total = counters["_total_timesteps"]
        if type(total) is float:  # of `learn(1e6)`, in files of before version 0.2
            counters = {**counters, "_total_timesteps": _whole(total)}
        self._total_timesteps = _count(counters, "_total_timesteps")
        self._num_timesteps_at_start = _count(counters, "_num_timesteps_at_start")
        self._n_updates = _count(counters, "_n_updates")
        self._episode_num = _count(counters, "_episode_num")
        left = counters["_current_progress_remaining"]
        if type(left) not in {int, float} or not math.isfinite(left):
            raise CheckpointError(f"_current_progress_remaining is {left!r}, which is not a number")
        self._current_progress_remaining = left

    def _saved_parts(self) -> tuple[dict[str, torch.nn.Module], dict[str, Optimizer]]:
        """Return the modules and optimizers that SB3's agents save."""
        names, _ = self._get_torch_save_params()
        parts = {name: _attribute(self, name) for name in names}
        optimizers = {name: each for name, each in parts.items() if isinstance(each, Optimizer)}
        modules = {name: each for name, each in parts.items() if isinstance(each, torch.nn.Module)}
        return modules, optimizers

    def _check_precision(self) -> None:
        """Raise a ValueError for weights that `load` would refuse."""
        _, optimizers = self._saved_parts()
        states = chain.from_iterable(each.state.values() for each in optimizers.values())
        moments = (each for state in states for each in state.values())
        for each in (*self.policy.parameters(), *moments):
            if not isinstance(each, Tensor) or not each.is_floating_point():
                continue
            if each.dtype is not torch.float32:
                raise ValueError(
                    "a file holds an agent that was trained in single precision, and this one has "
                    f"{each.dtype}; save agent.policy.state_dict() with torch.save instead"
                )

    def _variables(self) -> dict[str, Tensor]:
        """Return other tensors that SB3's agents save."""
        _, names = self._get_torch_save_params()
        parts = {name: _attribute(self, name) for name in names}
        return {name: each for name, each in parts.items() if each is not None}

    def _argument(self, name: str) -> Any:
        return getattr(self, name, getattr(self, f"_{name}", UNKNOWN))

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        if policy_name not in self.policy_aliases:
            raise ValueError(
                f"{type(self).__name__} has no policy {policy_name!r}; use {POLICY!r}, for "
                "observations that are vectors, images or dicts of them"
            )
        return self.policy_aliases[policy_name]


def _weights(module: torch.nn.Module) -> dict[str, Tensor]:
    """Return the state of a module, by the names of an uncompiled one."""
    return _plainly_named(module.state_dict())


def _acting_weights(policy: Any) -> dict[str, Tensor]:
    """Return what a `StatefulPolicy` acts with, by the names of an uncompiled one."""
    return _plainly_named(policy.acting_state_dict())


def _plainly_named(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace(COMPILED, ""): value for name, value in weights.items()}


def _load_weights(module: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load checked weights; missing ones are left unchanged."""
    own = {name.replace(COMPILED, ""): name for name in module.state_dict()}
    known = {own[name]: value for name, value in weights.items() if name in own}
    module.load_state_dict(known, strict=False)


def _policy_name(agent: type[SavedAgent], policy: str | type[Any]) -> str:
    """Return a policy's name in files, with its module if it could be mistaken for ours."""
    if isinstance(policy, str):
        return policy
    if policy is agent.policy_aliases.get(POLICY):
        return POLICY
    is_ours = policy.__name__ == POLICY
    return f"{policy.__module__}.{policy.__qualname__}" if is_ours else policy.__name__


def _check_policy(described: Mapping[str, Any], name: str) -> None:
    saved = described.get("policy", POLICY)  # older files name none
    if saved != name:
        raise CheckpointError(
            f"it holds a policy of the class {saved}, and this is {name}; pass the class as "
            'custom_objects={"policy_class": ...}'
        )


def _check_circuit(
    described: Mapping[str, Any], weights: Mapping[str, Tensor], policy: Any
) -> None:
    """Reject weights of the same shapes that belong to other neurons, synapses or features."""
    agent_arguments.check_numbers(
        described["arguments"],
        sum(tensor.numel() for tensor in weights.values()),
        without_critics=bool(described.get(ACTS_ONLY)),
    )
    try:
        policy.check_circuit(described["arguments"]["policy_kwargs"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(str(error)) from error


def _check_weights(
    given: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str, *, exact_match: bool
) -> None:
    """Reject weights and moments that a module cannot have."""
    if not exact_match:
        given = {key: tensor for key, tensor in given.items() if key in own}
        own = {key: own[key] for key in given}
    check_like(given, own, what)
    for key, tensor in given.items():
        if key.endswith(("variance", "count")) and (tensor < 0).any():
            raise CheckpointError(f"{key} of its {what} is negative")
        if not key.endswith("variance") and not tensor.float().isfinite().all():
            raise CheckpointError(f"{key} of its {what} is beyond single precision")


def _of_kind(contents: Contents, agent: type[SavedAgent]) -> Contents:
    if contents.kind != agent.__name__:
        raise CheckpointError(f"it holds a {contents.kind}, and this is {agent.__name__}")
    return contents


def _feature_count(space: spaces.Space[Any]) -> int:
    """Return the number of features without images, and without what critics alone observe."""
    parts = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
    seen = [part for name, part in parts.items() if name != "privileged"]
    return sum(flatdim(part) for part in seen if not is_image_space(part))


def _count(counters: Mapping[str, Any], name: str, least: int = 0, most: int = 2**53) -> int:
    value = counters[name]
    if type(value) is not int or not least <= value <= most:
        raise CheckpointError(f"{name} is {value!r}; expected an integer from {least} to {most}")
    return value


def _whole(timesteps: float) -> int:
    """Return the timesteps of `learn(timesteps)`, such as 1e6, as a whole number.

    Raises:
        TypeError: it is no number.
        ValueError: it is NaN.
    """
    if not isinstance(timesteps, Real) or isinstance(timesteps, bool):
        raise TypeError(f"total_timesteps must be a number, got {timesteps!r}")
    if math.isnan(timesteps):
        raise ValueError("total_timesteps must be a number, got nan")
    return math.ceil(min(max(timesteps, 0), MOST_TIMESTEPS))


@contextmanager
def _errors_name(source: str) -> Iterator[None]:
    """Raise errors from unfit data as a CheckpointError that names the source."""
    try:
        yield
    except (
        AssertionError,
        AttributeError,
        LookupError,
        MemoryError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise CheckpointError(f"{source}: {error}") from error


def _zipped(path: Path) -> Path:
    return path.with_name(f"{path.name}.zip")


def found(path: str | Path) -> Path:
    """Return the path of an agent, whose suffix zip may be left out."""
    path = Path(path)
    return path if path.is_file() or not _zipped(path).is_file() else _zipped(path)


def _attribute(agent: BaseAlgorithm, name: str) -> Any:
    """Return the attribute of a dotted name, such as "policy.optimizer"."""
    part: Any = agent
    for each in name.split("."):
        part = getattr(part, each)
    return part
