"""Search files: ranges in the place of values, and what Optuna makes of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from liquid_control.recipes import CommandError, RecipeError, load_recipe
from liquid_control.sweeps.progress import score_of
from liquid_control.sweeps.search import Search, has_ranges, load_search
from liquid_control.sweeps.sources import PRUNING_CHECKS, Outcome, Trials
from liquid_control.sweeps.study import Job, Study

RECIPE = Path(__file__).parents[2] / "configs/inverted_pendulum/ncp_ppo.yaml"
RANGES = [
    "agent.gae_lambda={float: [0.9, 1.0]}",
    "agent.learning_rate={log: [1e-4, 1e-2]}",
    "agent.n_epochs={int: [2, 8]}",
    "policy.encoder={choice: [[8], [16, 16]]}",
]


def test_a_recipe_is_no_search() -> None:
    assert not has_ranges(RECIPE)
    assert has_ranges(RECIPE, RANGES[:1])
    with pytest.raises(RecipeError, match="needs a range"):
        load_search(RECIPE)


def test_ranges_are_found_at_any_depth_and_their_recipe_takes_what_is_sampled() -> None:
    search = load_search(RECIPE, [*RANGES, "policy.wiring.inter={int: [6, 12]}"])
    assert {each.name: each.kind for each in search.ranges} == {
        "agent.learning_rate": "log",
        "agent.gae_lambda": "float",
        "agent.n_epochs": "int",
        "policy.wiring.inter": "int",
        "policy.encoder": "choice",
    }
    sampled = {
        "agent.learning_rate": 2e-3,
        "agent.gae_lambda": 0.93,
        "agent.n_epochs": 5,
        "policy.wiring.inter": 7,
        "policy.encoder": "[16, 16]",
    }
    recipe = search.recipe(sampled, "trial-0000")
    assert recipe.name == "trial-0000"
    assert recipe.agent.learning_rate == 2e-3
    assert recipe.agent.gae_lambda == 0.93
    assert recipe.agent.n_epochs == 5
    assert recipe.policy.encoder == (16, 16)
    assert recipe.policy.wiring["inter"] == 7


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("agent.gamma={log: [0, 0.9]}", "agent.gamma: log: low must be greater than zero"),
        ("agent.gamma={float: [0.9, 0.8]}", "agent.gamma: float: low must be less than high"),
        ("agent.gamma={float: [0.9]}", "agent.gamma: float takes two numbers"),
        ("agent.gamma={float: [0.9, x]}", "agent.gamma: float takes two numbers"),
        ("agent.n_steps={int: [1.5, 3]}", "agent.n_steps: int takes two whole numbers"),
        ("agent.n_steps={int: [true, 3]}", "agent.n_steps: int takes two whole numbers"),
        ("policy.encoder={choice: []}", "policy.encoder: choice needs at least one value"),
        ("agent.gamma={float: [0.5, 1.5]}", "agent.gamma"),
        ("env.observe={choice: [full, half]}", "env.observe"),
        ("agent.gama={float: [0.5, 0.9]}", "agent.gama"),
        ("agent.gamma={float: [.inf, .inf]}", "agent.gamma"),
        ("seed={int: [0, 9]}", "seed is given by the study, so it cannot be searched"),
        ("name={choice: [a, b]}", "name is given by the study"),
    ],
)
def test_an_impossible_range_is_refused_by_its_key(override: str, words: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_search(RECIPE, [override])
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def search(tmp_path: Path) -> Search:
    pytest.importorskip("optuna")
    path = tmp_path / "search.yaml"
    data = yaml.safe_load(RECIPE.read_text())
    data["agent"]["total_timesteps"] = 1000
    path.write_text(yaml.safe_dump(data))
    return load_search(path, RANGES)


@pytest.fixture
def study(tmp_path: Path, search: Search) -> Study:
    return Study.begin(tmp_path / "study", "search", {"x": {}}, (0, 1), "")


def finish(job: Job, mean: float) -> None:
    """Write what a finished training leaves."""
    job.folder.mkdir(parents=True, exist_ok=True)
    evaluation = {"trained": {"mean_return": mean}, "intervals": [{"mean_return": mean + 2}]}
    (job.folder / "evaluation.json").write_text(json.dumps(evaluation))


def log(job: Job, *rows: tuple[int, float]) -> None:
    """Write the log of a training."""
    job.folder.mkdir(parents=True, exist_ok=True)
    lines = ["time/total_timesteps,rollout/ep_rew_mean", *(f"{step},{mean}" for step, mean in rows)]
    (job.folder / "progress.csv").write_text("\n".join(lines) + "\n")


def optuna_trials(study: Study) -> list[Any]:
    import optuna

    backend = optuna.storages.journal.JournalFileBackend(str(study.folder / "optuna.log"))
    storage = optuna.storages.JournalStorage(backend)
    return list(optuna.load_study(study_name="search", storage=storage).get_trials())


def test_a_trials_score_is_the_mean_over_seeds_and_rates(study: Study, search: Search) -> None:
    trials = Trials(study, search, (0, 1), count=1)
    first, second = trials.more()
    assert trials.more() == []
    assert first.recipe == second.recipe.model_copy(update={"seed": 0})
    for job, mean in ((first, 10.0), (second, 30.0)):
        finish(job, mean)
        trials.ended(job, "finished")
    (trial,) = optuna_trials(study)
    assert trial.value == 21.0
    assert json.loads((study.folder / "trial-0000" / "outcome.json").read_text())["score"] == 21.0
    recipe = load_recipe(study.recipe_path("trial-0000"))
    assert recipe.agent.n_epochs == trial.params["agent.n_epochs"]


def test_a_search_goes_on_with_trials_that_were_under_way(study: Study, search: Search) -> None:
    before = Trials(study, search, (0, 1), count=2)
    jobs = before.more()
    after = Trials(study, search, (0, 1), count=2)
    assert after.jobs() == jobs
    assert len(after.more()) == 2
    assert after.more() == []


def test_drivers_do_not_sample_the_same_values(study: Study, search: Search) -> None:
    one, two = (Trials(study, search, (0,), count=4) for _ in range(2))
    one.more()
    two.more()
    Trials(study, search, (0,), count=4).more()  # a search that goes on
    values = {tuple(trial.params.values()) for trial in optuna_trials(study)}
    assert len(values) == 3


def test_two_drivers_may_end_the_same_trial(study: Study, search: Search) -> None:
    one = Trials(study, search, (0,), count=1)
    (job,) = one.more()
    two = Trials(study, search, (0,), count=1)
    finish(job, 5.0)
    for driver in (one, two):
        driver.ended(job, "finished")
    assert [trial.value for trial in optuna_trials(study)] == [6.0]


def test_a_failed_seed_fails_its_trial_alone(study: Study, search: Search) -> None:
    trials = Trials(study, search, (0, 1), count=2)
    first, second = trials.more()
    finish(second, 1.0)
    trials.ended(first, "failed")
    trials.ended(second, "finished")
    assert [trial.state.name for trial in optuna_trials(study)] == ["FAIL"]
    assert len(trials.more()) == 2


def test_a_poor_trial_is_pruned_by_its_training_returns(study: Study, search: Search) -> None:
    trials = Trials(study, search, (0,), count=7)
    for number in range(5):
        (job,) = trials.more()
        log(job, *((step, 100.0 + number) for step in range(0, 1001, 1000 // PRUNING_CHECKS)))
        assert trials.to_stop() == []
        finish(job, 100.0)
        trials.ended(job, "finished")
    (good,), (poor,) = trials.more(), trials.more()
    log(good, *((step, 200.0) for step in range(0, 501, 1000 // PRUNING_CHECKS)))
    log(poor, *((step, 1.0) for step in range(0, 501, 1000 // PRUNING_CHECKS)))
    assert trials.to_stop() == [poor]
    trials.ended(poor, "pruned")
    assert optuna_trials(study)[6].state.name == "PRUNED"


def test_without_optuna_one_line_says_what_to_install(
    study: Study, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(CommandError, match=r"pip install .liquid-control\[sweep\]"):
        Trials(study, search, (0,), count=1)


def written(study: Study, change: Callable[[list[str]], list[str]]) -> None:
    """Change the lines of Optuna's journal."""
    path = study.folder / "optuna.log"
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


