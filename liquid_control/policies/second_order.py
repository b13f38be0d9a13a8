"""Second derivatives of modules whose fast backward pass supports only first derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def differentiable_twice(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Return `module(*inputs)` as a tensor that can be differentiated twice.

    A gradient with `create_graph=True`, as in TRPO, is computed by calling the module again under
    torch.func, where a circuit unrolls in PyTorch. Other gradients are the module's own.
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
    """The identity of `output`, differentiated as `again(*tensors)` with `create_graph=True`."""

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
