"""Second derivatives through circuits, whose fast unrolls have first ones alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian
from torch.testing import assert_close

from liquid_control.policies.second_order import differentiable_twice


class Once(torch.autograd.Function):
    """The square, with a gradient that is a constant to whoever differentiates it."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return 2 * values * gradient


class Square(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -2.0], dtype=torch.float64))
        self.calls: list[str] = []

    def forward(self, inputs: Tensor, factor: Tensor, chosen: Tensor) -> Tensor:
        traced = torch._C._are_functorch_transforms_active()
        self.calls.append("traced" if traced else "fast")
        product = inputs * self.weight * factor
        squared = product**2 if traced else Once.apply(product)
        return torch.where(chosen, squared, 0.0)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_second_derivatives_are_right() -> None:
    module, inputs, factor = Square(), tensor(1.5, 1.0), tensor(3.0, 4.0)
    chosen = torch.tensor([True, False])
    given = [module.weight, inputs, factor]

    def loss(weight: Tensor, inputs: Tensor, factor: Tensor) -> Tensor:
        return functional_call(module, {"weight": weight}, (inputs, factor, chosen)).sin().sum()

    expected = hessian(loss, (0, 1, 2))(*given)
    output = differentiable_twice(module, inputs, factor, chosen).sin().sum()
    gradients = torch.autograd.grad(output, given, create_graph=True)
    for i, gradient in enumerate(gradients):
        for entry in range(2):
            found = torch.autograd.grad(gradient[entry], given, retain_graph=True)
            assert_close(found, tuple(row[entry] for row in expected[i]))


def test_a_first_derivative_takes_the_fast_way_alone() -> None:
    module = Square()
    chosen = torch.ones(2, dtype=torch.bool)
    output = differentiable_twice(module, tensor(1.5, 1.0), tensor(1.0, 1.0), chosen)
    output.sum().backward()
    assert_close(module.weight.grad, 2 * module.weight.detach() * tensor(1.5, 1.0).detach() ** 2)
    assert module.calls == ["fast"]
