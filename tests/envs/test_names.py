"""Each entry has a unique name, which describes its value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium import spaces

from liquid_control import envs
from liquid_control.envs import Task
from liquid_control.envs.names import action_names, observation_names

PLACE = ("x", "y", "z")
TURN = ("rx", "ry", "rz")
QUATERNION = ("qw", "qx", "qy", "qz")


def short(name: str) -> str:
    return name.removesuffix("_joint").replace("_", " ")


def moving(task: str, **options: Any) -> tuple[gym.Env[Any, Any], Any]:
    """Return a task after some random steps, and its observation."""
    env = envs.make(task, seed=0, **options)
    env.reset()
    for _ in range(3):
        observation, *_ = env.step(0.5 * env.action_space.sample())
    return env, observation["observation"]


def meanings(model: Any, data: Any) -> dict[str, float]:
    """Return the values of a model's joints by name."""
    expected: dict[str, float] = {}
    for index in range(model.njnt):
        joint = data.joint(index)
        name = short(joint.name)
        if model.jnt_type[index] == mujoco.mjtJoint.mjJNT_FREE:
            expected |= {
                f"{name} {a}": v for a, v in zip(PLACE + QUATERNION, joint.qpos, strict=True)
            }
            expected |= {f"{name} {a}'": v for a, v in zip(PLACE + TURN, joint.qvel, strict=True)}
            continue
        (position,), (velocity,) = joint.qpos, joint.qvel
        expected |= {
            name: position,
            f"cos {name}": np.cos(position),
            f"sin {name}": np.sin(position),
        }
        expected |= {f"{name}'": velocity, f"torque {name}": joint.qfrc_actuator.item()}
        expected[f"force {name}"] = joint.qfrc_constraint.item()
    return expected


@pytest.mark.parametrize("observe", ["full", "positions", "velocities"])
def test_each_entry_has_a_name_of_its_own(task: str, observe: Any) -> None:
    env = envs.make(task, observe=observe)
    names = env.get_wrapper_attr("observation_names")
    assert len(names) == len(set(names)) == env.observation_space["observation"].shape[0]
    assert len(set(env.get_wrapper_attr("action_names"))) == env.action_space.shape[0]


def test_an_entry_named_after_a_joint_is_what_the_joint_does(task: str) -> None:
    env, observation = moving(task)
    expected = meanings(env.unwrapped.model, env.unwrapped.data)
    entries = dict(zip(env.get_wrapper_attr("observation_names"), observation, strict=True))
    named = entries.keys() & expected.keys()
    assert {name: entries[name] for name in named} == pytest.approx({n: expected[n] for n in named})
    numbered = {name for name in entries if name[-1].isdigit() and name not in expected}
    placed = {
        name for name in entries if name.startswith(("off target", "arm tip", "object", "goal"))
    }
    assert entries.keys() == named | numbered | placed
    assert not numbered or task.startswith(("Ant", "Humanoid"))


@pytest.mark.parametrize(("name", "body"), [("arm tip", "tips_arm"), ("object", "object")])
def test_pusher_names_places(name: str, body: str) -> None:
    env, observation = moving("Pusher-v5")
    first = env.get_wrapper_attr("observation_names").index(f"{name} x")
    assert observation[first : first + 3] == pytest.approx(env.unwrapped.data.body(body).xpos)


def test_reacher_names_how_far_the_finger_is_off_the_target() -> None:
    env, observation = moving("Reacher-v5")
    data = env.unwrapped.data
    first = env.get_wrapper_attr("observation_names").index("off target x")
    off = data.body("fingertip").xpos - data.body("target").xpos
    assert observation[first:] == pytest.approx(off[:2])


def test_an_action_named_after_a_joint_moves_it(task: str) -> None:
    env = envs.make(task, seed=0)
    model, data = env.unwrapped.model, env.unwrapped.data
    env.reset()
    joints = {short(model.joint(index).name): model.joint(index) for index in range(model.njnt)}
    for index, name in enumerate(env.get_wrapper_attr("action_names")):
        data.ctrl[:] = 0
        data.ctrl[index] = model.actuator_ctrlrange[index, 1]
        mujoco.mj_forward(model, data)
        (pushed,) = np.flatnonzero(data.qfrc_actuator)
        joint = joints[{"slide": "slider"}.get(name, name)]  # the carts' motor has its own name
        assert pushed == joint.dofadr[0]


def test_a_part_has_the_names_of_its_entries() -> None:
    whole = envs.make("HalfCheetah-v5").get_wrapper_attr("observation_names")
    part = envs.make("HalfCheetah-v5", observe=[3, 12, 0]).get_wrapper_attr("observation_names")
    assert part == (whole[3], whole[12], whole[0]) == ("bshin", "bshin'", "rootz")


def test_what_is_unknown_or_named_twice_is_numbered() -> None:
    class Unknown(gym.Env[Any, Any]):
        observation_space = spaces.Box(-1, 1, (3,))
        action_space = spaces.Box(-1, 1, (2,))

    assert observation_names(Unknown()) == ("observation 0", "observation 1", "observation 2")
    assert action_names(Unknown()) == ("action 0", "action 1")
    twice = envs.make("HalfCheetah-v5", observe=[1, 1])
    assert twice.get_wrapper_attr("observation_names") == ("observation 0", "observation 1")


def test_blocks_of_another_size_than_the_joints_are_numbered() -> None:
    robot = gym.make("InvertedPendulum-v5").unwrapped
    robot.observation_structure = {"qpos": 3, "other": 1}
    assert observation_names(robot) == ("qpos 0", "qpos 1", "qpos 2", "other 0")


BALL = """<mujoco><worldbody><body>
  <joint type="ball" name="neck_joint"/><geom size="1"/>
  <body><joint/><geom size="1"/></body>
</body></worldbody><actuator><motor joint="neck_joint"/></actuator></mujoco>"""


@dataclass(frozen=True)
class Nod(Task):
    layout = (("qpos", 5), ("qvel", 4), ("xpos", 2))

    def start(self, rng: Any, qpos: Any, qvel: Any) -> Any:
        return qpos, qvel

    def observation(self, sims: Any) -> Any:
        return np.hstack([sims.qpos, sims.qvel, np.zeros((len(sims.qpos), 2))])

    def reward(self, sims: Any, before: Any, action: Any, seconds: Any) -> Any:
        return seconds


def test_a_user_defined_task_has_names(tmp_path: Path) -> None:
    (tmp_path / "neck.xml").write_text(BALL)
    envs.register("Nod-v0", Nod, model=tmp_path / "neck.xml", frame_skip=1)
    env = envs.make("Nod-v0")
    gym.registry.pop("Nod-v0")
    assert env.get_wrapper_attr("observation_names") == (
        *("neck qw", "neck qx", "neck qy", "neck qz", "joint 1"),
        *("neck rx'", "neck ry'", "neck rz'", "joint 1'"),
        *("xpos 0", "xpos 1"),
    )
    assert env.get_wrapper_attr("action_names") == ("neck",)
