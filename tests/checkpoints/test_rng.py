"""What is drawn after generators were set is what was drawn after they were put down."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import NormalActionNoise

from liquid_control.checkpoints import CheckpointError
from liquid_control.checkpoints.rng import load_state_dict, state_dict

NOISE = NormalActionNoise(np.zeros(3), np.ones(3))  # of NumPy's global generator
BOX = spaces.Box(-1.0, 1.0, (2,))
DICT = spaces.Dict({"a": spaces.Box(0.0, 1.0, (1,)), "b": spaces.Discrete(9)})


def drawn() -> dict[str, Any]:
    return {
        "python": [random.random(), random.gauss(), random.gauss()],
        "numpy": NOISE(),
        "torch": torch.rand(3).numpy(),
        "box": BOX.sample(),
        "dict": DICT.sample(),
    }


def test_all_generators_draw_again_what_they_drew() -> None:
    random.gauss()  # which draws two and keeps one
    NOISE()
    state = {name: array.copy() for name, array in state_dict(BOX, DICT).items()}
    expected = drawn()
    for name, values in drawn().items():
        assert str(values) != str(expected[name])
    load_state_dict(state, BOX, DICT)
    np.testing.assert_equal(drawn(), expected)


def test_a_state_is_not_changed_by_drawing() -> None:
    state = state_dict(BOX)
    before = {name: array.copy() for name, array in state.items()}
    drawn()
    np.testing.assert_equal(state, before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("numpy.place", np.array(10**6)),  # NumPy would read beyond its key
        ("python.place", np.array(-1)),
        ("numpy.key", np.zeros(3, np.int64)),
        ("numpy.gauss", np.array([0.0, np.nan])),
        ("space.0", np.zeros(6)),
        ("space.0", np.array([0, 0, 0, 1, 7, 0])),
        ("space.9", np.zeros(6, np.int64)),
    ],
)
def test_an_impossible_state_is_refused_and_changes_nothing(name: str, value: Any) -> None:
    before = state_dict(BOX)
    with pytest.raises(CheckpointError, match=re.escape(name)):
        load_state_dict({**before, name: value}, BOX)
    np.testing.assert_equal(state_dict(BOX), before)
