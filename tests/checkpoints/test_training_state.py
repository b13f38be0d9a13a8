"""The law of resuming: a training that was interrupted anywhere ends as one that was not."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import wrappers
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from liquid_control import LiquidPPO, LiquidSAC, envs
from liquid_control.checkpoints import CheckpointError, Contents, read, write
from liquid_control.checkpoints.checkpoint_callback import ResumeCallback
from liquid_control.checkpoints.logs import ResumableLogger
from liquid_control.checkpoints.retention import CheckpointManager
from liquid_control.checkpoints.signals import StopRequest

TASK = "InvertedPendulum-v5"
CLOCKS = {"time/fps", "time/time_elapsed"}
POLICY = {
    "wiring": {"kind": "auto_ncp", "neurons": 8},
    "derivatives": [0.0, 0.1],
    "critic_history": [1, 3],
}
TIMES = (".started", ".seconds", ".episode_times")
UNSEEDED = tuple(f"space.{number}" for number in range(1, 9))  # of observations
TOTAL = 192
EVERY = 64


def robots(threads: int | None = 1, task: str = TASK) -> Any:
    interval = envs.Uniform(0.02, 0.08)
    return envs.make_vec(task, 2, observe="positions", interval=interval, seed=5, threads=threads)


def ppo(env: Any, **options: Any) -> LiquidPPO:
    rollout = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 1}
    rate = {"learning_rate": LinearSchedule(3e-3, 0.0, 1.0), "stats_window_size": 4}
    return LiquidPPO("LiquidPolicy", env, policy_kwargs=POLICY, **{**rollout, **rate, **options})


def sac(env: Any, **options: Any) -> LiquidSAC:
    replay = {"learning_starts": 100, "batch_size": 16, "sequence_length": 4, "burn_in": 2}
    rate = {"recurrent_learning_rate": LinearSchedule(3e-3, 0.0, 1.0), "buffer_size": 120}
    return LiquidSAC(
        "LiquidPolicy",
        env,
        policy_kwargs={**POLICY, "critic_layers": [8]},
        **{**replay, **rate, "seed": 1, **options},
    )


AGENTS: list[Callable[..., Any]] = [ppo, sac]


def trained(make: Callable[..., Any], folder: Path, *callbacks: BaseCallback) -> Any:
    agent = make(robots())
    agent.set_logger(ResumableLogger(folder))
    return agent.learn(TOTAL, list(callbacks), log_interval=1)


def continued(agent: type[Any], folder: Path, *, threads: int = 1) -> Any:
    """Whatever the random generators of this process are by now."""
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    logger = ResumableLogger(folder)
    again = agent.resume(folder / "checkpoints", robots(threads), logger=logger)
    left = TOTAL - again.num_timesteps
    return again.learn(left, log_interval=1, reset_num_timesteps=False)


def state_of(agent: Any) -> dict[str, torch.Tensor]:
    """All that training made of an agent, its generators included."""
    contents = agent.state_dict(training=True)
    return {
        f"{part}.{name}": tensor
        for part, tensors in contents.tensors.items()
        for name, tensor in tensors.items()
        if (part, name) != ("training.statistics", "t")
        and part not in {"training.pending", "training.callbacks"}
        and not name.endswith(TIMES)
        and not name.startswith(UNSEEDED)
    }


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "progress.csv").open(newline="") as file:
        return [
            {name: value for name, value in row.items() if name not in CLOCKS}
            for row in csv.DictReader(file)
        ]


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), {"scalars": 0}).Reload()
    return {
        tag: sorted((event.step, event.value) for event in events.Scalars(tag))
        for tag in events.Tags()["scalars"]
        if tag not in CLOCKS
    }


@pytest.fixture(scope="module", params=AGENTS, ids=["ppo", "sac"])
def straight(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A training that was not interrupted: how it was made, its agent, and its folder."""
    folder = tmp_path_factory.mktemp("straight")
    return request.param, trained(request.param, folder), folder


class KilledError(Exception):
    """Ends a training where it should not end."""


