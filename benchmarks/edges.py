"""Faults at the edges, where users and strangers' files come in, and what must come of each.

A fault is a function that provokes it in an empty working directory. It returns nothing if all goes
as it should, and otherwise says what went wrong. `ROWS` holds them by what they have in common.
Each runs in a process of its own, for at most a minute.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import torch
import yaml
from filelock import FileLock
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnvWrapper, VecNormalize

from liquid_control import (
    LiquidExtractor,
    LiquidPPO,
    LiquidRecurrentPolicy,
    LiquidSAC,
    cli,
    envs,
)
from liquid_control.checkpoints.archive import pack_zip
from liquid_control.checkpoints.manifest import sealed
from liquid_control.commands import policy_package

Fault = Callable[[], str | None]
SECONDS = 60  # after which a fault counts as hung
TASK = "InvertedPendulum-v5"
WIRING = {"kind": "auto_ncp", "neurons": 8, "motor": 2}
RECIPE: dict[str, Any] = {
    "name": "faults",
    "task": TASK,
    "env": {
        "num_envs": 2,
        "threads": 1,
        "interval": {"kind": "uniform", "low": 0.02, "high": 0.08},
    },
    "agent": {"total_timesteps": 128, "n_steps": 32, "batch_size": 32, "n_epochs": 1},
    "policy": {"wiring": {"kind": "auto_ncp", "neurons": 8}},
    "evaluation": {"episodes": 2, "ratios": [1.0]},
    "monitoring": {"every": None},
    "checkpoint_every": 32,
}


# Commands and their complaints


def command(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, output and complaints of `liquid-control`."""
    output, complaints = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(complaints):
        try:
            code = cli.main([str(each) for each in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
    return code, output.getvalue(), complaints.getvalue()


def refused(*arguments: str | Path, names: str = "", within: float = 10.0) -> str | None:
    """A command must end with exit code 2 and one line that names what is wrong, soon."""
    start = time.perf_counter()
    code, _, complaints = command(*arguments)
    seconds = time.perf_counter() - start
    lines = [line for line in complaints.splitlines() if not line.startswith("note: ")]
    if code != 2 or len(lines) != 1 or names not in lines[0]:
        return f"exit code {code}, not one line with {names!r}: {complaints[:300]!r}"
    return f"took {seconds:.0f} s" if seconds > within else None


def done(*arguments: str | Path) -> str:
    """The output of a command that must succeed."""
    code, output, complaints = command(*arguments)
    if code != 0:
        raise RuntimeError(f"{arguments[0]} ends with {code}: {complaints[:300]!r}")
    return output + complaints


def raises(work: Callable[[], Any], *words: str) -> str | None:
    """A call must raise a ValueError whose message has each of these words."""
    try:
        work()
    except ValueError as error:
        missing = [word for word in words if word not in str(error)]
        return f"its message lacks {missing}: {error}" if missing else None
    return "nothing was raised"


def warns(work: Callable[[], Any], *words: str) -> str | None:
    """A call must warn or log, with each of these words."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("liquid_control").addHandler(handler)
    with warnings.catch_warnings(record=True, action="always") as caught:
        work()
    said += [str(each.message) for each in caught]
    fits = any(all(word in text for word in words) for text in said)
    return None if fits else f"none of {said} has {words}"


# Runs to break


def recipe(**sections: Any) -> Path:
    """Write a recipe with changed keys of its sections; `...` leaves one out."""
    content = {**RECIPE}
    for name, value in sections.items():
        if isinstance(value, dict):
            merged = {**content[name], **value}
            value = {key: each for key, each in merged.items() if each is not ...}
        content[name] = value
    path = Path("recipe.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def finished() -> Path:
    """Train to the end; return the folder of the run."""
    done("train", recipe(), "--quiet", "--runs", "finished")
    (folder,) = Path("finished").glob("*/*")
    return folder


def interrupted(steps: int = 1_000_000) -> Path:
    """Begin a training of so many steps, and end it by a signal after 128."""
    collect = LiquidPPO.collect_rollouts

    def stop(self: Any, *arguments: Any, **options: Any) -> bool:
        if self.num_timesteps >= 128:
            os.kill(os.getpid(), signal.SIGTERM)
        return collect(self, *arguments, **options)

    with patch.object(LiquidPPO, "collect_rollouts", stop):
        code, *_, complaints = command(
            "train",
            recipe(agent={"total_timesteps": steps}),
            "--quiet",
            "--runs",
            "interrupted",
        )
    if code != 130:
        raise RuntimeError(f"a stopped training ends with {code}: {complaints[:300]!r}")
    (folder,) = Path("interrupted").glob("*/*")
    return folder


def rewrite(config: Path, changes: dict[str, Any]) -> None:
    """Change keys of a run's recipe by hand."""
    content = yaml.safe_load(config.read_text())
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = content
        for each in sections:
            section = section[each]
        section[name] = value
    config.write_text(yaml.safe_dump(content))


def packed(changes: dict[str, Any]) -> Path:
    """A packed policy whose recipe was changed, sealed again as an attacker would."""
    run = finished()
    done("pack", run, "--output", "good.zip", "--quiet")
    done("unpack", "good.zip", "--output", "good", "--quiet")
    rewrite(Path("good/config.yaml"), changes)
    files = {
        name: path.read_bytes()
        for name, path in policy_package._places(policy_package.Run(Path("good"))).items()
        if path.exists()
    }
    content = sealed(files, policy_package.FORMAT, policy_package.VERSION, task=TASK)
    Path("bad.zip").write_bytes(pack_zip(content))
    return Path("bad.zip")


# Files from strangers


def strange_recipe(name: str, changes: dict[str, Any]) -> str | None:
    """No command runs or opens what the recipe of an unpacked policy names."""
    Path("stranger.py").write_text("open('trace', 'w').close()\nraise SystemExit(1)\n")
    if changes.get("env.kwargs", {}).get("xml_file") == "pipe":
        os.mkfifo("pipe")
    code, *_, complaints = command("unpack", packed(changes), "--output", "run", "--quiet")
    if name == "resume" and code == 0:  # needs checkpoints, which no policy has
        shutil.rmtree("run")
        shutil.move(interrupted(), "run")
        rewrite(Path("run/config.yaml"), changes)
    wrong = refused(name, "run", "--quiet") if code == 0 else None if code == 2 else complaints
    return "it was run" if Path("trace").exists() else wrong


STRANGE = {
    "a module in the working directory": {"task": f"stranger:{TASK}"},
    "a module of Python": {"task": f"antigravity:{TASK}"},
    "a file": {"env.kwargs": {"xml_file": "/etc/passwd"}},
    "a pipe": {"env.kwargs": {"xml_file": "pipe"}},
    "a window": {"env.kwargs": {"render_mode": "human"}},
    "an unknown argument": {"env.kwargs": {"step_wait": 1}},
}


def linked_log(name: str) -> str | None:
    """A log that is a link is not followed."""
    folder, secret = interrupted(steps=256), Path("secret")
    secret.write_text("one\ntwo\n")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret.absolute())
    command("resume", folder, "--quiet")
    return None if secret.read_text() == "one\ntwo\n" else "the target of the link was changed"


def linked_member(name: str) -> str | None:
    """What a link points to is not packed."""
    folder, secret = finished(), Path("secret")
    secret.write_text("a secret")
    (folder / name).unlink(missing_ok=True)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(secret.absolute())
    command("pack", folder, "--output", "out.zip", "--quiet")
    there = Path("out.zip").exists() and b"a secret" in Path("out.zip").read_bytes()
    return "the target of the link was packed" if there else None


NAMES = ["<script>", "a\x1b[31m", "a\nb", "../a", "/a", "a" * 300, "CON|", "é", "", "."]


def bad_name(name: str) -> str | None:
    return refused("train", recipe(name=name), "--quiet", names="name")


# Recipes that cannot be used


def yaml_text(text: str, names: str = "") -> str | None:
    """A recipe with a further line, or that replaces the line of its key."""
    lines = recipe().read_text()
    key = text.partition(":")[0]
    content = yaml.safe_load(lines)
    content.pop(key, None)
    Path("recipe.yaml").write_text(yaml.safe_dump(content) + text + "\n")
    return refused("train", "recipe.yaml", "--quiet", names=names)


def bomb() -> str:
    lines = ["env:", "  kwargs:", "    a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    levels = range(1, 12)
    lines += [f"    a{each}: &a{each} [{', '.join([f'*a{each - 1}'] * 9)}]" for each in levels]
    return "\n".join(lines)


TEXTS = {
    "an impossible date": ("seed: 2026-13-45", "seed"),
    "an impossible time": ("seed: 2026-01-01 99:99:99", "seed"),
    "a tag on text": ("seed: !!int z", ""),
    "a tag of Python": ("seed: !!python/object/apply:os.system ['touch trace']", ""),
    "an integer of 5,000 digits": (f"seed: {'9' * 5000}", ""),
    "nesting 3,000 deep": (f"seed: {'[' * 3000}{']' * 3000}", ""),
    "mappings 3,000 deep": (f"seed: {'{a: ' * 3000}1{'}' * 3000}", ""),
    "aliases that explode": (bomb(), ""),
    "an alias of itself": ("env: &a {kwargs: *a}", ""),
    "ten megabytes": (f"seed: '{'a' * 10**7}'", ""),
}
KEYS: dict[str, dict[str, Any]] = {
    "policy.log_std_init": {"policy": {"log_std_init": -12345}},
    "env.kwargs": {"env": {"kwargs": {"frame_skip": 0}}},
    "task": {"task": "HalfCheetah-v2"},
    "xml_file": {"env": {"kwargs": {"xml_file": "nowhere.xml"}}},
    "threads": {"threads": 2**31},
    "env.threads": {"env": {"threads": 2**31}},
    "agent.device": {"agent": {"device": "meta"}},
    "policy.wiring": {"policy": {"wiring": {"kind": "auto_ncp", "neurons": 16_384}}},
    "policy.encoder": {"policy": {"encoder": [65_536, 65_536]}},
    "env.num_envs": {"env": {"num_envs": 10**6}},
    "agent.n_steps": {"agent": {"n_steps": 2**40, "batch_size": 32}},
    "agent.buffer_size": {
        "agent": {"algorithm": "sac", "buffer_size": 10**13, "n_steps": ..., "n_epochs": ...}
    },
    "seed": {"seed": 2**64},
}
ELSEWHERE = [
    {"seed": 0},
    {"interval": 0.04},
    {"observe": "positions"},
    {"threads": 1},
    {"num_envs": 2},
    {"render_mode": "rgb_array"},
]


def key_refused(names: str, sections: dict[str, Any]) -> str | None:
    return refused("train", recipe(**sections), "--quiet", names=names)


# Elapsed times


def robots(**options: Any) -> Any:
    return envs.make_vec(TASK, 2, seed=0, threads=1, **options)


def ppo(env: Any, **options: Any) -> Any:
    small = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "device": "cpu"}
    return LiquidPPO("LiquidPolicy", env, policy_kwargs={"wiring": WIRING}, **{**small, **options})


def sac(env: Any, **options: Any) -> Any:
    small = {"learning_starts": 8, "batch_size": 16, "sequence_length": 4, "burn_in": 2}
    small |= {"buffer_size": 1000, "device": "cpu"}
    policy = {"wiring": WIRING, "critic_layers": [8]}
    return LiquidSAC("LiquidPolicy", env, policy_kwargs=policy, **{**small, **options})


def recurrent_ppo(env: Any) -> Any:
    policy = {"wiring": WIRING, "nominal_interval": 0.04}
    return RecurrentPPO(LiquidRecurrentPolicy, env, 3e-4, 16, 16, 1, policy_kwargs=policy)


def extractor_ppo(env: Any) -> Any:
    circuit = {"wiring": WIRING, "nominal_interval": 0.04}
    policy = {"features_extractor_class": LiquidExtractor, "features_extractor_kwargs": circuit}
    return PPO("MultiInputPolicy", env, 3e-4, 16, 16, 1, policy_kwargs=policy, device="cpu")


def windows(env: Any) -> Any:
    return envs.VecWindow(env, 3)


DOORS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "LiquidPPO": (ppo, lambda env: env),
    "LiquidSAC": (sac, lambda env: env),
    "RecurrentPPO": (recurrent_ppo, lambda env: env),
    "extractor": (extractor_ppo, windows),
}
IMPOSSIBLE = [-1.0, 0.0, float("nan"), float("inf"), 50.0, 1e-9]


