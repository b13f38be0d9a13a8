"""Networks and circuits of a policy that the compiled kernels support."""

from __future__ import annotations

from collections.abc import Iterable
from types import NoneType

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from liquid_control.kernels.fused import compile_circuit
from liquid_control.kernels.passes import WIDEST, Layer
from liquid_control.neurons.circuit import Mapping
from liquid_control.policies.networks import EncodedCircuit

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_post_accumulate_grad_hooks",
)
GLOBAL_HOOKS = (
    torch_module._global_forward_hooks,
    torch_module._global_forward_pre_hooks,
    torch_module._global_backward_hooks,
    torch_module._global_backward_pre_hooks,
)
ACTIVATIONS: dict[type[nn.Module], str] = {nn.Tanh: "tanh", nn.ReLU: "relu"}


def hooked(owner: nn.Module | Tensor) -> bool:
    """Whether a module or a parameter has hooks, which the kernels do not call."""
    return any(getattr(owner, name, None) for name in HOOKS)


def replaced_methods(owner: nn.Module) -> list[str]:
    """Return the methods of a module's class that the instance overrides, such as `forward`."""
    return [name for name in vars(owner) if callable(getattr(type(owner), name, None))]


def runs_in_kernels(part: nn.Module) -> bool:
    """Whether the kernels support a network, or an encoded circuit."""
    if type(part) is EncodedCircuit:
        circuit = part.circuit
        compiled = compile_circuit(circuit) if circuit.backend == "auto" else None
        return (
            compiled is not None
            and part.images is None
            and type(circuit.output_mapping) in (Mapping, NoneType)
            and type(circuit.input_mapping) in (Mapping, NoneType)
            and (circuit.input_mapping is None or compiled.program.maps_inputs)
            and (part.encoder is None or runs_in_kernels(part.encoder))
        )
    layers = layers_of([part])
    return bool(layers) and max(max(weight.shape) for weight, _, _ in layers) <= WIDEST


def layers_of(modules: Iterable[nn.Module]) -> list[Layer]:
    """Return linear layers and their activations; an empty list if there are other modules."""
    layers: list[Layer] = []
    for module in modules:
        if type(module) is nn.Sequential:
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
