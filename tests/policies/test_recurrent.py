"""Laws of the policy for sb3-contrib's RecurrentPPO: rollouts, padded sequences, saving."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from torch.testing import assert_close

import liquid_control
from liquid_control import LiquidRecurrentPolicy, envs
from liquid_control.neurons import NEURONS as MODELS
from tests.policies.conftest import ACTIONS, NOMINAL, OBSERVATIONS, PLAIN, TIMED, at, draw

CRITICS = ("twin", "shared", "mlp")
WIRING = {"kind": "auto_ncp", "neurons": 12}
ENVS, STEPS = 3, 16


class Drawn(gym.Env[Any, Any]):
    """Draws observations, elapsed times and episodes of 1 to 7 steps, half of them cut short."""

    def __init__(self, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observations, actions

    def _observe(self) -> Any:
        return at(draw(self.observation_space, 1, 1, int(self.np_random.integers(1000))), 0, 0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 8))
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        terminated = self.left == 0 and self.np_random.random() < 0.5
        truncated = self.left == 0 and not terminated
        return self._observe(), self.np_random.normal(), terminated, truncated, {}


def make_env(observations: spaces.Space[Any] = TIMED, actions: Any = ACTIONS["box"]) -> VecEnv:
    return DummyVecEnv([lambda: Monitor(Drawn(observations, actions))] * ENVS)


def make_model(env: VecEnv | None = None, policy: Any = None, **options: Any) -> RecurrentPPO:
    options = {"n_steps": STEPS, "batch_size": 20, "n_epochs": 2, "learning_rate": 1e-2} | options
    policy_kwargs = {"wiring": WIRING, "nominal_interval": NOMINAL} | (policy or {})
    return RecurrentPPO(
        LiquidRecurrentPolicy,
        env or make_env(),
        policy_kwargs=policy_kwargs,
        seed=0,
        device="cpu",
        **options,
    )


def make_policy(observations: spaces.Space[Any] = TIMED, **options: Any) -> LiquidRecurrentPolicy:
    """Its actions differ clearly from one state to another."""
    policy = make_model(make_env(observations), options).policy
    with torch.no_grad():
        policy.liquid.action_net.weight.mul_(100)
    return policy


def start(policy: LiquidRecurrentPolicy, batch: int) -> RNNStates:
    zeros = torch.zeros(1, batch, policy.lstm_actor.hidden_size)
    return RNNStates((zeros, zeros), (zeros, zeros))


def starts() -> np.ndarray:
    """Every environment starts at once; the second one again, in the middle."""
    started = np.zeros((STEPS, ENVS), dtype=np.float32)
    started[0] = started[5, 1] = 1
    return started


def predict_all(policy: Any, observations: Any) -> np.ndarray:
    """Deterministic actions (steps, batch, ...), passing the state from step to step."""
    actions, state = [], None
    for t, started in enumerate(starts()):
        action, state = policy.predict(at(observations, t), state, started, deterministic=True)
        actions.append(action)
    return np.stack(actions)


def spaces_and_critics() -> Iterator[Any]:
    """Every pair of observation, action and critic; what is left of the product is slow."""
    for indices in product(range(len(OBSERVATIONS)), range(len(ACTIONS)), range(len(CRITICS))):
        names = (
            list(each)[index]
            for each, index in zip((OBSERVATIONS, ACTIONS, CRITICS), indices, strict=True)
        )
        yield pytest.param(*names, marks=pytest.mark.slow if sum(indices) % 3 else ())


@pytest.mark.parametrize(("observations", "action", "critic"), [*spaces_and_critics()])
def test_training_finds_what_the_rollout_said(observations: str, action: str, critic: str) -> None:
    """With unchanged weights, the padded sequences of a minibatch give a ratio of one."""
    actions = ACTIONS[action]
    env = make_env(OBSERVATIONS[observations], actions)
    policy = {"critic": critic, "encoder": [7]}
    model = make_model(env, policy, learning_rate=0.0).learn(2 * STEPS * ENVS)
    seen = 0
    for data in model.rollout_buffer.get(20):
        mask = data.mask > 0
        taken = data.actions.long().flatten() if actions == ACTIONS["discrete"] else data.actions
        values, log_prob, _ = model.policy.evaluate_actions(
            data.observations, taken, data.lstm_states, data.episode_starts
        )
        assert_close(values.flatten()[mask], data.old_values[mask], rtol=1e-5, atol=1e-5)
        assert_close((log_prob - data.old_log_prob).exp()[mask], torch.ones(int(mask.sum())))
        seen += int(mask.sum())
    assert seen == STEPS * ENVS


@pytest.mark.parametrize("observations", OBSERVATIONS.values(), ids=OBSERVATIONS)
@pytest.mark.parametrize("critic", CRITICS)
def test_sequences_equal_steps_through_the_resets_within(
    observations: spaces.Space[Any], critic: str
) -> None:
    policy = make_policy(observations, critic=critic)
    seen = draw(observations, STEPS, ENVS)
    started = torch.as_tensor(starts())
    states, steps = start(policy, ENVS), []
    for t in range(STEPS):
        now = policy.obs_to_tensor(at(seen, t))[0]
        predicted_values = policy.predict_values(now, states.vf, started[t])
        mean = policy.get_distribution(now, states.pi, started[t])[0].mode()
        actions, values, log_prob, states = policy(now, states, started[t], deterministic=True)
        assert_close(predicted_values, values)
        assert_close(actions, mean)
        steps.append((actions, values.flatten(), log_prob))
    actions, values, log_prob = (torch.stack(column, dim=1) for column in zip(*steps, strict=True))

    rows = [policy.obs_to_tensor(at(seen, slice(None), env))[0] for env in range(ENVS)]
    found, found_log_prob, entropy = policy.evaluate_actions(
        torch.cat(rows)
        if observations is PLAIN
        else {key: torch.cat([row[key] for row in rows]) for key in observations},
        actions.flatten(0, 1),
        start(policy, ENVS),
        started.T.flatten(),
    )
    assert found.shape == (STEPS * ENVS, 1)
    assert entropy.shape == (STEPS * ENVS,)
    assert_close(found.view(ENVS, STEPS), values, rtol=1e-5, atol=1e-5)
    assert_close(found_log_prob.view(ENVS, STEPS), log_prob, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("critic", CRITICS)
def test_it_acts_as_a_liquid_policy_does(critic: str) -> None:
    policy = make_policy(critic=critic)
    seen = draw(TIMED, STEPS, ENVS)
    expected = predict_all(policy.liquid, seen)
    np.testing.assert_allclose(predict_all(policy, seen), expected, rtol=1e-5, atol=1e-5)
    late = {**seen, "elapsed_time": 2 * seen["elapsed_time"]}
    assert np.abs(predict_all(policy, late) - expected).max() > 1e-2


def test_a_single_observation_is_a_batch_of_one() -> None:
    policy = make_policy()
    seen = draw(TIMED, 2, 1)
    single, state = policy.predict(at(seen, 0, 0), deterministic=True)
    batch, _ = policy.predict(at(seen, 0), deterministic=True)
    np.testing.assert_array_equal(single, batch[0])
    again, _ = policy.predict(at(seen, 1, 0), state, deterministic=True)
    forgetful, _ = policy.predict(at(seen, 1, 0), state, np.array([True]), deterministic=True)
    afresh, _ = policy.predict(at(seen, 1, 0), deterministic=True)
    np.testing.assert_array_equal(forgetful, afresh)
    assert np.abs(again - afresh).max() > 1e-3


def test_a_forgotten_state_and_another_observation_are_named() -> None:
    policy, seen = make_policy(), at(draw(TIMED, 1, 1), 0, 0)
    policy.predict(seen)
    with pytest.warns(UserWarning, match="predict is called without a state again"):
        policy.predict(seen)
    with pytest.raises(ValueError, match="got an array"):
        policy.predict(np.zeros(3, np.float32))


@pytest.mark.parametrize("neurons", MODELS)
def test_every_neuron_model_trains_on_padded_sequences(neurons: str) -> None:
    """Padding is zero, the elapsed time too, and must not reach the weights."""
    model = make_model(policy={"neurons": neurons, "encoder": [5]})
    before = {name: weight.clone() for name, weight in model.policy.named_parameters()}
    model.learn(STEPS * ENVS)
    for name, weight in model.policy.named_parameters():
        assert torch.isfinite(weight).all(), name
        unused = name.startswith("liquid.critic.body.circuit.output_mapping")
        assert unused or weight.numel() == 0 or not torch.equal(weight, before[name]), name


@pytest.mark.parametrize("critic", CRITICS)
def test_saved_and_loaded_it_acts_the_same_bit_for_bit(critic: str, tmp_path: Path) -> None:
    model = make_model(policy={"critic": critic}).learn(STEPS * ENVS)
    model.save(tmp_path / "model.zip")
    model.policy.save(str(tmp_path / "policy.pt"))
    seen = draw(TIMED, STEPS, ENVS)
    expected = predict_all(model, seen)
    loaded = RecurrentPPO.load(tmp_path / "model.zip", make_env(), device="cpu")
    np.testing.assert_array_equal(predict_all(loaded, seen), expected)
    policy = LiquidRecurrentPolicy.load(str(tmp_path / "policy.pt"), device="cpu")
    np.testing.assert_array_equal(predict_all(policy, seen), expected)
    states = (each.policy.optimizer.state_dict()["state"] for each in (model, loaded))
    assert_close(*states, rtol=0, atol=0)
    loaded.learn(STEPS * ENVS)
    assert np.abs(predict_all(loaded, seen) - expected).max() > 0


def test_two_seeded_runs_agree() -> None:
    one, other = (make_model().learn(2 * STEPS * ENVS).policy.state_dict() for _ in range(2))
    assert_close(one, other, rtol=0, atol=0)


def test_evaluate_policy_passes_the_state_on() -> None:
    model = make_model()
    fed = []
    predict = model.policy.predict

    def spy(observation: Any, state: Any, *rest: Any, **options: Any) -> Any:
        fed.append(state)
        actions, after = predict(observation, state, *rest, **options)
        fed.append(after)
        return actions, after

    model.policy.predict = spy
    evaluate_policy(model, make_env(), n_eval_episodes=4)
    assert fed[0] is None
    assert len(fed) > 4
    assert all(given is kept for given, kept in zip(fed[2::2], fed[1::2], strict=False))


def test_vec_normalize_leaves_the_time_alone() -> None:
    venv = envs.make_vec("InvertedPendulum-v5", ENVS, interval=envs.Uniform(0.02, 0.08), seed=0)
    env = VecNormalize(venv, norm_obs_keys=["observation"])
    nominal = env.get_attr("nominal_interval")[0]
    model = make_model(env, {"nominal_interval": nominal}, n_steps=64).learn(2 * 64 * ENVS)
    assert model.policy.liquid.actor_circuit.time_scale == nominal == 0.04
    assert model.policy.liquid.normalizer is None
    seen = model.rollout_buffer.observations
    np.testing.assert_allclose(np.unique(seen["elapsed_time"]), np.arange(1, 5) * 0.02, rtol=1e-6)
    assert seen["observation"].std() > 0.5


def test_arguments_survive_json() -> None:
    options = {
        "neurons": "ltc",
        "neuron_kwargs": {"ode_steps": 2},
        "encoder": [8],
        "critic": "twin",
        "critic_wiring": {"kind": "dense", "neurons": 9},
        "critic_layers": [5],
        "log_std_init": -0.5,
        "optimizer_kwargs": {"betas": [0.8, 0.99]},
    }
    policy = make_policy(**json.loads(json.dumps(options)))
    assert_close(policy.state_dict(), make_policy(**options).state_dict(), rtol=0, atol=0)
    assert policy.lstm_actor.hidden_size == 12 + 9
    assert tuple(policy.optimizer.param_groups[0]["betas"]) == (0.8, 0.99)
    assert_close(policy.log_std, torch.full((2,), -0.5))


@pytest.mark.parametrize("name", ["net_arch", "lstm_hidden_size", "normalize_observations"])
def test_arguments_of_other_policies_are_refused(name: str) -> None:
    message = f"takes no {name}; describe its circuits by neurons, wiring, .*VecNormalize"
    with pytest.raises(TypeError, match=message):
        make_model(policy={name: None})


def test_what_a_liquid_policy_refuses_is_refused() -> None:
    with pytest.raises(ValueError, match=r"neurons must be one of .*cfc.*, got 'rnn'"):
        make_model(make_env(PLAIN), {"neurons": "rnn"})
    with pytest.raises(ValueError, match="use_sde is not supported"):
        make_model(use_sde=True)


@pytest.mark.parametrize(
    "actions", [spaces.Discrete(3, start=5), spaces.MultiDiscrete([2, 3], start=[0, 1])]
)
def test_actions_that_do_not_start_at_zero_are_refused(actions: Any) -> None:
    with pytest.raises(ValueError, match=r"counts actions from 0, and those of .* use LiquidPPO"):
        make_model(make_env(actions=actions))


OPTIONAL = """
import sys
from importlib import reload
import liquid_control
from liquid_control import policies
print("LiquidRecurrentPolicy" in dir(liquid_control), "sb3_contrib" in sys.modules)

