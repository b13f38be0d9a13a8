"""Batched envs equal Gymnasium's tasks bit for bit, for any number of threads."""

from __future__ import annotations

import copy
import dataclasses
import gc
import inspect
import logging
import pickle
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecNormalize

from liquid_control import envs
from liquid_control.envs import DroppedFrames, ObserveOnly, Uniform, VariableRate, substeps
from liquid_control.envs.batched import BatchedVecEnv
from liquid_control.envs.physics import library
from liquid_control.envs.tasks import GYMNASIUM

# Arguments that change what each task observes, rewards, ends or starts with.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "Ant-v5": {
        "forward_reward_weight": 2.0,
        "contact_cost_weight": 0.1,
        "main_body": "torso",
        "terminate_when_unhealthy": False,
        "contact_force_range": (-0.3, 0.4),
        "exclude_current_positions_from_observation": False,
        "include_cfrc_ext_in_observation": False,
    },
    "HalfCheetah-v5": {"ctrl_cost_weight": 1.0, "frame_skip": 3, "reset_noise_scale": 0.0},
    "Hopper-v5": {"healthy_z_range": [1.24, 1.3], "healthy_state_range": [-5.0, 5.0]},
    "Humanoid-v5": {
        "healthy_z_range": (1.3, 1.5),
        "contact_cost_weight": 1e-3,
        "contact_cost_range": (0.1, 0.2),
        "include_cvel_in_observation": False,
    },
    "HumanoidStandup-v5": {
        "impact_cost_weight": 1e-3,
        "include_cinert_in_observation": False,
        "include_qfrc_actuator_in_observation": False,
        "include_cfrc_ext_in_observation": False,
    },
    "InvertedDoublePendulum-v5": {"healthy_reward": 3.0, "reset_noise_scale": 0.01},
    "InvertedPendulum-v5": {"reset_noise_scale": 0.15},
    "Pusher-v5": {"reward_near_weight": 2.0, "reward_dist_weight": 3.0},
    "Reacher-v5": {"reward_dist_weight": 2.0, "reward_control_weight": 0.5},
    "Swimmer-v5": {"exclude_current_positions_from_observation": False, "ctrl_cost_weight": 1.0},
    "Walker2d-v5": {
        "healthy_angle_range": (-0.3, 0.1),
        "healthy_reward": 7.0,
        "terminate_when_unhealthy": False,
    },
}

COUNT = 2


def batched(task: str, num_envs: int = COUNT, **arguments: Any) -> BatchedVecEnv:
    arguments = {"seed": 3, "threads": 2} | arguments
    venv = envs.make_vec(task, num_envs, **arguments)
    assert isinstance(venv, BatchedVecEnv)
    return venv


def actions_for(venv: Any, steps: int, seed: int = 0) -> Iterator[Any]:
    """Random actions over the whole range, (num_envs, actuators) each."""
    rng = np.random.default_rng(seed)
    low, high = venv.action_space.low, venv.action_space.high
    for _ in range(steps):
        yield rng.uniform(low, high, (venv.num_envs, *low.shape)).astype(np.float32)