class Elapsed(VecEnvWrapper):
    """From the second step on, one environment has another elapsed time."""

    def __init__(self, venv: Any, seconds: float) -> None:
        super().__init__(venv)
        self.seconds, self.steps = seconds, 0

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, *rest = self.venv.step_wait()
        self.steps += 1
        if self.steps > 1:
            observations["elapsed_time"][1] = self.seconds
        return observations, *rest


def normalised(door: str) -> str | None:
    build, around = DOORS[door]
    return raises(
        lambda: build(VecNormalize(around(robots()))).learn(32), "norm_obs_keys", "observation"
    )


def trained_on(door: str, seconds: float) -> str | None:
    build, around = DOORS[door]
    return raises(lambda: build(around(Elapsed(robots(), seconds))).learn(64), "elapsed_time")


def predicted(door: str, seconds: float) -> str | None:
    build, around = DOORS[door]
    env = around(robots())
    agent, observation = build(env), env.reset()
    observation["elapsed_time"][1] = seconds
    return raises(lambda: agent.predict(observation), "elapsed_time")


def milliseconds(low: float, high: float) -> str | None:
    """A hundred times too long: refused, with the unit."""
    interval = {"kind": "uniform", "low": low, "high": high}
    in_recipe = refused("train", recipe(env={"interval": interval}), "--quiet", names="seconds")
    return in_recipe or raises(lambda: robots(interval=envs.Uniform(low, high)), "seconds")