sys.modules["sb3_contrib"] = None  # as if it were not installed
reload(policies), reload(liquid_control)
from liquid_control import *
from liquid_control.policies import *
print("LiquidRecurrentPolicy" in dir(liquid_control))
for package in (liquid_control, policies):
    try:
        package.LiquidRecurrentPolicy
    except ImportError as error:
        print(error)

del sys.modules["sb3_contrib"]
reload(policies), reload(liquid_control)
from liquid_control import *
print(LiquidRecurrentPolicy.__name__)
"""


def test_sb3_contrib_is_optional_and_imported_once_it_is_asked_for() -> None:
    """In a fresh interpreter, which has not imported it."""
    done = subprocess.run([sys.executable, "-c", OPTIONAL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    remedy = 'LiquidRecurrentPolicy needs sb3-contrib; pip install "liquid-control[contrib]"'
    assert done.stdout.splitlines() == [
        "True False",
        "False",
        remedy,
        remedy,
        "LiquidRecurrentPolicy",
    ]


def test_a_missing_unit_of_time_is_said() -> None:
    with pytest.warns(UserWarning, match="unit of time is taken as 1 second; set nominal_interval"):
        LiquidRecurrentPolicy(TIMED, spaces.Box(-1, 1, (1,)), lambda _: 1e-3, wiring=WIRING)


@pytest.mark.parametrize("package", [liquid_control, liquid_control.policies])
def test_other_names_are_unknown(package: Any) -> None:
    with pytest.raises(AttributeError, match=f"'{package.__name__}' has no attribute 'Solid'"):
        _ = package.Solid
