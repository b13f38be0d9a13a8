"""Acting step of a single robot as one call of the compiled kernels, without tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from operator import is_
from types import ModuleType, NoneType
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from liquid_control.kernels import extension
from liquid_control.kernels.fused import addresses, compile_circuit, is_traced
from liquid_control.kernels.passes import network_of
from liquid_control.policies.compiled import layers_of, replaced_methods, runs_in_kernels
from liquid_control.policies.distributions import Gaussian
from liquid_control.policies.moments import ObservationNormalizer
from liquid_control.policies.networks import EncodedCircuit
from liquid_control.policies.observations import (
    ELAPSED_TIME,
    bounds_of_elapsed_time,
    carries_time,
)

MODULES = ("normalizer", "actor", "action_net")
SETTINGS = (
    "action_space",
    "observation_space",
    "acting_space",
    "distribution",
    "nominal_interval",
    "options",
    "share_encoder",
)
Acted = tuple[NDArray[Any], NDArray[np.float32]]
"""Action in the environment's shape and bounds, and the actor's state (1, size) after it."""


class ActingParts(NamedTuple):
    """The parts of a policy that act.

    Attributes:
        body: the circuit.
        encoder: before the circuit, or None; possibly another body's.
        head: on the motor neurons.
        log_std: the log-deviation of a Gaussian, if it does not depend on observations.
        squashed: whether the head outputs means and deviations of a squashed Gaussian, and the
            circuit receives the previous action.
        other_body: the encoder's body, if it is not `body`.
    """

    body: EncodedCircuit
    encoder: nn.Module | None
    head: nn.Module
    log_std: Tensor | None = None
    squashed: bool = False
    other_body: EncodedCircuit | None = None


class Structure:
    """The structure of a policy's actor, without the values of its parameters."""

    def __init__(self, policy: Any, parts: ActingParts) -> None:
        self.parts, self._policy, self._kind = parts, policy, type(policy)
        tops = [top for name in MODULES if (top := policy._modules.get(name)) is not None]
        if parts.other_body is not None:
            tops.append(parts.encoder)
        modules = [module for top in tops for module in top.modules()]
        owners = [
            (register, name)
            for module in modules
            for register in (module._modules, module._parameters)
            for name in register
        ]
        owners += [(policy._modules, name) for name in MODULES]
        owners += [(policy.actor_circuit._modules, "output_mapping")]
        if parts.other_body is not None:
            owners += [(policy._modules, "critic"), (policy.critic._modules, "body")]
            owners += [(parts.other_body._modules, "encoder")]
        owners += [(policy._parameters, "log_std")]
        if policy.normalizer is not None:
            owners += [(policy.normalizer._buffers, name) for name in ("shift", "scale")]
        owners += [(vars(policy), name) for name in SETTINGS]
        owners += [(vars(module), "forward") for module in modules]
        owners += [
            (vars(module), name)
            for module in modules
            for name in ("backend", "time_scale", "clip")
            if name in vars(module)
        ]
        self._owners, self._names = zip(*owners, strict=True)
        self._registers = [module._modules for module in modules]
        self._counts = list(map(len, self._registers))
        self._values = [owner.get(name) for owner, name in owners]
        self._hooks = [
            hooks
            for module in (policy, *modules)
            for hooks in (module._forward_hooks, module._forward_pre_hooks)
        ]
        self._hooks += [torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks]
        self.hooked = any(self._hooks)
        self.replaced = any("forward" in vars(module) for module in modules)
        self.replaced_methods = replaced_methods(policy)
        self._attributes, self._attribute_count = vars(policy), len(vars(policy))
        self.tensors = [value for value in self._values if isinstance(value, Tensor)]
        # An address stays unique as long as its memory is in use.
        self._memory = [tensor.detach() for tensor in self.tensors]
        self._addresses = list(map(Tensor.data_ptr, self.tensors))

    def is_same(self) -> bool:
        """Whether no module, tensor, setting or hook was added, replaced or moved in memory."""
        return (
            type(self._policy) is self._kind
            and len(self._attributes) == self._attribute_count
            and any(self._hooks) == self.hooked
            and list(map(len, self._registers)) == self._counts
            and all(map(is_, map(dict.get, self._owners, self._names), self._values))
            and list(map(Tensor.data_ptr, self.tensors)) == self._addresses
        )


