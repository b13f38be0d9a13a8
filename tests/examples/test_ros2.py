"""The node for ROS 2, without ROS: its logic, and its glue with stand-ins for rclpy."""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from liquid_control.deploy import ControlLoop, Metadata
from tests.deploy.test_control_loop import FACTS, Clock, Recorder

NODE = Path(__file__).parents[2] / "examples/ros2/policy_node.py"
MODULE = SimpleNamespace(**runpy.run_path(str(NODE)))
NAMES = {"element_names": ["hip", "knee", "hip'"], "units": ["rad", "rad", "rad/s"]}
NAMED = replace(FACTS, observation=({**FACTS.observation[0], **NAMES},))


class Seeing(Recorder):
    """Keeps its observations."""

    def __init__(self, metadata: Metadata = NAMED) -> None:
        super().__init__(metadata)
        self.seen: list[list[float]] = []

    def step(self, observation: Any, elapsed_time: float) -> Any:
        action = super().step(observation, elapsed_time)
        self.seen.append(observation.tolist())
        return action


def test_observations_are_put_together_by_name() -> None:
    policy, clock = Seeing(), Clock()
    controller = MODULE.JointController(ControlLoop(policy, clock=clock), {"knee": "left_knee"})
    controller.receive(["left_knee", "other", "hip"], [1, 2, 3], [4, 5, 6], 99.99)
    assert controller.tick() == pytest.approx([0.05, 1.0])
    assert policy.seen == [[3, 1, 6]]
    clock.now += 0.05
    assert controller.tick() == pytest.approx([0.05, 1.0])  # nothing is new: held
    controller.receive(["left_knee", "hip"], [7, 8], [], clock.now)  # no velocities
    controller.receive(["hip"], [7], [7], clock.now)  # no knee
    controller.tick()
    assert len(policy.seen) == 1
    controller.receive(["hip", "left_knee"], [7, 8], [9, 9], clock.now)
    clock.now += 0.02
    assert controller.tick() == pytest.approx([0.07, 1.0])
    assert policy.seen[1] == [7, 8, 9]
    assert controller.period == 0.05


def test_policies_that_observe_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="no names of observations"):
        MODULE.JointController(ControlLoop(Recorder()))
    forces = {**NAMED.observation[0], "units": ["rad", "N", "rad/s"]}
    with pytest.raises(ValueError, match="'knee' is neither position nor velocity"):
        MODULE.JointController(ControlLoop(Seeing(replace(NAMED, observation=(forces,)))))


def test_the_node_joins_topics_and_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mcap", reason="the extra `deploy` is not installed")
    published: list[list[float]] = []
    policy, seconds = Seeing(), [50.0]

    class Node:
        def get_clock(self) -> Any:
            return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=seconds[0] * 1e9))

        def create_publisher(self, _: Any, topic: str, depth: int) -> Any:
            assert (topic, depth) == ("commands", 1)
            return SimpleNamespace(publish=lambda message: published.append(message.data))

        def create_subscription(self, _: Any, topic: str, receive: Any, quality: Any) -> None:
            assert (topic, quality) == ("joint_states", "sensor data")
            self.receive = receive

        def create_timer(self, period: float, tick: Any) -> None:
            assert period == 0.05
            self.tick = tick

    def spin(node: Node) -> None:
        for step in range(3):
            stamp = SimpleNamespace(sec=int(seconds[0]), nanosec=int(seconds[0] % 1 * 1e9))
            message = SimpleNamespace(
                header=SimpleNamespace(stamp=stamp),
                name=["hip", "knee"],
                position=np.array([step, 2.0]),
                velocity=np.array([3.0, 4.0]),
            )
            node.receive(message)
            seconds[0] += 0.01
            node.tick()
            seconds[0] += 0.04

    stand_ins = {
        "rclpy": {"init": lambda: None, "create_node": lambda _: Node(), "spin": spin},
        "rclpy.qos": {"qos_profile_sensor_data": "sensor data"},
        "sensor_msgs.msg": {"JointState": object},
        "std_msgs.msg": {"Float64MultiArray": lambda data: SimpleNamespace(data=data)},
    }
    for name, content in {**stand_ins, "sensor_msgs": {}, "std_msgs": {}}.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys, "argv", ["policy_node.py", "robot"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODULE.main.__globals__, "OnnxPolicy", lambda _: policy)
    MODULE.main()
    assert [row[0] for row in published] == pytest.approx([0.05, 0.05, 0.05])
    assert policy.seen == [[0, 2, 3], [1, 2, 3], [2, 2, 3]]
    assert (tmp_path / "robot.mcap").exists()
