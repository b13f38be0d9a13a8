"""User-defined tasks are registered by name, and behave equally batched and one by one."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from liquid_control import envs
from liquid_control.envs.physics import Physics
from liquid_control.envs.task_env import TaskEnv

EXAMPLE = Path(__file__).parents[2] / "examples" / "furuta_pendulum.py"
NAME = "FurutaPendulum-v0"
CONDITIONS = {
    "sensors": [envs.Noise(0.01, bias=(-0.005, 0.005))],
    "actuators": [envs.Delay(0.0, 0.02)],
    "events": [envs.Push(every=(0.02, 0.03), impulse=(0.001, 0.002))],
    "privileged": "drawn",
}


@pytest.fixture
def furuta(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The example's module, whose import registers its task."""
    spec = importlib.util.spec_from_file_location("furuta_pendulum", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "furuta_pendulum", module)
    spec.loader.exec_module(module)
    yield module
    gym.registry.pop(NAME)


@pytest.mark.usefixtures("furuta")
@pytest.mark.parametrize("arguments", [{}, {"noise": 0.5, "effort_cost": 1.0, "frame_skip": 3}])
def test_batched_and_one_by_one_are_the_same(arguments: dict[str, Any]) -> None:
    arguments = arguments | {"interval": envs.Uniform(0.005, 0.08), "max_episode_steps": 30}
    ours = envs.make_vec(NAME, 3, seed=0, observe="positions", **arguments)
    theirs = envs.make_vec(NAME, 3, seed=0, observe="positions", threads=0, **arguments)
    assert isinstance(ours, envs.BatchedVecEnv)
    assert isinstance(theirs, envs.SerialVecEnv)
    assert ours.observation_space["observation"].shape == (4,)
    np.testing.assert_equal(ours.reset(), dict(theirs.reset()))
    rng, ended = np.random.default_rng(0), 0
    for _ in range(100):
        action = rng.uniform(-1, 1, (3, 1)).astype(np.float32)
        observations, rewards, dones, _ = ours.step(action)
        their_observations, their_rewards, their_dones, _ = theirs.step(action)
        np.testing.assert_equal(observations, dict(their_observations))
        np.testing.assert_array_equal(rewards, their_rewards)
        np.testing.assert_array_equal(dones, their_dones)
        ended += dones.sum()
    assert ended


def test_the_example_passes_gymnasiums_check_and_stops_a_runaway_arm(furuta: Any) -> None:
    env = gym.make(NAME)
    check_env(env.unwrapped, skip_render_check=True)
    assert env.spec is not None
    assert env.spec.max_episode_steps == 250
    assert env.unwrapped.dt == pytest.approx(4 * 0.005)
    assert env.unwrapped.task == furuta.FurutaPendulum()
    env.reset(seed=0)
    env.unwrapped.set_state(np.array([0.0, np.pi]), np.array([50.0, 0.0]))
    assert env.step(np.zeros(1))[2]


def test_a_name_with_its_module_registers_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    venv = envs.make_vec(f"furuta_pendulum:{NAME}", 2, effort_cost=0.0)
    assert isinstance(venv, envs.BatchedVecEnv)
    assert venv.task == sys.modules.pop("furuta_pendulum").FurutaPendulum(effort_cost=0.0)
    gym.registry.pop(NAME)


def test_an_error_of_a_model_names_its_file_and_line(furuta: Any, tmp_path: Path) -> None:
    model = tmp_path / "arm.xml"
    model.write_text("<mujoco>\n<worldbody>\n<geon/>\n</worldbody>\n</mujoco>")
    with pytest.raises(ValueError, match=r"arm\.xml: (?s:.*)geon(?s:.*)line 3"):
        TaskEnv(furuta.FurutaPendulum(), model, frame_skip=1)


@pytest.mark.usefixtures("furuta")
def test_unknown_arguments_raise() -> None:
    with pytest.raises(TypeError, match="wheels"):
        envs.make_vec(NAME, 2, wheels=3)


def test_a_task_may_read_only_what_it_lists_and_mjdata_has(furuta: Any) -> None:
    class Careless(furuta.FurutaPendulum):  # type: ignore[misc,name-defined]
        reads = ()

    class Wishful(furuta.FurutaPendulum):  # type: ignore[misc,name-defined]
        reads = ("wheels",)

    model = mujoco.MjModel.from_xml_path(str(EXAMPLE.with_suffix(".xml")))
    careless = Physics(model, 2, 1, Careless.reads).simulations
    with pytest.raises(AttributeError, match=r"'site_xpos' .* list it in the `reads`"):
        Careless().terminated(careless)
    with pytest.raises(ValueError, match="'wheels' is not a field"):
        Physics(model, 2, 1, Wishful.reads)
    with pytest.raises(ValueError, match="'wheels' is not a field"):
        TaskEnv(Wishful(), EXAMPLE.with_suffix(".xml"), 1)


