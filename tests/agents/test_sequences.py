"""The rollout buffer, filled with values that say where they come from."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.testing import assert_close

from liquid_control.agents.sequences import COLUMNS, SequenceBuffer, default_length

STEPS, ENVS, LENGTH = 12, 3, 4


@pytest.fixture
def buffer() -> SequenceBuffer:
    """Each entry is 100 * environment + step; each state, of the step that it precedes."""
    buffer = SequenceBuffer(STEPS, LENGTH)
    for step in range(STEPS):
        label = 100.0 * torch.arange(ENVS) + step
        columns = dict.fromkeys(COLUMNS, label) | {"features": label[:, None].repeat(1, 2)}
        buffer.add(**columns)
    buffer.stack(torch.device("cpu"))
    buffer.states = [span["features"][0, :, :1] for span in buffer.spans()]
    return buffer


@pytest.mark.parametrize("sequences", [1, 2, 9])
def test_every_step_once_in_order_and_with_the_state_before_it(
    buffer: SequenceBuffer, sequences: int
) -> None:
    seen = []
    for minibatch in buffer.minibatches(sequences):
        labels = minibatch.returns
        assert labels.shape[0] == LENGTH
        assert labels.shape[1] <= sequences
        assert_close(labels[1:] - labels[:-1], torch.ones_like(labels[1:]))
        assert_close(minibatch.state[:, 0], labels[0])
        for name in COLUMNS:
            column = getattr(minibatch, name)
            assert_close(column[..., 0] if name == "features" else column, labels)
        seen += labels.flatten().tolist()
    expected = [100.0 * env + step for env in range(ENVS) for step in range(STEPS)]
    assert sorted(seen) == expected


def test_order_is_random_but_seeded(buffer: SequenceBuffer) -> None:
    def order(seed: int) -> list[float]:
        torch.manual_seed(seed)
        return [batch.returns[0, 0].item() for batch in buffer.minibatches(1)]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_spans_are_the_steps_so_far_in_order() -> None:
    buffer = SequenceBuffer(STEPS, LENGTH)
    for step in range(LENGTH + 2):
        buffer.add(rewards=torch.full((ENVS,), float(step)))
    buffer.stack(torch.device("cpu"))
    spans = [span["rewards"] for span in buffer.spans()]
    assert [span.shape for span in spans] == [(LENGTH, ENVS), (2, ENVS)]
    assert_close(torch.cat(spans)[:, 1], torch.arange(LENGTH + 2.0))


def test_reset_starts_over(buffer: SequenceBuffer) -> None:
    buffer.reset()
    assert list(buffer.spans()) == []
    for _ in range(STEPS):
        buffer.add(returns=torch.zeros(ENVS))
    buffer.stack(torch.device("cpu"))
    assert_close(buffer["returns"], torch.zeros(STEPS, ENVS))
    with pytest.raises(KeyError):
        buffer["features"]


@pytest.mark.parametrize("length", [0, 5, 24])
def test_length_that_does_not_divide_the_rollout(length: int) -> None:
    with pytest.raises(ValueError, match=f"must divide n_steps = 12, got {length}"):
        SequenceBuffer(STEPS, length)


@pytest.mark.parametrize(
    ("n_steps", "batch_size", "length"),
    [(2048, 512, 256), (128, 512, 128), (96, 64, 32), (4, 8, 4)],
)
def test_default_length_is_the_longest_that_fits(
    n_steps: int, batch_size: int, length: int
) -> None:
    with warnings.catch_warnings(action="error"):
        assert default_length(n_steps, batch_size) == length


def test_default_length_that_is_too_short_to_learn_from_is_said_aloud() -> None:
    with pytest.warns(UserWarning, match="4 steps long"):
        assert default_length(100, 512) == 4
