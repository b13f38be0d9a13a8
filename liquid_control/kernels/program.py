"""The description of a circuit for the compiled kernels; see docs/kernels.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor

Layer = tuple[str, int, int, int]
"""Kind of neuron (models.h lists them), first neuron, the one after the last, block."""

Bank = tuple[list[int], list[int], int]
"""Slots of the sources, targets, numbers per synapse: those of one tensor (numbers, synapses)."""

Parameters = list[Tensor | None]


@dataclass(frozen=True)
class Program:
    """The computation of the kernels for one circuit.

    A slot is a source of synapses. Slots are the inputs, the elapsed time, the neurons' activities
    in this step and their activities in the step before, in this order. Neurons are the hidden ones
    of a mixed memory, then the visible ones.

    Attributes:
        inputs: sensory neurons.
        hidden: neurons of the mixed memory.
        neurons: visible neurons.
        substeps: updates in each control step.
        layers: the neurons in the order of computation.
        banks: the synapses, one bank for each tensor of weights.
        parameters: from the circuit to the tensors of a call, in the order of plan.h.
        maps_inputs: whether those include the input mapping.
    """

    inputs: int
    hidden: int
    neurons: int
    substeps: int
    layers: Sequence[Layer]
    banks: Sequence[Bank]
    parameters: Callable[[Any], Parameters]
    maps_inputs: bool = False

    def compile(self, extension: ModuleType) -> Any:
        """Return the plan of the program in C++, with `forward` and `backward`."""
        return extension.Circuit(
            self.inputs, self.hidden, self.neurons, self.substeps, self.layers, self.banks
        )
