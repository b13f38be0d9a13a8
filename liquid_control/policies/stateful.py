"""The base class of recurrent policies: acting and predicting with an explicit state."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from liquid_control.neurons import Circuit
from liquid_control.policies.acting import ActingParts, FusedActor, Structure
from liquid_control.policies.derivatives import Derivatives
from liquid_control.policies.device import choose_device
from liquid_control.policies.history import History
from liquid_control.policies.images import Pixels, images_among
from liquid_control.policies.masks import check_mask, mask_size, with_mask
from liquid_control.policies.moments import ObservationNormalizer
from liquid_control.policies.networks import Signal
from liquid_control.policies.observations import (
    ACTION_MASK,
    Observation,
    Splitter,
    acting_observation,
    acting_space,
    check_elapsed_time,
    check_structure,
    feature_count,
    privileged_count,
    without_mask,
)
from liquid_control.policies.options import CircuitOptions
from liquid_control.wiring import make_wiring


class StatefulPolicy(BasePolicy):
    """A recurrent policy that takes and returns its state as one tensor.

    There are two kinds of state. Acting (`forward`, `predict`) takes and returns the actor's state:
    that of the actor's circuit, then other values of the previous step, such as the features that
    `observe` needs for derivatives; it starts as `initial_actor_state`. Training unrolls actor and
    critic together; the state of both circuits, (batch, state_size), starts as
    `initial_actor_critic_state`.

    The key `privileged` of a Dict observation is for critics only. Training needs it; `predict` and
    `forward` ignore it.

    Attributes:
        options: of the constructor, except the spaces and the schedule.
        normalizer: of vectors and privileged features, if they are normalised.
        nominal_interval: seconds between two observations at the task's own rate.
        acting_space: of observations without privileged ones.
        derivatives: appends derivatives to the actor's observations.
        observed: number of the actor's features, which come first.
        privileged: number of additional features for critics, those of `history` among them.
        masked: number of entries of the action mask, which come last; zero without one.
        width: number of all of these without `history`, as `observe` returns them in training.
        history: earlier observations and actions, which `with_history` inserts.
        pixels: place of the images among the features.
        images: the images and their convolutions, None without images.
    """

    options: CircuitOptions
    nominal_interval: float
    _fused: tuple[Structure, FusedActor | None] | None = None
    _without_state = False  # in the last call of `predict`
    _warned = _warned_of_mask = False

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        *args: Any,
        options: CircuitOptions,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_space, *args, **kwargs)
        self.acting_space = acting_space(observation_space)
        self._split = Splitter(observation_space)
        self.privileged = privileged_count(observation_space)
        self.masked = mask_size(observation_space, self.action_space)
        space = without_mask(observation_space)
        found = feature_count(space, images=True)
        self.derivatives = Derivatives(found - self.privileged, options.derivatives)
        self.observed = self.derivatives.width
        self.history = History(self.derivatives.observed, self.action_space, options.critic_history)
        self.width = self.observed + self.privileged + self.masked
        self.privileged += self.history.size
        features = self.observed + self.privileged
        self.pixels = Pixels.of(space, features)
        if self.pixels.size and self.derivatives.size:
            raise ValueError("derivatives of images are not supported; leave out derivatives")
        if self.pixels.size and self.history.size:
            raise ValueError("a history of images is not supported; leave out critic_history")
        layers, size = options.image_layers, options.image_features
        self.images = images_among(space, self.pixels, layers, size)
        vectors = features - self.pixels.size
        normalizes = options.normalize_observations and vectors > 0
        self.normalizer = ObservationNormalizer(vectors) if normalizes else None

    @classmethod
    def load(cls, path: str, device: torch.device | str = "auto") -> Self:
        """Load a policy as SB3 does, which runs any code in the file; see `choose_device`."""
        if device != "auto":
            return super().load(path, device)
        policy = super().load(path, "cpu")
        return policy.to(choose_device(device, policy.observation_space))

    @abstractmethod
    def initial_actor_state(self, batch_size: int) -> Tensor:
        """Return the actor's state at the start of an episode, (batch_size, size)."""

    @abstractmethod
    def initial_actor_critic_state(self, batch_size: int) -> Tensor:
        """Return both circuits' state at the start of an episode, (batch_size, state_size)."""

    @abstractmethod
    def forward(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        state: Tensor,
        episode_start: Tensor,
        deterministic: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Act for one control step.

        Args:
            features: (batch, features), from `observe`, with or without privileged ones.
            elapsed_time: (batch,) seconds.
            state: (batch, size) of the actor, see `initial_actor_state`.
            episode_start: (batch,), nonzero where the state resets first.
            deterministic: take the most likely action.

        Returns:
            actions (batch, ...), and the next state.
        """

    def state_after(self, state: Tensor, actions: Tensor) -> Tensor:
        """Return the state that `forward` returned, had it chosen other actions (batch, ...)."""
        return state

    def acting_state_dict(self) -> dict[str, Tensor]:
        """Return the part of `state_dict` that acting depends on."""
        return dict(self.state_dict())

    @property
    @abstractmethod
    def actor_circuit(self) -> Circuit:
        """Return the circuit whose motor neurons act."""

    @abstractmethod
    def actor_inputs(
        self,
        features: Tensor,
        elapsed_time: Tensor,
        episode_start: Tensor,
        actions: Tensor,
    ) -> Signal:
        """Return the inputs of the actor's circuit over sequences that start with an episode.

        Args:
            features: (time, batch, features), from `observe`.
            elapsed_time: (time, batch) seconds.
            episode_start: (time, batch).
            actions: (time, batch, ...), chosen by `forward` in each step.

        Returns:
            a signal whose features are the inputs of the sensory neurons (time, batch, sensory).
        """

    @abstractmethod
    def for_env(self, actions: Tensor) -> NDArray[Any]:
        """Return actions in the environment's shape and bounds."""

    def check_circuit(self, options: Mapping[str, Any]) -> None:
        """Check that weights of a policy with other options, of the same shapes, fit this one.

        Raises:
            ValueError: they belong to other neurons or synapses, or to other features.
        """
        own, wiring = self.options, self.actor_circuit.wiring
        if options.get("neurons", own.neurons) != own.neurons:
            raise ValueError(f"its neurons are {options['neurons']}, and these are {own.neurons}")
        for name in ("derivatives", "critic_history"):
            theirs, ours = options.get(name), [*getattr(own, name)]
            if theirs is not None and [*theirs] != ours:
                raise ValueError(f"its {name}: {[*theirs]}, and here {ours}")
        if "neuron_kwargs" in options:
            given, here = map(self._neuron_options, (options["neuron_kwargs"], own.neuron_kwargs))
            for name in sorted(given.keys() | here.keys()):
                if given.get(name) != here.get(name):
                    raise ValueError(
                        f"its neuron_kwargs: {name}={given.get(name)!r}, and here "
                        f"{name}={here.get(name)!r}"
                    )
        wired = options.get("wiring")
        sizes = {"sensory": wiring.sensory_count, "motor": wiring.motor_count}
        if isinstance(wired, Mapping) and make_wiring(wired, **sizes) != wiring:
            raise ValueError("its circuit has another wiring, though as many synapses")

    def _neuron_options(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return what circuits with these `neuron_kwargs` compute by."""
        complete = {"time_scale": self.options.nominal_interval, **(given or {})}
        return self.actor_circuit.acting_options(complete)

    def acting_parts(self) -> ActingParts | None:
        """Return the parts that act; None if the policy is not made of such parts."""
        return None

    def fused_actor(self) -> FusedActor | None:
        """Return the acting step in the compiled kernels; None where PyTorch acts."""
        if self._fused is not None and self._fused[0].is_same():
            return self._fused[1]
        parts = self.acting_parts()
        if parts is None:
            return None
        structure = Structure(self, parts)
        self._fused = structure, FusedActor.of(self, structure)
        return self._fused[1]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies, which build their own fused actor."""
        return {**vars(self), "_fused": None}

    def observe(
        self,
        observation: Observation,
        previous: Tensor | None = None,
        episode_start: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Split a batch of observations into raw features (batch, features) and elapsed time.

        The elapsed time (batch,) of observations that do not carry it is the nominal interval.

        Args:
            observation: as SB3 converts it to tensors.
            previous: (batch, features) of the previous step, for derivatives; None at the start of
                all episodes.
            episode_start: (batch,), nonzero where an episode starts; None: nowhere.

        Raises:
            ValueError: an elapsed time is rejected, see `check_elapsed_time`, or an action mask
                allows no action.
        """
        features, elapsed_time = self.split(observation, previous, episode_start)
        self.check_elapsed_time(elapsed_time)
        if (mask := self.mask_of(features)) is not None:
            check_mask(mask, self.action_space)
        return features, elapsed_time

    def split(
        self,
        observation: Observation,
        previous: Tensor | None = None,
        episode_start: Tensor | None = None,
        *,
        precision: torch.dtype | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Split observations as `observe` does, without its checks.

        `precision` is that of the parameters; None: it is looked up, which is slow.
        """
        if precision is None:
            precision = next(self.parameters()).dtype
        parts = self._split(observation, self.nominal_interval)
        features, elapsed_time = (part.to(precision) for part in parts)
        return self.derivatives(features, elapsed_time, previous, episode_start), elapsed_time

    def previous_of(self, state: Tensor, episode_start: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the arguments `previous` and `episode_start` of `observe`, from the actor's state.

        Args:
            state: (batch, size), or its last columns.
            episode_start: (batch,), nonzero where an episode starts.

        Returns:
            the features of the previous step, None without derivatives; and where an episode
            starts, including where the state is the initial one.
        """
        if not self.derivatives.size:
            return None, episode_start
        *_, continues = state.unbind(dim=1)
        return state[:, -1 - self.observed : -1], episode_start.bool() | (continues == 0)

    @property
    def memory_size(self) -> int:
        """Return the number of columns of an actor's state that `previous_of` reads."""
        return 1 + self.observed if self.derivatives.size else 0

    def _memory_of(self, features: Tensor) -> Tensor:
        """Return the columns for `previous_of` after a step with features (batch, features)."""
        seen = features[:, : self.observed]
        return torch.cat([seen, seen.new_ones(len(seen), 1)], dim=1)

    def _with_memory(self, state: Tensor, features: Tensor) -> Tensor:
        """Append the columns for `previous_of` to a state (batch, size), if there are any."""
        if not self.memory_size:
            return state
        return torch.cat([state, self._memory_of(features)], dim=1)

    def check_elapsed_time(self, elapsed_time: Tensor) -> None:
        """Reject elapsed times (any shape), see `observations.check_elapsed_time`."""
        allowed = self.options.allow_any_interval
        check_elapsed_time(elapsed_time, self.nominal_interval, allow_any_interval=allowed)

    def predict(  # type: ignore[override]  # SB3's state is a tuple; ours is one array
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: NDArray[np.float32] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Act on a single observation or on a batch, one of each environment.

        Args:
            observation: from the environment, single or a batch.
            state: (batch, size) from the previous call, None at the start of all episodes. A
                single warning is given if it is None again in mid-episode.
            episode_start: (batch,), true where an episode starts; None: nowhere.
            deterministic: take the most likely action.
            action_masks: (masked,) or (batch, masked), nonzero where an action is allowed, instead
                of the observation's key `action_mask`; as in sb3-contrib's MaskablePPO.

        Returns:
            actions within the action space, and the state for the next call.

        Raises:
            ValueError: the observation is not in the environment's space, the state or
                `episode_start` do not fit it, an elapsed time is rejected, a mask has another
                shape or allows no action, or a number is not finite.
        """
        self.watch_state(state, episode_start)
        observation = acting_observation(observation)
        if self.masked or action_masks is not None:
            observation = with_mask(observation, action_masks, self.acting_space, self.masked)
            self._watch_mask(observation)
        if self.training:  # setting the mode of every module is slow
            self.set_training_mode(False)
        actor = self.fused_actor()
        if actor is not None:
            acted = actor.predict(observation, state, episode_start, deterministic)
            if acted is not None:
                return acted
        tensors, vectorized = self.obs_to_tensor(observation)
        with torch.no_grad():
            before = self._given_state(state, _batch_size(tensors))
            starts = before.new_zeros(len(before))
            if episode_start is not None:
                starts = torch.tensor(_starts(episode_start, len(starts)), device=starts.device)
            features, elapsed_time = self.observe(tensors, *self.previous_of(before, starts))
            chosen, after = self.forward(features, elapsed_time, before, starts, deterministic)
        for name, each in ("observation", features), ("state", before), ("next state", after):
            if not each.isfinite().all():
                raise ValueError(f"the {name} of predict is not finite: {each}")
        if not chosen.isfinite().all():
            raise ValueError(f"the action is not finite, so weights are not: {chosen}")
        actions = self.for_env(chosen)
        # Not actions[0], which is a scalar for a Discrete action space.
        return actions if vectorized else actions.squeeze(axis=0), after.cpu().numpy()

    def obs_to_tensor(
        self, observation: NDArray[Any] | dict[str, NDArray[Any]]
    ) -> tuple[Observation, bool]:
        """Convert an observation to tensors, as SB3 does; a ValueError reports a wrong structure.

        The key `privileged` may be missing.
        """
        check_structure(acting_observation(observation), self.acting_space)
        return super().obs_to_tensor(observation)

    def watch_state(self, state: Any, episode_start: NDArray[np.bool_] | None) -> None:
        """Warn once if `predict` is called twice in a row without the state, in mid-episode."""
        given = state is not None or (episode_start is not None and np.all(episode_start))
        if not given and self._without_state and not self._warned:
            self._warned = True
            warnings.warn(
                "predict is called without a state again, so the circuit restarts from its initial "
                "state; pass the state that the previous call returned, and episode_start: "
                "action, state = model.predict(observation, state, episode_start)",
                stacklevel=4,
            )
        self._without_state = not given

    def _watch_mask(self, observation: Any) -> None:
        """Warn once if `predict` is called without a mask, as SB3's evaluations do."""
        if ACTION_MASK not in observation and not self._warned_of_mask:
            self._warned_of_mask = True
            warnings.warn(
                "predict got no action mask, so it may choose actions that are not allowed; pass "
                "action_masks=env.action_masks(). SB3's EvalCallback and evaluate_policy pass "
                "none: give them environments whose observations have a key 'action_mask'",
                stacklevel=4,
            )

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        """Return the actions at the start of an episode, as SB3 calls policies without a state."""
        features, elapsed_time = self.observe(observation)
        state = self.initial_actor_state(len(features))
        starts = torch.ones(len(features), device=self.device)
        return self.forward(features, elapsed_time, state, starts, deterministic)[0]

    def _given_state(self, state: NDArray[np.float32] | None, count: int) -> Tensor:
        fresh = self.initial_actor_state(count)
        if state is None:
            return fresh
        if np.shape(state) != fresh.shape:
            raise ValueError(
                f"state must be (batch, size) = {tuple(fresh.shape)}, got {np.shape(state)}; pass "
                "the state that the previous predict returned, or None for a new episode"
            )
        return torch.as_tensor(state, dtype=fresh.dtype, device=fresh.device)

    def _for_actor(self, features: Tensor) -> Tensor:
        """Return features (..., features) without privileged ones, and without a mask."""
        return features[..., : self.observed] if features.shape[-1] > self.observed else features

    def with_history(self, features: Tensor, history: Tensor) -> Tensor:
        """Insert those of `history` (..., size) into the features (..., width) that it describes.

        They come after privileged ones, and ahead of a mask.
        """
        own, mask = features.split((self.width - self.masked, self.masked), dim=-1)
        return torch.cat([own, history, mask], dim=-1)

    def for_critic(self, features: Tensor) -> Tensor:
        """Return features (..., features), privileged ones among them, without a mask."""
        return features[..., : self.observed + self.privileged] if self.masked else features

    def mask_of(self, features: Tensor) -> Tensor | None:
        """Return the mask of actions in features (..., features), nonzero where one is allowed."""
        return features[..., -self.masked :] if self.masked else None

    def update_normalizer(self, features: Tensor) -> None:
        """Update the moments of the observations with features (..., features), if normalised.

        Images and masks are not normalised.
        """
        if self.normalizer is not None:
            others, _ = self.pixels.take(self.for_critic(features))
            self.normalizer.update(others)

    def _normalize(self, features: Tensor) -> Tensor:
        if self.normalizer is None:
            return features
        if not self.pixels.size:
            normal: Tensor = self.normalizer(features)
            return normal
        others, pixels = self.pixels.take(features)
        return self.pixels.put(self.normalizer(others), pixels)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        spaces_ = {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
        }
        return {**spaces_, "lr_schedule": self._dummy_schedule, **vars(self.options)}


def _batch_size(observation: Observation) -> int:
    """Return the number of observations; a ValueError names parts of different numbers."""
    if isinstance(observation, Tensor):
        return len(observation)
    sizes = {name: len(part) for name, part in observation.items()}
    if len({*sizes.values()}) > 1:
        found = ", ".join(f"{size} of {name}" for name, size in sizes.items())
        raise ValueError(f"predict takes as many of each part of an observation, got {found}")
    return next(iter(sizes.values()))


def _starts(episode_start: Any, count: int) -> NDArray[np.bool_]:
    """Return where episodes start, (count,); a single value is for all."""
    given = np.asarray(episode_start)
    if given.dtype.kind not in "biuf" or given.shape not in ((), (1,), (count,)):
        raise ValueError(
            f"episode_start must be a bool for each of {count} observations, got {episode_start!r}"
        )
    return np.broadcast_to(given != 0, (count,)).copy()
