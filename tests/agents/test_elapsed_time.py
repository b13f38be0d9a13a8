"""An elapsed time that no control interval can have is refused at every door."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from liquid_control import LiquidExtractor, LiquidPPO, LiquidRecurrentPolicy, LiquidSAC, envs

NOMINAL = 0.04
WIRING = {"kind": "auto_ncp", "neurons": 8, "motor": 2}
ON_POLICY = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
OFF_POLICY = {"learning_starts": 8, "batch_size": 16, "buffer_size": 1000}
SEQUENCES = {"sequence_length": 4, "burn_in": 2}


def task(interval: Any = None, **options: Any) -> VecEnv:
    return envs.make_vec("InvertedPendulum-v5", 2, interval=interval, seed=0, threads=1, **options)


def windows(interval: Any = None, **options: Any) -> VecEnv:
    return envs.VecWindow(task(interval, **options), 3)


def agent(kind: Any, env: VecEnv, options: Any, **policy: Any) -> BaseAlgorithm:
    kwargs = {"wiring": WIRING, **policy}
    return kind("LiquidPolicy", env, policy_kwargs=kwargs, seed=0, device="cpu", **options)


def recurrent(env: VecEnv, **policy: Any) -> BaseAlgorithm:
    kwargs = {"wiring": WIRING, "nominal_interval": NOMINAL, **policy}
    return RecurrentPPO(LiquidRecurrentPolicy, env, policy_kwargs=kwargs, device="cpu", **ON_POLICY)


def extractor(kind: Any, env: VecEnv, options: Any, **circuit: Any) -> BaseAlgorithm:
    kwargs = {
        "features_extractor_class": LiquidExtractor,
        "features_extractor_kwargs": {"wiring": WIRING, "nominal_interval": NOMINAL, **circuit},
    }
    return kind("MultiInputPolicy", env, policy_kwargs=kwargs, device="cpu", **options)


AGENTS: dict[str, Callable[..., BaseAlgorithm]] = {
    "LiquidPPO": lambda env, **policy: agent(LiquidPPO, env, ON_POLICY, **policy),
    "LiquidSAC": lambda env, **policy: agent(LiquidSAC, env, OFF_POLICY | SEQUENCES, **policy),
}
DOORS: dict[str, tuple[Callable[..., BaseAlgorithm], Callable[..., VecEnv]]] = {
    **{name: (build, task) for name, build in AGENTS.items()},
    "RecurrentPPO": (recurrent, task),
    "PPO": (lambda env, **circuit: extractor(PPO, env, ON_POLICY, **circuit), windows),
    "SAC": (lambda env, **circuit: extractor(SAC, env, OFF_POLICY, **circuit), windows),
}
IMPOSSIBLE = [-NOMINAL, 0.0, np.nan, np.inf, 101 * NOMINAL, NOMINAL / 101]
doors = pytest.mark.parametrize(("build", "make"), DOORS.values(), ids=DOORS)


@doors
def test_training_refuses_it(build: Any, make: Any) -> None:
    env = make(envs.Uniform(0.02, 0.08))
    model, step_wait = build(env).learn(16), env.step_wait
    for seconds in IMPOSSIBLE:

        def broken(seconds: float = seconds) -> Any:
            observations, *rest = step_wait()
            observations["elapsed_time"][1] = seconds
            return observations, *rest

        env.step_wait = broken
        with pytest.raises(ValueError, match="elapsed_time"):
            model.learn(16)


@doors
def test_predict_refuses_it(build: Any, make: Any) -> None:
    env = make()
    model, observation = build(env), env.reset()
    for seconds in (NOMINAL, 99 * NOMINAL, NOMINAL / 99):
        observation["elapsed_time"][1] = seconds
        assert np.isfinite(model.predict(observation)[0]).all()
    for seconds in IMPOSSIBLE:
        observation["elapsed_time"][1] = seconds
        with pytest.raises(ValueError, match=r"in seconds and from 1/100 to 100 times .* of 0\.04"):
            model.predict(observation)


@pytest.mark.parametrize("kind", ["LiquidPPO", "LiquidSAC"])
@pytest.mark.parametrize("ending", ["truncated", "terminated"])
def test_agents_refuse_it_in_a_terminal_observation(kind: str, ending: str) -> None:
    env = task()
    model, step_wait = AGENTS[kind](env), env.step_wait

    def ended() -> Any:
        observations, rewards, dones, infos = step_wait()
        dones[1], infos[1]["TimeLimit.truncated"] = True, ending == "truncated"
        last = {key: values[1].copy() for key, values in observations.items()}
        infos[1]["terminal_observation"] = last | {"elapsed_time": np.full(1, 50.0, np.float32)}
        return observations, rewards, dones, infos

    env.step_wait = ended
    with pytest.raises(ValueError, match=r"elapsed_time is in seconds .* got 50"):
        model.learn(32)


@doors
def test_it_is_accepted_if_environment_and_policy_allow_it(build: Any, make: Any) -> None:
    env = make(200 * NOMINAL, allow_any_interval=True)
    options = {} if build in AGENTS.values() else {"allow_any_interval": True}
    model = build(env, **options).learn(32)
    observation = env.reset()
    observation["elapsed_time"][...] = 200 * NOMINAL
    assert np.isfinite(model.predict(observation)[0]).all()
    for seconds in (0.0, -1.0, np.nan, np.inf):
        observation["elapsed_time"][1] = seconds
        with pytest.raises(ValueError, match="in seconds and positive and finite"):
            model.predict(observation)


class TestVecNormalize:
    @pytest.mark.parametrize("build", AGENTS.values(), ids=AGENTS)
    @pytest.mark.parametrize(
        "normalise",
        [
            VecNormalize,
            lambda env: VecMonitor(VecNormalize(env, norm_obs_keys=["elapsed_time"])),
            lambda env: VecNormalize(VecNormalize(env), norm_obs_keys=["observation"]),
            lambda env: VecNormalize(env, training=False),
        ],
    )
    def test_agents_refuse_normalised_time(
        self, build: Any, normalise: Any, tmp_path: Path
    ) -> None:
        message = r"must stay in seconds; use VecNormalize\(env, norm_obs_keys=\['observation'\]\)"
        with pytest.raises(ValueError, match=message):
            build(normalise(task()))
        model = build(task())
        with pytest.raises(ValueError, match=message):
            model.set_env(normalise(task()))
        model.save(tmp_path / "model")
        with pytest.raises(ValueError, match=message):
            type(model).load(tmp_path / "model", normalise(task()))

    def test_agents_accept_what_leaves_the_time_alone(self) -> None:
        for options in ({"norm_obs_keys": ["observation"]}, {"norm_obs_keys": []}):
            model = AGENTS["LiquidPPO"](VecNormalize(task(), **options)).learn(32)
            assert np.unique(model._last_obs["elapsed_time"]) == np.float32(NOMINAL)

    @pytest.mark.parametrize("interval", [None, envs.Uniform(0.02, 0.08)], ids=["fixed", "varying"])
    @pytest.mark.parametrize("door", ["RecurrentPPO", "PPO", "SAC"])
    def test_other_algorithms_notice_it_in_the_first_steps(self, door: str, interval: Any) -> None:
        build, make = DOORS[door]
        env = VecNormalize(make(interval), norm_obs_keys=["observation", "elapsed_time"])
        model = build(env)
        with pytest.raises(ValueError, match=r"VecNormalize\(env, norm_obs_keys=\['observation'\]"):
            model.learn(128)
        assert model.num_timesteps <= 32