def without_the_last_value(lines: list[str]) -> list[str]:
    """Return a journal as of a driver that was killed while it sampled a trial."""
    assert json.loads(lines[-1])["op_code"] == 5  # Optuna's, for the value of a range
    return lines[:-1]


def cut_off(lines: list[str]) -> list[str]:
    """Return a journal as of a driver whose disk was full."""
    return [*lines[:-1], lines[-1][:20]]


def written_over(lines: list[str]) -> list[str]:
    """Return a journal as of a driver whose disk was full while another one wrote on."""
    return [*lines[:-1], lines[-1][:20] + lines[-1]]


@pytest.mark.parametrize("change", [without_the_last_value, cut_off, written_over])
def test_a_search_goes_on_after_a_trial_that_was_being_sampled(
    study: Study, search: Search, change: Callable[[list[str]], list[str]], monkeypatch: Any
) -> None:
    Trials(study, search, (0,), count=2).more()
    written(study, change)
    after = Trials(study, search, (0,), count=2)  # another driver may still be sampling it
    assert after.jobs() == []
    assert [trial.state.name for trial in optuna_trials(study)] == ["RUNNING"]
    monkeypatch.setattr("liquid_control.sweeps.sources.SAMPLING", timedelta(0))
    again = Trials(study, search, (0,), count=2)
    assert [trial.state.name for trial in optuna_trials(study)] == ["FAIL"]
    (job,) = again.more()
    finish(job, 1.0)
    again.ended(job, "finished")
    assert Trials(study, search, (0,), count=2).more() == []