class Kill(BaseCallback):
    """Interrupts in the midst of a rollout."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.after:
            raise KilledError
        return True


# SAC begins to learn after 100 steps, and checkpoints are saved every 64.
@pytest.mark.parametrize(
    ("after", "threads"),
    [
        pytest.param(70, 1, marks=pytest.mark.slow),
        (150, 2),
        pytest.param(190, 1, marks=pytest.mark.slow),
    ],
)
def test_interrupted_and_resumed_it_ends_as_if_it_had_not_been(
    straight: Any, after: int, threads: int, tmp_path: Path
) -> None:
    make, expected, folder = straight
    manager = CheckpointManager(tmp_path / "checkpoints")
    with pytest.raises(KilledError):
        trained(make, tmp_path, ResumeCallback(manager, EVERY), Kill(after))
    path, _ = manager.latest()
    assert int(path.name.removeprefix("step-")) <= after
    agent = continued(type(expected), tmp_path, threads=threads)
    assert agent.num_timesteps == expected.num_timesteps
    mine, theirs = state_of(agent), state_of(expected)
    assert mine.keys() == theirs.keys()
    assert [name for name, value in theirs.items() if not mine[name].equal(value)] == []
    assert agent.state_dict().data == expected.state_dict().data  # so files have the same hash
    assert rows(tmp_path) == rows(folder)
    assert points(tmp_path) == points(folder)


def test_asked_to_stop_it_saves_first_and_goes_on_from_there(straight: Any, tmp_path: Path) -> None:
    make, expected, folder = straight
    manager, stop = CheckpointManager(tmp_path / "checkpoints"), StopRequest()

    class Ask(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps >= 150:
                stop.signal = 15  # type: ignore[assignment]
            return True

    callback = ResumeCallback(manager, 10**6, stop)
    agent = trained(make, tmp_path, callback, Ask())
    assert callback.stopped
    assert agent.num_timesteps < TOTAL
    again = continued(type(expected), tmp_path)
    mine, theirs = state_of(again), state_of(expected)
    assert [name for name, value in theirs.items() if not mine[name].equal(value)] == []
    assert rows(tmp_path) == rows(folder)


def test_saving_checkpoints_does_not_change_the_training(straight: Any, tmp_path: Path) -> None:
    make, plain, _ = straight
    manager = CheckpointManager(tmp_path / "checkpoints")
    kept = trained(make, tmp_path / "kept", ResumeCallback(manager, EVERY))
    mine, theirs = state_of(kept), state_of(plain)
    assert [name for name, value in theirs.items() if not mine[name].equal(value)] == []
    assert len(manager.paths()) == manager.last
    best = type(kept).load(manager.best)
    assert manager.best_score() == read(manager.best).data["score"]["mean_return"]
    assert best.num_timesteps <= kept.num_timesteps


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path, last=2)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint to resume from"):
        manager.latest()
    for step in (10, 20, 30):
        manager.save(step, Contents("LiquidPPO", {"step": step}, {}))
    old, new = manager.paths()
    assert (old.name, new.name) == ("step-000000000020", "step-000000000030")
    (new / "step.json").write_text("31")
    with pytest.warns(UserWarning, match=r"step-000000000030 is not loaded.*the previous one"):
        path, contents = manager.latest()
    assert (path, contents.data) == (old, {"step": 20})
    (old / "step.json").unlink()
    with (
        pytest.warns(UserWarning, match="is not loaded"),
        pytest.raises(CheckpointError, match="step-000000000030"),
    ):
        manager.latest()
    with pytest.raises(ValueError, match="last must be at least 1"):
        CheckpointManager(tmp_path, last=0)


def test_a_shorter_training_does_not_take_the_place_of_a_longer_one(tmp_path: Path) -> None:
    longer = ppo(robots()).learn(128, ResumeCallback(tmp_path, 32))
    kept = [path.name for path in CheckpointManager(tmp_path).paths()]
    for agent in (longer, ppo(robots())):
        with pytest.raises(ValueError, match=r"of a longer training, and this one is at step 0"):
            agent.learn(64, ResumeCallback(tmp_path, 32))
    assert [path.name for path in CheckpointManager(tmp_path).paths()] == kept


def test_damaged_checkpoints_make_way(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path, last=1)
    (tmp_path / manager.name_of(20)).mkdir()
    (tmp_path / manager.name_of(90)).mkdir()
    for step in (10, 20):
        manager.check_newest(step)
        assert manager.save(step, Contents("LiquidPPO", {"step": step}, {})).is_dir()
    with pytest.warns(UserWarning, match="step-000000000090 is not loaded"):
        assert manager.latest()[1].data == {"step": 20}


def test_what_cannot_be_taken_up_is_said(tmp_path: Path) -> None:
    agent = ppo(robots())
    with pytest.raises(ValueError, match="the training has not begun"):
        agent.state_dict(training=True)
    agent.set_logger(ResumableLogger(tmp_path))
    agent.learn(32)
    manager = CheckpointManager(tmp_path / "checkpoints")
    manager.save(1, agent.state_dict())
    with pytest.raises(CheckpointError, match="no training to resume; load"):
        LiquidPPO.resume(manager.folder, robots())
    manager.save(2, agent.state_dict(training=True))
    others = envs.make_vec(TASK, 3, observe="positions", interval=envs.Uniform(0.02, 0.08))
    with pytest.raises(CheckpointError, match=r"cannot be resumed: observation\..* has shape \[2"):
        LiquidPPO.resume(manager.folder, others)
    with pytest.raises(CheckpointError, match="it holds a LiquidPPO, and this is LiquidSAC"):
        LiquidSAC.resume(manager.folder, robots())
    with pytest.raises(
        CheckpointError,
        match=r"cannot be resumed: the state of the environment is not .*0\.BatchedVecEnv",
    ):
        LiquidPPO.resume(manager.folder, robots(threads=0))


def one_robot() -> gym.Env[Any, Any]:
    return envs.make(TASK, observe="positions", interval=envs.Uniform(0.02, 0.08), seed=5)


def monitored() -> Any:
    """As users of SB3 make environments: a list of them, with running statistics around it."""
    robots = DummyVecEnv([lambda: Monitor(one_robot()), lambda: Monitor(one_robot())])
    return VecNormalize(robots, norm_obs_keys=["observation"])


def much_wrapped() -> Any:
    """Wrappers of Gymnasium that have a state, all of them."""

    def one() -> gym.Env[Any, Any]:
        env: Any = gym.make("Pendulum-v1", max_episode_steps=90)
        for wrapper in (
            lambda env: wrappers.StickyAction(env, 0.3, (1, 4)),
            wrappers.RecordEpisodeStatistics,
            wrappers.MaxAndSkipObservation,
            wrappers.NormalizeObservation,
            lambda env: wrappers.DelayObservation(env, 2),
            wrappers.TimeAwareObservation,
            lambda env: wrappers.FrameStackObservation(env, 3),
            wrappers.FlattenObservation,
            wrappers.NormalizeReward,
        ):
            env = wrapper(env)
        return Monitor(env)

    return DummyVecEnv([one, one])


@pytest.mark.filterwarnings("ignore:.*Monitor.*:UserWarning")
@pytest.mark.parametrize(
    ("kind", "make", "env", "after"),
    [
        pytest.param(LiquidPPO, ppo, monitored, 150, marks=pytest.mark.slow),
        (LiquidPPO, ppo, lambda: make_vec_env("CartPole-v1", 2, seed=3), 70),
        (LiquidPPO, ppo, much_wrapped, 150),
        (LiquidSAC, sac, lambda: make_vec_env("Pendulum-v1", 2, seed=3), 70),
        pytest.param(
            LiquidSAC,
            sac,
            lambda: VecMonitor(robots(task="Hopper-v5")),
            150,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_environments_of_sb3_and_gymnasium_are_taken_up_where_they_were(
    kind: type[Any], make: Callable[..., Any], env: Callable[[], Any], after: int, tmp_path: Path
) -> None:
    def train(*callbacks: BaseCallback) -> Any:
        return make(env()).learn(TOTAL, list(callbacks))

    expected = train()
    manager = CheckpointManager(tmp_path)
    with pytest.raises(KilledError):
        train(ResumeCallback(manager, EVERY), Kill(after))
    again = kind.resume(tmp_path, env())
    assert 0 < again.num_timesteps <= after
    again.learn(TOTAL - again.num_timesteps, reset_num_timesteps=False)
    mine, theirs = state_of(again), state_of(expected)
    assert [name for name, value in theirs.items() if not mine[name].equal(value)] == []
    assert [each["r"] for each in again.ep_info_buffer] == [
        each["r"] for each in expected.ep_info_buffer
    ]


@pytest.mark.parametrize(
    ("noise", "warning"),
    [
        (NormalActionNoise(np.zeros(1), np.ones(1)), None),
        (OrnsteinUhlenbeckActionNoise(np.zeros(1), np.ones(1)), "OrnsteinUhlenbeckActionNoise is"),
    ],
)
def test_noise_goes_on_exactly_or_is_named(noise: Any, warning: str | None, tmp_path: Path) -> None:
    expected = sac(robots(), action_noise=deepcopy(noise)).learn(160, ResumeCallback(tmp_path, 128))
    silent = warnings.catch_warnings(action="error")
    with pytest.warns(UserWarning, match=warning) if warning else silent:
        again = LiquidSAC.resume(tmp_path, robots(), custom_objects={"action_noise": noise})
    again.learn(160 - again.num_timesteps, reset_num_timesteps=False)
    mine, theirs = state_of(again), state_of(expected)
    exact = all(mine[name].equal(value) for name, value in theirs.items())
    assert exact == (warning is None)


def forged(contents: Contents, group: str, name: str, value: Any) -> Contents:
    """The same with one tensor of the training in another's place; None removes it."""
    key = f"training.{group}"
    tensors = dict(contents.tensors[key])
    tensors.pop(name, None)
    if value is not None:
        tensors[name] = torch.as_tensor(value)
    return replace(contents, tensors={**contents.tensors, key: tensors})