class Reader:
    """Reads single observations of a space, as `predict` receives them."""

    def __init__(self, space: spaces.Space[Any], nominal_interval: float) -> None:
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
        self._keys = parts.keys() if isinstance(space, spaces.Dict) else None
        self._is_timed, self._nominal = carries_time(space), nominal_interval
        self._names = [name for name in parts if name != ELAPSED_TIME]
        self.feature_shapes: list[Any] = [parts[name].shape for name in self._names]
        if self._is_timed:
            self._names.append(ELAPSED_TIME)
        self._shapes: list[Any] = [parts[name].shape for name in self._names]
        self._batch_shapes: list[Any] = [(1, *shape) for shape in self._shapes]

    def read(self, observation: Any) -> tuple[list[NDArray[Any]], float, bool] | None:
        """Return the parts' features, the elapsed time, and whether it is a batch of one.

        None for a larger batch, or where PyTorch has to convert or reject it.
        """
        if self._keys is None:
            parts = [observation]
        elif type(observation) is dict and observation.keys() == self._keys:
            parts = [observation[name] for name in self._names]
        else:
            return None
        shapes = [part.shape if isinstance(part, np.ndarray) else None for part in parts]
        is_batch = shapes == self._batch_shapes
        if is_batch:
            parts = [part[0] for part in parts]
        elif shapes != self._shapes:
            return None
        if not self._is_timed:
            return parts, self._nominal, is_batch
        elapsed_time = parts.pop()
        if elapsed_time.dtype.kind not in "fiu":
            return None
        return parts, float(elapsed_time.item()), is_batch


