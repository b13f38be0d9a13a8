"""Tasks declare the types of their arguments, and nothing is imported to know them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest

from liquid_control import envs
from liquid_control.envs.arguments import declared_arguments
from liquid_control.envs.tasks import GYMNASIUM
from liquid_control.envs.tasks.pendulums import InvertedPendulum

TASKS = {
    name: task
    for name, spec in gym.registry.items()
    for env, task in GYMNASIUM.items()
    if spec.entry_point == f"{env.__module__}:{env.__name__}"
}


@dataclasses.dataclass(frozen=True)
class Mine(InvertedPendulum):
    effort: float = 1.0
    range: tuple[float, float] | None = None
    log: str = ""
    path: Path | None = None


@pytest.fixture
def mine() -> Iterator[str]:
    envs.register("Mine-v0", Mine, model="mine.xml", frame_skip=2)
    yield "Mine-v0"
    del gym.registry["Mine-v0"]


def test_every_batched_task_of_gymnasium_is_known() -> None:
    assert set(TASKS.values()) == set(GYMNASIUM.values())


@pytest.mark.parametrize("name", sorted(TASKS))
def test_gymnasium_takes_the_declared_arguments(name: str) -> None:
    declared = declared_arguments(name)
    assert {"frame_skip", "max_episode_steps"} < declared.keys()
    assert not {"xml_file", "render_mode"} & declared.keys()
    fields = {field.name: field.default for field in dataclasses.fields(TASKS[name])}
    envs.make(name, **{key: fields[key] for key in declared.keys() & fields.keys()}).close()


def test_a_registered_task_declares_its_numbers_and_no_text(mine: str) -> None:
    own = declared_arguments(mine).keys() - declared_arguments("InvertedPendulum-v5").keys()
    assert own == {"effort", "range"}


@pytest.mark.parametrize("name", ["HalfCheetah-v4", "NoSuchTask-v0", "", "::", "CartPole-v1"])
def test_other_tasks_declare_the_length_of_episodes(name: str) -> None:
    assert declared_arguments(name).keys() == {"max_episode_steps"}


def test_the_module_in_front_of_a_task_is_not_imported() -> None:
    sys.modules.pop("this", None)
    assert "frame_skip" in declared_arguments("this:InvertedPendulum-v5")
    assert "this" not in sys.modules
