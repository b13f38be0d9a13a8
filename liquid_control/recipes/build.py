"""Build the environments and the agent of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import gymnasium as gym
from gymnasium.error import Error as GymnasiumError
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.agents import LiquidPPO, LiquidSAC, WorkerVecEnv
from liquid_control.collectors.ray_workers import RayMissing, Unreachable
from liquid_control.envs import Chosen, Fixed, Interval, interval_from, make, make_vec
from liquid_control.envs.intervals import IntervalLike
from liquid_control.recipes.arguments import check_kwargs
from liquid_control.recipes.errors import CommandError, RecipeError
from liquid_control.recipes.schema import Linear, Recipe
from liquid_control.recipes.sizes import check_sizes
from liquid_control.recipes.text import cut, one_line, short

AGENTS: dict[str, type[LiquidPPO | LiquidSAC]] = {"ppo": LiquidPPO, "sac": LiquidSAC}


def build_env(
    recipe: Recipe,
    *,
    num_envs: int | None = None,
    seed: int | None = None,
    interval: IntervalLike | Literal["trained"] = "trained",
) -> VecEnv:
    """Build a recipe's environments.

    Args:
        recipe: The recipe.
        num_envs: Replaces the recipe's number.
        seed: Replaces the recipe's seed.
        interval: Replaces the recipe's interval; "trained" keeps it.

    Raises:
        RecipeError: If the environments cannot be built.
    """
    arguments = _env_arguments(recipe, seed, interval)
    with _as_recipe_error("task and env"):
        venv = make_vec(
            recipe.task, num_envs or recipe.env.num_envs, threads=recipe.env.threads, **arguments
        )
    _check_physics(venv, recipe.task)
    return venv


def build_training_env(recipe: Recipe) -> VecEnv:
    """Build the environments that a recipe trains in, on workers if it has any.

    Raises:
        RecipeError: If they cannot be built, or the workers cannot be started.
    """
    env = recipe.env
    if env.workers is None:
        return build_env(recipe)
    arguments = _env_arguments(recipe, None, "trained")
    seed = arguments.pop("seed")
    threads = 1 if env.threads is None else env.threads  # workers share their machines
    make = partial(make_vec, recipe.task, threads=threads, **arguments)
    with _as_recipe_error("task and env"):
        try:
            venv = WorkerVecEnv(
                make,
                env.num_envs,
                workers=env.workers,
                block=env.block,
                seed=seed,
                engine=env.engine,
                address=env.address,
                cpus=env.worker_cpus,
            )
        except RayMissing as error:
            raise RecipeError(
                f"env.engine: {env.engine}: {error}, or set env.workers=0 to train in this process"
            ) from error
        except Unreachable as error:
            reason = cut(one_line(error), 300)
            raise RecipeError(f"env.address: {short(env.address)}: {reason}") from error
    _check_physics(venv, recipe.task)
    return venv


def build_robot(
    recipe: Recipe,
    *,
    seed: int | None = None,
    interval: IntervalLike | Literal["trained"] = "trained",
) -> gym.Env[Any, Any]:
    """Build one environment of a recipe as a `gymnasium.Env`; arguments as in `build_env`."""
    with _as_recipe_error("task and env"):
        return make(recipe.task, **_env_arguments(recipe, seed, interval))


def build_agent(recipe: Recipe, env: VecEnv) -> LiquidPPO | LiquidSAC:
    """Build a recipe's agent, untrained.

    Raises:
        RecipeError: If the agent cannot be built for this env.
    """
    agent = recipe.agent
    fields = type(agent).model_fields.keys() - {"algorithm", "total_timesteps"}
    arguments: dict[str, Any] = {name: _schedule(getattr(agent, name)) for name in fields}
    policy = recipe.policy.model_dump(mode="json", exclude_none=True)
    with _as_recipe_error("agent and policy"):
        check_sizes(recipe, env)
        build = AGENTS[agent.algorithm]
        return build("LiquidPolicy", env, policy_kwargs=policy, seed=recipe.seed, **arguments)


def _check_physics(env: VecEnv, task: str) -> None:
    """Raise a RecipeError if a task has no MuJoCo physics."""
    if not env.has_attr("nominal_interval"):
        raise RecipeError(
            f"task: a recipe trains on a MuJoCo task, whose control rate may vary; {task} "
            "has no MuJoCo physics, so train on it from a script, with envs.make_vec"
        )


def _env_arguments(
    recipe: Recipe, seed: int | None, interval: IntervalLike | Literal["trained"]
) -> dict[str, Any]:
    env = recipe.env
    check_kwargs(recipe.task, env.kwargs)
    return {
        "observe": env.observe,
        "interval": env.interval if interval == "trained" else _replaced(env.rule, interval),
        "allow_any_interval": env.allow_any_interval,
        "sensors": env.sensors,
        "actuators": env.actuators,
        "bodies": env.bodies,
        "events": env.events,
        "privileged": env.privileged,
        "seed": recipe.seed if seed is None else seed,
        **env.kwargs,
    }


def _replaced(trained: Interval, interval: IntervalLike) -> IntervalLike:
    """Return an interval to replace the trained one, with the same action space."""
    given = interval_from(interval)
    if not isinstance(trained, Chosen) or not isinstance(given, Fixed) or given.seconds is None:
        return interval
    return Chosen(given.seconds, given.seconds, trained.cost)


@contextmanager
def _as_recipe_error(part: str) -> Iterator[None]:
    """Raise errors in building a part of a recipe as a RecipeError."""
    try:
        yield
    except CommandError:
        raise
    except (MemoryError, OverflowError) as error:
        raise RecipeError(f"{part}: a size is too large: {one_line(error)}") from error
    except (
        ArithmeticError,
        AssertionError,  # of SB3, for invalid arguments
        GymnasiumError,
        ImportError,  # of modules in front of a task, and of tasks whose packages are missing
        LookupError,
        OSError,
        RuntimeError,  # of torch, for devices
        TypeError,
        ValueError,
    ) as error:
        raise RecipeError(f"{part}: {cut(one_line(error), 500)}") from error


def _schedule(value: Any) -> Any:
    return LinearSchedule(value.start, value.end, 1.0) if isinstance(value, Linear) else value
