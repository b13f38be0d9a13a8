"""Second derivatives through modules that are written to have first ones alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def differentiable_twice(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Return `module(*inputs)`, a tensor whose gradient can be differentiated in turn.

    A gradient taken with `create_graph=True`, as TRPO takes it, comes from calling the module anew
    under torch.func, where a circuit unrolls in PyTorch; any other is the module's own, at no cost.
    """
    output: Tensor = module(*inputs)
    if not torch.is_grad_enabled():
        return output
    names, weights = zip(*module.named_parameters(), strict=True)

    def again(*tensors: Tensor) -> Tensor:
        given = dict(zip(names, tensors, strict=False))
        rest = iter(tensors[len(names) :])
        arguments = [next(rest) if each.is_floating_point() else each for each in inputs]
        result: Tensor = torch.func.functional_call(module, given, tuple(arguments))
        return result

    continuous = [each for each in inputs if each.is_floating_point()]
    result: Tensor = _Again.apply(again, output, *weights, *continuous)  # type: ignore[no-untyped-call]
    return result


class _Again(torch.autograd.Function):
    """The output as it is; to a gradient with `create_graph=True` it is `again(*tensors)`."""

    @staticmethod
    def forward(ctx: Any, again: Callable[..., Tensor], output: Tensor, *tensors: Tensor) -> Tensor:
        ctx.again = again
        ctx.save_for_backward(*tensors)
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return None, gradient, *[None] * len(tensors)
        pull_back = torch.func.vjp(ctx.again, *tensors)[1]
        return None, None, *pull_back(gradient)