def test_arrays_of_the_wrong_shape_raise(furuta: Any) -> None:
    class Tall(furuta.FurutaPendulum):  # type: ignore[misc,name-defined]
        def reward(self, *arguments: Any) -> Any:
            return super().reward(*arguments)[:, None]

    class Flat(furuta.FurutaPendulum):  # type: ignore[misc,name-defined]
        def observation(self, sims: envs.Simulations) -> Any:
            return sims.qpos[0]

    class Sure(furuta.FurutaPendulum):  # type: ignore[misc,name-defined]
        def terminated(self, sims: envs.Simulations) -> Any:
            return False

    for task, message in (
        (Tall, r"reward of Tall has shape \(1, 1\) for one simulation; return \(simulations,\)"),
        (Flat, r"observation of Flat has shape \(2,\) .* return \(simulations, features\)"),
        (Sure, r"terminated of Sure has shape \(\)"),
    ):
        with pytest.raises(ValueError, match=message):
            TaskEnv(task(), EXAMPLE.with_suffix(".xml"), 1)


def test_a_task_may_return_views_of_its_inputs(furuta: Any) -> None:
    class Lazy(furuta.FurutaPendulum):  # type: ignore[misc,name-defined]
        def observation(self, sims: envs.Simulations) -> Any:
            return sims.qpos

        def before(self, sims: envs.Simulations) -> Any:
            return sims.qpos[:, 0]

        def reward(self, sims: envs.Simulations, before: Any, *_: Any) -> Any:
            return sims.qpos[:, 0] - before

    envs.register("Lazy-v0", Lazy, model=EXAMPLE.with_suffix(".xml"), frame_skip=4)
    try:
        venvs = [envs.make_vec("Lazy-v0", 2, seed=0, threads=threads) for threads in (2, 0)]
        single = gym.make("Lazy-v0")
    finally:
        gym.registry.pop("Lazy-v0")
    start, _ = single.reset(seed=0)
    assert (single.step(np.ones(1, np.float32))[0] != start).all()
    for venv in venvs:
        first = venv.reset()["observation"]  # type: ignore[index,call-overload]
        kept = first.copy()
        then, rewards, _, _ = venv.step(np.ones((2, 1), np.float32))
        np.testing.assert_array_equal(first, kept)
        moved = then["observation"] - first  # type: ignore[index,call-overload]
        np.testing.assert_allclose(rewards, moved[:, 0], rtol=1e-6)
        assert rewards.all()


@pytest.mark.usefixtures("furuta")
@pytest.mark.parametrize("conditions", [{}, CONDITIONS], ids=["plain", "conditions"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_simulates_on(copied: Callable[[Any], Any], conditions: dict[str, Any]) -> None:
    env = envs.make(NAME, seed=0, **conditions)
    env.reset(seed=0)
    other, rng = copied(env), np.random.default_rng(0)
    for _ in range(5):
        action = rng.uniform(-1, 1, 1).astype(np.float32)
        ours, theirs = env.step(action), other.step(action)
        np.testing.assert_equal(ours[0], theirs[0])
        assert ours[1:4] == theirs[1:4]
        assert ours[4].get("drawn") == theirs[4].get("drawn")
    (ours, info), (theirs, infos) = env.reset(seed=1), other.reset(seed=1)
    np.testing.assert_equal(ours, theirs)
    assert info.get("drawn") == infos.get("drawn")


@pytest.mark.usefixtures("furuta")
@pytest.mark.parametrize("frame_skip", [0, -1, 2.5])
def test_a_control_step_has_whole_physics_steps(frame_skip: Any) -> None:
    with pytest.raises(ValueError, match="frame_skip must be a whole number of at least 1"):
        envs.make(NAME, frame_skip=frame_skip)


@pytest.mark.parametrize("start", [None, (np.zeros(3), np.zeros(2)), (np.zeros(2),)])
def test_a_start_of_another_shape_raises(furuta: Any, start: Any) -> None:
    class Misplaced(furuta.FurutaPendulum):  # type: ignore[misc]
        def start(self, *_: Any) -> Any:
            return start

    env = TaskEnv(Misplaced(), EXAMPLE.parent / "furuta_pendulum.xml", 4)
    with pytest.raises(ValueError, match=r"start of Misplaced must return qpos \(2,\) and qvel"):
        env.reset()


def test_a_task_may_end_episodes_by_numbers(furuta: Any) -> None:
    class Numbered(furuta.FurutaPendulum):  # type: ignore[misc]
        def terminated(self, simulations: Any) -> Any:
            return super().terminated(simulations).astype(float)

    model = EXAMPLE.parent / "furuta_pendulum.xml"
    envs.register("Numbered-v0", Numbered, model=model, frame_skip=4, max_episode_steps=50)
    try:
        venv = envs.make_vec("Numbered-v0", 2, seed=0)
        venv.reset()
        assert isinstance(venv, envs.BatchedVecEnv)
        assert venv.step(np.ones((2, 1), np.float32))[2].dtype == bool
    finally:
        gym.registry.pop("Numbered-v0")
