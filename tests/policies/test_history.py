"""What critics see of earlier steps is that of the same episode, and nothing of it acts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from liquid_control import LiquidPolicy, LiquidPPO, LiquidSAC, SoftLiquidPolicy, envs
from liquid_control.policies.fused import why_not_fused
from liquid_control.policies.fused_soft import why_not_fused as why_not_softly_fused
from liquid_control.policies.history import History

STEPS, ENVS = 40, 3
LAGS = [1, 2, 5]
BOX = spaces.Box(-1.0, 1.0, (2,))
SMALL = {"wiring": {"kind": "auto_ncp", "neurons": 8}, "critic_history": LAGS}


def expected(
    features: np.ndarray, actions: np.ndarray, starts: np.ndarray, step: int, env: int
) -> np.ndarray:
    """What critics see of earlier steps, found by walking back."""
    parts: list[np.ndarray] = []
    for lag in LAGS:
        at, begun = step, False
        for _ in range(lag):
            begun = begun or bool(starts[at, env])
            at -= not begun
        parts += [features[at, env], actions[at, env] * (not begun)]
    return np.concatenate(parts)


def test_it_is_found_by_walking_back() -> None:
    rng = np.random.default_rng(0)
    features, actions = rng.normal(size=(STEPS, ENVS, 4)), rng.normal(size=(STEPS, ENVS, 2))
    starts = rng.random((STEPS, ENVS)) < 0.2
    starts[0] = True
    history = History(3, BOX, LAGS)
    tensors = [torch.as_tensor(each) for each in (features, actions, starts)]
    past = history.initial(tensors[0], ENVS)
    rows = torch.cat([past, history.rows(*tensors)])
    found = history.of(rows)
    assert found.shape == (STEPS, ENVS, history.size)
    for step in range(STEPS):
        for env in range(ENVS):
            walked = expected(features[..., :3], actions, starts, step, env)
            np.testing.assert_array_equal(found[step, env], walked)

    # In parts, of which each knows the rows before it.
    parts = []
    for part in zip(*(each.split(7) for each in tensors), strict=True):
        known = torch.cat([past, history.rows(*part)])
        parts.append(history.of(known))
        past = known[len(part[0]) :]
    assert torch.equal(torch.cat(parts), found)

    # The observation that ends an episode follows its last step.
    steps, env = np.nonzero(starts[1:])
    after = history.after(rows, torch.as_tensor(steps), torch.as_tensor(env))
    for row, step, index in zip(after, steps, env, strict=True):
        goes_on = np.concatenate([starts[: step + 1], np.zeros((1, ENVS), bool)])
        walked = expected(features[..., :3], actions, goes_on, step + 1, index)
        np.testing.assert_array_equal(row, walked)


def test_a_choice_is_a_number_for_each_alternative() -> None:
    starts = torch.tensor([[1.0], [0.0]])
    for space, actions, row in (
        (spaces.Discrete(3, start=5), torch.tensor([[2]]), [0.0, 0.0, 1.0]),
        (spaces.MultiDiscrete([2, 3]), torch.tensor([[[1, 0]]]), [0.0, 1.0, 1.0, 0.0, 0.0]),
        (spaces.MultiBinary(2), torch.tensor([[[1, 0]]]), [1.0, 0.0]),
        (spaces.Box(-1.0, 1.0, (1, 2)), torch.tensor([[[[0.5, -1.0]]]]), [0.5, -1.0]),
    ):
        history = History(1, space, [1])
        rows = history.rows(torch.tensor([[[7.0]], [[8.0]]]), actions, starts)
        found = history.of(torch.cat([history.initial(rows, 1), rows]))
        assert found[1, 0].tolist() == [7.0, *row]
        assert found[0, 0].tolist() == [7.0, *[0.0] * len(row)]


class Seen(BaseCallback):
    """What a training saw and did, in order of time."""

    def __init__(self) -> None:
        super().__init__()
        self.features: list[torch.Tensor] = []
        self.actions: list[torch.Tensor] = []
        self.starts: list[torch.Tensor] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        rollout = self.model.rollout_buffer.rollout.transitions  # type: ignore[attr-defined]
        self.features += rollout.features
        self.actions += rollout.actions
        self.starts += rollout.episode_start


@pytest.mark.parametrize("task", ["Hopper-v5", "CartPole-v1"])
def test_ppo_inserts_it_across_rollouts(task: str) -> None:
    env = envs.make_vec(task, ENVS, seed=0, threads=1) if task == "Hopper-v5" else None
    agent = LiquidPPO(
        "LiquidPolicy",
        env or make_vec_env(task, ENVS, seed=0),
        n_steps=8,
        batch_size=8,
        seed=0,
        policy_kwargs=SMALL,
    )
    seen = Seen()
    agent.learn(ENVS * STEPS, seen)
    history, own = agent.policy.history, agent.policy.width
    features, starts = (torch.stack(each).numpy() for each in (seen.features, seen.starts))
    assert starts[1:].any()
    actions = history._encoded(torch.stack(seen.actions)).numpy()
    for step in range(STEPS):
        for index in range(ENVS):
            if step < max(LAGS) and not starts[: step + 1, index].any():
                continue  # its episode began before the first step here
            walked = expected(features[..., : history.observed], actions, starts, step, index)
            np.testing.assert_array_equal(features[step, index, own:], walked)


def test_a_value_of_a_terminal_observation_sees_the_steps_before_it() -> None:
    """A critic that reads the action before last alone, in an episode that is cut."""
    env = gym.wrappers.TimeLimit(Counting(), 6)
    agent = LiquidPPO(
        "LiquidPolicy",
        env,
        n_steps=16,
        batch_size=16,
        seed=0,
        normalize_returns=False,
        policy_kwargs={**SMALL, "critic_history": [2], "critic_layers": []},
    )
    value = agent.policy.critic.head[-1]
    with torch.no_grad():
        value.weight.zero_()
        value.bias.zero_()
        value.weight[0, 1] = 1.0  # of the observation two steps ago
    agent._setup_learn(16, None)
    callback = agent._init_callback(None)
    agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, 16)  # type: ignore[arg-type]
    rollout = agent.rollout_buffer.rollout
    ends = rollout.transitions.ended.flatten()
    assert ends.nonzero().flatten().tolist() == [5, 11]
    # Observations count from 0; the last of six steps leads to 6, two steps after 4.
    assert rollout.next_values.flatten()[ends].tolist() == [4.0, 4.0]
    assert rollout.next_values.flatten()[:5].tolist() == [0.0, 0.0, 1.0, 2.0, 3.0]


class Counting(gym.Env[Any, Any]):
    """Observes the number of steps since the reset."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,))
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:  # type: ignore[override]
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, _: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return np.full(1, self.count, np.float32), 0.0, False, False, {}


