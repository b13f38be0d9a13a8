"""Blocks of environments that act together on one worker.

The bits of a matrix product may depend on its number of rows, and noise depends on other draws from
the generator. So a block always acts as one batch, with its own generator, and what it collects
depends only on the weights and the block's state.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.checkpoints import env_state
from liquid_control.checkpoints.fields import Arrays, Field, check_arrays
from liquid_control.collectors.acting import act
from liquid_control.collectors.finite_checks import NotFinite
from liquid_control.collectors.transitions import EpisodeEnd, find_episode_ends
from liquid_control.kernels.torch_threads import one_torch_thread
from liquid_control.policies.stateful import StatefulPolicy

MakeEnvs: TypeAlias = Callable[..., VecEnv]
"""Called with num_envs and seed, such as a partial of `envs.make_vec`."""


def make_envs(make: MakeEnvs, count: int, seed: int | None) -> VecEnv:
    """Return `count` environments, with images' channels first, as SB3's agents see them."""
    return BaseAlgorithm._wrap_env(make(num_envs=count, seed=seed))


Packed: TypeAlias = Mapping[str, tuple[str, tuple[int, ...], bytes]]
"""Arrays as dtype, shape and compressed bytes: most of an episode's schedule is repetitive."""

LARGEST_DEFAULT = 4
"""Environments in a block. Fewer act in batches so small that time is lost."""
NOISE = "noise"  # PyTorch's generator, among the arrays of a block's state


class Weights(NamedTuple):
    """A policy snapshot: its class, its arguments, and the tensors that acting depends on."""

    policy: type[StatefulPolicy]
    arguments: Mapping[str, Any]
    tensors: Arrays

    @classmethod
    def of(cls, policy: StatefulPolicy) -> Weights:
        """Return copies of a policy's weights."""
        tensors = policy.acting_state_dict()
        arrays = {name: np.array(tensor.cpu().numpy()) for name, tensor in tensors.items()}
        return cls(type(policy), policy._get_constructor_parameters(), arrays)


class Request(NamedTuple):
    """A request to collect control steps; fields as in `acting.act`."""

    steps: int
    observation: Any
    episode_start: NDArray[np.bool_]
    state: NDArray[np.float32]
    timesteps: int
    per_step: int
    random_steps: int


class Part(NamedTuple):
    """The steps that a block collected.

    Attributes:
        columns: fields of `Transitions`, (steps, environments, ...).
        ends: of episodes; environments are numbered within the block.
        infos: of the steps that ended an episode, in the order of `ends`.
        observation: after the last step.
        state: of the block after the last step.
    """

    columns: tuple[NDArray[Any], ...]
    ends: list[EpisodeEnd]
    infos: list[dict[str, Any]]
    observation: Any
    state: Packed


class Started(NamedTuple):
    """The result of resetting a block."""

    observation: Any
    infos: list[dict[str, Any]]
    state: Packed