@pytest.fixture(scope="module")
def begun() -> dict[str, Contents]:
    """Trainings of both agents, in batched environments and in those of SB3."""
    return {
        "ppo": ppo(robots()).learn(64).state_dict(training=True),
        "sac": sac(robots()).learn(160).state_dict(training=True),
        "sb3": ppo(make_vec_env(TASK, 2, seed=3)).learn(64).state_dict(training=True),
    }


def resumed(kind: str, contents: Contents, folder: Path) -> Any:
    CheckpointManager(folder).save(1, contents)
    env = make_vec_env(TASK, 2, seed=3) if kind == "sb3" else robots()
    return (LiquidSAC if kind == "sac" else LiquidPPO).resume(folder, env)


PHYSICS = "2.InvertedPendulumEnv"


@pytest.mark.parametrize(
    ("kind", "group", "name", "value"),
    [
        ("ppo", "episodes", "state", torch.zeros(2, 3)),
        ("ppo", "episodes", "state", torch.full((2, 16), torch.nan)),
        ("ppo", "episodes", "step_wait", torch.zeros(2)),
        ("ppo", "episodes", "discounted", torch.zeros(3)),
        ("ppo", "more", "numbers", torch.zeros(3)),
        ("ppo", "observations", "observation.observation", torch.zeros(2, 9)),
        ("ppo", "observations", "observation.elapsed_time", torch.full((2, 1), torch.nan)),
        ("ppo", "observations", "starts", torch.zeros(2)),
        ("ppo", "observations", "starts", None),
        ("ppo", "statistics", "r", torch.full((4,), torch.inf)),
        ("ppo", "generators", "numpy.place", 10**6),
        ("ppo", "environment", "0.BatchedVecEnv.ticks", torch.tensor([10**9, 0])),
        ("ppo", "environment", "0.BatchedVecEnv.jnt_dofadr", torch.tensor([5 * 10**8])),
        ("ppo", "environment", "step_wait", torch.zeros(2)),
        ("sac", "episodes", "actions", torch.zeros(2, 2)),
        ("sac", "episodes", "actions", None),
        ("sac", "replay", "position", torch.tensor([-1, 10])),
        ("sac", "replay", "newest", torch.tensor([2**60, 10])),
        ("sac", "replay", "oldest", torch.tensor([10**6, 0])),
        ("sac", "replay", "begin", torch.full((60, 2), 10**9)),
        ("sac", "replay", "length", torch.full((60, 2), 10**9)),
        ("sac", "replay", "length", torch.zeros(60, 2, dtype=torch.int64)),
        ("sac", "replay", "age", torch.tensor([10**9, 0])),
        ("sac", "replay", "states", torch.zeros(15, 2, 3)),
        ("sac", "replay", "slots", torch.full((60, 2, 9), torch.nan)),
        ("sb3", "environment", f"{PHYSICS}.physics", torch.tensor([1e300])),
        ("sb3", "environment", f"{PHYSICS}.xpos", torch.full((3, 3), torch.nan)),
        ("sb3", "environment", f"{PHYSICS}.jnt_dofadr", torch.tensor([5 * 10**8])),
        ("sb3", "environment", f"{PHYSICS}.generator", torch.zeros(6)),
        ("sb3", "environment", "1.Monitor.rewards", torch.tensor([torch.nan])),
        ("sb3", "environment", "2.TimeLimit._elapsed_steps", torch.tensor(-1)),
        ("sb3", "environment", "0.DummyVecEnv.step_wait", torch.tensor(1)),
    ],
)
def test_a_forged_training_is_refused(
    kind: str, group: str, name: str, value: Any, begun: dict[str, Contents], tmp_path: Path
) -> None:
    contents = begun[kind]
    contents = replace(contents, tensors={f"training.{group}": {}, **contents.tensors})
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        resumed(kind, forged(contents, group, name, value), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"logs": {"progress.csv": -2}},
        {"logs": {"events.out.tfevents.1": -1}},
        {"logs": []},
        {"pending": {"rollout/x": {"count": 1}}},
        {"pending": {"x": {"count": 1, "exclude": [], "value": {}}}},
        {"unknown": "nothing"},
    ],
)
def test_forged_notes_are_refused(
    change: dict[str, Any], begun: dict[str, Contents], tmp_path: Path
) -> None:
    contents = begun["ppo"]
    data = {**contents.data, "training": {**contents.data["training"], **change}}
    if "unknown" in change:  # an agent with more than was asked for
        data["training"]["version"] = None
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        resumed("ppo", replace(contents, data=data), tmp_path)


