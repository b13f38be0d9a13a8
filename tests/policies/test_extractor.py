"""The extractor against the circuit that it unrolls, and in the hands of every SB3 algorithm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.testing import assert_close

from liquid_control import LiquidExtractor, WindowReplayBuffer, envs
from liquid_control.envs import VecWindow
from liquid_control.policies.networks import Signal
from tests.agents.scripted import weights
from tests.noise import NOMINAL, PARTS, noise

contrib = pytest.importorskip("sb3_contrib")

LENGTH = 5
CIRCUIT = {"wiring": {"kind": "auto_ncp", "neurons": 12, "motor": 4}, "nominal_interval": NOMINAL}
ON_POLICY: dict[type[BaseAlgorithm], dict[str, Any]] = {
    PPO: {"n_steps": 16, "batch_size": 16, "n_epochs": 2},
    A2C: {"n_steps": 16},
    contrib.TRPO: {"n_steps": 16, "batch_size": 16},
}
OFF_POLICY: dict[type[BaseAlgorithm], dict[str, Any]] = {
    SAC: {},
    TD3: {},
    DDPG: {},
    DQN: {"target_update_interval": 20},
    contrib.TQC: {},
    contrib.CrossQ: {},
}
ALGORITHMS = ON_POLICY | OFF_POLICY


def make(
    algorithm: type[BaseAlgorithm],
    venv: VecEnv | None = None,
    seed: int = 0,
    replay_buffer_class: type[DictReplayBuffer] = WindowReplayBuffer,
    **circuit: Any,
) -> BaseAlgorithm:
    """A small agent; it learns from tiny batches and, if it replays, from windows."""
    options = dict(ALGORITHMS[algorithm])
    if algorithm in OFF_POLICY:
        options |= {"learning_starts": 20, "batch_size": 8, "buffer_size": 200}
        options |= {"replay_buffer_class": replay_buffer_class}
    extractor = {
        "features_extractor_class": LiquidExtractor,
        "features_extractor_kwargs": CIRCUIT | circuit,
        "net_arch": [8],
    }
    if venv is None:
        venv = VecWindow(noise(2, discrete=algorithm is DQN), LENGTH)
    # sb3-contrib names no other policy of CrossQ, and SB3 wants that name for vectors alone.
    policy = contrib.crossq.MlpPolicy if algorithm is contrib.CrossQ else "MultiInputPolicy"
    return algorithm(policy, venv, seed=seed, device="cpu", policy_kwargs=extractor, **options)


def windows() -> spaces.Dict:
    """The space of an environment's windows, whose samples are the same in every run."""
    space = VecWindow(noise(1), LENGTH).observation_space
    space.seed(0)
    assert isinstance(space, spaces.Dict)
    return space


def extractor_on(space: spaces.Space[Any], **options: Any) -> LiquidExtractor:
    torch.manual_seed(0)
    return LiquidExtractor(space, **(CIRCUIT | options))


@pytest.mark.parametrize(
    ("neurons", "encoder"),
    [
        ("cfc", None),
        ("ltc", None),
        ("ctrnn", None),
        ("lrc", None),
        ("lstm", None),
        ("gru", None),
        ("cfc", [6]),
    ],
)
def test_features_of_windows_are_those_of_the_stateful_circuit(
    neurons: str, encoder: list[int] | None
) -> None:
    """From a reset on, one step at a time with the state passed on, until the window is full."""
    venv = VecWindow(noise(3, longest=LENGTH - 1), LENGTH)
    extractor = extractor_on(venv.observation_space, neurons=neurons, encoder=encoder)
    body, state = extractor.last_step.body, torch.zeros(3, extractor.circuit.state_size)
    observation, starts = venv.reset(), torch.ones(3)
    for _ in range(30):
        tensors = {key: torch.as_tensor(of) for key, of in observation.items()}
        seen = preprocess_obs(tensors, venv.observation_space)
        assert isinstance(seen, dict)
        newest = {key: of.reshape(3, LENGTH, -1)[:, -1] for key, of in seen.items()}
        del newest["episode_start"]
        elapsed_time = newest.pop("elapsed_time")[:, 0]
        features = torch.cat([newest[key] for key in sorted(newest)], dim=1)
        with torch.no_grad():
            signal = Signal(features[None], elapsed_time[None], starts[None])
            activity, state = body(signal, state)
            assert_close(extractor(seen), extractor.circuit.readout(activity[0]))
        observation, _, dones, _ = venv.step(np.zeros((3, 2)))
        starts = torch.as_tensor(dones).float()


