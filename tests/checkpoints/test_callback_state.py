"""Callbacks of SB3 around a kill: logs, evaluations and saved agents are those of one training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from liquid_control import LiquidPPO
from liquid_control.agents import ResumableLogger, ResumeCallback
from liquid_control.checkpoints import CheckpointError, callback_state, read
from tests.checkpoints.test_training_state import POLICY, Kill, KilledError, points, rows

TOTAL, EVERY, EVALUATE = 96, 16, 24  # the last two meet at 48 and 96


class Noted(BaseCallback):
    """A callback with a state of its own, which it logs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0.0

    def _on_step(self) -> bool:
        self.seen += self.num_timesteps
        self.logger.record("noted/seen", self.seen)
        return True

    def state_dict(self) -> dict[str, NDArray[Any]]:
        return {"seen": np.array(self.seen)}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        self.seen = state["seen"].item()


def evaluation(folder: Path, **options: Any) -> EvalCallback:
    return EvalCallback(
        make_vec_env("CartPole-v1", 2, seed=7),
        eval_freq=EVALUATE,
        n_eval_episodes=3,
        log_path=str(folder / "evaluations"),
        best_model_save_path=str(folder / "best"),
        verbose=0,
        callback_after_eval=StopTrainingOnNoModelImprovement(1, min_evals=2),
        **options,
    )


def train(folder: Path, *, resumable_last: bool = False, kill: int | None = None) -> LiquidPPO:
    """Train with callbacks, or go on where a training in the same folder was killed."""
    resumable = ResumeCallback(folder / "checkpoints", EVERY)
    callbacks: list[BaseCallback] = [
        evaluation(folder),
        CheckpointCallback(20, str(folder / "saved")),
        EveryNTimesteps(30, Noted()),
        CallbackList([Noted(), StopTrainingOnMaxEpisodes(1000)]),
        *([] if kill is None else [Kill(kill)]),
    ]
    callbacks.insert(len(callbacks) if resumable_last else 0, resumable)
    env, logger = make_vec_env("CartPole-v1", 1, seed=3), ResumableLogger(folder)
    if (folder / "checkpoints").exists():
        agent = LiquidPPO.resume(folder / "checkpoints", env, logger=logger)
        left = TOTAL - agent.num_timesteps
        return agent.learn(left, callbacks, reset_num_timesteps=False)
    options: dict[str, Any] = {
        "n_steps": 16,
        "n_epochs": 1,
        "policy_kwargs": {"wiring": POLICY["wiring"]},
    }
    agent = LiquidPPO("LiquidPolicy", env, seed=0, **options)
    agent.set_logger(logger)
    return agent.learn(TOTAL, callbacks)


def written(folder: Path) -> dict[str, Any]:
    """All that callbacks left behind."""
    evaluations = np.load(folder / "evaluations" / "evaluations.npz")
    return {
        "rows": rows(folder),
        "points": points(folder),
        "evaluations": {name: evaluations[name].tolist() for name in evaluations},
        "saved": {path.name: weights(path) for path in sorted((folder / "saved").iterdir())},
        "best": weights(folder / "best" / "best_model.zip"),
    }


def weights(path: Path) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in read(path).tensors["policy"].items()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("straight")
    train(folder)
    made = written(folder)
    assert len(made["evaluations"]["timesteps"]) >= 3
    return made


@pytest.mark.parametrize("success", [True, np.float32(1), 1])
def test_successes_of_any_type_are_remembered(success: Any, tmp_path: Path) -> None:
    """Those of Gymnasium-Robotics are numbers."""
    before, after = evaluation(tmp_path), evaluation(tmp_path)
    before.evaluations_successes = [[success, success]]
    callback_state.load_state_dict(after, callback_state.state_dict(before))
    assert after.evaluations_successes == [[1, 1]]


@pytest.mark.parametrize(
    ("kill", "resumable_last"),
    [
        pytest.param(17, False, marks=pytest.mark.slow),  # after our checkpoint
        (24, False),  # after an evaluation was logged
        pytest.param(24, True, marks=pytest.mark.slow),
        pytest.param(40, False, marks=pytest.mark.slow),  # after an agent was saved
        pytest.param(
            48, True, marks=pytest.mark.slow
        ),  # after an evaluation, before our checkpoint
        (49, True),  # after both
    ],
)
def test_killed_anywhere_callbacks_leave_what_they_leave_uninterrupted(
    kill: int, resumable_last: bool, straight: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        train(tmp_path, resumable_last=resumable_last, kill=kill)
    train(tmp_path, resumable_last=resumable_last)
    made = written(tmp_path)
    for name, expected in straight.items():
        assert made[name] == expected, name


def test_an_evaluation_in_an_unknown_environment_is_named(tmp_path: Path) -> None:
    """Which differs from an uninterrupted one; the rest of the state is loaded."""
    callback = evaluation(tmp_path)
    callback.n_calls, callback.last_mean_reward, callback.best_mean_reward = 5, 1.0, 2.0
    callback.eval_env = SubprocVecEnv.__new__(SubprocVecEnv)  # needs no process here
    state = callback_state.state_dict(callback)
    again = evaluation(tmp_path)
    with pytest.warns(UserWarning, match="environment of EvalCallback is unknown"):
        callback_state.load_state_dict(again, state)
    assert (again.n_calls, again.best_mean_reward) == (5, 2.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EvalCallback.0.n_calls", np.array(-1)),
        ("EvalCallback.0.n_calls", np.array(0.5)),
        ("EvalCallback.0.best_mean_reward", np.array(np.nan)),
        ("EvalCallback.0.evaluations_results", np.zeros(3)),
        ("EvalCallback.0.eval_env", np.array(0)),
        ("EvalCallback.0.env.0.DummyVecEnv.envs", np.array(0)),
    ],
)
def test_forged_states_are_refused(name: str, value: NDArray[Any], tmp_path: Path) -> None:
    callback = evaluation(tmp_path)
    before = callback_state.state_dict(callback)
    with pytest.raises(CheckpointError):
        callback_state.load_state_dict(
            callback, {"EvalCallback.0.n_calls": np.array(3), name: value}
        )
    assert callback_state.state_dict(callback).keys() == before.keys()
    assert callback.n_calls == 0