# Numbers that are not finite


def huge_rate(build: Callable[..., Any]) -> str | None:
    """An update that destroys the weights is reported, and not as harmless."""
    agent = build(robots(), learning_rate=1e38)
    wrong = raises(lambda: agent.learn(512), "learning rate")
    weights = agent.policy.state_dict().values()
    broken = not all(each.isfinite().all() for each in weights)
    if broken and not wrong:
        return raises(lambda: agent.save("agent"), "not finite")
    return wrong


class Observes(gym.ObservationWrapper):  # type: ignore[type-arg]
    def __init__(self, env: Any, number: float) -> None:
        super().__init__(env)
        self.number = number
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def observation(self, observation: Any) -> Any:
        return observation.astype(np.float64) * self.number


def huge_observations(build: Callable[..., Any], number: float) -> str | None:
    agent = build(Observes(gym.make("Pendulum-v1"), number))
    with contextlib.suppress(ValueError):
        agent.learn(64)
    state = agent.policy.state_dict().values()
    return None if all(each.isfinite().all() for each in state) else "a weight is not finite"


def nan_in_the_first_action(build: Callable[..., Any]) -> str | None:
    agent = build(robots(), seed=0)
    with torch.no_grad():
        for each in agent.policy.parameters():
            each.fill_(torch.nan)
    agent.learning_starts = 0
    return raises(lambda: agent.learn(32), "finite")


