"""Whatever is done to a checkpoint, it is refused, or what it says can be trained on."""

from __future__ import annotations

import json
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.wrappers import FrameStackObservation, NormalizeObservation
from safetensors.numpy import save
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from liquid_control import LiquidPPO, LiquidSAC, envs
from liquid_control.checkpoints import CheckpointError, Contents
from liquid_control.checkpoints.archive import FORMAT, VERSION, pack_zip
from liquid_control.checkpoints.env_state import _layers
from liquid_control.checkpoints.logs import ResumableLogger
from liquid_control.checkpoints.manifest import sealed

TASK = "InvertedPendulum-v5"
STEPS = 16
NUMBERS = [
    *(-1, 0, 1, 2, 7, 10**4, 5 * 10**8, 2**31, 2**53, 2**62, -(2**63), 10**30),
    *(0.5, -0.5, 1e-300, 1e38, 1e300, -1e10, float("nan"), float("inf"), float("-inf")),
]
CLOCKS = (".started", ".seconds", ".episode_times")
WORDS = ["step_wait", "train", "os.system", "model", "jnt_dofadr", "../x", "", "policy", "é" * 300]
VALUES = [
    *NUMBERS,
    *WORDS,
    10**400,
    None,
    True,
    [],
    {},
    [1, [2]],
    {"kind": "linear"},
    {"kind": "function"},
]
TYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]


def robots(threads: int) -> Any:
    interval = envs.Uniform(0.02, 0.08)
    return envs.make_vec(TASK, 2, observe="positions", interval=interval, seed=0, threads=threads)


def wrapped() -> Any:
    def one() -> Any:
        return Monitor(NormalizeObservation(FrameStackObservation(gym.make(TASK), 2)))

    return DummyVecEnv([one, one])


ENVS: dict[str, Callable[[], Any]] = {
    "batched": lambda: robots(1),
    "one by one": lambda: robots(0),
    "of Gymnasium": wrapped,
}
AGENTS: dict[str, type[Any]] = {"LiquidPPO": LiquidPPO, "LiquidSAC": LiquidSAC}


@cache
def original(agent: str, env: str) -> Contents:
    """A checkpoint of a training that has learned and is within episodes; always the same."""
    policy = {"wiring": {"kind": "auto_ncp", "neurons": 8}, "encoder": [4], "critic_layers": [4]}
    if agent == "LiquidPPO":
        options = {"n_steps": 8, "batch_size": 16, "n_epochs": 1}
    else:
        options = {"learning_starts": 16, "batch_size": 16, "sequence_length": 4}
        options |= {"burn_in": 2, "buffer_size": 80, "train_freq": (8, "step")}
    made = AGENTS[agent]("LiquidPolicy", ENVS[env](), policy_kwargs=policy, seed=0, **options)
    made.observation_space.seed(0)
    contents: Contents = made.learn(100, evaluation(env)).state_dict(training=True)
    for name, tensors in contents.tensors.items():
        for key, tensor in tensors.items():
            if key.endswith(CLOCKS) or (name, key) == ("training.statistics", "t"):
                tensor.fill_(1)
    return contents


def evaluation(env: str) -> EvalCallback:
    """An evaluation of one episode, once in a hundred control steps."""
    venv = ENVS[env]()
    venv.seed(0)
    return EvalCallback(venv, eval_freq=50, n_eval_episodes=1, verbose=0)


def mutated(contents: Contents, draw: random.Random) -> tuple[dict[str, bytes], list[str]]:
    """The files of a checkpoint to which some things were done, sealed, and what was done."""
    data = json.loads(json.dumps(contents.data, sort_keys=True))
    groups = {
        name: {key: tensor.numpy().copy() for key, tensor in tensors.items()}
        for name, tensors in contents.tensors.items()
    }
    done = [
        draw.choices([_change_array, _change_data, _change_names], [7, 4, 2])[0](groups, data, draw)
        for _ in range(draw.choice([1, 1, 1, 2, 3]))
    ]
    files = {f"{name}.json": json.dumps(value).encode() for name, value in data.items()}
    files |= {f"{name}.safetensors": save(arrays) for name, arrays in groups.items()}
    if draw.random() < 0.1:
        done.append(_change_bytes(files, draw))
    return sealed(files, FORMAT, VERSION, kind=contents.kind), done