# The time limits of Reacher and Pusher are below 150 steps; all others are 1000.
@pytest.mark.parametrize("steps", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_task_equals_gymnasiums_bit_for_bit(task: str, steps: int) -> None:
    venv = batched(task)
    theirs = [gym.make(task, disable_env_checker=True) for _ in range(COUNT)]
    seconds = theirs[0].spec.max_episode_steps * theirs[0].unwrapped.dt
    assert venv.get_attr("horizon") == pytest.approx([seconds] * COUNT)
    now = venv.reset()["observation"]
    expected = [env.reset(seed=3 + index)[0] for index, env in enumerate(theirs)]
    np.testing.assert_array_equal(now, expected, strict=True)
    for step, action in enumerate(actions_for(venv, steps)):
        observations, rewards, dones, infos = venv.step(action)
        for index, env in enumerate(theirs):
            seen, reward, terminated, truncated, _ = env.step(action[index])
            assert rewards[index] == pytest.approx(float(reward), rel=1e-6, abs=1e-6)
            assert dones[index] == (terminated or truncated), step
            assert infos[index]["TimeLimit.truncated"] == (truncated and not terminated)
            if dones[index]:
                last = infos[index]["terminal_observation"]["observation"]
                np.testing.assert_array_equal(last, seen, strict=True)
                seen, _ = env.reset()
            np.testing.assert_array_equal(observations["observation"][index], seen, strict=True)
    venv.close()


def assert_same_play(ours: Any, theirs: Any, steps: int) -> None:
    """Step both with the same actions; everything that they return must be equal."""
    np.testing.assert_equal(ours.reset(), theirs.reset())
    np.testing.assert_equal(ours.reset_infos, shared(ours.reset_infos, theirs.reset_infos))
    for action in actions_for(ours, steps):
        observations, rewards, dones, infos = ours.step(action)
        their_observations, their_rewards, their_dones, their_infos = theirs.step(action)
        np.testing.assert_equal(observations, dict(their_observations))
        np.testing.assert_allclose(rewards, their_rewards, rtol=1e-6, atol=1e-6)
        assert rewards.dtype == their_rewards.dtype
        np.testing.assert_array_equal(dones, their_dones, strict=True)
        for info, their_info in zip(infos, their_infos, strict=True):
            episode, their_episode = info.pop("episode", {}), their_info.pop("episode", {})
            assert {**episode, "t": 0} == pytest.approx({**their_episode, "t": 0}, rel=1e-6)
        np.testing.assert_equal(infos, shared(infos, their_infos))


def shared(infos: list[Any], others: list[Any]) -> list[Any]:
    """Return the entries of `others` whose keys are in `infos`."""
    return [{key: other[key] for key in info} for info, other in zip(infos, others, strict=True)]


def test_batched_envs_equal_serial_ones_at_variable_rates(some_task: str) -> None:
    arguments = {"interval": Uniform(0.02, 0.11), "max_episode_steps": 25}
    ours = batched(some_task, **arguments)
    assert_same_play(ours, envs.make_vec(some_task, COUNT, seed=3, threads=0, **arguments), 60)


@pytest.mark.parametrize("name", ["Hopper-v5", "Swimmer-v5"])
def test_batched_envs_equal_serial_ones_that_drop_frames(name: str) -> None:
    arguments = {"interval": DroppedFrames(0.4), "max_episode_steps": 25}
    ours = batched(name, **arguments)
    assert_same_play(ours, envs.make_vec(name, COUNT, seed=3, threads=0, **arguments), 60)


def test_task_arguments_take_effect(task: str) -> None:
    arguments = ARGUMENTS[task] | {"interval": 0.02, "max_episode_steps": 25}
    ours = batched(task, **arguments)
    assert_same_play(ours, envs.make_vec(task, COUNT, seed=3, threads=0, **arguments), 60)


def test_arguments_and_their_defaults_are_gymnasiums() -> None:
    not_of_the_task = {"self", "xml_file", "frame_skip", "default_camera_config", "kwargs"}
    for theirs, ours in GYMNASIUM.items():
        parameters = inspect.signature(theirs.__init__).parameters
        expected = {k: p.default for k, p in parameters.items() if k not in not_of_the_task}
        assert {f.name: f.default for f in dataclasses.fields(ours)} == expected


def test_parts_are_shown_and_an_endless_episode_repeats_its_schedule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(substeps, "UNLIMITED_COUNT", 7)
    spec = dataclasses.replace(gym.spec("Swimmer-v5"), id="EndlessSwimmer-v0")
    spec.max_episode_steps = None
    monkeypatch.setitem(gym.registry, spec.id, spec)
    arguments = {"observe": "positions", "interval": Uniform(0.01, 0.05)}
    ours = batched(spec.id, **arguments)
    theirs = envs.make_vec(spec.id, COUNT, seed=3, threads=0, **arguments)
    assert ours.observation_space == theirs.observation_space
    assert_same_play(ours, theirs, 30)


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Humanoid-v5"])
def test_results_do_not_depend_on_threads(name: str) -> None:
    interval = Uniform(0.015, 0.11)
    one, two = (batched(name, 7, interval=interval, threads=threads) for threads in (1, 2))
    assert_same_play(one, two, 25)


def test_termination_at_the_horizon_is_not_truncation() -> None:
    push = np.ones((1, 1))

    def steps_to_the_end(limit: int) -> tuple[int, bool]:
        venv = batched("InvertedPendulum-v5", 1, max_episode_steps=limit)
        venv.reset()
        for step in range(1, 1000):
            _, _, dones, infos = venv.step(push)
            if dones[0]:
                return step, infos[0]["TimeLimit.truncated"]
        raise AssertionError

    failed_after, _ = steps_to_the_end(1000)
    assert steps_to_the_end(failed_after - 1) == (failed_after - 1, True)
    assert steps_to_the_end(failed_after) == (failed_after, False)


def test_initial_forces_do_not_come_from_another_simulation() -> None:
    venv = batched("Ant-v5", 32)
    venv.reset()
    physics, now = venv.physics, venv.physics.simulations
    rng = np.random.default_rng(0)
    for action in actions_for(venv, 200):
        physics.step(action, np.full(32, 2))
        which = np.flatnonzero(rng.random(32) < 0.1)
        physics.reset(which, now.qpos[which], np.zeros((len(which), now.qvel.shape[1])))
        assert not now.cfrc_ext[which].any()
    assert now.cfrc_ext.any()


def test_arrays_outlive_their_envs() -> None:
    venv = batched("Hopper-v5", 64)
    venv.reset()
    qpos = venv.physics.simulations.qpos
    owner, before = weakref.ref(venv.physics._owner), qpos.copy()
    venv.close()
    del venv
    gc.collect()
    batched("Hopper-v5", 64).reset()  # would reuse freed memory
    assert owner() is not None
    np.testing.assert_array_equal(qpos, before)
    del qpos
    assert owner() is None


def test_a_seed_given_later_starts_the_same_episodes() -> None:
    venv = batched("Hopper-v5", interval=Uniform(0.004, 0.02))
    venv.reset()
    assert venv.seed(11) == [11, 12]
    fresh = batched("Hopper-v5", interval=Uniform(0.004, 0.02), seed=11)
    assert_same_play(venv, fresh, 50)


def test_returned_arrays_are_never_overwritten() -> None:
    venv = batched("InvertedPendulum-v5")
    kept = []
    observations = venv.reset()
    for action in actions_for(venv, 30):
        results = (*observations.values(),)
        kept.append((results, [array.copy() for array in results]))
        observations, rewards, dones, infos = venv.step(action)
        assert len({id(info) for info in infos}) == COUNT
        kept.append(((rewards, dones), [rewards.copy(), dones.copy()]))
    for arrays, copies in kept:
        np.testing.assert_equal(list(arrays), copies)


@pytest.mark.parametrize("poison", [np.nan, 1e30])
def test_a_simulation_that_becomes_unstable_ends_its_episode_alone(
    poison: float, caplog: pytest.LogCaptureFixture
) -> None:
    venv, healthy = (batched("HalfCheetah-v5", 3) for _ in range(2))
    venv.reset()
    healthy.reset()
    venv.physics.simulations.qvel[1, 4] = poison
    for step, action in enumerate(actions_for(venv, 3)):
        observations, rewards, dones, infos = venv.step(action)
        expected, expected_rewards, *_ = healthy.step(action)
        assert dones.tolist() == [False, step == 0, False]
        assert np.isfinite(observations["observation"]).all()
        others = [0, 2]
        np.testing.assert_equal(
            observations["observation"][others], expected["observation"][others]
        )
        np.testing.assert_equal(rewards[others], expected_rewards[others])
        if step == 0:
            assert rewards[1] == 0.0
            assert infos[1]["diverged"]
            assert not infos[1]["TimeLimit.truncated"]
            assert infos[1]["episode"]["l"] == 1
            assert np.isfinite(infos[1]["terminal_observation"]["observation"]).all()
    assert venv.diverged == 1
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "env 1 became unstable" in record.getMessage()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros((2, 5)), r"shape \(2, 6\), a row for each env; got float64 of shape \(2, 5\)"),
        (np.zeros(6), r"of shape \(6,\)"),
        (np.full((2, 6), "left"), "got <U4"),
        (np.array([[0] * 6, [0, 0, np.nan, 0, 0, 0]]), "action 2 of env 1 is nan, and no env was"),
        (np.full((2, 6), np.inf), "action 0 of env 0 is inf"),
    ],
)
def test_an_invalid_action_raises_before_any_env_steps(action: Any, message: str) -> None:
    venv = batched("HalfCheetah-v5")
    venv.reset()
    before = venv.physics.simulations.qpos.copy()
    with pytest.raises(ValueError, match=message):
        venv.step(action)
    np.testing.assert_array_equal(venv.physics.simulations.qpos, before)


