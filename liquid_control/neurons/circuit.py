"""The base class of all circuits: one interface for every neuron model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from inspect import Parameter, signature
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from liquid_control import kernels
from liquid_control.kernels.program import Program
from liquid_control.neurons.blocks import Block, feedforward
from liquid_control.neurons.memory import Memory
from liquid_control.neurons.synapses import SynapseList
from liquid_control.neurons.unroll import Step, resets, unroll
from liquid_control.wiring import Wiring

MAPPINGS = (None, "linear", "affine")
PLASTICITIES = ("full", "readout")
BACKENDS = ("auto", "pytorch")
WITHOUT_EFFECT = {"memory_gain", "plasticity", "backend"}  # on what a trained circuit computes
SLOWEST = 1e6  # time scales; the effective time constant of a neuron that does not change over time


class Mapping(nn.Module):
    """A gain, and with `kind="affine"` an offset, for each channel; it starts as the identity."""

    def __init__(self, size: int, kind: str) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(size))
        self.offset = nn.Parameter(torch.zeros(size)) if kind == "affine" else None

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., size) channel by channel."""
        scaled = values * self.gain
        return scaled if self.offset is None else scaled + self.offset


class Circuit(nn.Module, ABC):
    """A circuit of neurons, which maps inputs and elapsed time to motor activity.

    The state is passed in and returned. A subclass is a neuron model. It computes everything that
    does not depend on the state for the whole sequence at once, and prepares one step function for
    each block of layers; the loop over time is in `unroll`.

    Args:
        wiring: the neurons and their synapses.
        time_scale: the circuit's unit of time, in seconds.
        input_mapping: None, "linear" (a gain for each sensory neuron) or "affine" (and an offset).
        output_mapping: the same for the motor neurons.
        memory: None, or "lstm" for the mixed memory of CfC-mmRNN (Lechner & Hasani 2020): an LSTM
            along the same synapses updates the neurons before their own dynamics do. A CfC neuron
            uses it where it sends a synapse to its own layer or an earlier one.
        plasticity: "full", or "readout" to freeze everything but the output mapping, which makes
            the circuit a liquid state machine (reservoir).
        backend: "auto" for the compiled kernels where they can unroll the circuit and PyTorch
            elsewhere, or "pytorch" for PyTorch only. The attribute can be changed at any time.

    Raises:
        TypeError: If `wiring` is not a Wiring, or `time_scale` no number.
        ValueError: If an option has an unknown value, or `time_scale` is not positive and finite.
    """

    state_parts = 1  # neuron-sized pieces of the state; the first is the activity
    bound = 1.0  # of the neurons' activity, unless `activity_range` is overridden
    readout_step_length = 1.0  # of weights that read the motor neurons, over that of others
    blocks: Sequence[Block]  # its layers in the order of computation
    recurrent: SynapseList  # the synapses among its neurons

    def __init__(
        self,
        wiring: Wiring,
        *,
        time_scale: float = 1.0,
        input_mapping: str | None = None,
        output_mapping: str | None = None,
        memory: str | None = None,
        plasticity: str = "full",
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if not isinstance(wiring, Wiring):
            raise TypeError(
                f"wiring must be a Wiring, got {type(wiring).__name__}; "
                "create one with liquid_control.wiring"
            )
        check_number("time_scale", time_scale)
        if not 0 < time_scale < float("inf"):
            raise ValueError(f"time_scale must be a positive number of seconds, got {time_scale}")
        check_option("input_mapping", input_mapping, MAPPINGS)
        check_option("output_mapping", output_mapping, MAPPINGS)
        check_option("memory", memory, (None, "lstm"))
        check_option("plasticity", plasticity, PLASTICITIES)
        check_option("backend", backend, BACKENDS)
        self.wiring = wiring
        self.time_scale = float(time_scale)
        self.plasticity = plasticity
        self.backend = backend
        self._first_motor = wiring.neuron_count - wiring.motor_count
        self.input_mapping = Mapping(wiring.sensory_count, input_mapping) if input_mapping else None
        self.output_mapping = (
            Mapping(wiring.motor_count, output_mapping) if output_mapping else None
        )
        self.memory = Memory(wiring) if memory else None
        self.state_size = (self.state_parts + (memory is not None)) * wiring.neuron_count

    @classmethod
    def acting_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Return what a circuit of these options computes by, with the defaults filled in.

        Left out are options of the initial weights, of what is trained, and of how to compute.
        """
        complete = dict(options)
        for kind in cls.__mro__:
            for name, parameter in signature(kind).parameters.items():
                if parameter.default is not Parameter.empty:
                    complete.setdefault(name, parameter.default)
        return {name: each for name, each in complete.items() if name not in WITHOUT_EFFECT}

    def initial_state(self, batch_size: int) -> Tensor:
        """Return the state at the start of an episode: zeros (batch_size, state_size)."""
        return self._reference.new_zeros(batch_size, self.state_size)

    def forward(
        self,
        inputs: Tensor,
        state: Tensor | None = None,
        elapsed_time: Tensor | None = None,
        episode_start: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Unroll the circuit over a sequence.

        Args:
            inputs: (time, batch, sensory).
            state: (batch, state_size), or None for the initial state.
            elapsed_time: (time, batch) seconds since the previous input; None: one time scale each.
            episode_start: (time, batch), nonzero where the state resets *before* that step.

        Returns:
            outputs (time, batch, motor), and the state (batch, state_size) after the last step.

        Raises:
            ValueError: If a shape does not fit the others or the wiring.
        """
        motor, state = self._run(inputs, state, elapsed_time, episode_start, self._first_motor)
        return self._mapped(motor), state

    def readout(self, activity: Tensor) -> Tensor:
        """Return the motor neurons' mapped activity: (..., neurons) -> (..., motor)."""
        return self._mapped(activity[..., self._first_motor :])

    def _mapped(self, motor: Tensor) -> Tensor:
        return motor if self.output_mapping is None else self.output_mapping(motor)

    def activity(
        self,
        inputs: Tensor,
        state: Tensor | None = None,
        elapsed_time: Tensor | None = None,
        episode_start: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Like `forward`, but with every neuron's activity, (time, batch, neurons), as outputs."""
        return self._run(inputs, state, elapsed_time, episode_start, 0)

    def owners(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Yield the neurons' parameters, and which neuron owns each entry of their last axis.

        A synapse belongs to its target. Input and output mappings belong to no neuron.
        """
        everyone = torch.arange(self.wiring.neuron_count, device=self._reference.device)
        for module in self.modules():
            if not isinstance(module, Mapping):
                owners = module.targets if isinstance(module, SynapseList) else everyone
                for parameter in module.parameters(recurse=False):
                    yield parameter, owners

    def program(self) -> Program | None:
        """Return the program that the compiled kernels run instead of PyTorch, if there is one.

        Without one, PyTorch unrolls the circuit. A program belongs to one class: a subclass may
        have other equations, and returns its own program if the kernels support them.
        """
        return None

    def memory_synapses(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Yield the parameters of synapses among neurons, each with its entries that are memory.

        The entries are indices into the last axis: the synapses from a neuron's own layer or a
        later one, which carry the previous step (see `feedforward`).
        """
        within_step = torch.tensor(feedforward(self.wiring), device=self._reference.device)
        for synapses in (self.recurrent, getattr(self.memory, "recurrent", None)):
            if synapses is not None:
                carries_past = ~within_step[synapses.sources, synapses.targets]
                (entries,) = carries_past.nonzero(as_tuple=True)
                for parameter in synapses.parameters():
                    yield parameter, entries

    def step_lengths(self) -> Iterator[tuple[nn.Parameter, float]]:
        """Yield parameters whose optimizer steps should be longer or shorter, and the factor.

        Adam's steps have one length for all parameters, so larger values change relatively less.
        """
        yield from ()

    @abstractmethod
    def synapse_strengths(self) -> tuple[Tensor, Tensor]:
        """Return the effect of each synapse on its target: (sensory, neurons), (neurons, neurons).

        Positive ones excite, negative ones inhibit; zero where the wiring has no synapse. The
        synapses of a mixed memory are not included.
        """

    def activity_range(self) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest possible activity of each neuron, (neurons,) each.

        The range holds from the initial state on; for explicit solvers only while their steps are
        short compared with the time constants.
        """
        high = self._reference.new_full((self.wiring.neuron_count,), self.bound)
        return -high, high

    @torch.no_grad()
    def effective_time_constants(
        self, inputs: Tensor, activity: Tensor, episode_start: Tensor | None = None
    ) -> Tensor | None:
        """Return each neuron's time constant in each step of a sequence, given its inputs.

        For LTC, CT-RNN and LRC it is one over the decay at the beginning of the step. A CfC neuron
        has a gate where the exact solution decays exponentially: for the gate sigmoid(a t + b) it
        is 1 / |a|, and for exp(-t (|w| + |g|)), of mode "pure", 1 / (|w| + |g|).

        Args:
            inputs: (time, batch, sensory), as for `activity`.
            activity: (time, batch, neurons), the result of `activity` from the initial state on.
            episode_start: (time, batch), nonzero where the state was reset before that step.

        Returns:
            (time, batch, neurons) in seconds, at most `SLOWEST` time scales; None for neurons
            without time constants.

        Raises:
            ValueError: If a shape does not fit the others or the wiring.
        """
        self._check(inputs, None, None, episode_start)
        expected = (*inputs.shape[:2], self.wiring.neuron_count)
        if activity.shape != expected:
            raise ValueError(
                f"activity must be (time, batch, neurons) = {expected}, got "
                f"{tuple(activity.shape)}; compute it with circuit.activity(inputs, ...)"
            )
        if self.input_mapping is not None:
            inputs = self.input_mapping(inputs)
        past = torch.cat([torch.zeros_like(activity[:1]), activity[:-1]])
        if episode_start is not None:
            past = torch.where(episode_start.unsqueeze(-1) == 0, past, 0.0)
        if self.memory is not None:
            past = self.memory.recall(inputs, past, resets(episode_start, len(inputs)))
        decay = self._decay(inputs, activity, past)
        if decay is None:
            return None
        return self.time_scale * decay.reciprocal().clamp(max=SLOWEST)

    def _run(
        self,
        inputs: Tensor,
        state: Tensor | None,
        elapsed_time: Tensor | None,
        episode_start: Tensor | None,
        first: int,
    ) -> tuple[Tensor, Tensor]:
        """Return the activity of the neurons from `first` on, and the last state."""
        self._check(inputs, state, elapsed_time, episode_start)
        if self.backend == "auto":
            result = kernels.unroll(self, inputs, state, elapsed_time, episode_start, first)
            if result is not None:
                return result
        activity, state = self._unroll(inputs, state, elapsed_time, episode_start)
        return activity[..., first:], state

    def _unroll(
        self,
        inputs: Tensor,
        state: Tensor | None,
        elapsed_time: Tensor | None,
        episode_start: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Unroll in PyTorch; return every neuron's activity, and the last state."""
        steps, batch, _ = inputs.shape
        if self.input_mapping is not None:
            inputs = self.input_mapping(inputs)
        if state is None:
            state = self.initial_state(batch)
        if elapsed_time is None:
            elapsed = inputs.new_ones(steps, batch, 1)
        else:
            elapsed = (elapsed_time / self.time_scale).unsqueeze(-1)
        keep = resets(episode_start, steps)
        parts = state.unflatten(1, (-1, self.wiring.neuron_count))
        weights = self._weights()

        activities: list[Tensor] = []
        last: list[Tensor] = []
        for block in self.blocks:
            step, drives = self._prepare(block, weights, inputs, activities)
            if self.memory is not None:
                step, drives = self.memory.before(step, drives, inputs)
            if block.recurrent:
                start = parts[:, :, block.neurons].flatten(1)
                trajectory, final = unroll(step, start, elapsed, keep, drives)
            else:
                trajectory = step(None, elapsed, *drives)
                final = trajectory[-1]
            activities.append(trajectory[..., : block.size])
            last.append(final.unflatten(1, (-1, block.size)))
        return torch.cat(activities, dim=-1), torch.cat(last, dim=-1).flatten(1)

    @abstractmethod
    def _weights(self) -> Any:
        """Return the weights that `_prepare` needs, computed once for the whole sequence."""

    @abstractmethod
    def _prepare(
        self,
        block: Block,
        weights: Any,
        inputs: Tensor,
        upstream: Sequence[Tensor],
    ) -> tuple[Step, tuple[Tensor, ...]]:
        """Return the block's step function, and its drives (time, batch, ...) at each step.

        Args:
            block: its layers.
            weights: from `_weights`.
            inputs: (time, batch, sensory), mapped.
            upstream: the activity (time, batch, neurons) of each block before this one.
        """

    def _decay(self, inputs: Tensor, activity: Tensor, past: Tensor) -> Tensor | None:
        """Return each neuron's rate in each step, (time, batch, neurons), per time scale.

        Args:
            inputs: (time, batch, sensory), mapped.
            activity: (time, batch, neurons).
            past: the activity with which each step began, (time, batch, neurons).
        """
        return None

    @property
    def _reference(self) -> Tensor:
        """Any parameter, for its device and dtype."""
        return next(self.parameters())

    def set_plasticity(self, plasticity: str) -> None:
        """Set the option `plasticity`; an optimizer has to be rebuilt afterwards.

        Raises:
            ValueError: If it is neither "full" nor "readout".
        """
        check_option("plasticity", plasticity, PLASTICITIES)
        self.plasticity = plasticity
        self._apply_plasticity()

    def _apply_plasticity(self) -> None:
        """Freeze parameters according to `plasticity`; called once the parameters exist."""
        self.requires_grad_(self.plasticity == "full")
        if self.output_mapping is not None:
            self.output_mapping.requires_grad_(True)

    def _check(
        self,
        inputs: Tensor,
        state: Tensor | None,
        elapsed_time: Tensor | None,
        episode_start: Tensor | None,
    ) -> None:
        """Check the shapes against each other."""
        given = {"inputs": inputs, "state": state, "elapsed_time": elapsed_time}
        for name, value in {**given, "episode_start": episode_start}.items():
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a tensor, got {value!r}; use torch.as_tensor")
        sensory = self.wiring.sensory_count
        shape = inputs.shape
        if len(shape) != 3 or shape[2] != sensory or shape[0] == 0:
            raise ValueError(
                f"inputs must be (time, batch, {sensory}) with at least one step, "
                f"got {tuple(shape)}"
            )
        batch = shape[1]
        if state is not None and state.shape != (batch, self.state_size):
            raise ValueError(
                f"state must be (batch, state_size) = ({batch}, {self.state_size}), got "
                f"{tuple(state.shape)}; start from circuit.initial_state({batch})"
            )
        if elapsed_time is not None and elapsed_time.shape != shape[:2]:
            raise _mismatch("elapsed_time", elapsed_time, inputs)
        if episode_start is not None and episode_start.shape != shape[:2]:
            raise _mismatch("episode_start", episode_start, inputs)

    def extra_repr(self) -> str:
        """Show the wiring and the time scale."""
        return f"{self.wiring!r}, time_scale={self.time_scale}"


def _mismatch(name: str, value: Tensor, inputs: Tensor) -> ValueError:
    expected, got = tuple(inputs.shape[:2]), tuple(value.shape)
    return ValueError(f"{name} must be (time, batch) = {expected}, got {got}")


def check_number(name: str, value: object) -> None:
    """Raise a TypeError unless a value is a number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")


def check_option(name: str, value: object, options: Sequence[object]) -> None:
    """Raise a ValueError that lists the options unless `value` is one of them."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