@pytest.mark.parametrize("agent", [LiquidPPO, LiquidSAC])
def test_nothing_of_it_acts(agent: Any, tmp_path: Path) -> None:
    env = envs.make_vec("Hopper-v5", 2, observe="positions", seed=0, threads=1)
    sizes = {"n_steps": 32, "batch_size": 32} if agent is LiquidPPO else {"buffer_size": 2000}
    trained = agent("LiquidPolicy", env, seed=0, policy_kwargs=SMALL, **sizes).learn(128)
    policy = trained.policy
    names = [name for name in policy.acting_state_dict() if not name.startswith("normalizer")]
    plain = type(policy)(
        policy.observation_space, policy.action_space, lambda _: 0.0, wiring=SMALL["wiring"]
    )
    assert {*names} == {*plain.acting_state_dict()} - {
        name for name in plain.acting_state_dict() if name.startswith("normalizer")
    }
    for name in names:
        assert policy.state_dict()[name].shape == plain.state_dict()[name].shape
    observation = env.reset()
    action, _ = trained.predict(observation, deterministic=True)
    trained.save(tmp_path / "agent")
    again = agent.load(tmp_path / "agent")
    assert again.policy.options.critic_history == LAGS
    np.testing.assert_array_equal(again.predict(observation, deterministic=True)[0], action)
    why = why_not_fused if agent is LiquidPPO else why_not_softly_fused
    assert why(policy) is None


@pytest.mark.parametrize(
    ("lags", "error", "words"),
    [
        (3, TypeError, "critic_history must list control steps ago, such as"),
        ([0], ValueError, "each from 1 to 1000, got 0"),
        ([1.5], ValueError, "each from 1 to 1000, got 1.5"),
        ([True], ValueError, "each from 1 to 1000, got True"),
        ([1001], ValueError, "each from 1 to 1000, got 1001"),
        ([2, 2], ValueError, r"each number of control steps once, got \[2, 2\]"),
        (list(range(1, 18)), ValueError, "at most 16 lags, got 17"),
    ],
)
def test_other_lags_are_refused(lags: Any, error: type[Exception], words: str) -> None:
    for policy in LiquidPolicy, SoftLiquidPolicy:
        with pytest.raises(error, match=words):
            policy(BOX, BOX, lambda _: 1e-3, critic_history=lags)


def test_a_critic_that_cannot_see_it_is_refused() -> None:
    for policy, options in (
        (LiquidPolicy, {"critic": "shared"}),
        (LiquidPolicy, {"normalize_observations": False}),
        (SoftLiquidPolicy, {"share_encoder": True, "encoder": [8]}),
    ):
        with pytest.raises(ValueError, match="critic_history"):
            policy(BOX, BOX, lambda _: 1e-3, critic_history=LAGS, **options)
    picture = spaces.Box(0, 255, (36, 36, 3), np.uint8)
    with pytest.raises(ValueError, match="a history of images is not supported"):
        LiquidPolicy(picture, BOX, lambda _: 1e-3, critic_history=LAGS)
