"""A ROS 2 node that drives joints with an exported policy.

    python policy_node.py robot --ros-args -r joint_states:=/robot/joint_states

It reads `sensor_msgs/JointState` from `joint_states`, acts once per nominal interval, and publishes
`std_msgs/Float64MultiArray` on `commands`, in the order of the action's `element_names` in
policy.json. Observations are put together by those of the observation: "bthigh" is the position of
that joint, and "bthigh'" its velocity. Only `main` needs ROS.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control.deploy import ControlLoop, OnnxPolicy


class JointController:
    """Turns joint states into commands; knows nothing of ROS.

    Args:
        loop: around a policy whose observations have names.
        joints: names of the robot's joints by the names of observations, where they differ.

    Raises:
        ValueError: the policy observes something else than positions and velocities of joints.
    """

    def __init__(self, loop: ControlLoop, joints: dict[str, str] | None = None) -> None:
        facts = loop.policy.metadata
        names = facts.observation[0].get("element_names")
        units = facts.observation[0].get("units", [])
        if len(facts.observation) != 1 or not names:
            raise ValueError("policy.json has no names of observations; export it again")
        known = {"rad", "m", "rad/s", "m/s"}
        other = [name for name, unit in zip(names, units, strict=True) if unit not in known]
        if other:
            raise ValueError(f"{other[0]!r} is neither position nor velocity of a joint")
        renamed = joints or {}
        self.sources = [
            (renamed.get(name.removesuffix("'"), name.removesuffix("'")), name.endswith("'"))
            for name in names
        ]
        self.period = facts.nominal_interval
        self._loop = loop
        self._seen: NDArray[np.float32] | None = None
        self._measured_at: float | None = None

    def receive(
        self,
        names: Sequence[str],
        positions: Sequence[float],
        velocities: Sequence[float],
        measured_at: float,
    ) -> None:
        """Keep the newest joint state; one without a joint that the policy observes is ignored.

        Args:
            names: of the joints, in any order.
            positions: in rad or m.
            velocities: likewise per second; may be empty if the policy observes none.
            measured_at: in seconds of the loop's clock.
        """
        index = {name: place for place, name in enumerate(names)}
        seen = []
        for joint, is_velocity in self.sources:
            values, place = velocities if is_velocity else positions, index.get(joint)
            if place is None or place >= len(values):
                return
            seen.append(values[place])
        self._seen, self._measured_at = np.array(seen, np.float32), measured_at

    def tick(self) -> list[float]:
        """Return the commands until the next tick: of the newest state, or without one."""
        seen, self._seen = self._seen, None
        measured_at = None if seen is None else self._measured_at
        return self._loop.step(seen, measured_at=measured_at).astype(float).tolist()


def main() -> None:
    """Run the node until it is stopped."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import JointState
    from std_msgs.msg import Float64MultiArray

    rclpy.init()
    node: Any = rclpy.create_node("liquid_control")

    def now() -> float:
        return node.get_clock().now().nanoseconds * 1e-9

    policy = OnnxPolicy(Path(sys.argv[1]) / "policy.onnx")
    with ControlLoop(policy, log=Path("robot.mcap"), clock=now) as loop:
        controller = JointController(loop)
        commands = node.create_publisher(Float64MultiArray, "commands", 1)

        def receive(message: JointState) -> None:
            stamp = message.header.stamp
            measured_at = stamp.sec + stamp.nanosec * 1e-9
            controller.receive(message.name, message.position, message.velocity, measured_at)

        node.create_subscription(JointState, "joint_states", receive, qos_profile_sensor_data)
        node.create_timer(
            controller.period, lambda: commands.publish(Float64MultiArray(data=controller.tick()))
        )
        rclpy.spin(node)


if __name__ == "__main__":
    main()