def test_what_came_before_the_window_is_forgotten() -> None:
    """A full window alone decides on the features: the circuit starts at its oldest observation."""
    venv = VecWindow(noise(1, longest=99, seed=1), LENGTH)
    extractor = extractor_on(venv.observation_space)
    venv.reset()
    for _ in range(2 * LENGTH):
        observation = venv.step(np.zeros((1, 2)))[0]
    assert not observation["episode_start"].any()
    seen = preprocess_obs(
        {key: torch.as_tensor(of) for key, of in observation.items()}, venv.observation_space
    )
    assert isinstance(seen, dict)
    again = seen | {"episode_start": torch.tensor([[1.0, 0, 0, 0, 0]])}
    assert_close(extractor(seen), extractor(again))


def test_elapsed_time_drives_the_neurons_and_is_no_feature() -> None:
    space = windows()
    extractor = extractor_on(space)
    numbers = 2 * 3 + 2 + 5 + (3 + 4) + 2
    assert extractor.circuit.wiring.sensory_count == numbers
    seen = preprocess_obs(
        {key: torch.as_tensor(of)[None] for key, of in space.sample().items()}, space
    )
    assert isinstance(seen, dict)
    slower = seen | {"elapsed_time": 2 * seen["elapsed_time"]}
    assert not torch.equal(extractor(seen), extractor(slower))


def test_without_elapsed_time_a_step_lasts_the_circuits_unit() -> None:
    timed = windows()
    untimed = spaces.Dict({key: part for key, part in timed.items() if key != "elapsed_time"})
    clockwork, timeless = extractor_on(timed), extractor_on(untimed, nominal_interval=None)
    timeless.load_state_dict(clockwork.state_dict())
    seen = preprocess_obs(
        {key: torch.as_tensor(of)[None] for key, of in timed.sample().items()}, timed
    )
    assert isinstance(seen, dict)
    nominal = seen | {"elapsed_time": torch.full((1, LENGTH, 1), NOMINAL)}
    del seen["elapsed_time"]
    assert_close(timeless(seen), clockwork(nominal))


@pytest.mark.parametrize("neurons", ["cfc", "ltc", "ctrnn", "lrc", "lstm", "gru"])
def test_gradients_have_gradients(neurons: str) -> None:
    """The curvature along a direction, which TRPO asks for, is the change of the gradient."""
    space = windows()
    extractor = extractor_on(space, neurons=neurons).double()
    seen = preprocess_obs(
        {key: torch.as_tensor(of)[None] for key, of in space.sample().items()}, space
    )
    assert isinstance(seen, dict)
    seen = {key: of.double() for key, of in seen.items()}
    parameters = list(extractor.parameters())

    def gradient(create_graph: bool = False) -> torch.Tensor:
        loss = extractor(seen).square().sum()
        each = torch.autograd.grad(loss, parameters, create_graph=create_graph)
        return torch.cat([part.flatten() for part in each])

    start = parameters_to_vector(parameters).detach()
    direction = torch.randn_like(start)
    slope = (gradient(create_graph=True) * direction).sum()
    curvature = torch.cat([part.flatten() for part in torch.autograd.grad(slope, parameters)])
    around = []
    for step in (1e-6, -1e-6):
        vector_to_parameters(start + step * direction, parameters)
        around.append(gradient())
    assert_close(curvature, (around[0] - around[1]) / 2e-6, rtol=1e-5, atol=1e-8)


def test_the_wiring_says_how_many_features_there_are() -> None:
    space = windows()
    assert extractor_on(space).features_dim == 4
    assert extractor_on(space, wiring={"kind": "dense", "neurons": 20}).features_dim == 16


