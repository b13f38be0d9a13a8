"""Which networks and circuits of a policy the compiled kernels can compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from liquid_control.kernels.fused import compile_circuit
from liquid_control.kernels.passes import WIDEST, Layer
from liquid_control.policies.networks import EncodedCircuit

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
ACTIVATIONS: Mapping[type[nn.Module], str] = {nn.Tanh: "tanh", nn.ReLU: "relu"}


def hooked(owner: nn.Module | Tensor) -> bool:
    """Whether a module or a parameter has hooks, which the kernels do not call."""
    return any(getattr(owner, name, None) for name in HOOKS)


def runs_in_kernels(part: nn.Module) -> bool:
    """Whether the kernels have what a network, or an encoded circuit, is made of."""
    if type(part) is EncodedCircuit:
        circuit = part.circuit
        compiled = compile_circuit(circuit) if circuit.backend == "auto" else None
        return (
            compiled is not None
            and part.images is None
            and (circuit.input_mapping is None or compiled.program.maps_inputs)
            and (part.encoder is None or runs_in_kernels(part.encoder))
        )
    layers = layers_of([part])
    return bool(layers) and max(max(weight.shape) for weight, _, _ in layers) <= WIDEST


def layers_of(modules: Iterable[nn.Module]) -> list[Layer]:
    """Return linear layers and their activations; none if there are other modules."""
    layers: list[Layer] = []
    for module in modules:
        if isinstance(module, nn.Sequential):
            layers += (within := layers_of(module))
            if len(module) and not within:
                return []
        elif type(module) is nn.Linear and module.bias is not None:
            layers.append((module.weight, module.bias, "identity"))
        elif type(module) in ACTIVATIONS and layers and layers[-1][2] == "identity":
            layers[-1] = (*layers[-1][:2], ACTIVATIONS[type(module)])
        else:
            return []
    return layers