def test_a_step_needs_a_reset() -> None:
    with pytest.raises(ResetNeeded, match="call reset"):
        batched("Reacher-v5").step(np.zeros((2, 2)))


def test_attributes_and_methods_are_those_of_each_env() -> None:
    venv = batched("Hopper-v5", 3, interval=Uniform(0.004, 0.02), observe="positions")
    twin = batched("Hopper-v5", 3, interval=Uniform(0.004, 0.02), observe="positions")
    twin.reset()
    venv.reset()
    assert venv.get_attr("nominal_interval") == [0.008] * 3
    assert venv.get_attr("horizon", indices=1) == [8.0]
    assert not venv.has_attr("wheels")
    states = np.array(venv.env_method("state_vector"))
    np.testing.assert_array_equal(states[:, :6], venv.physics.simulations.qpos)
    np.testing.assert_array_equal([data.qpos for data in venv.get_attr("data")], states[:, :6])
    assert len({id(rng) for rng in venv.get_attr("np_random")}) == 3
    assert venv.env_is_wrapped(Monitor) == [True] * 3
    assert venv.env_is_wrapped(VariableRate, indices=[0, 1]) == [True] * 2
    assert venv.env_is_wrapped(ObserveOnly)[0]
    assert not venv.env_is_wrapped(gym.wrappers.ClipAction)[0]
    # Reading changes nothing; a method that sets the state does.
    for action in actions_for(venv, 20):
        np.testing.assert_equal(venv.step(action)[:3], twin.step(action)[:3])
        venv.env_method("state_vector")
    qpos, qvel = states[0, :6], states[0, 6:]
    venv.env_method("set_state", qpos, qvel, indices=[1])
    np.testing.assert_array_equal(venv.physics.simulations.qpos[1], qpos)
    assert (venv.physics.simulations.qpos[2] != qpos).any()
    with pytest.raises(ValueError, match="call reset"):
        venv.env_method("reset")