def _change_array(groups: dict[str, Any], _: Any, draw: random.Random) -> str:
    """Other values, another type, or another shape of one array."""
    name = draw.choice([name for name, arrays in groups.items() if arrays])
    key = draw.choice(sorted(groups[name]))
    array = groups[name][key]
    if key.endswith("notes"):  # JSON of BatchedVecEnv
        notes = json.loads(array.tobytes())
        done = _change_json(notes, draw)
        groups[name][key] = np.frombuffer(json.dumps(notes).encode(), np.uint8)
        return f"{name}.{key} {done}"
    how = draw.choices(["values", "bits", "type", "shape"], [4, 2, 1, 2])[0]
    if how == "values" and array.size:
        value = draw.choice(NUMBERS)
        where = draw.choice([slice(None), draw.randrange(array.size)])
        with warnings.catch_warnings(action="ignore"):
            flat = np.array(array.ravel())
            flat[where] = np.array(float(value)).astype(array.dtype)
        array, how = flat.reshape(array.shape), f"[{where}] = {value}"
    elif how == "bits" and array.size:
        content = bytearray(array.tobytes())
        if array.dtype != bool:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        array = np.frombuffer(bytes(content), array.dtype).reshape(array.shape)
    elif how == "type":
        how = draw.choice(TYPES)
        with warnings.catch_warnings(action="ignore"):
            array = array.astype(how)
    else:
        array, how = _reshaped(array, draw)
    groups[name][key] = np.ascontiguousarray(array)
    return f"{name}.{key} {how}"


def _reshaped(array: Any, draw: random.Random) -> tuple[Any, str]:
    changes: list[Callable[[], Any]] = [
        lambda: array[None],
        lambda: array.ravel(),
        lambda: array.T,
        lambda: array.reshape(-1)[:1].reshape(()),
        lambda: np.empty((0, *array.shape[1:]), array.dtype),
        lambda: array[:-1],
        lambda: np.concatenate([array, array]),
        lambda: np.repeat(array, 1000, axis=0),
    ]
    number = draw.randrange(len(changes) if array.ndim and array.size else 2)
    changed = np.array(changes[number]())
    return changed, f"shape {array.shape} -> {changed.shape}"


def _change_data(_: Any, data: dict[str, Any], draw: random.Random) -> str:
    return _change_json(data, draw)