class Block:
    """Environments that act together, and their noise generator.

    Args:
        make: makes the environments.
        first: the number of the first one among all.
        count: number of environments.
        seed: of all environments; number i is seeded with seed + i. None: at random.
    """

    def __init__(self, make: MakeEnvs, first: int, count: int, seed: int | None) -> None:
        self.first = first
        seed = None if seed is None else seed + first
        self.env = make_envs(make, count, seed)
        self._noise = _seeded(seed)
        self._was_reset = False

    def reset(self, seed: int | None, options: Sequence[dict[str, Any]]) -> Started:
        """Reset every environment; arguments as in `VecEnv.seed` and `VecEnv.set_options`.

        The seed is for the first environment; the others get the numbers after it.
        """
        if seed is not None:
            self.env.seed(seed)
            self._noise = _seeded(seed)
        self.env.set_options(list(options))
        with self._own_noise():
            observation = self.env.reset()
        self._was_reset = True
        return Started(observation, self.env.reset_infos, self.state_dict())

    def collect(self, policy: StatefulPolicy, request: Request) -> Part:
        """Act for some steps.

        Raises:
            NotFinite: as in `acting.act`, with the environment's number among all.
        """
        steps, ends, infos = [], [], []
        taken = act(
            policy,
            self.env,
            request.observation,
            request.episode_start,
            torch.from_numpy(np.array(request.state)),
            request.timesteps,
            per_step=request.per_step,
            random_steps=request.random_steps,
        )
        try:
            with self._own_noise():
                for number, step in enumerate(islice(taken, request.steps)):
                    steps.append(step.transitions)
                    found = find_episode_ends(number, step.dones, step.infos)
                    ends += found
                    infos += [_without_observation(step.infos[end.env]) for end in found]
        except NotFinite as fault:
            raise fault.shifted(self.first) from fault
        columns = tuple(torch.stack(column).numpy() for column in zip(*steps, strict=True))
        return Part(columns, ends, infos, step.observation, self.state_dict())

    def state_dict(self) -> Packed:
        """Return all that later steps depend on, except for the weights and the request."""
        return pack({**env_state.state_dict(self.env), NOISE: self._noise.numpy()})

    def load_state_dict(self, state: Packed) -> None:
        """Continue from a state that a block with the same arguments returned.

        Raises:
            ValueError: it does not fit; nothing is changed then.
        """
        arrays = unpack(state)
        noise = arrays.pop(NOISE, np.empty(0, np.uint8))
        check_arrays({NOISE: noise}, {NOISE: Field(self._noise.shape, "u")}, "the block")
        if not self._was_reset:  # wrappers that check the order of calls have no state to load
            with self._own_noise():
                self.env.reset()
            self._was_reset = True
        env_state.load_state_dict(self.env, arrays)
        self._noise = torch.tensor(noise)

    @contextmanager
    def _own_noise(self) -> Iterator[None]:
        """Draw from the block's generator, not from PyTorch's global one."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._noise)
            yield
            self._noise = torch.get_rng_state()


class Host:
    """The blocks of one process, and the policy that acts in them.

    Args:
        make: makes the environments of a block.
        firsts: the numbers of the blocks' first environments.
        count: environments in a block.
        seed: as in `Block`.
    """

    def __init__(self, make: MakeEnvs, firsts: Sequence[int], count: int, seed: int | None) -> None:
        with torch.random.fork_rng(devices=[]):
            self._blocks = [Block(make, first, count, seed) for first in firsts]
        self._policy: StatefulPolicy | None = None
        self._arguments: tuple[Any, ...] = ()

    def reset(self, arguments: Sequence[tuple[Any, ...]]) -> list[Started]:
        """Reset the blocks, each with its arguments of `Block.reset`."""
        return [block.reset(*each) for block, each in zip(self._blocks, arguments, strict=True)]

    def collect(self, weights: Weights, requests: Sequence[Request]) -> list[Part]:
        """Act in every block with these weights, on one thread: more could change the bits."""
        policy = self._with(weights)
        with one_torch_thread():
            pairs = zip(self._blocks, requests, strict=True)
            return [block.collect(policy, request) for block, request in pairs]

    def _with(self, weights: Weights) -> StatefulPolicy:
        """Return a policy with these weights, on the CPU, whichever device the learner uses."""
        kind, arguments, arrays = weights
        if self._policy is None or self._arguments != (kind, arguments):
            with torch.random.fork_rng(devices=[]):  # constructing a policy draws weights
                self._policy = kind(**arguments)
            self._arguments = kind, arguments
            self._policy.set_training_mode(False)
        tensors = {name: torch.tensor(array) for name, array in arrays.items()}
        self._policy.load_state_dict(tensors, strict=False)
        return self._policy

    def state_dicts(self) -> list[Packed]:
        """Return the state of every block."""
        return [block.state_dict() for block in self._blocks]

    def load_state_dicts(self, states: Sequence[Packed]) -> None:
        """Load what `state_dicts` returned."""
        for block, state in zip(self._blocks, states, strict=True):
            block.load_state_dict(state)

    def ask(
        self,
        method: str,
        indices: Mapping[int, Sequence[int]],
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
    ) -> dict[int, list[Any] | None]:
        """Call a method of the blocks' VecEnvs that takes `indices`, given by block number."""
        return {
            number: getattr(self._blocks[number].env, method)(
                *arguments, indices=list(chosen), **keywords
            )
            for number, chosen in indices.items()
        }

    def reproduction(self, number: int, index: int) -> dict[str, Any]:
        """Return data that reproduces an environment's last step, see `report_faults`."""
        env: Any = self._blocks[number].env
        return env.reproduction(index) if hasattr(env, "reproduction") else {}

    def close(self) -> None:
        """Close the environments."""
        for block in self._blocks:
            block.env.close()


def pack(arrays: Arrays) -> Packed:
    """Compress arrays."""
    return {
        name: (array.dtype.str, array.shape, zlib.compress(array.tobytes(), 1))
        for name, array in arrays.items()
    }


def unpack(packed: Packed) -> Arrays:
    """Return the arrays that were packed."""
    return {
        name: np.frombuffer(bytearray(zlib.decompress(data)), dtype).reshape(shape)
        for name, (dtype, shape, data) in packed.items()
    }


def default_block(num_envs: int) -> int:
    """Return the largest number of environments up to `LARGEST_DEFAULT` that divides them."""
    sizes = range(LARGEST_DEFAULT, 0, -1)
    return next(size for size in sizes if num_envs % size == 0)


def check_blocks(num_envs: int, block: int, workers: int) -> None:
    """Raise a ValueError unless blocks divide the environments, and workers the blocks."""
    for name, number, least in (("num_envs", num_envs, 1), ("block", block, 1)):
        _check_count(name, number, least)
    _check_count("workers", workers, 0)
    if num_envs % block:
        raise ValueError(f"{num_envs} environments cannot be divided into blocks of {block}")
    blocks = num_envs // block
    if workers and blocks % workers:
        fitting = ", ".join(str(each) for each in range(1, blocks + 1) if blocks % each == 0)
        raise ValueError(
            f"{blocks} blocks of {block} environments cannot be divided among {workers} workers; "
            f"use {fitting}, or 0 for this process, or set block"
        )


def _check_count(name: str, number: int, least: int) -> None:
    if not isinstance(number, int | np.integer) or isinstance(number, bool):
        raise TypeError(f"{name} must be an integer, got {number!r}")
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")


def _seeded(seed: int | None) -> torch.Tensor:
    """Return the state of a generator, independent of others with the same seed."""
    words = np.random.SeedSequence(seed, spawn_key=(1,)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1))).get_state()


def _without_observation(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return an info without the terminal observation, which `EpisodeEnd` has."""
    return {name: value for name, value in info.items() if name != "terminal_observation"}
