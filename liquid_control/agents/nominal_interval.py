"""What an environment tells of its own rate."""

from __future__ import annotations

import warnings

from stable_baselines3.common.vec_env import VecEnv

from liquid_control.policies.observations import carries_time


def nominal_interval(env: VecEnv) -> float:
    """Seconds between two observations at the task's own rate; 1.0 where the task does not say.

    Asks for `nominal_interval` (our wrappers), then for `dt` (Gymnasium's MuJoCo tasks). Warns if
    there is neither and the observations carry an elapsed time, which then has no scale.
    """
    for name in ("nominal_interval", "dt"):
        if env.has_attr(name):  # asking a subprocess for what it lacks would end it
            return float(env.get_attr(name, indices=[0])[0])
    if carries_time(env.observation_space):
        warnings.warn(
            "the environment tells elapsed_time but not its nominal interval, so one second is "
            "taken; give it an attribute nominal_interval, in seconds, or set it in policy_kwargs",
            stacklevel=3,
        )
    return 1.0
