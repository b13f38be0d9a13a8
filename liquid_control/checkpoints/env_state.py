"""The state of environments, from a registry of known classes.

An environment is a stack of layers: vectorised environments, wrappers, and tasks. For each known
class an adapter lists the slots that its next steps depend on, with the shapes, types and ranges of
their values. Loading checks all slots before writing any; other attributes and MjModels never
change. A layer of another class is included if the class itself defines

    def state_dict(self) -> dict[str, NDArray]
    def load_state_dict(self, state: dict[str, NDArray]) -> None  # ValueError, before any change

A task's generator `np_random` is saved beside them, since intervals, noise and delays are drawn
from it. A subclass must define them again, since it may have more state than its base. The
attributes of other layers are not searched: a closure, a bound method or a space could hold state
as well. So could a method set on an instance, unless that function has the attribute `stateless`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from liquid_control.checkpoints.fields import COUNT, FLAG, Arrays, Field, check_arrays
from liquid_control.checkpoints.rng import GENERATOR, generator_state, load_generator_state

LARGEST = 1e10  # MuJoCo's mjMAXVAL, beyond which it resets a simulation
LONGEST = 10**7  # steps of an episode
RANDOM = "liquid_control.generator"  # of a custom task, beside what its own state_dict returns
# Results of mj_step that a task may read before its next step.
OUTPUTS = """
    xpos xquat xmat xipos xiquat ximat xanchor xaxis geom_xpos geom_xmat site_xpos site_xmat
    cam_xpos cam_xmat light_xpos light_xdir subtree_com subtree_linvel subtree_angmom cdof
    cdof_dot cinert crb cvel cacc cfrc_int cfrc_ext qacc qacc_smooth qfrc_bias qfrc_passive
    qfrc_actuator qfrc_smooth qfrc_constraint qfrc_inverse qfrc_spring qfrc_damper qfrc_gravcomp
    qfrc_fluid act_dot actuator_force actuator_length actuator_velocity ten_length ten_velocity
    sensordata energy flexvert_xpos flexedge_length flexedge_velocity wrap_xpos
"""


class UnknownStateError(TypeError):
    """An environment has layers whose state is unknown; the message names their classes."""


class Slot(NamedTuple):
    """One array of a layer's state."""

    field: Field
    read: Callable[[], Any]
    write: Callable[[NDArray[Any]], None]


Adapter: TypeAlias = Callable[[Any], dict[str, Slot]]


def state_dict(env: Any) -> Arrays:
    """Return the state of an environment between two steps, after its first reset.

    Raises:
        UnknownStateError: the class of a layer is unknown.
    """
    state: Arrays = {}
    unknown: list[str] = []
    for path, layer in _paths(env):
        try:
            part = _read(layer)
        except UnknownStateError as error:
            unknown.append(str(error))
        else:
            state |= {f"{path}.{key}": value for key, value in part.items()}
    if unknown:
        raise UnknownStateError(", ".join(dict.fromkeys(unknown)))
    return state


def load_state_dict(env: Any, state: Mapping[str, NDArray[Any]]) -> None:
    """Load what `state_dict` returned into an environment made with the same arguments.

    Args:
        env: after a reset.
        state: checked before anything is changed.

    Raises:
        ValueError: it does not fit, or the environment could never reach it.
        UnknownStateError: the class of a layer is unknown.
    """
    slots: dict[str, Slot] = {}
    own: list[tuple[Any, Arrays]] = []
    rest = dict(state)
    for path, layer in _paths(env):
        if _has_own(layer):
            keys = [key for key in rest if key.startswith(f"{path}.")]
            known = {f"{path}.{key}": each for key, each in _own_generator(layer).items()}
            slots |= {key: each for key, each in known.items() if key in rest}
            mine = [key for key in keys if key not in known]
            own.append((layer, {key.removeprefix(f"{path}."): rest.pop(key) for key in mine}))
        else:
            slots |= {f"{path}.{key}": each for key, each in _slots(layer).items()}
    check_arrays(rest, {key: slot.field for key, slot in slots.items()}, "the environment")
    for layer, part in own:
        layer.load_state_dict(part)
    for key, slot in slots.items():
        slot.write(rest[key])