def absent_gpu() -> str | None:
    if torch.cuda.is_available():
        return None
    wrong = refused("train", recipe(agent={"device": "cuda"}), "--quiet", names="device")
    try:
        return wrong or warns(lambda: ppo(robots(), device="cuda"), "cuda")
    except (ValueError, RuntimeError, AssertionError) as error:
        return None if "cuda" in str(error).lower() else f"it raises {error!r}"


# Runs


def looked_at(name: str) -> str | None:
    """Looking at an interrupted run leaves it to be resumed."""
    folder = interrupted(steps=256)
    done(name, folder, "--quiet")
    done("resume", folder, "--quiet")
    steps = LiquidPPO.load(folder / "checkpoints/final.zip").num_timesteps
    return None if steps == 256 else f"it ended after {steps} steps"


def published() -> str | None:
    """Other evaluations do not take the place of the one that the recipe asked for."""
    folder = finished()
    done("evaluate", folder, "--episodes", "1", "--ratios", "0.5", "--quiet")
    done("inspect", folder, "--episodes", "1", "--quiet")
    done("pack", folder, "--output", "policy.zip", "--quiet")
    done("unpack", "policy.zip", "--output", "unpacked", "--quiet")
    (evaluation,) = Path("unpacked").glob("evaluation.json")
    episodes = json.loads(evaluation.read_text())["trained"]["episodes"]
    return None if episodes == 2 else f"an evaluation of {episodes} episodes was packed"


def locked(name: str) -> str | None:
    """A run that trains can be looked at."""
    folder = finished()
    child = os.fork()
    if child == 0:
        with FileLock(folder / ".lock"):
            Path("held").touch()
            time.sleep(SECONDS)
        os._exit(0)
    try:
        while not Path("held").exists():
            time.sleep(0.01)
        done(name, folder, "--quiet")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return None


