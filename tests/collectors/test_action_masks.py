"""LiquidPPO in environments that allow only some actions in each step."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from liquid_control import LiquidPPO
from liquid_control.checkpoints.checkpoint_callback import ResumeCallback

# sb3-contrib's evaluation does not hand the state on.
pytestmark = pytest.mark.filterwarnings("ignore:predict is called without a state")

ACTIONS = 8


class Method(gym.Env[Any, Any]):
    """Three of eight actions are allowed; the highest or the lowest of them is right.

    A wrong one raises. Who takes any allowed action gets a mean return of a third.
    """

    observation_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (1,))
    action_space = spaces.Discrete(ACTIONS)
    length = 8

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.played = 0
        return self._next(), {}

    def step(self, action: Any) -> Any:
        assert self.mask[action], f"{action} is not allowed"
        right = np.flatnonzero(self.mask)[-1 if self.highest else 0]
        self.played += 1
        ended = self.played == self.length
        return self._next(), float(action == right) / self.length, ended, False, {}

    def action_masks(self) -> Any:
        return self.mask

    def _next(self) -> Any:
        self.mask = np.zeros(ACTIONS, bool)
        self.mask[self.np_random.choice(ACTIONS, 3, replace=False)] = True
        self.highest = bool(self.np_random.integers(2))
        return np.float32([2 * self.highest - 1])


class Key(Method):
    """The same with the mask in the observation."""

    observation_space = spaces.Dict(
        {"observation": Method.observation_space, "action_mask": spaces.MultiBinary(ACTIONS)}
    )

    def _next(self) -> Any:
        observation = super()._next()
        return {"observation": observation, "action_mask": self.mask.astype(np.int8)}


class Resumable(Method):
    """The same with a state that checkpoints hold."""

    def state_dict(self) -> dict[str, Any]:
        return {"played": self.played, "mask": self.mask, "highest": self.highest} | {
            "numbers": np.frombuffer(pickle.dumps(self.np_random), np.uint8)
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.played, self.mask = int(state["played"]), state["mask"].astype(bool)
        self.highest = bool(state["highest"])
        self.np_random = pickle.loads(state["numbers"].tobytes())


def build(task: Any, **options: Any) -> LiquidPPO:
    return LiquidPPO(
        "LiquidPolicy",
        make_vec_env(task, n_envs=8, seed=0),
        n_steps=16,
        batch_size=64,
        seed=0,
        device="cpu",
        policy_kwargs={"wiring": {"kind": "dense", "neurons": 16}},
        **options,
    )


def weights(model: LiquidPPO) -> Any:
    return {name: each.numpy() for name, each in model.policy.state_dict().items()}


def test_the_method_and_the_key_are_the_same() -> None:
    one, other = build(Key).learn(256), build(Method).learn(256)
    assert weights(one).keys() == weights(other).keys()
    for name, each in weights(one).items():
        np.testing.assert_array_equal(weights(other)[name], each, err_msg=name)


def test_losses_of_the_kernels_are_those_of_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = build(Method).learn(128)
    monkeypatch.setattr("liquid_control.agents.ppo.FusedPolicy.of", lambda _: None)
    reference = build(Method).learn(128)
    for name, each in weights(reference).items():
        np.testing.assert_allclose(weights(fused)[name], each, rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_saved_agent_goes_on_with_masks(tmp_path: Path) -> None:
    model = build(Method).learn(128)
    model.save(tmp_path / "agent.zip")
    loaded = LiquidPPO.load(tmp_path / "agent.zip", env=make_vec_env(Method, n_envs=8, seed=1))
    loaded.learn(128)
    mask = np.arange(ACTIONS) == 5
    assert loaded.predict(np.ones(1, np.float32), action_masks=mask)[0] == 5


@pytest.mark.filterwarnings("error", "ignore:unclosed:ResourceWarning")
def test_a_training_with_masks_resumes_exactly(tmp_path: Path) -> None:
    straight = build(Resumable).learn(256, ResumeCallback(tmp_path, 128))
    again = LiquidPPO.resume(tmp_path, make_vec_env(Resumable, n_envs=8, seed=1))
    assert again.num_timesteps < 256
    again.learn(256 - again.num_timesteps, reset_num_timesteps=False)
    for name, each in weights(straight).items():
        np.testing.assert_array_equal(weights(again)[name], each, err_msg=name)


def test_wrong_masks_of_an_environment_are_refused() -> None:
    class Short(Method):
        def action_masks(self) -> Any:
            return self.mask[1:]

    class Nothing(Method):
        def action_masks(self) -> Any:
            return np.zeros(ACTIONS, bool)

    class Continuous(Method):
        action_space = spaces.Box(-1.0, 1.0, (2,))  # type: ignore[assignment]

    with pytest.raises(ValueError, match=r"action_masks\(\) must return 8 numbers"):
        build(Short).learn(16)
    with pytest.raises(ValueError, match="allows no action of part 0"):
        build(Nothing).learn(16)
    with pytest.raises(ValueError, match="needs actions that are Discrete"):
        build(Continuous)


@pytest.mark.slow
@pytest.mark.parametrize("task", [Method, Key])
def test_it_learns_which_of_the_allowed_actions_is_right(task: Any) -> None:
    model = build(task, learning_rate=5e-3, ent_coef=0.01).learn(16_384)
    env = make_vec_env(Method, n_envs=8, seed=9)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=64)  # sb3-contrib's, with its masks
    assert mean > 0.9


@pytest.mark.parametrize("wrong", [[np.nan] * ACTIONS, ["yes"] * ACTIONS])
def test_a_mask_holds_numbers(wrong: list[Any]) -> None:
    class Wrong(Method):
        def action_masks(self) -> Any:
            return np.array(wrong)

    with pytest.raises(ValueError, match=r"must return booleans, or zeros and ones, got \["):
        build(Wrong).learn(16)


@pytest.mark.filterwarnings("error", "ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("normalised", [False, True])
def test_an_eval_callback_acts_with_masks(normalised: bool) -> None:
    train, unseen = make_vec_env(Method, n_envs=8, seed=0), make_vec_env(Method, seed=1)
    if normalised:
        train, unseen = VecNormalize(train), VecNormalize(unseen, training=False)
    callback = EvalCallback(unseen, eval_freq=16, deterministic=False, verbose=0)
    model = LiquidPPO(
        "LiquidPolicy",
        train,
        n_steps=16,
        batch_size=64,
        policy_kwargs={"wiring": {"kind": "dense", "neurons": 16}},
    )
    model.learn(256, [callback])  # an action that is not allowed raises
    assert callback.n_calls >= 16
    assert np.isfinite(callback.last_mean_reward)