class FusedActor:
    """The actor of a policy, for any parameter values; `FusedActor.of` creates it."""

    def __init__(self, policy: Any, parts: ActingParts, module: ModuleType) -> None:
        self._policy, self._is_squashed = policy, parts.squashed
        self._circuit = circuit = policy.actor_circuit
        compiled = compile_circuit(circuit)
        assert compiled is not None
        self._program = compiled.program
        normalizer, mapping = policy.normalizer, circuit.output_mapping
        encoder = [] if parts.encoder is None else layers_of([parts.encoder])
        head = layers_of([parts.head])
        self._before: list[Tensor | None] = [
            *((None, None) if normalizer is None else _shift_and_scale(policy)),
            *(each for weight, bias, _ in encoder for each in (weight, bias)),
        ]
        self._after: list[Tensor | None] = [
            *((None, None) if mapping is None else (mapping.gain, mapping.offset)),
            *(each for weight, bias, _ in head for each in (weight, bias)),
            parts.log_std,
        ]
        within = self._parameters()
        tensors = [*self._before, *within, *self._after]
        nominal, actions = policy.nominal_interval, policy.action_space
        self._reader = Reader(policy.acting_space, nominal)
        self._shapes = self._reader.feature_shapes
        self._derivatives, self._memory_size = policy.derivatives, policy.memory_size
        self._state_shape = tuple(policy.initial_actor_state(1).shape)
        self._action_shape, self._action_size = actions.shape, math.prod(actions.shape or ())
        drawn_here = parts.squashed or type(policy.distribution) is Gaussian
        self._is_bounded = drawn_here and actions.dtype == np.float32
        shortest, longest = bounds_of_elapsed_time(
            nominal, allow_any_interval=policy.options.allow_any_interval
        )
        self._actor = module.Actor(
            compiled.kernel,
            network_of(module, encoder) if encoder else None,
            network_of(module, head),
            [0 if each is None else each.numel() for each in tensors],
            features=policy.observed,
            clip=0.0 if normalizer is None else normalizer.clip,
            time_scale=circuit.time_scale,
            nominal=parts.body.time_scale,
            shortest=shortest,
            longest=longest,
            low=actions.low.ravel() if self._is_bounded else (),
            high=actions.high.ravel() if self._is_bounded else (),
            squashed=parts.squashed,
        )
        # Some circuits pass their parameters to the kernels, others compute from them.
        has_all = all(each is None or isinstance(each, nn.Parameter) for each in within)
        self._fixed = self._actor.tensors(addresses(tensors)) if has_all else None

    @classmethod
    def of(cls, policy: Any, structure: Structure) -> FusedActor | None:
        """Return the actor of a policy with that structure; None where PyTorch acts.

        It acts for hooks, unsupported parts, devices and dtypes, action masks, and observations
        other than Boxes of floating-point numbers.
        """
        module = extension.load()
        if module is None or next(_obstacles(policy, structure), None):
            return None
        return cls(policy, structure.parts, module)

    def act(
        self,
        observation: Sequence[Any],
        elapsed_time: float,
        state: NDArray[np.float32] | None,
        deterministic: bool,
    ) -> Acted | None:
        """Act on one observation; None if it, or the action, has to be rejected or converted.

        Args:
            observation: its parts in the order of the space, without the elapsed time.
            elapsed_time: seconds.
            state: (1, size) of the actor, None where an episode starts.
            deterministic: take the most likely action.
        """
        arrays = [np.asarray(part, order="C") for part in observation]
        if [array.shape for array in arrays] != self._shapes:
            return None
        features = arrays[0] if len(arrays) == 1 else np.concatenate(list(map(np.ravel, arrays)))
        before = state
        if self._memory_size:
            features = self._derive(features, elapsed_time, state)
            before = None if state is None else state[:, : -self._memory_size].copy()
        tensors = self._fixed
        if tensors is None:
            computed = [*self._before, *self._parameters(), *self._after]
            tensors = self._actor.tensors(addresses(computed))
        bounded = deterministic and self._is_bounded and not self._is_squashed
        found = self._actor.act(tensors, features, elapsed_time, before, bounded)
        if found is None:
            return None
        outputs, after = found
        action = self._choose(tensors, outputs, after, deterministic)
        if self._memory_size:
            after = np.concatenate([after, features[None], np.ones((1, 1), np.float32)], axis=1)
        return action, after

    def _choose(
        self, tensors: Any, outputs: NDArray[Any], after: NDArray[np.float32], deterministic: bool
    ) -> NDArray[Any]:
        """Return the action, given the outputs of the head, and update the state."""
        if self._is_squashed:
            return self._squash(outputs, after, deterministic)
        if self._is_bounded:
            if not deterministic:
                noise = torch.randn(1, len(outputs), device="cpu", dtype=torch.float32)
                self._actor.perturb(tensors, outputs, noise.numpy())
            return outputs.reshape(self._action_shape)
        with torch.no_grad():
            distribution = self._policy.distribution_with(torch.from_numpy(outputs)[None])
            actions = distribution.get_actions(deterministic=deterministic)
        chosen: NDArray[Any] = self._policy.for_env(actions).squeeze(axis=0)
        return chosen

    def _derive(
        self, features: NDArray[Any], elapsed_time: float, state: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """Return features with their derivatives, given the state before them."""
        rows = torch.from_numpy(features.astype(np.float32).reshape(1, -1))
        seconds = torch.tensor([elapsed_time], device="cpu", dtype=torch.float32)
        before: tuple[Tensor | None, Tensor | None] = None, None
        if state is not None:
            starts = torch.zeros(1, device="cpu", dtype=torch.bool)
            before = self._policy.previous_of(torch.from_numpy(state).float(), starts)
        derived: NDArray[np.float32] = self._derivatives(rows, seconds, *before)[0].numpy()
        return derived

    def _squash(
        self, outputs: NDArray[Any], after: NDArray[np.float32], deterministic: bool
    ) -> NDArray[Any]:
        """Return an action, and write it to the state."""
        noise = None
        if not deterministic:
            noise = torch.randn(1, self._action_size, device="cpu", dtype=torch.float32).numpy()
        action: NDArray[Any] = self._actor.squash(outputs, after, noise)
        if self._is_bounded:
            return action.reshape(self._action_shape)
        chosen: NDArray[Any] = self._policy.for_env(torch.from_numpy(action)[None])
        return chosen.squeeze(axis=0)

    def predict(
        self, observation: Any, state: Any, episode_start: Any, deterministic: bool
    ) -> Acted | None:
        """Act as `StatefulPolicy.predict` on one observation or batch of one; None as in `act`."""
        read = self._reader.read(observation)
        if read is None or not self._continues(state, episode_start):
            return None
        parts, elapsed_time, is_batch = read
        before = None if episode_start is not None and episode_start.item() else state
        if before is not None and not np.isfinite(before).all():
            return None
        acted = self.act(parts, elapsed_time, before, deterministic)
        if acted is None or not is_batch:
            return acted
        action, after = acted
        return action[None], after

    def _continues(self, state: Any, episode_start: Any) -> bool:
        """Whether a state and an episode start belong to a single robot."""
        return (
            state is None or (isinstance(state, np.ndarray) and state.shape == self._state_shape)
        ) and (
            episode_start is None
            or (
                isinstance(episode_start, np.ndarray)
                and episode_start.shape in ((), (1,))
                and episode_start.dtype.kind in "biuf"
            )
        )

    @torch.no_grad()
    def _parameters(self) -> Sequence[Tensor | None]:
        return self._program.parameters(self._circuit)


def why_not_fused(policy: Any) -> str | None:
    """Return why PyTorch acts in the place of the kernels; None if they act."""
    parts = policy.acting_parts()
    if parts is None:
        return f"the kernels do not know the parts of a {type(policy).__name__}"
    return next(_obstacles(policy, Structure(policy, parts)), None)


def _obstacles(policy: Any, structure: Structure) -> Iterator[str]:
    if extension.load() is None:
        yield "the compiled kernels are off or missing"
    if is_traced():
        yield "PyTorch traces the policy"
    if structure.hooked:
        yield "a module has hooks"
    if structure.replaced:
        yield "the forward method of a module was replaced"
    if structure.replaced_methods:
        yield f"its method {structure.replaced_methods[0]} was replaced"
    yield from _obstacles_in_parts(policy, structure)


def _obstacles_in_parts(policy: Any, structure: Structure) -> Iterator[str]:
    if policy.masked:
        yield "its actions are masked"
    if type(policy.normalizer) not in (ObservationNormalizer, NoneType):
        yield f"its normalizer is a {type(policy.normalizer).__name__}"
    parts = structure.parts
    modules = [parts.body, parts.head, *([] if parts.encoder is None else [parts.encoder])]
    if not all(map(runs_in_kernels, modules)):
        yield "the kernels do not support its circuit, or a layer of its encoder or head"
    tensors = structure.tensors
    if not all(each.dtype is torch.float32 and each.is_cpu for each in tensors):
        yield "its parameters are not all float32 on the CPU"
    if not all(each.is_contiguous() for each in tensors):
        yield "a parameter is not contiguous"
    actions = policy.action_space
    if isinstance(actions, spaces.Box) and actions.dtype.kind != "f":
        yield "its actions are whole numbers in a Box"
    if not _is_vector(policy.acting_space):
        yield "its observations are not vectors of floating-point numbers"


def _shift_and_scale(policy: Any) -> tuple[Tensor, Tensor]:
    """Return shift and scale of the actor's observations, as views of the normalizer's memory."""
    normalizer, observed = policy.normalizer, policy.observed
    return normalizer.shift[:observed], normalizer.scale[:observed]


def _is_vector(space: spaces.Space[Any]) -> bool:
    """Whether observations are floating-point numbers."""
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return all(
        isinstance(part, spaces.Box) and part.dtype in (np.float32, np.float64) for part in parts
    )