def name(layer: Any) -> str:
    """The name under which the class of a layer is registered."""
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def _read(layer: Any) -> Arrays:
    methods = {
        key
        for key, value in vars(layer).items()
        if callable(getattr(type(layer), key, None)) and not getattr(value, "stateless", False)
    }
    if methods:
        raise UnknownStateError(f"{name(layer)} with another {min(methods)}")
    if not _has_own(layer):
        return {key: np.array(slot.read()) for key, slot in _slots(layer).items()}
    try:
        state = {key: np.array(value) for key, value in layer.state_dict().items()}
    except NotImplementedError as error:
        raise UnknownStateError(f"{name(layer)} ({error})") from error
    for key, array in state.items():
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise TypeError(
                f"state_dict of {name(layer)} returns {key!r} as {array.dtype}; return arrays of "
                "numbers or booleans"
            )
    return state | {key: np.array(slot.read()) for key, slot in _own_generator(layer).items()}


def _slots(layer: Any) -> dict[str, Slot]:
    if name(layer) not in ADAPTERS:
        raise UnknownStateError(name(layer))
    return ADAPTERS[name(layer)](layer)


def _has_own(layer: Any) -> bool:
    return all(method in vars(type(layer)) for method in ("state_dict", "load_state_dict"))


def _paths(env: Any) -> Iterator[tuple[str, Any]]:
    for index, layer in enumerate(_layers(env)):
        yield f"{index}.{type(layer).__name__}", layer


def _layers(env: Any) -> Iterator[Any]:
    """Yield layers from the outermost to the innermost, one environment after the other."""
    yield env
    if isinstance(env, VecEnvWrapper):
        yield from _layers(env.venv)
    elif isinstance(env, DummyVecEnv):
        for each in env.envs:
            yield from _layers(each)
    elif isinstance(env, gym.Wrapper):
        yield from _layers(env.env)


def _attribute(owner: Any, attribute: str, field: Field) -> Slot:
    """A number or an array in an attribute."""

    def write(array: NDArray[Any]) -> None:
        # With its own precision: MountainCarContinuous has another one after a reset.
        setattr(owner, attribute, array.item() if field.shape == () else array.copy())

    return Slot(field, lambda: getattr(owner, attribute), write)


def _array(owner: Any, attribute: str, **limits: Any) -> Slot:
    """An array in an attribute, with its current shape and kind."""
    array = np.asarray(getattr(owner, attribute))
    return _attribute(owner, attribute, Field(array.shape, array.dtype.kind, **limits))


def _list(owner: Any, attribute: str, kinds: str = "f", low: float = -np.inf) -> Slot:
    """A list or a deque of numbers in an attribute."""

    def write(array: NDArray[Any]) -> None:
        numbers = getattr(owner, attribute)
        numbers.clear()
        numbers.extend(array.tolist())

    return Slot(
        Field((None,), kinds, low),
        lambda: np.array(getattr(owner, attribute), {"f": np.float64, "i": np.int64}[kinds]),
        write,
    )


def _clock(owner: Any, attribute: str) -> Slot:
    """A start time, stored as the seconds since then."""
    return Slot(
        Field(low=0.0, high=1e10),
        lambda: np.array(max(0.0, time.time() - getattr(owner, attribute))),
        lambda seconds: setattr(owner, attribute, time.time() - seconds.item()),
    )


def _moments(key: str, moments: Any) -> dict[str, Slot]:
    """A RunningMeanStd, of SB3 or Gymnasium."""
    return {
        f"{key}.mean": _array(moments, "mean"),
        f"{key}.var": _array(moments, "var", low=0.0),
        f"{key}.count": _attribute(moments, "count", Field(low=0.0)),
    }


