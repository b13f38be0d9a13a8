"""Workers in recipes: keys, blocks that are set beside them, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from liquid_control import WorkerVecEnv
from liquid_control.commands.run_folder import Run
from liquid_control.commands.run_state import RunState, check_changes
from liquid_control.recipes import (
    CommandError,
    Recipe,
    RecipeError,
    build_agent,
    build_training_env,
    load_recipe,
)

RECIPE = Path("configs/inverted_pendulum/ncp_ppo.yaml")  # of 16 environments


def recipe(*overrides: str) -> Recipe:
    return load_recipe(RECIPE, overrides)


def test_workers_have_blocks_that_the_written_recipe_keeps(tmp_path: Path) -> None:
    assert recipe().env.block is None
    chosen = recipe("env.workers=2")
    assert chosen.env.block == 4
    (tmp_path / "recipe.yaml").write_text(chosen.to_yaml())
    assert load_recipe(tmp_path / "recipe.yaml") == chosen
    assert recipe("env.workers=8", "env.block=2").env.block == 2
    assert recipe("env.workers=0", "env.num_envs=6").env.block == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["env.workers=3"], r"env\.workers: 4 blocks of 4 .* among 3 workers; use 1, 2, 4"),
        (["env.workers=-1"], r"env\.workers: .*greater than or equal to 0, got -1"),
        (["env.workers=1.5"], r"env\.workers: .*integer.*got 1.5"),
        (["env.workers=0", "env.block=3"], r"env\.block: 16 environments .* blocks of 3, got 3"),
        (["env.block=4"], "env: block is for workers; set workers too, 0 to"),
        (["env.workers=2", "env.engine=dask"], r"env\.engine: .*'ray', got 'dask'"),
        (["env.workers=2", "env.worker_cpus=0"], r"env\.worker_cpus: .*greater than 0, got 0"),
        (["env.workers=2", "env.address=''"], r"env\.address: .*got "),
    ],
)
def test_what_cannot_be_is_one_line_with_its_key(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        recipe(*overrides)
    assert "\n" not in str(error.value)


def test_an_address_where_nothing_answers_is_one_line() -> None:
    pytest.importorskip("ray")
    with pytest.raises(RecipeError, match=r"env\.address: '127\.0\.0\.1:1': nothing answers") as e:
        build_training_env(recipe("env.workers=2", "env.address=127.0.0.1:1"))
    assert "\n" not in str(e.value)


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RecipeError, match=r"env\.engine: .*liquid-control\[ray\].*workers=0"):
        build_training_env(recipe("env.workers=2"))
    build_training_env(recipe("env.workers=0")).close()


def test_a_task_without_physics_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"task: .*CartPole-v1 has no MuJoCo physics"):
        build_training_env(
            recipe("task=CartPole-v1", "env.workers=0", "env.interval=null", "env.observe=full")
        )


def test_environments_are_those_of_the_recipe() -> None:
    env = build_training_env(recipe("env.workers=0", "seed=7"))
    assert isinstance(env, WorkerVecEnv)
    agent = build_agent(recipe("env.workers=0", "seed=7"), env)
    assert (env.num_envs, env.block) == (16, 4)
    assert agent.policy.nominal_interval == pytest.approx(0.04)
    assert not isinstance(build_training_env(recipe()), WorkerVecEnv)


def test_a_run_may_change_its_workers_but_not_its_blocks(tmp_path: Path) -> None:
    before = recipe("env.workers=4")
    state = RunState(status="interrupted", steps=1, recipe=before.model_dump(mode="json"))
    check_changes(
        state, recipe("env.workers=2", "env.address=auto", "env.worker_cpus=0.5"), Run(tmp_path)
    )
    for other in (recipe("env.workers=4", "env.block=2"), recipe()):
        with pytest.raises(CommandError, match=r"env\.block was 4, now"):
            check_changes(state, other, Run(tmp_path))
