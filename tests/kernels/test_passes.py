"""Networks, the loss of PPO and Adam in the kernels equal PyTorch's."""

from __future__ import annotations

from itertools import pairwise
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from liquid_control.kernels import extension
from liquid_control.kernels.learning import (
    AdamMemory,
    SurrogateOptions,
    clipped_adam,
    gaussian_surrogate,
)
from liquid_control.kernels.passes import Layer, NetworkPass

MODULES = [
    extension._import(name)
    for name in extension.supported_sets(torch.backends.cpu.get_cpu_capability())
    if name in extension.built_sets(extension.FOLDER)
]
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda each: each.instruction_set)

FUNCTIONS = {"tanh": torch.tanh, "relu": torch.relu, "identity": lambda x: x}


def layers_of(sizes: tuple[int, ...], last: str, dtype: torch.dtype) -> list[Layer]:
    """Layers with random parameters; all but the last have a tanh."""
    torch.manual_seed(0)
    count = len(sizes) - 1
    return [
        (
            nn.Parameter(torch.randn(after, size, dtype=dtype) / size**0.5),
            nn.Parameter(torch.randn(after, dtype=dtype)),
            last if i == count - 1 else "tanh",
        )
        for i, (size, after) in enumerate(pairwise(sizes))
    ]


def by_autograd(layers: list[Layer], inputs: Tensor) -> Tensor:
    for weight, bias, activation in layers:
        inputs = FUNCTIONS[activation](nn.functional.linear(inputs, weight, bias))
    return inputs


@each_module
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("samples", [1, 5, 64, 200, 700])
@pytest.mark.parametrize("last", FUNCTIONS)
@pytest.mark.parametrize(
    ("sizes", "widths"),
    [((1, 1), (1,)), ((5, 33, 7), (3, 2)), ((40, 64, 17, 1), (17, 1, 22))],
    ids=str,
)
@pytest.mark.usefixtures("thread_count")
def test_networks_agree_with_autograd(
    module: ModuleType,
    sizes: tuple[int, ...],
    widths: tuple[int, ...],
    last: str,
    samples: int,
    threads: int,
) -> None:
    torch.set_num_threads(threads)
    layers = layers_of(sizes, last, torch.float64)
    parameters = [each for layer in layers for each in layer[:2]]
    inputs = torch.randn(samples, sizes[0] + 1, dtype=torch.float64)[:, 1:].requires_grad_()
    weighed = torch.randn(samples, sizes[-1], dtype=torch.float64)
    expected = by_autograd(layers, inputs)
    gradients = torch.autograd.grad(expected, [inputs, *parameters], weighed)

    network = NetworkPass(module, layers)
    parts = inputs.detach().split(widths, dim=1)  # not contiguous
    torch.testing.assert_close(network.forward(parts), expected, rtol=1e-12, atol=1e-13)
    for i, gradient in enumerate(gradients[0].split(widths, dim=1)):
        found = network.backward(weighed, i)
        torch.testing.assert_close(found, gradient.contiguous(), rtol=1e-12, atol=1e-13)
    for parameter, gradient in zip(parameters, gradients[1:], strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=1e-12)


@each_module
def test_single_precision_is_within_rounding(module: ModuleType) -> None:
    layers = layers_of((19, 64, 64, 1), "identity", torch.float32)
    parameters = [each for layer in layers for each in layer[:2]]
    inputs = torch.randn(64, 19)
    expected = by_autograd(layers, inputs)
    gradients = torch.autograd.grad(expected.sum(), parameters)
    network = NetworkPass(module, layers)
    torch.testing.assert_close(network.forward([inputs]), expected, rtol=1e-5, atol=1e-6)
    network.backward(torch.ones(64, 1))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


@each_module
def test_threads_do_not_change_a_bit(module: ModuleType, thread_count: None) -> None:
    layers = layers_of((19, 64, 3), "tanh", torch.float32)
    inputs, weighed = torch.randn(1000, 19), torch.randn(1000, 3)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        network = NetworkPass(module, layers)
        outputs = network.forward([inputs])
        d_inputs = network.backward(weighed, 0)
        results.append([outputs, d_inputs, *(each.grad for layer in layers for each in layer[:2])])
    for others in results[1:]:
        assert all(map(torch.equal, results[0], others))


@each_module
@pytest.mark.parametrize("place", range(3))
def test_not_a_number_stays_one(module: ModuleType, place: int) -> None:
    layers = layers_of((3, 8, 2), "relu", torch.float32)
    inputs = torch.ones(2, 3)
    broken = [inputs, layers[0][0].data, layers[1][1].data][place]
    broken[0] = torch.nan
    assert NetworkPass(module, layers).forward([inputs])[0].isnan().any()


@each_module
def test_frozen_parameters_get_no_gradient(module: ModuleType) -> None:
    layers = layers_of((3, 8, 2), "tanh", torch.float32)
    layers[0][0].requires_grad_(False)
    network = NetworkPass(module, layers)
    network.forward([torch.ones(2, 3)])
    network.backward(torch.ones(2, 2))
    assert layers[0][0].grad is None
    assert layers[1][0].grad is not None


