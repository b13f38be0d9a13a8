"""Options that cannot work are refused by constructors, files and recipes alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from liquid_control import LiquidPPO, LiquidSAC
from liquid_control.recipes import RecipeError, build_agent, build_env, load_recipe
from liquid_control.wiring import Wiring


@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda")], ids=str)
@pytest.mark.parametrize("kind", [LiquidPPO, LiquidSAC])
def test_a_gpu_that_is_not_there_is_not_replaced_in_silence(
    kind: type[Any], device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = f'device \'{device}\' is missing: CUDA finds no GPU here; use "cpu" or "auto"'
    with pytest.raises(ValueError, match=message):
        kind("LiquidPolicy", "InvertedPendulum-v5", device=device)
    model = kind("LiquidPolicy", "InvertedPendulum-v5", device="auto")
    assert model.device.type == "cpu"
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=message):
        kind.load(tmp_path / "model", device=device)


def test_a_gpu_beyond_those_that_are_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cuda:2", "cuda:127", "cuda:128", "cuda:255", "cuda:256", "cuda:999"):
        with pytest.raises(ValueError, match=f"'{device}' is missing: CUDA finds 2 GPUs here"):
            LiquidPPO("LiquidPolicy", "InvertedPendulum-v5", device=device)


def test_a_recipe_that_asks_for_a_gpu_fails_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "recipe.yaml").write_text(
        "task: InvertedPendulum-v5\nagent: {total_timesteps: 10, device: cuda}\n"
    )
    recipe = load_recipe(tmp_path / "recipe.yaml")
    with pytest.raises(RecipeError, match="device 'cuda' is missing"):
        build_agent(recipe, build_env(recipe))


@pytest.mark.parametrize("frequency", [0, -1, (0, "step"), (-(2**63), "episode")])
def test_training_is_not_due_every_less_than_one_step(frequency: Any) -> None:
    with pytest.raises(ValueError, match="train_freq must be greater than 0"):
        LiquidSAC("LiquidPolicy", "InvertedPendulum-v5", train_freq=frequency)


@pytest.mark.parametrize(
    ("agent", "arguments", "message"),
    [
        (LiquidPPO, {"normalize_observations": "False"}, "must be True or False, got 'False'"),
        (LiquidPPO, {"n_epochs": 1.5}, "n_epochs must be an integer, got 1.5"),
        (LiquidPPO, {"batch_size": "64"}, "batch_size must be an integer or None, got '64'"),
        (LiquidPPO, {"gamma": None}, "gamma must be a number, got None"),
        (LiquidPPO, {"clip_range": [0.2]}, r"clip_range must be a number or a schedule, got \[0.2"),
        (LiquidPPO, {"policy_kwargs": {"neurons": ["cfc"]}}, "neurons must be a string"),
        (LiquidPPO, {"policy_kwargs": {"log_std_init": "x"}}, "log_std_init must be a number"),
        (LiquidSAC, {"burn_in": True}, "burn_in must be an integer, got True"),
        (LiquidSAC, {"recurrent_learning_rate": "3e-4"}, "a number or a schedule or None"),
        (LiquidSAC, {"ent_coef": None}, "ent_coef must be a number or a string, got None"),
        (LiquidSAC, {"policy_kwargs": {"share_encoder": "yes"}}, "share_encoder must be True or"),
    ],
)
def test_values_of_other_types_are_refused(
    agent: type[LiquidPPO | LiquidSAC], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        agent("LiquidPolicy", "InvertedPendulum-v5", **arguments)


@pytest.mark.parametrize("name", ["ent_coef", "target_entropy"])
@pytest.mark.parametrize("text", ["automatic", "auto_", "nan", ""])
def test_words_other_than_auto_are_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be 'auto'.* or a number.*, got '{text}'"):
        LiquidSAC("LiquidPolicy", "InvertedPendulum-v5", **{name: text})


@pytest.mark.parametrize("text", ["-0.5", "auto_-1"])
def test_a_coefficient_in_words_is_not_negative(text: str) -> None:
    with pytest.raises(ValueError, match=f"or a number of at least 0, got '{text}'"):
        LiquidSAC("LiquidPolicy", "InvertedPendulum-v5", ent_coef=text)


def test_numbers_of_numpy_are_numbers() -> None:
    model = LiquidPPO(
        "LiquidPolicy",
        "InvertedPendulum-v5",
        learning_rate=np.float64(1e-3),
        n_steps=np.int64(64),
        normalize_advantage=np.bool_(True),
    )
    assert model.n_steps == 64
    with pytest.raises(ValueError, match="gamma must be at most 1"):
        LiquidPPO("LiquidPolicy", "InvertedPendulum-v5", gamma=np.float32(1.5))


@pytest.mark.parametrize("agent", [LiquidPPO, LiquidSAC])
@pytest.mark.parametrize(
    ("policy_kwargs", "message"),
    [
        ({"neuron": "cfc"}, "unexpected keyword argument 'neuron'; did you mean 'neurons'?"),
        ({"net_arch": [64]}, "unexpected keyword argument 'net_arch'; it takes neurons, wiring, "),
        ("neurons=cfc", "policy_kwargs must be a dict of arguments, got 'neurons=cfc'"),
    ],
)
def test_options_that_policies_do_not_have_are_named(
    agent: type[LiquidPPO | LiquidSAC], policy_kwargs: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        agent("LiquidPolicy", "Pendulum-v1", policy_kwargs=policy_kwargs)


@pytest.mark.parametrize("agent", [LiquidPPO, LiquidSAC])
def test_an_agent_without_an_environment_says_so(
    agent: type[LiquidPPO | LiquidSAC], tmp_path: Path
) -> None:
    agent("LiquidPolicy", "Pendulum-v1", seed=np.int64(1)).save(tmp_path / "agent")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"this {agent.__name__} has no environment to train in"):
        agent.load(tmp_path / "agent").learn(64)


@pytest.mark.parametrize("agent", [LiquidPPO, LiquidSAC])
def test_the_learning_rate_is_the_agents(agent: type[LiquidPPO | LiquidSAC]) -> None:
    policy_kwargs = {"optimizer_kwargs": {"lr": 1e-3}}
    with pytest.raises(ValueError, match="set the agent's learning_rate instead"):
        agent("LiquidPolicy", "Pendulum-v1", policy_kwargs=policy_kwargs)


@pytest.mark.parametrize("agent", [LiquidPPO, LiquidSAC])
def test_the_automatic_device_is_the_cpu_except_for_images(
    agent: type[LiquidPPO | LiquidSAC], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The device "meta", which computes nothing, stands for a GPU."""
    meta = torch.device("meta")
    monkeypatch.setattr("liquid_control.policies.device.get_device", lambda name: meta)
    model = agent("LiquidPolicy", "Pendulum-v1")
    model.save(tmp_path / "agent")
    assert model.device == agent.load(tmp_path / "agent").device == torch.device("cpu")
    asked = []
    monkeypatch.setattr(
        agent, "choose_device", staticmethod(lambda *given: asked.append(given) or "cpu")
    )
    agent("LiquidPolicy", "Pendulum-v1")
    agent.load(tmp_path / "agent")
    assert asked[0] == asked[1] == ("auto", model.observation_space)
    monkeypatch.undo()
    monkeypatch.setattr("liquid_control.policies.device.get_device", lambda name: meta)
    image = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    assert agent.choose_device("auto", spaces.Dict({"camera": image})) == meta
    assert agent.choose_device("cpu", image) == "cpu"


def test_numpy_numbers_of_neurons_are_numbers() -> None:
    def wiring(neurons: object) -> Wiring:
        options = {"wiring": {"kind": "auto_ncp", "neurons": neurons}}
        return LiquidPPO(
            "LiquidPolicy", "Pendulum-v1", policy_kwargs=options
        ).policy.actor_circuit.wiring

    plain, numpy = wiring(16), wiring(np.int64(16))
    assert plain.motor_count == numpy.motor_count == 8
    np.testing.assert_array_equal(plain.recurrent, numpy.recurrent)
