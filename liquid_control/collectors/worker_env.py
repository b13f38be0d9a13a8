"""Environments on workers, which act with the policy where the environments are."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import chain
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn
from torch import Tensor

from liquid_control.checkpoints import env_state
from liquid_control.checkpoints.fields import Arrays
from liquid_control.collectors.blocks import (
    MakeEnvs,
    Part,
    Request,
    Started,
    Weights,
    check_blocks,
    default_block,
    make_envs,
    pack,
    unpack,
)
from liquid_control.collectors.engines import ENGINES, LocalEngine
from liquid_control.collectors.rounds import Collected, Round
from liquid_control.collectors.transitions import Transitions, combined
from liquid_control.collectors.workers import Workers
from liquid_control.policies.stateful import StatefulPolicy

ACTING = "acting"  # the round under way, among the arrays of a state


class WorkerVecEnv(VecEnv):
    """Environments on workers, in which LiquidPPO and LiquidSAC collect whole sequences.

    The environments are divided into blocks, and each worker has as many blocks as the others. A
    block acts as one batch, with noise and environments that are seeded by their numbers, so the
    number of workers changes no bit of what is collected. Neither does the loss of a worker: it is
    replaced, and its part of the round is collected again from the state before.

        make = partial(envs.make_vec, "HalfCheetah-v5", observe="positions", threads=1)
        env = WorkerVecEnv(make, num_envs=16, seed=0, workers=4)
        LiquidPPO("LiquidPolicy", env, seed=0).learn(1_000_000)

    It is no environment to `step` by hand. Wrappers belong into `make`.

    Args:
        make: makes the VecEnv of a block; called with num_envs and seed. Ray has to be able to
            pickle it.
        num_envs: environments in all.
        workers: how many; they divide the blocks evenly. 0 collects in this process.
        block: environments in a block; divides `num_envs`. None: the most up to 4 that do.
        seed: environment i is seeded with seed + i, as is the noise of its block. Agents with a
            seed of their own seed them again.
        engine: what starts the workers: "ray".
        address: of a running cluster, or "auto"; None uses the Ray that this process is connected
            to, or else starts it on this machine.
        cpus: processors that each worker reserves; a part of one is possible.

    Attributes:
        block: environments in a block.

    Raises:
        TypeError, ValueError: a number or a name is invalid, or an environment has a state that is
            unknown, see `liquid_control.checkpoints.env_state`.
        ValueError: the cluster has fewer processors than the workers reserve.
        RayMissing, Unreachable: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(
        self,
        make: MakeEnvs,
        num_envs: int,
        *,
        workers: int = 0,
        block: int | None = None,
        seed: int | None = None,
        engine: str = "ray",
        address: str | None = None,
        cpus: float = 1.0,
    ) -> None:
        self.block = default_block(num_envs) if block is None else block
        check_blocks(num_envs, self.block, workers)
        if engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
        spaces = _spaces(make, seed)
        self._firsts = list(range(0, num_envs, self.block))
        chosen = ENGINES[engine](workers, cpus, address) if workers else LocalEngine()
        self._workers = Workers(chosen, make, num_envs, workers, self.block, seed)
        self._round: Round | None = None
        self._again: tuple[Arrays, int] | None = None  # weights and version of a repeated round
        self._is_stale = False  # whether blocks may be in other states than `_workers.states`
        self._waiting = self._bytes = 0.0  # share of time, and per control step: the last round
        self._since: float | None = None  # the end of the round before
        super().__init__(num_envs, *spaces)

    @property
    def is_acting(self) -> bool:
        """Whether a round is under way."""
        return self._round is not None

    @property
    def replaced(self) -> int:
        """Workers that were lost and replaced."""
        return self._workers.replaced

    def begin(
        self,
        policy: StatefulPolicy,
        observation: Any,
        episode_start: NDArray[np.bool_],
        state: Tensor,
        steps: int,
        *,
        timesteps: int,
        random_steps: int = 0,
        version: int = 0,
    ) -> None:
        """Begin a round: all environments act with copies of the policy's weights.

        A round that was under way in a checkpoint is repeated with the weights that it had.

        Args:
            policy: whose weights act.
            observation: the last one, of all environments.
            episode_start: (num_envs,), true where an episode starts with it.
            state: (num_envs, size) of the actor before it.
            steps: control steps.
            timesteps: of the training, for error messages.
            random_steps: see `acting.act`.
            version: of the weights, for `Collected`.

        Raises:
            ValueError: the weights of a checkpoint are not those of such a policy.
        """
        if self._is_stale:
            self._rewind()
        weights = Weights.of(policy)
        if self._again is not None:
            tensors, version = self._again
            weights = weights._replace(tensors=_like(tensors, weights.tensors))
        states = state.cpu().numpy()
        requests = [
            Request(
                steps,
                _part(observation, first, self.block),
                episode_start[first : first + self.block],
                states[first : first + self.block],
                timesteps,
                self.num_envs,
                random_steps,
            )
            for first in self._firsts
        ]
        shared = self._workers.engine.share(weights)
        arguments = [(shared, each) for each in self._workers.divided(requests)]
        sent = _bytes_of(requests) + len(self._workers) * _bytes_of(weights.tensors)
        self._again = None
        if self._since is None:
            self._since = time.perf_counter()
        calls = self._workers.start("collect", arguments)
        self._round = Round(weights, version, steps, arguments, calls, sent)

    def finish(self) -> Collected:
        """Wait for the round under way, and return what it collected.

        Raises:
            NotFinite, ValueError: as in `acting.act`.
            RuntimeError: a worker was lost again and again.
        """
        assert self._round is not None
        begun, self._round = self._round, None
        before = time.perf_counter()
        self._is_stale = True  # until all blocks have come to the end
        parts: list[Part] = []
        for index, (call, arguments) in enumerate(zip(begun.calls, begun.arguments, strict=True)):
            parts += self._workers.result(index, call, "collect", *arguments)
        self._workers.states = [part.state for part in parts]
        self._is_stale = False
        now = time.perf_counter()
        self._waiting = (now - before) / (now - (self._since or before))
        self._since = now
        self._bytes = (begun.bytes_sent + _bytes_of(parts)) / (begun.steps * self.num_envs)
        columns = zip(*(part.columns for part in parts), strict=True)
        found = [
            (end._replace(env=first + end.env), info)
            for first, part in zip(self._firsts, parts, strict=True)
            for end, info in zip(part.ends, part.infos, strict=True)
        ]
        found.sort(key=lambda each: each[0][:2])  # by step and environment
        return Collected(
            Transitions(*(torch.from_numpy(np.concatenate(each, axis=1)) for each in columns)),
            [end for end, _ in found],
            [info for _, info in found],
            combined([part.observation for part in parts], np.concatenate),
            begun.version,
        )

    def log(self, logger: Logger) -> None:
        """Record the share of the last round for which the learner waited, and bytes of a step."""
        logger.record("time/waiting_for_workers", self._waiting)
        if self._workers.engine.is_remote:
            logger.record("workers/bytes_per_step", self._bytes)
            logger.record("workers/replaced", self.replaced)

    def reset(self) -> Any:
        """Start new episodes in all environments, with the seeds set by `seed`, if any."""
        if self._round is not None or self._is_stale:
            self._rewind()
        self._round = self._again = None
        arguments = [
            (self._seeds[first], self._options[first : first + self.block])
            for first in self._firsts
        ]
        started: list[Started] = self._workers.call("reset", arguments)
        self._workers.states = [each.state for each in started]
        self.reset_infos = list(chain.from_iterable(each.infos for each in started))
        self._reset_seeds()
        self._reset_options()
        return combined([each.observation for each in started], np.concatenate)

    def state_dict(self) -> Arrays:
        """Return all that the steps to come depend on, for `load_state_dict`.

        It is the state before the round under way, with the weights that act in that.

        Raises:
            ResetNeeded: before the first `reset`.
        """
        if self._workers.states is None:
            raise ResetNeeded("no episode is under way; call reset() before state_dict()")
        state = {
            f"{first}.{name}": array
            for first, packed in zip(self._firsts, self._workers.states, strict=True)
            for name, array in unpack(packed).items()
        }
        again = self._again
        if self._round is not None:
            again = self._round.weights.tensors, self._round.version
        if again is not None:
            tensors, version = again
            state[f"{ACTING}.version"] = np.array(version)
            state |= {f"{ACTING}.weights.{name}": array for name, array in tensors.items()}
        return state

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on where other environments with the same arguments returned their `state_dict`.

        The number of workers may differ, and how they are started.

        Raises:
            ValueError: it does not fit. Some blocks may have changed.
        """
        parts: dict[str, Arrays] = {}
        for key, array in state.items():
            owner, _, name = key.partition(".")
            parts.setdefault(owner, {})[name] = array
        acting = parts.pop(ACTING, None)
        if parts.keys() != set(map(str, self._firsts)):
            raise ValueError(
                f"the state is not one of {self.num_envs} environments in blocks of {self.block}; "
                "make them with the arguments that they had"
            )
        states = [pack(parts[str(first)]) for first in self._firsts]
        self._is_stale = True
        self._workers.call("load_state_dicts", states)
        self._workers.states, self._round, self._is_stale, self._again = states, None, False, None
        if acting is not None:
            version = int(acting.pop("version", np.array(0)))
            weights = {name.removeprefix("weights."): array for name, array in acting.items()}
            self._again = weights, version

    def _rewind(self) -> None:
        """Return to the state before the round under way, which is then repeated as it was."""
        if self._workers.states is not None:
            self._workers.call("load_state_dicts", self._workers.states)
        if self._round is not None:
            self._again = self._round.weights.tensors, self._round.version
        self._round, self._is_stale = None, False

    def _change(self, method: str, indices: VecEnvIndices, *arguments: Any, **kw: Any) -> list[Any]:
        """Call a method as `Workers.ask` does that may change the state of environments."""
        if self._round is not None or self._is_stale:
            self._rewind()
        results = self._workers.ask(method, self._get_indices(indices), *arguments, **kw)
        if self._workers.states is not None:
            self._workers.states = self._workers.call("state_dicts")
        return results

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of some environments, copied from where they are."""
        return self._workers.ask("get_attr", self._get_indices(indices), attr_name)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of some environments; a round under way begins anew."""
        self._change("set_attr", indices, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of some environments; a round under way begins anew."""
        return self._change("env_method", indices, method_name, *method_args, **method_kwargs)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return whether environments are wrapped in a class."""
        return self._workers.ask("env_is_wrapped", self._get_indices(indices), wrapper_class)

    def reproduction(self, index: int) -> dict[str, Any]:
        """Return what reproduces the last step of an environment, as `BatchedVecEnv` does."""
        return self._workers.reproduction(index)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Raise a NotImplementedError."""
        raise NotImplementedError(
            "a WorkerVecEnv collects whole sequences in LiquidPPO and LiquidSAC, and cannot be "
            "stepped or wrapped; put wrappers into make, and step environments of envs.make_vec"
        )

    def step_wait(self) -> VecEnvStepReturn:
        """Raise a NotImplementedError."""
        raise NotImplementedError("a WorkerVecEnv cannot be stepped")

    def close(self) -> None:
        """End the workers, and the engine if it was started here."""
        self._round = None
        self._workers.engine.close()


