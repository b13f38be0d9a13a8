"""Reference scores put the scores of different tasks on one scale."""

from __future__ import annotations

import numpy as np
import pytest

from liquid_control import envs
from liquid_control.sweeps.references import Reference, reference_of, references


@pytest.mark.parametrize("task", sorted(references()))
def test_random_actions_are_0_and_the_reference_is_1(task: str) -> None:
    known = references()[task]
    assert np.isfinite(known.random)
    if known.reference is None:
        assert known.source == ""
        assert reference_of(task) is None
        with pytest.raises(ValueError, match="no reference"):
            known.normalise(np.zeros(1))
        return
    assert known.source
    assert known.reference > known.random
    ends = np.array([known.random, (known.random + known.reference) / 2, known.reference])
    assert known.normalise(ends) == pytest.approx([0, 0.5, 1])


def test_there_is_a_score_of_random_actions_for_every_task_of_gymnasium() -> None:
    import gymnasium

    mujoco = {
        name
        for name, spec in gymnasium.registry.items()
        if "gymnasium.envs.mujoco" in str(spec.entry_point) and spec.version == 5
    }
    assert mujoco == references().keys()


def test_an_unknown_task_has_no_reference() -> None:
    assert reference_of("MyRobot-v0") is None


def test_the_score_of_random_actions_is_that_of_the_environment() -> None:
    env = envs.make("InvertedPendulum-v5")
    returns = []
    for seed in range(100):
        env.reset(seed=seed)
        env.action_space.seed(seed)
        total, ended = 0.0, False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, ended = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    assert np.mean(returns) == pytest.approx(references()["InvertedPendulum-v5"].random, rel=0.01)


def test_differences_keep_their_sign() -> None:
    scale = Reference(-10.0, 90.0, "made up")
    assert scale.normalise(np.array([-60.0, 190.0])) == pytest.approx([-0.5, 2.0])
