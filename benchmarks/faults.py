"""Tests of robustness: kills at any moment, broken environments, damaged and forged files.

    python benchmarks/faults.py
    python benchmarks/faults.py --row links     # one row of edges.py

Trainings are killed (SIGKILL) at random moments, many of them inside a save, and resumed from what
is left; they must end with the weights, normalisers and logs of one that was not interrupted.
Environments raise errors or their processes are killed; this is reported within ten seconds, and a
checkpoint is left. Damaged checkpoints must not be loaded; mutated ones that are sealed again are
refused or trained on (`fuzz_checkpoints.py`). Recipes are mutated; each is valid, or is rejected in
one line. `edges.py` holds what users and strangers' files do. Requires fork, so it does not run on
Windows.
"""

from __future__ import annotations

import csv
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import tyro
from edges import rows as edges
from fuzz_checkpoints import WRONG, fuzz
from fuzz_checkpoints import Arguments as Fuzz
from hypothesis import Phase, given, settings
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from table import print_table

from liquid_control import LiquidPPO, LiquidSAC, envs
from liquid_control.checkpoints import CheckpointError, read
from liquid_control.checkpoints.checkpoint_callback import ResumeCallback
from liquid_control.checkpoints.logs import ResumableLogger
from liquid_control.checkpoints.retention import CheckpointManager

sys.path.append(str(Path(__file__).parent.parent))

from tests.checkpoints import test_archive as forgery
from tests.recipes import test_mutated_recipes as mutations

TOTAL, EVERY = 1024, 32
CLOCKS = {"time/fps", "time/time_elapsed"}
HEADER = ("test", "cases", "result")


@dataclass
class Arguments:
    """Tests of how a training handles faults."""

    kills: int = 200
    """Kills, half of LiquidPPO and half of LiquidSAC."""

    flips: int = 1000
    """Checkpoints with a flipped bit."""

    truncations: int = 500
    """Truncated checkpoints."""

    blocks: int = 200
    """Checkpoints with a block of zeros."""

    breaks: int = 100
    """Environments that raise an error, or whose process is killed."""

    recipes: int = 1000
    """Mutated recipes."""

    mutations: int = 1000
    """Checkpoints with other contents, sealed again."""

    row: str = ""
    """Run only the rows of edges.py with this text in their names."""

    seed: int = 0
    """Seed of the moments and the damage."""


def robots() -> Any:
    interval = envs.Uniform(0.02, 0.08)
    return envs.make_vec(
        "InvertedPendulum-v5", 2, observe="positions", interval=interval, seed=0, threads=1
    )


def fresh(kind: type[Any], env: Any = None) -> Any:
    env = robots() if env is None else env
    wiring = {"wiring": {"kind": "auto_ncp", "neurons": 8}}
    if kind is LiquidPPO:
        rollout = {"n_steps": 16, "batch_size": 16, "n_epochs": 2}
        return LiquidPPO("LiquidPolicy", env, policy_kwargs=wiring, seed=0, **rollout)
    replay = {"learning_starts": 64, "batch_size": 16, "sequence_length": 4, "burn_in": 2}
    small = {"buffer_size": 500, "policy_kwargs": {**wiring, "critic_layers": [8]}}
    return LiquidSAC("LiquidPolicy", env, seed=0, **replay, **small)


def train(kind: type[Any], folder: Path) -> None:
    """Start a training in a folder, or resume the one in it."""
    manager, logger = CheckpointManager(folder / "checkpoints"), ResumableLogger(folder)
    resumed = bool(manager.paths())
    if resumed:
        agent = kind.resume(manager.folder, robots(), logger=logger)
    else:
        for log in (*folder.glob("progress.csv"), *folder.glob("events.*")):
            log.unlink()
        agent = fresh(kind)
        agent.set_logger(ResumableLogger(folder))
    left = TOTAL - agent.num_timesteps
    evaluation = EvalCallback(robots(), eval_freq=100, n_eval_episodes=2, verbose=0)
    callbacks = [ResumeCallback(manager, EVERY), evaluation]
    agent.learn(left, callbacks, log_interval=1, reset_num_timesteps=not resumed)
    (folder / "end").write_text(digest(agent, folder))


