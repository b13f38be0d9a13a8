"""Networks and circuits of a policy that the compiled kernels support, and their passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType, NoneType

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from liquid_control.kernels import extension
from liquid_control.kernels.fused import IS_DOUBLE, compile_circuit, is_traced
from liquid_control.kernels.learner import BodyMemory
from liquid_control.kernels.passes import WIDEST, CircuitPass, Layer, NetworkPass
from liquid_control.neurons.circuit import Circuit, Mapping
from liquid_control.policies.networks import EncodedCircuit

MODULE_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
GLOBAL_HOOKS = (
    torch_module._global_forward_hooks,
    torch_module._global_forward_pre_hooks,
    torch_module._global_backward_hooks,
    torch_module._global_backward_pre_hooks,
)
ACTIVATIONS: dict[type[nn.Module], str] = {nn.Tanh: "tanh", nn.ReLU: "relu"}


def hooked(owner: nn.Module | Tensor) -> bool:
    """Whether a module or a parameter has hooks, which the kernels do not call."""
    names = TENSOR_HOOKS if isinstance(owner, Tensor) else MODULE_HOOKS
    return any(getattr(owner, name) for name in names)


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


def derives_weights(circuit: Circuit) -> bool:
    """Whether a circuit computes the parameters of the kernels from its own."""
    compiled = compile_circuit(circuit)
    return compiled is not None and any(
        each is not None and not isinstance(each, nn.Parameter)
        for each in compiled.program.parameters(circuit)
    )


class BodyPass:
    """The passes of an encoded circuit."""

    def __init__(self, body: EncodedCircuit, module: ModuleType) -> None:
        compiled = compile_circuit(body.circuit)
        assert compiled is not None
        self._encoder = None
        if body.encoder is not None:
            self._encoder = NetworkPass(module, layers_of([body.encoder]))
        self._circuit = CircuitPass(body.circuit, compiled)

    def forward(
        self, seen: tuple[Tensor, Tensor], state: Tensor, elapsed_time: Tensor, starts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the activity (time * batch, neurons), and the state (batch, size) after the end.

        `seen` is features and `clock`, (time * batch, ...) each.
        """
        inputs = seen[0].contiguous() if self._encoder is None else self._encoder.forward(seen)
        inputs = inputs.view(*starts.shape, -1)
        activity, after = self._circuit.forward(inputs, state.contiguous(), elapsed_time, starts)
        return activity.flatten(0, 1), after

    def backward(self, d_activity: Tensor, first: int = 0) -> None:
        """Set the gradients, given that of the activity from the neuron `first` on."""
        d_inputs = self._circuit.backward(d_activity, first)
        if self._encoder is not None:
            self._encoder.backward(d_inputs.flatten(0, 1))

    @property
    def is_derived(self) -> bool:
        """Whether the circuit computes the parameters of the kernels from others."""
        return self._circuit.is_derived

    def memory(self) -> BodyMemory:
        """Return the circuit and its encoder, and where their parameters are."""
        return *self._circuit.memory(), None if self._encoder is None else self._encoder.memory()

    def hold_gradients(self) -> None:
        """Let the parameters have their gradients in the memory of the passes."""
        self._circuit.hold_gradients()
        if self._encoder is not None:
            self._encoder.hold_gradients()

    def has_gradients(self) -> bool:
        """Whether all parameters belong to modules, with gradients in memory of the passes."""
        encoder = self._encoder
        return self._circuit.has_gradients() and (encoder is None or encoder.has_gradients())


def obstacles(policy: nn.Module, supported: type) -> Iterator[str]:
    """Yield reasons why the updates of a policy need autograd, except those in its heads.

    Args:
        policy: with circuits and encoders.
        supported: the class whose updates the kernels know.
    """
    if extension.load() is None:
        yield "the compiled kernels are off or missing"
    if type(policy) is not supported:
        yield f"{type(policy).__name__} is a subclass of {supported.__name__}"
    if replaced := replaced_methods(policy):
        yield f"its method {replaced[0]} was replaced"
    if is_traced():
        yield "PyTorch traces the policy"
    yield from _obstacles_in_parameters(policy)
    if any(GLOBAL_HOOKS) or any(map(hooked, policy.modules())):
        yield "a module has hooks"
    if any("forward" in vars(each) for each in policy.modules() if each is not policy):
        yield "the forward method of a module was replaced"
    bodies = [each for each in policy.modules() if isinstance(each, EncodedCircuit)]
    if any(body.images is not None for body in bodies):
        yield "the kernels do not support its encoder of images"
    if not all(map(runs_in_kernels, bodies)):
        yield "the kernels do not support its circuit, or a layer of its encoder"


def _obstacles_in_parameters(policy: nn.Module) -> Iterator[str]:
    parameters = list(policy.parameters())
    dtype = parameters[0].dtype
    if not all(each.is_cpu for each in parameters):
        yield "its parameters are not on the CPU"
    if dtype not in IS_DOUBLE or not all(each.dtype is dtype for each in parameters):
        yield "its parameters are not all float32, or all float64"
    if not all(each.is_contiguous() for each in parameters):
        yield "a parameter is not contiguous"
    if len(list(policy.named_parameters(remove_duplicate=False))) > len(parameters):
        yield "modules share a parameter"
    if any(map(hooked, parameters)):
        yield "a parameter has hooks"
