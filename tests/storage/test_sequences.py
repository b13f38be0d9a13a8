"""The rollout buffer, filled with values that name their environment and step."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from liquid_control.collectors.transitions import Transitions
from liquid_control.storage.sequences import (
    Minibatch,
    Rollout,
    SequenceBuffer,
    default_length,
)

STEPS, ENVS, LENGTH = 12, 3, 4
CPU = torch.device("cpu")


def labelled(labels: Tensor) -> Transitions:
    """Transitions of which every field holds the labels; there are two features."""
    features = labels[..., None].expand(*labels.shape, 2)
    return Transitions(features, labels, labels, labels, labels, labels, labels)


@pytest.fixture
def buffer() -> SequenceBuffer:
    """Each entry is 100 * environment + step; each state, of the step that it precedes."""
    buffer = SequenceBuffer(STEPS, LENGTH)
    for step in range(STEPS):
        buffer.add(labelled(100.0 * torch.arange(ENVS) + step))
    transitions = buffer.stack(CPU)
    labels = transitions.rewards
    buffer.rollout = Rollout(transitions, labels, labels, labels, labels, labels, labels, labels)
    buffer.states = labels[::LENGTH, :, None]
    return buffer


@pytest.mark.parametrize("sequences", [1, 2, 9])
def test_every_step_once_in_order_and_with_the_state_before_it(
    buffer: SequenceBuffer, sequences: int
) -> None:
    seen = []
    extra = buffer.rollout.returns.flatten()
    for minibatch in buffer.minibatches(sequences, [extra, 2 * extra]):
        labels = minibatch.returns
        assert_close(torch.stack(minibatch.extra), torch.stack((labels, 2 * labels)).flatten(1))
        assert labels.shape[0] == LENGTH
        assert labels.shape[1] <= sequences
        assert_close(labels[1:] - labels[:-1], torch.ones_like(labels[1:]))
        assert_close(minibatch.state[:, 0], labels[0])
        for name in set(Minibatch._fields) - {"state", "extra"}:
            column = getattr(minibatch, name)
            assert_close(column[..., 0] if name == "features" else column, labels)
        seen += labels.flatten().tolist()
    expected = [100.0 * env + step for env in range(ENVS) for step in range(STEPS)]
    assert sorted(seen) == expected


def test_each_field_comes_from_the_field_of_its_name(buffer: SequenceBuffer) -> None:
    transitions = Transitions(*(torch.full((STEPS, ENVS), float(i)) for i in range(7)))
    columns = (torch.full((STEPS, ENVS), 6.0 + i) for i in range(7))
    buffer.rollout = Rollout(transitions, *columns)
    (minibatch,) = buffer.minibatches(9)
    for name in set(Minibatch._fields) - {"state", "extra"}:
        owner = transitions if name in Transitions._fields else buffer.rollout
        assert getattr(minibatch, name)[0, 0] == getattr(owner, name)[0, 0], name


def test_states_can_be_replaced(buffer: SequenceBuffer) -> None:
    buffer.states = -buffer.states
    for minibatch in buffer.minibatches(2):
        assert_close(minibatch.state[:, 0], -minibatch.returns[0])


def test_order_is_random_but_seeded(buffer: SequenceBuffer) -> None:
    def order(seed: int) -> list[float]:
        torch.manual_seed(seed)
        return [batch.returns[0, 0].item() for batch in buffer.minibatches(1)]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_reset_discards_the_steps(buffer: SequenceBuffer) -> None:
    assert len(buffer) == STEPS
    buffer.reset()
    assert len(buffer) == 0
    buffer.add(labelled(torch.zeros(ENVS)))
    assert_close(buffer.stack(CPU).rewards, torch.zeros(1, ENVS))


@pytest.mark.parametrize("length", [0, 5, 24])
def test_length_that_does_not_divide_the_rollout(length: int) -> None:
    with pytest.raises(ValueError, match=f"must divide n_steps = 12, got {length}"):
        SequenceBuffer(STEPS, length)


@pytest.mark.parametrize(
    ("n_steps", "batch_size", "length"),
    [(2048, 64, 16), (128, 512, 16), (48, 32, 16), (4, 8, 4)],
)
def test_default_length_is_the_longest_that_fits(
    n_steps: int, batch_size: int, length: int
) -> None:
    with warnings.catch_warnings(action="error"):
        assert default_length(n_steps, batch_size) == length


def test_a_default_length_too_short_to_learn_from_warns() -> None:
    with pytest.warns(UserWarning, match="4 steps long"):
        assert default_length(100, 512) == 4
