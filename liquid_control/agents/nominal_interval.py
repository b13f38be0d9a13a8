"""The nominal control interval of an environment."""

from __future__ import annotations

import warnings

from stable_baselines3.common.vec_env import VecEnv

from liquid_control.policies.observations import carries_time


def nominal_interval(env: VecEnv) -> float:
    """Return the seconds between two observations at the task's own rate.

    This is the environment's attribute `nominal_interval` (wrappers of `liquid_control.envs`) or
    `dt` (Gymnasium's MuJoCo tasks), or else 1.0, with a warning if observations carry an elapsed
    time.
    """
    for name in ("nominal_interval", "dt"):
        if env.has_attr(name):  # get_attr of a missing attribute ends a subprocess
            return float(env.get_attr(name, indices=[0])[0])
    if carries_time(env.observation_space):
        warnings.warn(
            "observations carry elapsed_time, but the environment has no nominal_interval; using "
            "1 second. Give it an attribute nominal_interval, in seconds, or set it in "
            "policy_kwargs",
            stacklevel=3,
        )
    return 1.0
