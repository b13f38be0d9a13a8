"""The driver: what it starts, watches, starts again and gives up, with commands that are played."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from liquid_control.checkpoints.signals import StopRequest
from liquid_control.commands.run_folder import Run as Folder
from liquid_control.commands.run_folder import in_use
from liquid_control.recipes import Recipe, load_recipe
from liquid_control.sweeps import driver
from liquid_control.sweeps.driver import RETRIES, Driver, Run
from liquid_control.sweeps.engines import LOST
from liquid_control.sweeps.progress import CLAIM, claim
from liquid_control.sweeps.sources import Grid, Outcome
from liquid_control.sweeps.study import Job, Study
from liquid_control.sweeps.worker import Command

RECIPE = Path(__file__).parents[2] / "configs/inverted_pendulum/ncp_ppo.yaml"
STEPS = 100
Play = Callable[[Path], int | None]
"""One look at a process: writes into the run's folder; returns the exit code or None."""


class Actor:
    """A process that plays one look after the other, and the last one for ever."""

    def __init__(self, folder: Path, looks: Sequence[Play]) -> None:
        self.folder, self.looks = folder, list(looks)
        self.asked_to_stop = False

    def poll(self) -> int | None:
        if self.asked_to_stop:
            return 130
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return look(self.folder)

    def stop(self) -> None:
        self.asked_to_stop = True


class Stage:
    """An engine whose processes are played; records what was started, and how many at once."""

    def __init__(self, play: Callable[[Path, int], Sequence[Play]]) -> None:
        self.play = play
        self.started: list[Path] = []
        self.actors: list[Actor] = []
        self.most = 0

    def capacity(self) -> int:
        return 2

    def start(self, command: Command) -> Actor:
        folder = command.output.parent
        self.started.append(folder)
        self.actors.append(Actor(folder, self.play(folder, self.started.count(folder))))
        return self.actors[-1]

    def close(self) -> None:
        pass


def works(folder: Path) -> None:
    """Leave nothing: the training is under way."""


def checkpoints(step: int) -> Play:
    def play(folder: Path) -> None:
        (folder / "checkpoints" / f"step-{step:012d}").mkdir(parents=True)

    return play


def finishes(folder: Path) -> int:
    state = {"status": "finished", "steps": STEPS}
    (folder / "run.json").write_text(json.dumps(state))
    return 0


def exits(code: int) -> Play:
    return lambda _: code


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "POLL", 0.0)


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(RECIPE, [f"agent.total_timesteps={STEPS}"])


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study.begin(tmp_path / "study", "grid", {}, (0,), "")


@pytest.fixture
def sweep(study: Study, recipe: Recipe) -> Callable[..., tuple[list[Run], Stage]]:
    """Return a function that drives a grid of one recipe."""

    def drive(
        play: Callable[[Path, int], Sequence[Play]],
        seeds: Sequence[int] = (0,),
        limit: int = 2,
        stop: StopRequest | None = None,
    ) -> tuple[list[Run], Stage]:
        stage = Stage(play)

        def show(runs: list[Run]) -> None:
            stage.most = max(stage.most, sum(run.process is not None for run in runs))

        grid = Grid(study, {"a": recipe}, seeds)
        request = StopRequest() if stop is None else stop
        return Driver(study, grid, stage, limit, show).run(request), stage

    return drive


Sweep = Callable[..., tuple[list[Run], Stage]]


def test_every_run_is_trained_once_and_no_more_than_the_limit_at_a_time(sweep: Sweep) -> None:
    runs, stage = sweep(lambda *_: [works, works, finishes], seeds=range(5), limit=2)
    assert [run.state for run in runs] == ["finished"] * 5
    assert [folder.name for folder in stage.started] == ["0", "1", "2", "3", "4"]
    assert stage.most == 2


def test_finished_runs_are_not_trained_again(sweep: Sweep) -> None:
    sweep(lambda *_: [finishes], seeds=(0, 1))
    runs, stage = sweep(lambda *_: [finishes], seeds=(0, 1, 2))
    assert [folder.name for folder in stage.started] == ["2"]
    assert {run.state for run in runs} == {"finished"}


def test_a_lost_run_goes_on_and_is_given_up_after_failures_without_a_checkpoint(
    sweep: Sweep,
) -> None:
    runs, stage = sweep(lambda *_: [works, exits(LOST)])
    assert runs[0].state == "failed"
    assert len(stage.started) == 1 + RETRIES


def test_new_checkpoints_renew_the_patience(sweep: Sweep) -> None:
    def play(_: Path, attempt: int) -> Sequence[Play]:
        last = exits(LOST) if attempt < 10 else finishes
        return [checkpoints(attempt), last]

    runs, stage = sweep(play)
    assert runs[0].state == "finished"
    assert len(stage.started) == 10


