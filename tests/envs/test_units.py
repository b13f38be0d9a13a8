"""Units of observations and actions follow from the model."""

from __future__ import annotations

import gymnasium as gym
import mujoco
import pytest

from liquid_control import envs
from liquid_control.envs.units import action_units, joint_names, observation_units

UNITS = {
    "HalfCheetah-v5": {"rootz": "m", "bthigh": "rad", "rootx'": "m/s", "bthigh'": "rad/s"},
    "Ant-v5": {"root qw": "1", "root x'": "m/s", "root rx'": "rad/s", "force 0": ""},
    "Humanoid-v5": {"torque abdomen y": "N m", "root z": "m"},
    "InvertedDoublePendulum-v5": {"slider": "m", "sin hinge": "1", "force slider": "N"},
}


@pytest.mark.parametrize("task", UNITS)
def test_units_are_those_of_joints(task: str) -> None:
    env = envs.make(task)
    names = env.get_wrapper_attr("observation_names")
    units = dict(zip(names, observation_units(env, names), strict=True))
    assert UNITS[task].items() <= units.items()
    env.close()


def test_a_motor_exerts_its_gear() -> None:
    env = envs.make("HalfCheetah-v5")
    assert action_units(env) == ("120 N m", "90 N m", "60 N m", "120 N m", "60 N m", "30 N m")
    assert joint_names(env) == ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
    env.close()
    scaled = gym.wrappers.RescaleAction(gym.make("HalfCheetah-v5"), -3.0, 3.0)
    assert action_units(scaled) == ("",) * 6
    scaled.close()
    other = gym.make("CartPole-v1")
    assert (action_units(other), joint_names(other)) == (("", ""), ())
    assert observation_units(other, ["a", "b"]) == ("", "")
    other.close()


def test_servos_have_the_unit_of_their_target() -> None:
    model = mujoco.MjModel.from_xml_string(
        """<mujoco><worldbody><body><geom size=".1"/><joint name="h" type="hinge"/>
        <joint name="s" type="slide"/></body></worldbody><actuator>
        <position joint="h" kp="5" ctrlrange="-1 1"/><position joint="s" kp="5" ctrlrange="-1 1"/>
        <velocity joint="h" kv="2" ctrlrange="-1 1"/><motor joint="s" ctrlrange="-1 1"/>
        <motor joint="s" gear="7" ctrlrange="-1 1"/><position joint="h" gear="3" ctrlrange="-1 1"/>
        <general joint="h" dyntype="filter" ctrlrange="-1 1"/>
        </actuator></mujoco>"""
    )
    from liquid_control.envs.units import _actuator_units

    assert list(_actuator_units(model)) == ["rad", "m", "rad/s", "N", "7 N", "", ""]