def changed(key: str, value: Any) -> str | None:
    """A recipe that was changed by hand is refused by its key."""
    folder = interrupted()
    rewrite(folder / "config.yaml", {key: value})
    return refused("resume", folder, "--quiet", names=key)


def extended() -> str | None:
    folder = finished()
    done("resume", folder, "--set", "agent.total_timesteps=256", "--quiet")
    steps = LiquidPPO.load(folder / "checkpoints/final.zip").num_timesteps
    return None if steps == 256 else f"it ended after {steps} steps"


def warm_started() -> str | None:
    folder = finished()
    done("train", recipe(seed=7), "--init", folder, "--quiet")
    return None


def carded() -> str | None:
    """The card gives the steps that were trained."""
    folder = interrupted()
    done("pack", folder, "--output", "policy.zip", "--quiet")
    done("unpack", "policy.zip", "--output", "unpacked", "--quiet")
    card = Path("unpacked/README.md").read_text()
    steps = LiquidPPO.load("unpacked/checkpoints/final.zip").num_timesteps
    return None if f"{steps:,}" in card else f"{steps:,} steps are not in the card"


def without_ffmpeg() -> str | None:
    folder = finished()
    with patch.object(imageio_ffmpeg, "get_ffmpeg_exe", side_effect=RuntimeError("no ffmpeg")):
        wrong = refused("record", folder, "--quiet", names="FFmpeg", within=SECONDS)
    return wrong or no_film(folder)