def _frames(env: Any, queue: Any, length: int | range) -> dict[str, Slot]:
    """The observations in a deque, of a fixed length or a range of lengths."""
    space = env.observation_space
    parts: dict[Any, Any] = dict(space) if isinstance(space, spaces.Dict) else {None: space}

    def one(key: Any) -> Slot:
        def write(frames: NDArray[Any]) -> None:
            if key is None:
                queue.clear()
                queue.extend(frames.astype(part.dtype))
                return
            if len(queue) != len(frames) or any(key in frame for frame in queue):
                queue.clear()
                queue.extend({} for _ in frames)
            for frame, value in zip(queue, frames, strict=True):
                frame[key] = value.astype(part.dtype)

        part = parts[key]
        empty = np.empty((0, *part.shape), part.dtype)

        def read() -> Any:
            return np.array([each if key is None else each[key] for each in queue] or empty)

        return Slot(replace(_of_space(part), shape=(length, *part.shape)), read, write)

    return {"frames" if key is None else f"frames.{key}": one(key) for key in parts}


def _of_space(space: spaces.Space[Any]) -> Field:
    """Return the field of one observation of a space."""
    match space:
        case spaces.Box():
            return Field(space.shape, "f" if space.dtype.kind == "f" else "iu")
        case spaces.Discrete():
            return Field((), "iu", space.start, space.start + space.n - 1)
        case spaces.MultiDiscrete():
            return Field(space.shape, "iu", 0, space.nvec - 1)
        case spaces.MultiBinary():
            return Field(space.shape, "iu", 0, 1)
    raise UnknownStateError(f"observations of {space}")


def observation_fields(space: spaces.Space[Any], count: int) -> dict[str, Field]:
    """Return the fields of `count` observations of a space by key; "" if it is not a Dict."""
    parts: dict[str, Any] = dict(space) if isinstance(space, spaces.Dict) else {"": space}
    fields = {key: _of_space(part) for key, part in parts.items()}
    return {key: replace(each, shape=(count, *each.shape)) for key, each in fields.items()}


def _generator(env: Any) -> dict[str, Slot]:
    """The generator of a task, a PCG64 as throughout Gymnasium."""
    random = env.np_random
    if type(random.bit_generator) is not np.random.PCG64:
        raise UnknownStateError(f"{name(env)} with a generator {type(random.bit_generator)}")
    return {
        "generator": Slot(
            GENERATOR,
            lambda: generator_state(random),
            lambda array: load_generator_state(random, array),
        )
    }


def _own_generator(layer: Any) -> dict[str, Slot]:
    """The generator of a custom task, from which our wrappers draw as well."""
    if isinstance(layer, gym.Wrapper) or not isinstance(layer, gym.Env):
        return {}
    if type(layer.np_random.bit_generator) is not np.random.PCG64:
        return {}  # not from `reset(seed=seed)`, so a part of its own state
    return {RANDOM: _generator(layer)["generator"]}


def _task(**fields: Field) -> Adapter:
    """Attributes of a task, and its generator."""
    return lambda env: {
        **{key: _attribute(env, key, field) for key, field in fields.items()},
        **_generator(env),
    }


def _tabular(env: Any) -> dict[str, Slot]:
    """A task whose state is its discrete observation."""
    return {"s": _attribute(env, "s", _of_space(env.observation_space)), **_generator(env)}


def _simulation(env: Any) -> dict[str, Slot]:
    """The MjData of a task of Gymnasium's MujocoEnv, and its generator."""
    import mujoco  # already imported if there is a simulation

    model, data, physics = env.model, env.data, mujoco.mjtState.mjSTATE_INTEGRATION
    sleeps = model.opt.enableflags & getattr(mujoco.mjtEnableBit, "mjENBL_SLEEP", 0)
    if model.nplugin or getattr(model, "nhistory", 0) or sleeps:
        # Their buffers hold indices, or data that only a plugin can check.
        raise UnknownStateError(f"{name(env)} with MuJoCo's plugins, delays or sleep")
    size = mujoco.mj_stateSize(model, physics)

    def read() -> NDArray[np.float64]:
        state = np.empty(size)
        mujoco.mj_getState(model, data, state, physics)
        return state

    def write(state: NDArray[Any]) -> None:
        mujoco.mj_setState(model, data, state, physics)
        mujoco.mj_forward(model, data)  # contacts, and other arrays without a fixed size
        mujoco.mj_setState(model, data, state, physics)

    def output(array: NDArray[np.float64]) -> Slot:
        return Slot(Field(array.shape), lambda: array, lambda value: np.copyto(array, value))

    arrays = {key: getattr(data, key, None) for key in OUTPUTS.split()}
    return {
        "physics": Slot(Field((size,), "f", -LARGEST, LARGEST), read, write),
        **{key: output(array) for key, array in arrays.items() if array is not None},
        **_generator(env),
    }