def test_set_attr_stores_new_attributes_and_rejects_ineffective_ones() -> None:
    venv = batched("Hopper-v5", 3)
    venv.set_attr("difficulty", 2, indices=[0, 2])
    venv.set_attr("difficulty", 1, indices=1)
    assert venv.get_attr("difficulty") == [2, 1, 2]
    with pytest.raises(AttributeError, match=r"'_ctrl_cost_weight' .* pass it to make_vec"):
        venv.set_attr("_ctrl_cost_weight", 0.0)


def test_options_and_sb3s_wrappers_are_accepted() -> None:
    venv = batched("Reacher-v5")
    venv.set_options({"anything": 1})
    normalised = VecNormalize(venv, norm_obs=False)
    normalised.reset()
    for action in actions_for(venv, 50):
        normalised.step(action)
    assert venv.reset_infos[0] == {"elapsed_time": 0.02, "physical_time": 0.0}


def test_what_is_stepped_together_is_not_copied() -> None:
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="make others with"):
            copied(envs.make_vec("Reacher-v5", 2))
    copy.deepcopy(envs.make_vec("Reacher-v5", 2, threads=0)).reset()


def test_make_vec_reports_how_envs_are_stepped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "liquid_control")
    envs.make_vec("Reacher-v5", 2, threads=5)
    assert "Reacher-v5: 2 envs, stepped together on 2 threads" in caplog.text
    assert envs.make_vec("Reacher-v5", 2).reason is None  # type: ignore[attr-defined]
    serial = envs.make_vec("Reacher-v4", 2)
    assert isinstance(serial, envs.SerialVecEnv)
    assert serial.reason == "ReacherEnv has no batched implementation"
    assert "Reacher-v4: 2 envs, stepped one by one: ReacherEnv has no batched" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING
    assert envs.make_vec("Reacher-v5", 2, threads=0).reason == "threads=0"  # type: ignore[attr-defined]
    assert caplog.records[-1].levelno == logging.INFO