@pytest.mark.parametrize(
    ("space", "options", "error", "text"),
    [
        (PARTS["box"], {}, TypeError, "VecWindow"),
        (spaces.Dict(PARTS), {}, TypeError, "VecWindow"),
        (None, {"nominal_interval": None}, ValueError, "nominal_interval"),
        (None, {"nominal_interval": 0.0}, ValueError, "greater than 0"),
        (None, {"wiring": "auto_ncp"}, TypeError, "a wiring is a dict of its kind and arguments"),
        (
            spaces.Dict(
                {
                    "observation": spaces.Box(-1, 1, (LENGTH, 3)),
                    "elapsed_time": spaces.Box(0, 1, (LENGTH, 2)),
                    "episode_start": spaces.Box(0, 1, (LENGTH,)),
                }
            ),
            {},
            ValueError,
            "elapsed_time must be one number for each",
        ),
        (
            spaces.Dict(
                {
                    "observation": spaces.Box(-1, 1, (LENGTH + 1, 3)),
                    "episode_start": spaces.Box(0, 1, (LENGTH,)),
                }
            ),
            {},
            ValueError,
            "observation must be as many numbers for each",
        ),
        (None, {"neurons": "worm"}, ValueError, "worm"),
        (None, {"encoder": [0]}, ValueError, "encoder"),
    ],
)
def test_what_cannot_work_is_refused(
    space: spaces.Space[Any] | None, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        extractor_on(windows() if space is None else space, **options)


@pytest.mark.parametrize(
    "algorithm",
    [
        each if each in ("PPO", "SAC", "DQN") else pytest.param(each, marks=pytest.mark.slow)
        for each in ALGORITHMS
    ],
)
def test_every_algorithm_learns_and_what_it_saves_predicts_the_same(
    algorithm: type[BaseAlgorithm], tmp_path: Path
) -> None:
    model = make(algorithm)
    before = weights(model)
    model.learn(50)
    after = weights(model)
    learned = [name for name in before if not torch.equal(before[name], after[name])]
    assert any("last_step" in name and "target" not in name for name in learned)

    model.save(tmp_path / "model.zip")
    loaded = algorithm.load(tmp_path / "model.zip", device="cpu")
    venv = model.get_env()
    assert venv is not None
    observation = venv.reset()
    for _ in range(10):
        action, _ = model.predict(observation, deterministic=True)
        np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], action)
        observation, *_ = venv.step(action)


@pytest.mark.parametrize("algorithm", [PPO, pytest.param(SAC, marks=pytest.mark.slow)])
def test_two_seeded_runs_agree_and_others_differ(algorithm: type[BaseAlgorithm]) -> None:
    first, second, other = (weights(make(algorithm, seed=seed).learn(50)) for seed in (0, 0, 1))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_replaying_windows_trains_like_replaying_copies() -> None:
    """Bit for bit, while the buffer is not full."""
    found = [
        weights(make(SAC, replay_buffer_class=kind).learn(80))
        for kind in (WindowReplayBuffer, DictReplayBuffer)
    ]
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_it_works_with_vec_normalize_and_eval_callback(
    algorithm: type[BaseAlgorithm], tmp_path: Path
) -> None:
    def normalized(seed: int) -> VecNormalize:
        task = {"observe": "positions", "interval": envs.Uniform(0.02, 0.08), "seed": seed}
        windows = VecWindow(envs.make_vec("InvertedPendulum-v5", 2, **task), LENGTH)
        return VecNormalize(windows, norm_obs_keys=["observation"])

    model = make(algorithm, normalized(0))
    callback = EvalCallback(
        normalized(1), n_eval_episodes=2, eval_freq=40, best_model_save_path=str(tmp_path)
    )
    model.learn(100, callback=callback)
    assert np.isfinite(callback.last_mean_reward)
    best = algorithm.load(tmp_path / "best_model.zip", device="cpu")
    assert np.isfinite(evaluate_policy(best, callback.eval_env, 2)[0])


def test_a_single_env_of_gymnasium() -> None:
    circuit = {"nominal_interval": None}
    model = make(PPO, VecWindow(gym.make("CartPole-v1"), LENGTH), **circuit).learn(32)
    assert evaluate_policy(model, VecWindow(gym.make("CartPole-v1"), LENGTH), 1)[0] > 0