def full_disk(name: str, *options: str) -> str | None:
    """No file can grow beyond some kilobytes."""
    folder = finished()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    try:
        code, *_, complaints = command(name, folder, *options, "--quiet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    lines = [line for line in complaints.splitlines() if not line.startswith("note: ")]
    if code != 2 or len(lines) != 1:
        return f"exit code {code}: {complaints[:300]!r}"
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    lost = [path.name for path, content in before.items() if after.get(path) != content]
    return f"{lost} changed" if lost else no_film(folder)


def no_film(folder: Path) -> str | None:
    films = [path.name for path in folder.rglob("*.mp4")]
    return f"it left {films}" if films else None


# SB3's contract


def beside_a_folder() -> str | None:
    Path("agent").mkdir()
    ppo(robots()).save("agent")
    LiquidPPO.load("agent")
    return None


def compiled() -> str | None:
    agent = ppo(robots())
    agent.policy = torch.compile(agent.policy)
    agent.save("agent")
    LiquidPPO.load("agent")
    return None


def scheduled() -> str | None:
    agent = ppo(robots(), learning_rate=lambda left: 1e-3 * left)
    return warns(lambda: agent.save("agent"), "learning_rate")


# Control loops


def loop(*calls: tuple[float, float]) -> str | None:
    """The last of some calls of a controller must be refused: (observation, time)."""
    from liquid_control import load_controller

    agent = ppo(robots())
    agent.save("agent")
    controller = load_controller("agent.zip")
    *before, (number, now) = calls
    for each in before:
        controller.step(np.full(4, each[0]), each[1])
    return raises(lambda: controller.step(np.full(4, number), now))


NAN, INF = float("nan"), float("inf")
LOOPS = {
    "NaN": ((0, 0.0), (NAN, 0.04)),
    "infinity": ((0, 0.0), (INF, 0.04)),
    "a first NaN": ((NAN, 0.0),),
    "the same time": ((0, 1.0), (0, 1.0)),
    "an earlier time": ((0, 1.0), (0, 0.9)),
    "no time": ((0, 0.0), (0, NAN)),
    "an hour later": ((0, 0.0), (0, 3600.0)),
    "milliseconds": ((0, 0.0), (0, 40.0)),
}

LOOKING = ("evaluate", "inspect", "record")

ROWS: dict[str, dict[str, Fault]] = {
    "packed policies that name modules and files": {
        f"{name}: {what}": partial(strange_recipe, name, changes)
        for what, changes in STRANGE.items()
        for name in (*LOOKING, "watch", "resume")
    },
    "links in the place of files": {
        **{
            f"log {name}": partial(linked_log, name)
            for name in ("events.out.tfevents.9.host", "progress.csv")
        },
        **{
            f"member {name}": partial(linked_member, name)
            for name in ("evaluation.png", "evaluation.json", "videos/film.mp4", "config.yaml")
        },
    },
    "names with HTML, paths or control characters": {
        repr(name[:20]): partial(bad_name, name) for name in NAMES
    },
    "YAML that no recipe can hold": {
        what: partial(yaml_text, *text) for what, text in TEXTS.items()
    },
    "keys beyond what can be used": {
        **{key: partial(key_refused, key, sections) for key, sections in KEYS.items()},
        "--runs /proc/x": lambda: refused("train", recipe(), "--runs", "/proc/x", "--quiet"),
    },
    "keys in the place of others": {
        key: partial(key_refused, f"env.kwargs.{key}", {"env": {"kwargs": {key: value}}})
        for each in ELSEWHERE
        for key, value in each.items()
    },
    "VecNormalize over the elapsed time": {door: partial(normalised, door) for door in DOORS},
    "impossible elapsed times": {
        f"{work.__name__} {door} {seconds}": partial(work, door, seconds)
        for work in (trained_on, predicted)
        for door in DOORS
        for seconds in IMPOSSIBLE
    },
    "milliseconds in the place of seconds": {
        "refused": partial(milliseconds, 25.0, 100.0),
        "warned": lambda: warns(lambda: robots(interval=1.0), "interval"),
        "rounded": lambda: warns(
            lambda: envs.make_vec("HalfCheetah-v5", 1, interval=envs.Uniform(0.025, 0.1)), "0.03"
        ),
    },
    "numbers that are not finite": {
        **{
            f"{what} {build.__name__}": partial(work, build)
            for what, work in (("rate", huge_rate), ("action", nan_in_the_first_action))
            for build in (ppo, sac)
        },
        **{
            f"observation {number:g} {build.__name__}": partial(huge_observations, build, number)
            for number in (1e39, 1e160, 1e200, 1e300)
            for build in (ppo, sac)
        },
    },
    "a GPU that is absent": {"cuda": absent_gpu},
    "runs that are looked at": {
        **{f"interrupted: {name}": partial(looked_at, name) for name in LOOKING},
        **{f"locked: {name}": partial(locked, name) for name in LOOKING},
        "the evaluation that is packed": published,
        "the steps on the card": carded,
    },
    "recipes that were changed, or go on": {
        **{
            key: partial(changed, key, value)
            for key, value in {
                "agent.gamma": 0.5,
                "agent.n_steps": 64,
                "policy.wiring.neurons": 12,
                "env.num_envs": 3,
                "env.interval": 0.04,
                "seed": 9,
                "task": "Hopper-v5",
            }.items()
        },
        "a longer training": extended,
        "another training": warm_started,
    },
    "no FFmpeg, or a full disk": {
        "record without FFmpeg": without_ffmpeg,
        **{f"full disk: {name}": partial(full_disk, name) for name in LOOKING},
        "full disk: pack": partial(full_disk, "pack", "--output", "policy.zip"),
    },
    "saves as SB3 makes them": {
        "beside a folder": beside_a_folder,
        "compiled": compiled,
        "a schedule": scheduled,
    },
    "control loops": {what: partial(loop, *calls) for what, calls in LOOPS.items()},
}


def provoke(fault: Fault) -> str | None:
    """Provoke a fault in a process of its own; return what went wrong, if anything."""
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            os.chdir(folder)
            os.environ["MUJOCO_GL"] = "off"
            try:
                wrong = fault()
            except BaseException as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                wrong = f"{type(error).__name__} in {place.name}: {error}"
            os.write(writing, (wrong or "")[:60_000].encode())
            os._exit(0)
        os.close(writing)
        text, hung = b"", not select.select([reading], [], [], SECONDS)[0]
        if not hung:
            text = os.read(reading, 2**16)
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if hung:
        return f"nothing came of it in {SECONDS} s"
    if code not in {0, -signal.SIGKILL} and not text:
        return f"its process ended with {code}"
    return text.decode() or None


def rows(only: str = "") -> Iterator[tuple[str, str, str]]:
    """Provoke all faults whose rows have this text; print what went wrong."""
    for name, faults in ROWS.items():
        if only not in name:
            continue
        wrong = 0
        for what, fault in faults.items():
            if (problem := provoke(fault)) is not None:
                wrong += 1
                print(f"{name}: {what}: {problem}", file=sys.stderr, flush=True)
        yield name, str(len(faults)), f"{wrong} not as they should be"