def _monitor(env: Any) -> dict[str, Slot]:
    return {
        "rewards": _list(env, "rewards"),
        "episode_returns": _list(env, "episode_returns"),
        "episode_lengths": _list(env, "episode_lengths", "i", 0),
        "episode_times": _list(env, "episode_times"),
        "total_steps": _attribute(env, "total_steps", COUNT),
        "needs_reset": _attribute(env, "needs_reset", FLAG),
        "started": _clock(env, "t_start"),
    }


def _vec_monitor(env: Any) -> dict[str, Slot]:
    return {
        "episode_count": _attribute(env, "episode_count", COUNT),
        "episode_returns": _array(env, "episode_returns"),
        "episode_lengths": _array(env, "episode_lengths", low=0),
        "started": _clock(env, "t_start"),
    }


def _vec_normalize(env: Any) -> dict[str, Slot]:
    slots = {
        **{name: _attribute(env, name, FLAG) for name in ("training", "norm_obs", "norm_reward")},
        "returns": _array(env, "returns"),
        **_moments("ret_rms", env.ret_rms),
    }
    moments = getattr(env, "obs_rms", None) or {}
    for key, each in (moments if isinstance(moments, dict) else {"": moments}).items():
        slots |= _moments(f"obs_rms.{key}", each)
    return slots


def _vec_frame_stack(env: Any) -> dict[str, Slot]:
    stacked = env.stacked_obs
    parts = getattr(stacked, "sub_stacked_observations", {"": stacked})
    return {f"frames.{key}": _array(each, "stacked_obs") for key, each in parts.items()}


def _statistics(env: Any) -> dict[str, Slot]:
    return {
        "episode_count": _attribute(env, "episode_count", COUNT),
        "episode_returns": _attribute(env, "episode_returns", Field()),
        "episode_lengths": _attribute(env, "episode_lengths", COUNT),
        "return_queue": _list(env, "return_queue"),
        "length_queue": _list(env, "length_queue", "i", 0),
        "episode_times": _list(env, "time_queue"),
    }


def _sticky_action(env: Any) -> dict[str, Slot]:
    """The repeated action, if there is one, and for how long."""
    field = _of_space(env.action_space)
    longest = env.repeat_action_duration_range[1]
    return {
        "last_action": Slot(
            replace(field, shape=(range(2), *field.shape)),
            lambda: (
                np.empty((0, *field.shape), env.action_space.dtype)
                if env.last_action is None
                else np.array([env.last_action])
            ),
            lambda actions: setattr(env, "last_action", actions[0] if len(actions) else None),
        ),
        "is_sticky_actions": _attribute(env, "is_sticky_actions", FLAG),
        **{
            name: _attribute(env, name, replace(COUNT, high=longest))
            for name in ("num_repeats", "repeats_taken")
        },
    }


def _attributes(**fields: Field) -> Adapter:
    return lambda env: {key: _attribute(env, key, field) for key, field in fields.items()}


def _nothing(_: Any) -> dict[str, Slot]:
    return {}


_PAIR, _FOUR = Field((2,), "f"), Field((4,), "f")
_VEC, _WRAP = "stable_baselines3.common.vec_env.", "gymnasium.wrappers."
_CONTROL, _TOY = "gymnasium.envs.classic_control.", "gymnasium.envs.toy_text."
_MUJOCO = {
    "ant": "Ant",
    "half_cheetah": "HalfCheetah",
    "hopper": "Hopper",
    "humanoid": "Humanoid",
    "humanoidstandup": "HumanoidStandup",
    "inverted_double_pendulum": "InvertedDoublePendulum",
    "inverted_pendulum": "InvertedPendulum",
    "pusher": "Pusher",
    "reacher": "Reacher",
    "swimmer": "Swimmer",
    "walker2d": "Walker2d",
}
# Wrappers whose only state is that they were reset, or the value of an option.
_STATELESS = {
    "common": "OrderEnforcing PassiveEnvChecker",
    "transform_action": "ClipAction RescaleAction DiscretizeAction",
    "transform_observation": "FilterObservation FlattenObservation GrayscaleObservation "
    "ResizeObservation ReshapeObservation RescaleObservation DtypeObservation "
    "DiscretizeObservation",
    "transform_reward": "ClipReward",
    "stateful_action": "RepeatAction",
}