OPTIONS = [
    SurrogateOptions(0.2, None, 0.01, 0.5, True),
    SurrogateOptions(0.1, 0.2, 0.3, 2.0, False),
]


def minibatch(samples: int, actions: int, dtype: torch.dtype) -> list[Tensor]:
    """Arguments of `gaussian_surrogate`, about half of the samples past the clip range."""
    torch.manual_seed(0)
    mean, log_std = torch.randn(samples, actions), torch.randn(actions) / 5 - 1
    action = mean + log_std.exp() * torch.randn(samples, actions)
    log_prob = torch.distributions.Normal(mean, log_std.exp()).log_prob(action).sum(dim=1)
    values, advantages, returns, noise, moved = torch.randn(5, samples)
    every = mean, log_std, values, action, log_prob + noise / 4, values + moved / 4
    return [each.to(dtype) for each in (*every, advantages, returns)]


def by_torch(tensors: list[Tensor], options: SurrogateOptions) -> list[Tensor]:
    mean, log_std, values, action, log_prob, old_values, advantages, returns = tensors
    distribution = torch.distributions.Normal(mean, log_std.exp())
    if options.normalize_advantage and len(advantages) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    log_ratio = distribution.log_prob(action).sum(dim=1) - log_prob
    ratio, clip = log_ratio.exp(), options.clip_range
    policy_loss = -torch.min(advantages * ratio, advantages * ratio.clamp(1 - clip, 1 + clip))
    if (most := options.clip_range_vf) is not None:
        values = old_values + (values - old_values).clamp(-most, most)
    value_loss = (values - returns).square().mean()
    entropy_loss = -distribution.entropy().sum(dim=1).mean()
    loss = policy_loss.mean() + options.ent_coef * entropy_loss + options.vf_coef * value_loss
    clipped = ((ratio - 1).abs() > clip).to(ratio.dtype)
    others = ratio - 1 - log_ratio, clipped
    return [loss, policy_loss.mean(), value_loss, entropy_loss, *(each.mean() for each in others)]


@each_module
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", [(1, 1), (64, 6), (1000, 3)])
def test_the_surrogate_agrees_with_autograd(
    module: ModuleType, shape: tuple[int, int], options: SurrogateOptions
) -> None:
    tensors = minibatch(*shape, torch.float64)
    leaves = [each.requires_grad_() for each in tensors[:3]]
    expected = by_torch(tensors, options)
    gradients = torch.autograd.grad(expected[0], leaves)
    losses, found = gaussian_surrogate(module, [each.detach() for each in tensors], options)
    torch.testing.assert_close(losses, torch.stack(expected).detach(), rtol=1e-11, atol=1e-12)
    for mine, theirs in zip(found, gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


@each_module
@pytest.mark.parametrize("place", range(8))
def test_the_surrogate_is_not_a_number_if_an_argument_is_none(
    module: ModuleType, place: int
) -> None:
    tensors = minibatch(64, 2, torch.float32)
    tensors[place].view(-1)[1] = torch.nan
    for options in OPTIONS:
        losses, _ = gaussian_surrogate(module, tensors, options)
        assert losses[0].isnan() or (place == 5 and options.clip_range_vf is None)


@each_module
def test_the_surrogate_refuses_tensors_that_do_not_fit(module: ModuleType) -> None:
    tensors = minibatch(64, 2, torch.float32)
    tensors[4] = tensors[4][1:]
    with pytest.raises(ValueError, match="63"):
        gaussian_surrogate(module, tensors, OPTIONS[0])


@each_module
@pytest.mark.parametrize("largest", [0.1, 1e9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_agrees_with_pytorch(module: ModuleType, dtype: torch.dtype, largest: float) -> None:
    torch.manual_seed(0)
    ours = [torch.randn(size, dtype=dtype) for size in (1, 5, 33, 700)]
    theirs = [nn.Parameter(each.clone()) for each in ours]
    adam = torch.optim.Adam(theirs, lr=1e-2, eps=1e-5)
    shares = [None, None, torch.rand(33, dtype=dtype), None]
    moments = [(torch.zeros_like(each), torch.zeros_like(each), torch.zeros(())) for each in ours]
    for _ in range(4):
        gradients = [torch.randn_like(each) for each in ours]
        for weight, gradient in zip(theirs, gradients, strict=True):
            weight.grad = gradient.clone()
        norm = nn.utils.clip_grad_norm_(theirs, largest)
        before = theirs[2].detach().clone()
        adam.step()
        theirs[2].data = before.lerp(theirs[2].detach(), shares[2])
        states = [
            (weight, gradient, *others, share)
            for weight, gradient, others, share in zip(
                ours, gradients, moments, shares, strict=True
            )
        ]
        memory = AdamMemory.of(states)
        norms = clipped_adam(module, memory, (1e-2, 0.9, 0.999, 1e-5, largest))
        assert norms.gradient == pytest.approx(norm.item(), rel=1e-6)
        assert norms.weights == pytest.approx(torch.cat(ours).norm().item(), rel=1e-6)
    exact = {torch.float32: 1e-6, torch.float64: 1e-14}[dtype]
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other.data, rtol=0, atol=exact)
    assert all(steps == 4 for *_, steps in moments)