def test_without_the_compiled_part_envs_are_stepped_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "liquid_control.envs._hold", None)
    library.cache_clear()
    try:
        venv = envs.make_vec("Reacher-v5", 2)
    finally:
        library.cache_clear()
    assert "the compiled part of liquid_control.envs is missing" in venv.reason  # type: ignore[attr-defined]
    assert "install a C compiler" in venv.reason  # type: ignore[attr-defined]


def test_envs_with_unknown_wrappers_are_stepped_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = gym.wrappers.ClipAction.wrapper_spec()
    spec = dataclasses.replace(gym.spec("Reacher-v5"), id="Clipped-v0", additional_wrappers=(clip,))
    monkeypatch.setitem(gym.registry, spec.id, spec)
    venv = envs.make_vec(spec.id, 2)
    assert venv.reason == "the wrapper ClipAction works on one env"  # type: ignore[attr-defined]


def test_invalid_arguments_raise() -> None:
    with pytest.raises(ValueError, match="unknown task"):
        envs.make_vec("Reachr-v5", 2)
    with pytest.raises(TypeError, match="wheels"):
        envs.make_vec("Reacher-v5", 2, wheels=3)
    with pytest.raises(ValueError, match="threads must be at least 0, got -1"):
        envs.make_vec("Reacher-v5", 2, threads=-1)
    with pytest.raises(TypeError, match=r"threads must be an integer, got 1\.5"):
        envs.make_vec("Reacher-v5", 2, threads=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        envs.make_vec("Reacher-v5", 2, seed=-1)
    with pytest.raises(TypeError, match="seed must be an integer, got 'x'"):
        envs.make("Reacher-v5", seed="x")  # type: ignore[arg-type]


def test_each_env_has_its_own_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    shown = {"render_mode": "rgb_array", "width": 96, "height": 64}
    together, alone = (
        envs.make_vec("HalfCheetah-v5", 2, seed=0, threads=threads, **shown) for threads in (2, 0)
    )
    try:
        alone.reset()
        alone.render()
    except Exception as error:
        pytest.skip(f"nothing can be rendered here: {error}")
    together.reset()
    together.render()
    force = np.stack([np.ones(6), -np.ones(6)])  # the two move apart, and cameras follow
    for _ in range(20):
        together.step(force)
        alone.step(force)
    frames = [venv.env_method("render") for venv in (together, alone)]

    def unlike(one: Any, other: Any) -> float:
        return float(np.abs(one.astype(float) - other).mean())

    (first, second), (first_alone, second_alone) = frames
    assert unlike(first, first_alone) < unlike(first, second_alone) / 3
    assert unlike(second, second_alone) < unlike(second, first_alone) / 3
    (chosen,) = together.env_method("render", indices=1)
    assert unlike(chosen, second) < unlike(chosen, first) / 3
    assert together.render().shape == (128, 96, 3)  # type: ignore[union-attr]
    together.close()


@pytest.mark.parametrize("body", [99, -1, "tail"])
def test_a_main_body_that_the_model_has_not_is_refused(body: int | str) -> None:
    with pytest.raises(ValueError, match=f"main_body {body!r} is not one of world, torso"):
        envs.make_vec("Ant-v5", 1, main_body=body)


def test_a_loaded_step_can_be_reproduced() -> None:
    first, second = (envs.make_vec("Hopper-v5", 2, seed=seed, threads=1) for seed in (1, 2))
    for venv in (first, second):
        venv.reset()
        venv.step(np.ones((2, 3), np.float32))
    second.load_state_dict(first.state_dict())
    for index in range(2):
        found = second.reproduction(index)
        assert found["substeps"] == 0
        assert found["state"] == first.physics.memory["state"][index].tolist()


def test_the_seed_of_an_env_is_known() -> None:
    assert envs.make("Hopper-v5", seed=5).unwrapped.np_random_seed == 5