def digest(agent: Any, folder: Path) -> str:
    """Return a digest of all weights, normalisers and logs."""
    state = sha256()
    for name, value in sorted(agent.policy.state_dict().items()):
        state.update(name.encode() + value.cpu().numpy().tobytes())
    with (folder / "progress.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            state.update(repr({key: row[key] for key in sorted(row.keys() - CLOCKS)}).encode())
    return state.hexdigest()


def in_a_child(work: Callable[[], None]) -> int:
    """Run a function in a forked process; return its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child


def killed(kind: type[Any], kills: int, draw: random.Random) -> tuple[int, int, int, int]:
    """Count trainings, kills inside a save, failures to resume, and different results."""
    inside = broken = different = trainings = done = 0
    with tempfile.TemporaryDirectory() as place:
        straight = Path(place) / "straight"
        straight.mkdir()
        start = time.perf_counter()
        os.waitpid(in_a_child(lambda: train(kind, straight)), 0)
        lasts = time.perf_counter() - start
        while done < kills:
            folder = Path(place) / f"{trainings}"
            folder.mkdir()
            trainings += 1
            while not (folder / "end").exists():
                child = in_a_child(lambda: train(kind, folder))  # noqa: B023  # waited for below
                if done < kills:
                    wait_to_kill(folder, draw, lasts)
                    inside += saving(folder)
                    os.kill(child, signal.SIGKILL)
                    done += 1
                _, status = os.waitpid(child, 0)
                if os.waitstatus_to_exitcode(status) not in {0, -signal.SIGKILL}:
                    broken += 1
                    break
            else:
                different += (folder / "end").read_text() != (straight / "end").read_text()
            shutil.rmtree(folder)
    return trainings, inside, broken, different


class Breaking(gym.Wrapper):  # type: ignore[type-arg]
    """Raises an error or kills its own process at some step, and writes a marker file."""

    def __init__(self, env: gym.Env[Any, Any], at: int, mark: Path, *, kill: bool) -> None:
        super().__init__(env)
        self.left, self.mark, self.kill = at, mark, kill

    def step(self, action: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            self.mark.touch()
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("a leg came off")
        return self.env.step(action)


def broken(kind: type[Any], how: str, folder: Path, at: int) -> None:
    """Train until an environment breaks, and write the error to a file."""
    sys.stderr = (folder / "report").open("w", buffering=1)
    os.dup2(sys.stderr.fileno(), 2)
    makers: list[Callable[[], Any]] = [
        lambda: gym.make("Pendulum-v1"),
        lambda: Breaking(gym.make("Pendulum-v1"), at, folder / "mark", kill=how == "killed"),
    ]
    venv = DummyVecEnv(makers) if how == "raises" else SubprocVecEnv(makers, "fork")
    agent = fresh(kind, venv)
    try:
        agent.learn(TOTAL, ResumeCallback(folder / "checkpoints", EVERY))
    except Exception:
        traceback.print_exc()
        raise


def breaks(how: str, count: int, draw: random.Random) -> tuple[int, int, int]:
    """Count hangs of ten seconds, wrong error reports, and missing checkpoints."""
    words = {
        "raises": "a leg came off",
        "raises in a process": "a leg came off",
        "killed": "the process of environment 1 died (exit code -9)",
    }[how]
    late = unreported = unsaved = 0
    for number in range(count):
        with tempfile.TemporaryDirectory() as place:
            folder, kind = Path(place), (LiquidPPO, LiquidSAC)[number % 2]
            at = draw.randint(2, TOTAL // 2)
            child = in_a_child(lambda: broken(kind, how, folder, at))  # noqa: B023  # as above
            deadline = math.inf
            while os.waitpid(child, os.WNOHANG) == (0, 0):
                if deadline == math.inf and (folder / "mark").exists():
                    deadline = time.perf_counter() + 10
                if time.perf_counter() > deadline:
                    late += 1
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    break
                time.sleep(0.01)
            report = (folder / "report").read_text()
            unreported += words not in report or "Traceback" not in report
            try:
                CheckpointManager(folder / "checkpoints").latest()
            except (FileNotFoundError, CheckpointError):
                unsaved += 1
    return late, unreported, unsaved


def refusals(count: int) -> tuple[int, int]:
    """Return how many mutated recipes are valid, and how many are rejected incorrectly."""
    valid = badly = 0

    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate])
    @given(mutations.mutated())
    def see(case: tuple[str, set[str]]) -> None:
        nonlocal valid, badly
        code, complaint = mutations.outcome(case[0])
        valid += code == 0
        badly += not mutations.is_a_clear_message(code, complaint, case[1])

    see()
    return valid, badly


def wait_to_kill(folder: Path, draw: random.Random, lasts: float) -> None:
    """Wait until a random moment, usually inside a save."""
    time.sleep(draw.uniform(0, lasts))
    deadline = time.perf_counter() + lasts
    if draw.random() < 0.8:
        while not saving(folder) and time.perf_counter() < deadline:
            pass


def saving(folder: Path) -> bool:
    """Return whether a checkpoint is being written."""
    return any((folder / "checkpoints").glob(".*.partial"))


def main(arguments: Arguments) -> None:
    """Run all tests and print their results."""
    torch.set_num_threads(1)
    if arguments.row:
        print_table(HEADER, [*edges(arguments.row)])
        return
    draw = random.Random(arguments.seed)
    rows = []
    for kind in (LiquidPPO, LiquidSAC):
        trainings, inside, broken, different = killed(kind, arguments.kills // 2, draw)
        rows.append(
            (
                f"{kind.__name__}: {arguments.kills // 2} kills, {inside} inside a save",
                f"{trainings} trainings",
                f"{broken} not resumed, {different} ended differently",
            )
        )
    for how, count in (
        ("raises", arguments.breaks // 4),
        ("raises in a process", arguments.breaks // 4),
        ("killed", arguments.breaks // 2),
    ):
        late, unreported, unsaved = breaks(how, count, draw)
        report = f"{late} hang, {unreported} not reported, {unsaved} without checkpoint"
        rows.append((f"environments: {how}", str(count), report))
    valid, badly = refusals(arguments.recipes)
    outcome = f"{valid} valid, {badly} refused without key or exit code 2"
    rows.append(("mutated recipes", str(arguments.recipes), outcome))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "agent.zip"
        fresh(LiquidPPO).save(path)
        for name, change, count in (
            ("turned bits", forgery.turn_a_bit, arguments.flips),
            ("cut off", forgery.cut_off, arguments.truncations),
            ("zeroed blocks", forgery.zero_a_block, arguments.blocks),
        ):
            loaded = forgery.damaged(path, change, count)
            rows.append((f"checkpoints with {name}", str(count), f"{loaded} loaded"))
        trace, loaded, count = Path(place) / "trace", 0, 0
        for _, content in forgery.artifacts(trace):
            path.write_bytes(content)
            count += 1
            try:
                read(path)
                loaded += 1
            except CheckpointError:
                continue
        ran = "some were run" if trace.exists() else "0 run"
        rows.append(("malicious files", str(count), f"{loaded} loaded, {ran}"))
    counts = fuzz(Fuzz(cases=arguments.mutations, seed=arguments.seed))
    outcome = ", ".join(f"{counts[each]} {each}" for each in ("refused", "trained on", "stopped"))
    outcome += f", {sum(counts[each] for each in WRONG)} wrong"
    rows.append(("mutated checkpoints, sealed again", str(arguments.mutations), outcome))
    print_table(HEADER, [*rows, *edges()])


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