def _spaces(make: MakeEnvs, seed: int | None) -> tuple[gym.spaces.Space[Any], ...]:
    """Return both spaces of the environments, if their state can be moved between processes."""
    with torch.random.fork_rng(devices=[]):
        env = make_envs(make, 1, seed)
        try:
            env.reset()
            env_state.state_dict(env)
        except env_state.UnknownStateError as error:
            raise ValueError(
                f"the state of {error} is unknown, so a lost worker could not be replaced; define "
                "state_dict and load_state_dict in these classes, see "
                "liquid_control.checkpoints.env_state"
            ) from error
        finally:
            env.close()
    return env.observation_space, env.action_space


def _like(tensors: Arrays, own: Arrays) -> Arrays:
    """Return the weights of a checkpoint, if they can be those of the policy."""
    shapes = [
        {name: (array.shape, array.dtype) for name, array in each.items()}
        for each in (tensors, own)
    ]
    if shapes[0] != shapes[1] or not all(np.isfinite(each).all() for each in tensors.values()):
        raise ValueError("the acting weights of the saved environments are not of this policy")
    return tensors


def _part(observation: Any, first: int, count: int) -> Any:
    """Return the observation of some environments."""
    if isinstance(observation, dict):
        return {name: each[first : first + count] for name, each in observation.items()}
    return observation[first : first + count]


def _bytes_of(value: Any) -> int:
    """Return the bytes of the arrays, texts and numbers that a value is made of."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, bytes | str):
        return len(value)
    if isinstance(value, Mapping):
        return _bytes_of(list(value)) + _bytes_of(list(value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_bytes_of, value))
    return 8