def test_an_older_training_is_refused_by_its_version_and_its_agent_loads(
    begun: dict[str, Contents], tmp_path: Path
) -> None:
    contents = begun["ppo"]
    old = {"episodes": {}, "logs": {}, "pending": {}}
    agent = {key: of for key, of in contents.data["agent"].items() if key != "policy"}
    contents = replace(contents, data={**contents.data, "agent": agent, "training": old})
    with pytest.raises(CheckpointError, match="version 1, and this program resumes 2; load"):
        resumed("ppo", contents, tmp_path)
    write(tmp_path / "old.zip", contents)
    assert LiquidPPO.load(tmp_path / "old.zip").num_timesteps == 64


@pytest.mark.skipif(os.name != "posix", reason="fork")
def test_where_the_state_of_an_environment_is_out_of_sight_its_episodes_start_anew(
    tmp_path: Path,
) -> None:
    def workers() -> Any:
        return SubprocVecEnv([one_robot], "fork")

    agent = ppo(workers()).learn(48, ResumeCallback(tmp_path, 16))
    agent.env.close()
    with pytest.warns(
        UserWarning, match=r"the state of .*SubprocVecEnv is unknown, so all episodes restart"
    ):
        again = LiquidPPO.resume(tmp_path, workers())
    assert again.num_timesteps == 32
    again.learn(16, reset_num_timesteps=False)
    again.env.close()