ADAPTERS: dict[str, Adapter] = {
    f"{_VEC}dummy_vec_env.DummyVecEnv": _nothing,
    f"{_VEC}vec_check_nan.VecCheckNan": _nothing,
    f"{_VEC}vec_transpose.VecTransposeImage": _nothing,
    f"{_VEC}vec_extract_dict_obs.VecExtractDictObs": _nothing,
    f"{_VEC}vec_frame_stack.VecFrameStack": _vec_frame_stack,
    f"{_VEC}vec_monitor.VecMonitor": _vec_monitor,
    f"{_VEC}vec_normalize.VecNormalize": _vec_normalize,
    "stable_baselines3.common.monitor.Monitor": _monitor,
    "liquid_control.collectors.action_masks.VecActionMasks": _nothing,
    f"{_WRAP}common.TimeLimit": _attributes(_elapsed_steps=replace(COUNT, high=LONGEST)),
    f"{_WRAP}common.Autoreset": _attributes(autoreset=FLAG),
    f"{_WRAP}common.RecordEpisodeStatistics": _statistics,
    f"{_WRAP}stateful_observation.TimeAwareObservation": _attributes(
        timesteps=replace(COUNT, high=LONGEST)
    ),
    f"{_WRAP}stateful_observation.FrameStackObservation": lambda env: _frames(
        env.env, env.obs_queue, env.stack_size
    ),
    f"{_WRAP}stateful_observation.DelayObservation": lambda env: _frames(
        env.env, env.observation_queue, range(env.delay + 1)
    ),
    f"{_WRAP}stateful_observation.MaxAndSkipObservation": lambda env: {
        "frames": _array(env, "_obs_buffer")  # an episode may end before it is filled
    },
    f"{_WRAP}stateful_observation.NormalizeObservation": lambda env: {
        "updates": _attribute(env, "update_running_mean", FLAG),
        **_moments("obs_rms", env.obs_rms),
    },
    f"{_WRAP}stateful_reward.NormalizeReward": lambda env: {
        "updates": _attribute(env, "update_running_mean", FLAG),
        "discounted_reward": _array(env, "discounted_reward"),
        **_moments("return_rms", env.return_rms),
    },
    f"{_WRAP}stateful_action.StickyAction": _sticky_action,
    f"{_CONTROL}acrobot.AcrobotEnv": _task(state=_FOUR),
    f"{_CONTROL}cartpole.CartPoleEnv": _task(state=_FOUR),
    f"{_CONTROL}continuous_mountain_car.Continuous_MountainCarEnv": _task(state=_PAIR),
    f"{_CONTROL}mountain_car.MountainCarEnv": _task(state=_PAIR),
    f"{_CONTROL}pendulum.PendulumEnv": _task(state=_PAIR),
    f"{_TOY}cliffwalking.CliffWalkingEnv": _tabular,
    f"{_TOY}frozen_lake.FrozenLakeEnv": _tabular,
    f"{_TOY}taxi.TaxiEnv": lambda env: {
        **_tabular(env),
        "fickle_step": _attribute(env, "fickle_step", FLAG),
    },
    "liquid_control.envs.task_env.TaskEnv": _simulation,
    "liquid_control.envs.observe_only.ObserveOnly": _nothing,
    "liquid_control.envs.step_for.StepFor": _nothing,
    "liquid_control.envs.factory.SerialVecEnv": _nothing,
    **{
        f"gymnasium.envs.mujoco.{module}_v{version}.{task}Env": _simulation
        for module, task in _MUJOCO.items()
        for version in (4, 5)
    },
    **{
        f"{_WRAP}{module}.{wrapper}": _nothing
        for module, wrappers in _STATELESS.items()
        for wrapper in wrappers.split()
    },
}
