"""A VecEnv of simulations that one Gymnasium env shows and describes, one at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from liquid_control.envs.physics import Physics


class SimulatedVecEnv(VecEnv):
    """What a VecEnv of simulations shows of each of them; subclasses reset and step them.

    `get_attr`, `env_method` and `render` load the state of a simulation into `env` and call it;
    changes that a method makes to the state are stored.

    Args:
        env: One env of the task, as `make` builds it.
        physics: The simulations.
        rngs: A random generator for each simulation.

    Attributes:
        env: As given.
        physics: As given.
    """

    def __init__(
        self, env: gym.Env[Any, Any], physics: Physics, rngs: list[np.random.Generator]
    ) -> None:
        self.env, self.physics, self._rngs = env, physics, rngs
        self._attributes: list[dict[str, Any]] = [{} for _ in rngs]
        env.reset()  # required before rendering
        # One renderer per simulation: a tracking camera stays with its robot.
        robot: Any = env.unwrapped
        self._renderers = [copy.copy(robot.mujoco_renderer) for _ in rngs]
        for renderer in self._renderers:
            renderer._viewers = {}  # a shallow copy would share them
        super().__init__(len(rngs), env.observation_space, env.action_space)
        self.metadata = env.metadata

    @contextmanager
    def _loaded(self, index: int) -> Iterator[gym.Env[Any, Any]]:
        """Yield the Gymnasium env with one simulation loaded; store its state afterwards."""
        robot: Any = self.env.unwrapped
        self.physics.load(index, robot.data)
        robot.np_random = self._rngs[index]
        robot.mujoco_renderer = self._renderers[index]
        yield self.env
        self.physics.store(index, robot.data)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of some envs; `model` and `data` are copies.

        So a change of them has no effect: pass `bodies` or `events` to `make_vec`, or step the envs
        one by one, `make_vec(..., threads=0)`.
        """
        return [self._attribute(attr_name, index) for index in self._get_indices(indices)]

    def _attribute(self, name: str, index: int) -> Any:
        if name in self._attributes[index]:
            return self._attributes[index][name]
        with self._loaded(index) as env:
            value = env.get_wrapper_attr(name)
            return copy.copy(value) if name in ("model", "data") else value

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Store an attribute of some envs, for `get_attr`.

        Raises:
            AttributeError: If the task has this attribute: setting it here would have no effect.
        """
        if self.env.has_wrapper_attr(attr_name):
            raise AttributeError(
                f"{attr_name!r} of batched envs cannot be set; pass it to make_vec, or step the "
                f"envs one by one: make_vec(..., threads=0)"
            )
        for index in self._get_indices(indices):
            self._attributes[index][attr_name] = value

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of some envs.

        Raises:
            ValueError: If the method is `step` or `reset`, which apply to all envs together.
        """
        if method_name in {"step", "reset"}:
            raise ValueError(
                f"batched envs {method_name} together; call {method_name}() of the VecEnv"
            )
        results = []
        for index in self._get_indices(indices):
            with self._loaded(index) as env:
                results.append(env.get_wrapper_attr(method_name)(*method_args, **method_kwargs))
        return results

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return whether envs behave as if they were wrapped in `wrapper_class`."""
        return [is_wrapped(self.env, wrapper_class) for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return an image of every env; render_mode must be "rgb_array"."""
        if self.render_mode != "rgb_array":
            raise ValueError(
                f"the render mode is {self.render_mode!r}; pass render_mode='rgb_array' to make_vec"
            )
        return self.env_method("render")

    def close(self) -> None:
        """Close the renderers; the simulations are freed when nothing refers to them."""
        for renderer in self._renderers:
            renderer.close()