def _change_json(data: Any, draw: random.Random) -> str:
    """Replace, remove, add or rename one value."""
    container, key = draw.choice(list(places(data)))
    how = draw.choice(["replace"] * 6 + ["remove", "add", "rename"])
    value = draw.choice(NUMBERS if draw.random() < 0.5 else VALUES)
    if how == "replace" or isinstance(container, list):
        container[key] = deepcopy(value)
    elif how == "remove":
        del container[key]
    elif how == "add":
        container[draw.choice(WORDS)] = deepcopy(value)
    else:
        container[draw.choice(WORDS)] = container.pop(key)
    return f"{how} {key}: {value}"


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in JSON with each of its keys."""
    for key, below in list(data.items() if isinstance(data, dict) else enumerate(data)):
        yield data, key
        if isinstance(below, (dict, list)):
            yield from places(below)


def _change_names(groups: dict[str, Any], data: dict[str, Any], draw: random.Random) -> str:
    """Remove, rename, copy or swap an array, a group, or a file of JSON."""
    parts = draw.choice([groups, data, *(group for group in groups.values() if len(group) > 1)])
    one, other = draw.choice(list(parts)), draw.choice(list(parts))
    new = draw.choice(["step_wait", "jnt_dofadr", "training.more", one[1:] or "a", f"{one}_"])
    how = draw.choice(["remove", "rename", "copy", "swap"])
    if how == "swap":
        parts[one], parts[other] = parts[other], parts[one]
    elif how == "copy":
        parts[new] = deepcopy(parts[one])
    else:
        part = parts.pop(one)
        if how == "rename":
            parts[new] = part
    return f"{how} {one} ({new}, {other})"


def _change_bytes(files: dict[str, bytes], draw: random.Random) -> str:
    """Turn a bit of one file, often in its head, or cut it off."""
    name = draw.choice(list(files))
    content = bytearray(files[name])
    at = draw.randrange(draw.choice([len(content), min(len(content), 200)]))
    if draw.random() < 0.3:
        del content[at:]
    else:
        content[at] ^= 1 << draw.randrange(8)
    files[name] = bytes(content)
    return f"a bit or the end of {name} at {at}"


def names_of(agent: Any) -> dict[str, Any]:
    """What no checkpoint may change: attributes of environments, and the models in them."""
    names = {}
    for index, layer in enumerate(_layers(agent.env)):
        names[f"{index}"] = (
            type(layer),
            sorted(vars(layer)),
            {
                name: vars(layer)[name]
                for name in ("num_envs", "frame_skip", "stack_size", "_max_episode_steps")
                if name in vars(layer)
            },
        )
        if (model := getattr(layer, "model", None)) is not None:
            size = mujoco.mj_sizeModel(model)
            content = np.empty(size, np.uint8)
            mujoco.mj_saveModel(model, None, content)
            names[f"{index}.model"] = content.tobytes()
    return names


def shadowed(part: Any) -> set[str]:
    """Methods of an object that an attribute hides."""
    return {name for name in vars(part) if callable(getattr(type(part), name, None))}


def outcome(agent: str, env: str, files: dict[str, bytes], learning: Callable[[], Any]) -> str:
    """What comes of a checkpoint: "refused", "trained on", or "stopped" by an error report.

    Args:
        agent: name of the agent's class.
        env: name of the environments.
        files: of the checkpoint.
        learning: called before it trains.

    Raises:
        AssertionError: it changed what no checkpoint may change, or there is NaN.
        Exception: loading did not end in a CheckpointError.
    """
    kind, venv = AGENTS[agent], ENVS[env]()
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings(action="ignore"):
        folder = Path(place) / "checkpoints"
        folder.mkdir()
        (folder / "step-1").write_bytes(pack_zip(files))
        logger = ResumableLogger(Path(place) / "logs", ["csv"])
        venv.reset()
        before = names_of(type("Agent", (), {"env": kind._wrap_env(venv)}))
        try:
            loaded = kind.resume(folder, venv, logger=logger)
        except CheckpointError:
            return "refused"
        assert names_of(loaded) == before, "the environments changed"
        for part in (loaded, loaded.policy, *_layers(loaded.env)):
            assert shadowed(part) <= {"policy_class"}, f"{shadowed(part)} of {part} are hidden"
        assert is_finite(loaded), "weights that are not finite were loaded"
        learning()
        try:
            loaded.learn(STEPS, evaluation(env), log_interval=1, reset_num_timesteps=False)
        except ValueError as error:
            return f"stopped: {error}"
        assert is_finite(loaded), "weights are not finite after an update"
        return "trained on"


def is_finite(agent: Any) -> bool:
    return all(tensor.isfinite().all() for tensor in agent.policy.state_dict().values())


@pytest.mark.parametrize(
    "env",
    [each if each in ("batched",) else pytest.param(each, marks=pytest.mark.slow) for each in ENVS],
)
@pytest.mark.parametrize("agent", AGENTS)
def test_a_mutated_checkpoint_is_refused_or_trained_on(agent: str, env: str) -> None:
    draw = random.Random(0)
    for _ in range(10):
        files, done = mutated(original(agent, env), draw)
        try:
            outcome(agent, env, files, lambda: None)
        except Exception as error:
            raise AssertionError(done) from error