def test_what_a_killed_driver_left_locks_no_study(study: Study, search: Search) -> None:
    Trials(study, search, (0,), count=2).more()
    (study.folder / "optuna.log.lock").symlink_to("runs/elsewhere/optuna.log")  # Optuna's own lock
    (study.folder / ".optuna.lock").write_text("")
    assert Trials(study, search, (0,), count=2).more()


@pytest.mark.parametrize("line", ["{]", "5", "{}", "[" * 100_000])
def test_a_damaged_journal_is_one_line(study: Study, search: Search, line: str) -> None:
    Trials(study, search, (0,), count=2).more()
    written(study, lambda lines: [f"{line}\n", *lines])
    with pytest.raises(CommandError, match=r"optuna\.log is damaged"):
        Trials(study, search, (0,), count=2)


@pytest.mark.parametrize("outcome", ["pruned", "failed"])
def test_a_trial_that_another_driver_has_ended_is_not_trained_again(
    study: Study, search: Search, outcome: Outcome
) -> None:
    one = Trials(study, search, (0,), count=1)
    (job,) = one.more()
    two = Trials(study, search, (0,), count=1)
    log(job, (500, 1.0))
    assert one.to_stop() == two.to_stop() == []
    log(job, (500, 1.0), (1000, 2.0))  # a training that is asked to stop finishes its rollout
    one.ended(job, outcome)
    before = (study.folder / "trial-0000" / "outcome.json").read_text()
    assert two.to_stop() == [job]
    two.ended(job, "pruned")
    assert two.jobs() == []
    assert (study.folder / "trial-0000" / "outcome.json").read_text() == before


def test_an_evaluation_that_is_no_evaluation_has_no_score(tmp_path: Path) -> None:
    for text in ('{"trained": {"mean_return": 3.0}, "intervals": 5}', "5"):
        (tmp_path / "evaluation.json").write_text(text)
        assert math.isnan(score_of(tmp_path))
