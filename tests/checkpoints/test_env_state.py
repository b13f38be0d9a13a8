"""What is put down and taken up goes on as if nothing had happened, or is refused by name."""

from __future__ import annotations

import enum
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from liquid_control import envs
from liquid_control.checkpoints.env_state import CannotPutDownError, put_down, take_up


def uneven(task: str) -> Callable[[], gym.Env[Any, Any]]:
    """A robot at a varying rate."""
    interval = envs.Uniform(0.01, 0.04)
    return lambda: Monitor(envs.make(task, observe="positions", interval=interval, seed=3))


class RandomGravity(gym.Wrapper):  # type: ignore[type-arg]
    """Another weight and gravity in each episode."""

    def reset(self, **options: Any) -> Any:
        observation = self.env.reset(**options)
        model: Any = self.env.unwrapped.model  # type: ignore[attr-defined]
        model.opt.gravity[2] = self.np_random.uniform(-12, -8)
        model.body_mass[:] *= self.np_random.uniform(0.9, 1.1)
        return observation


ENVS: dict[str, Callable[[], VecEnv]] = {
    "CartPole": lambda: make_vec_env("CartPole-v1", 2, seed=1),
    "Acrobot": lambda: make_vec_env("Acrobot-v1", 2, seed=1),
    "FrozenLake": lambda: make_vec_env("FrozenLake-v1", 2, seed=1),
    "normalised Pendulum": lambda: VecNormalize(make_vec_env("Pendulum-v1", 2, seed=1)),
    "stacked Hopper": lambda: VecFrameStack(make_vec_env("Hopper-v5", 2, seed=1), 3),
    "Ant": lambda: VecMonitor(DummyVecEnv([lambda: gym.make("Ant-v5")])),
    "Pusher": lambda: make_vec_env("Pusher-v5", 1, seed=1),
    "uneven Humanoid": lambda: DummyVecEnv([uneven("Humanoid-v5"), uneven("Humanoid-v5")]),
    "uneven Walker": lambda: VecNormalize(DummyVecEnv([uneven("Walker2d-v5")])),
    "windows": lambda: envs.VecWindow(envs.make_vec("Hopper-v5", 2, seed=3, threads=1), length=3),
    "random gravity": lambda: DummyVecEnv([lambda: RandomGravity(gym.make("Hopper-v5"))]),
}


@pytest.mark.filterwarnings("ignore:.*Monitor.*:UserWarning")
@pytest.mark.parametrize("make", ENVS.values(), ids=ENVS)
def test_an_environment_goes_on_where_it_was_put_down(make: Callable[[], VecEnv]) -> None:
    one, other = make(), make()
    one.seed(5)
    one.reset()
    one.action_space.seed(0)

    def act() -> Any:
        return np.array([one.action_space.sample() for _ in range(one.num_envs)])

    for _ in range(37):
        one.step(act())
    notes, arrays = put_down(one, "env")
    other.reset()
    other.step(act())
    take_up(other, json.loads(json.dumps(notes)), arrays, "env")
    for _ in range(120):
        actions = act()
        mine, theirs = one.step(actions), other.step(actions)
        for part in range(3):
            np.testing.assert_equal(theirs[part], mine[part])
        for info, same in zip(mine[3], theirs[3], strict=True):
            assert ("episode" in info) == ("episode" in same)
            if "episode" in info:
                assert info["episode"]["r"] == same["episode"]["r"]


class Gait(enum.Enum):
    WALK = 1
    RUN = 2


@dataclass
class Thing:
    """One of each kind."""

    number: float = 0.0
    nothing: int | None = None
    word: str = "slow"
    place: str = "/here"
    gait: Gait = Gait.WALK
    scalar: Any = field(default_factory=lambda: np.float32(0))
    array: Any = field(default_factory=lambda: np.zeros(2))
    last: Any = field(default_factory=lambda: deque(maxlen=2))
    pair: Any = (0, 0.0)
    table: Any = field(default_factory=dict)
    held: Any = None
    draw: Any = field(default_factory=lambda: np.random.default_rng(0))
    act: Any = len


def test_every_kind_of_state_is_taken_up_and_code_and_places_stay() -> None:
    held = [1]
    used = Thing(
        number=float("nan"),
        nothing=3,
        word="fast",
        place="/there",
        gait=Gait.RUN,
        scalar=np.float32(0.1),
        array=np.arange(2.0),
        last=deque([1, (2, held)], maxlen=2),
        pair=(np.int8(4), float("inf")),
        table={"a": {3: None}, "same": held},
        held=held,
        draw=np.random.default_rng(9),
        act=print,
    )
    notes, arrays = put_down(used, "thing")
    again = Thing()
    array, draw = again.array, again.draw
    take_up(again, json.loads(json.dumps(notes)), arrays, "thing")
    assert np.isnan(again.number)
    assert (again.nothing, again.word, again.gait) == (3, "fast", Gait.RUN)
    assert (again.place, again.act) == ("/here", len)
    assert type(again.scalar) is np.float32
    assert again.scalar == np.float32(0.1)
    assert again.array is array
    assert array.tolist() == [0, 1]
    assert again.last == deque([1, (2, [1])])
    assert again.last.maxlen == 2
    assert again.pair == (4, float("inf"))
    assert again.table == {"a": {3: None}, "same": [1]}
    assert again.held is again.table["same"] is again.last[1][1]
    assert again.draw is draw
    assert draw.random() == np.random.default_rng(9).random()


class Hidden:
    """Who knows what it remembers?"""


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Hidden(), r"thing\.held, a tests\.checkpoints\.test_env_state\.Hidden,"),
        ([0, {"x": Hidden()}], r"thing\.held\.1\.x, a tests"),
        (iter([1]), r"thing\.held, a builtins\.list_iterator,"),
        (np.array([None]), r"thing\.held, an array of object,"),
        ({(1, 2): 3}, r"thing\.held, whose keys are neither names nor numbers,"),
    ],
)
def test_what_cannot_be_seen_is_refused_by_name(value: Any, told: str) -> None:
    with pytest.raises(CannotPutDownError, match=told):
        put_down(Thing(held=value), "thing")


@pytest.mark.parametrize(
    ("used", "other"),
    [
        (Thing(number=1.0), Thing(number=len)),  # type: ignore[arg-type]
        (Thing(gait=Gait.RUN), Thing(gait="RUN")),  # type: ignore[arg-type]
        (Thing(held=Thing()), Thing(held=[])),
        (Thing(held=[1]), Thing(held=Thing())),
        (Thing(word="x"), Thing(word=Path("x"))),  # type: ignore[arg-type]
    ],
)
def test_another_kind_of_thing_is_refused(used: Thing, other: Thing) -> None:
    notes, arrays = put_down(used, "thing")
    with pytest.raises(ValueError, match=r"thing\.\w+ is a .* here, and was another kind of thing"):
        take_up(other, notes, arrays, "thing")
