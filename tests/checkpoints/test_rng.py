"""What is drawn after generators were set is what was drawn after they were put down."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import NormalActionNoise

from liquid_control.checkpoints.rng import get_rng_state, set_rng_state

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
    notes, arrays = get_rng_state(BOX, DICT)
    arrays = {name: array.copy() for name, array in arrays.items()}
    expected = drawn()
    for name, values in drawn().items():
        assert str(values) != str(expected[name])
    set_rng_state(json.loads(json.dumps(notes)), arrays, BOX, DICT)
    np.testing.assert_equal(drawn(), expected)


def test_a_state_is_not_changed_by_drawing() -> None:
    notes, arrays = get_rng_state(BOX)
    before = json.dumps(notes), arrays["torch"].copy()
    drawn()
    assert json.dumps(notes) == before[0]
    np.testing.assert_array_equal(arrays["torch"], before[1])