def test_a_run_that_cannot_work_is_given_up_at_once_and_the_others_go_on(sweep: Sweep) -> None:
    runs, stage = sweep(
        lambda folder, _: [exits(2) if folder.name == "1" else finishes], seeds=(0, 1, 2)
    )
    assert [run.state for run in runs] == ["finished", "failed", "finished"]
    assert len(stage.started) == 3


def test_a_run_that_fails_after_it_began_is_tried_again(sweep: Sweep) -> None:
    """With the exit code of an invalid recipe, as when the disk is full."""

    def begins(folder: Path) -> int:
        (folder / "run.json").write_text(json.dumps({"status": "training", "steps": 0}))
        return 2

    runs, stage = sweep(lambda _, attempt: [begins if attempt == 1 else finishes])
    assert runs[0].state == "finished"
    assert len(stage.started) == 2


def claimed(folder: Folder) -> FileLock:
    """The lock of another driver, which is about to start the run."""
    return FileLock(folder.folder / CLAIM)


@pytest.mark.parametrize("hold", [in_use, claimed])
def test_a_run_of_another_process_is_waited_for(
    hold: Callable[[Folder], AbstractContextManager[object]],
    sweep: Sweep,
    study: Study,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = study.folder / "a" / "0"
    folder.mkdir(parents=True)
    waits = 0
    lock = hold(Folder(folder))
    lock.__enter__()

    def sleep(_: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 5:
            finishes(folder)
            lock.__exit__(None, None, None)

    monkeypatch.setattr(driver.time, "sleep", sleep)
    runs, stage = sweep(lambda *_: [finishes])
    assert waits >= 5
    assert runs[0].state == "finished"
    assert stage.started == []


def test_a_run_belongs_to_the_driver_that_starts_it_until_it_ends(sweep: Sweep) -> None:
    held = []

    def look(folder: Path) -> int | None:
        held.append(claim(folder) is None)
        return finishes(folder)

    (run,), _ = sweep(lambda *_: [look])
    assert held == [True]
    lock = claim(run.job.folder)
    assert lock is not None
    lock.release()


def test_a_run_that_another_process_left_is_taken_over(
    sweep: Sweep, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = study.folder / "a" / "0"
    folder.mkdir(parents=True)
    lock = in_use(Folder(folder))
    lock.__enter__()

    def sleep(_: float) -> None:
        if lock is not None and not stage_left:
            lock.__exit__(None, None, None)
            stage_left.append(True)

    stage_left: list[bool] = []
    monkeypatch.setattr(driver.time, "sleep", sleep)
    runs, stage = sweep(lambda *_: [finishes])
    assert runs[0].state == "finished"
    assert stage.started == [folder]


def test_a_stop_is_passed_on_and_awaited(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()
    monkeypatch.setattr(
        driver.time, "sleep", lambda _: setattr(stop, "signal", signal.Signals.SIGINT)
    )
    runs, stage = sweep(lambda *_: [works], seeds=range(4), limit=2, stop=stop)
    assert [actor.asked_to_stop for actor in stage.actors] == [True, True]
    assert {run.state for run in runs} == {"waiting"}


def test_an_error_of_the_driver_stops_the_trainings(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[Stage] = []
    start = Stage.start

    def fail(self: Stage, command: Command) -> Actor:
        stages.append(self)
        if len(stages) == 2:
            raise OSError(28, "No space left on device")
        return start(self, command)

    monkeypatch.setattr(Stage, "start", fail)
    with pytest.raises(OSError, match="No space"):
        sweep(lambda *_: [works], seeds=range(3))
    assert [actor.asked_to_stop for actor in stages[0].actors] == [True]


class Pruning(Grid):
    """A grid of which the source wants one run to stop."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.outcomes: dict[int, Outcome] = {}

    def to_stop(self) -> list[Job]:
        return [job for job in self.jobs() if job.seed == 1]

    def ended(self, job: Job, outcome: Outcome) -> None:
        self.outcomes[job.seed] = outcome


@pytest.mark.parametrize("limit", [1, 3])
def test_a_run_that_is_not_worth_its_end_is_stopped(
    study: Study, recipe: Recipe, limit: int
) -> None:
    grid = Pruning(study, {"a": recipe}, (0, 1, 2))
    stage = Stage(lambda folder, _: [works, works, works if folder.name == "1" else finishes])
    runs = Driver(study, grid, stage, limit, lambda _: None).run(StopRequest())
    assert [run.state for run in runs] == ["finished", "pruned", "finished"]
    assert grid.outcomes == {0: "finished", 1: "pruned", 2: "finished"}
