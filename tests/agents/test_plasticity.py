"""Agents that go on learning by their readout alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env

from liquid_control import LiquidPPO
from tests.agents.tasks import Recall

CRITICS = ("twin", "shared", "mlp")
FROZEN = ("circuit.", "encoder.")


def build(critic: str = "mlp", **options: Any) -> LiquidPPO:
    return LiquidPPO(
        "LiquidPolicy",
        make_vec_env(Recall, n_envs=4, seed=0),
        n_steps=16,
        batch_size=32,
        n_epochs=2,
        seed=0,
        device="cpu",
        policy_kwargs={
            "wiring": {"kind": "dense", "neurons": 8},
            "encoder": [6],
            "critic": critic,
            "critic_layers": [4],
            "neuron_kwargs": {"output_mapping": "affine", **options},
        },
    )


def weights(model: LiquidPPO) -> dict[str, np.ndarray]:
    return {name: each.detach().numpy().copy() for name, each in model.policy.named_parameters()}


def is_frozen(name: str) -> bool:
    return any(part in name for part in FROZEN) and "output_mapping" not in name


@pytest.mark.parametrize("critic", CRITICS)
def test_what_reads_the_circuits_learns_and_they_do_not(critic: str) -> None:
    model = build(critic).learn(64)
    before = weights(model)
    model.set_plasticity("readout")
    model.learn(128)
    after = weights(model)
    changed = {name for name in after if not np.array_equal(after[name], before[name])}
    # The mapping of a critic's circuit reads nothing: its head sees all neurons as they are.
    expected = {
        name for name in after if not is_frozen(name) and "critic.body.circuit.output" not in name
    }
    assert changed == expected
    assert any(map(is_frozen, after))
    model.set_plasticity("full")
    model.learn(64)
    still = {name for name, each in weights(model).items() if np.array_equal(each, after[name])}
    assert not any("recurrent" in name or "encoder" in name for name in still)


def test_it_is_the_same_as_to_build_it_so() -> None:
    model, other = build(), build(plasticity="readout")
    other.policy.load_state_dict(model.policy.state_dict())
    model.set_plasticity("readout")
    for each in (model, other):
        each.set_random_seed(3)
        each.learn(128)
    for name, each in weights(model).items():
        np.testing.assert_array_equal(weights(other)[name], each, err_msg=name)


def test_it_is_saved_with_the_agent(tmp_path: Path) -> None:
    model = build().learn(64)
    model.set_plasticity("readout")
    model.learn(64)
    model.save(tmp_path / "agent")
    loaded = LiquidPPO.load(tmp_path / "agent", env=make_vec_env(Recall, n_envs=4, seed=1))
    before = weights(loaded)
    loaded.learn(64)
    for name, each in weights(loaded).items():
        assert np.array_equal(each, before[name]) == is_frozen(name), name


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="plasticity must be one of 'full', 'readout', got 'none'"):
        build().set_plasticity("none")
