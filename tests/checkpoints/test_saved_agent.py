"""What is saved of an agent, and what is never loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.utils import LinearSchedule

from liquid_control import LiquidPolicy, LiquidPPO, LiquidSAC
from liquid_control.checkpoints import CheckpointError, Contents, read, write
from liquid_control.checkpoints.sb3_json import space_from_json, space_to_json
from liquid_control.policies import Controller
from liquid_control.policies.observations import PRIVILEGED
from tests.agents.tasks import Recall

WIRING = {"kind": "auto_ncp", "neurons": 8}


def ppo(env: Any = "CartPole-v1", **options: Any) -> LiquidPPO:
    small = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "policy_kwargs": {"wiring": WIRING}}
    return LiquidPPO("LiquidPolicy", env, **{**small, **options})


def sac(env: Any = "Pendulum-v1", **options: Any) -> LiquidSAC:
    small = {"learning_starts": 20, "batch_size": 16, "sequence_length": 4, "burn_in": 2}
    policy = {"policy_kwargs": {"wiring": WIRING, "critic_layers": [8]}, "buffer_size": 500}
    return LiquidSAC("LiquidPolicy", env, **{**small, **policy, **options})


AGENTS: list[Callable[..., Any]] = [ppo, sac]
SCHEDULE = LinearSchedule(1e-3, 1e-4, 0.5)


@pytest.mark.parametrize("make", AGENTS)
def test_a_loaded_agent_is_the_saved_one(make: Callable[..., Any], tmp_path: Path) -> None:
    agent = make(seed=3, learning_rate=SCHEDULE, gamma=0.97).learn(64)
    agent.save(tmp_path / "agent")
    assert [each.name for each in tmp_path.iterdir()] == ["agent.zip"]
    again = type(agent).load(tmp_path / "agent", env=agent.env)
    assert again.policy.state_dict().keys() == agent.policy.state_dict().keys()
    for name, value in agent.policy.state_dict().items():
        assert again.policy.state_dict()[name].equal(value)
    for mine, theirs in zip(
        agent.policy.optimizer.state_dict()["state"].values(),
        again.policy.optimizer.state_dict()["state"].values(),
        strict=True,
    ):
        assert all(mine[key].equal(theirs[key]) for key in mine)
    assert (again.num_timesteps, again._n_updates) == (agent.num_timesteps, agent._n_updates)
    assert (again.gamma, again.seed) == (0.97, 3)
    assert again.lr_schedule(0.75) == agent.lr_schedule(0.75) != agent.lr_schedule(1.0)
    again.learn(32, reset_num_timesteps=False)
    assert again.num_timesteps == agent.num_timesteps + 32


def test_the_entropy_coefficient_is_saved(tmp_path: Path) -> None:
    agent = sac(seed=0).learn(64)
    agent.save(tmp_path / "agent")
    again = LiquidSAC.load(tmp_path / "agent")
    assert agent.log_ent_coef is not None
    assert again.log_ent_coef is not None
    assert again.log_ent_coef.item() == agent.log_ent_coef.item() != 0


@pytest.mark.parametrize("make", AGENTS)
def test_saving_twice_or_loading_between_makes_the_same_file(
    make: Callable[..., Any], tmp_path: Path
) -> None:
    agent = make(seed=0).learn(32)
    agent.save(tmp_path / "one")
    type(agent).load(tmp_path / "one").save(tmp_path / "two")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize("options", [{}, {"share_encoder": True, "encoder": [8]}])
@pytest.mark.parametrize("make", AGENTS)
def test_a_file_of_what_acts_acts_and_is_not_trained(
    make: Callable[..., Any], options: dict[str, Any], tmp_path: Path
) -> None:
    if options and make is ppo:
        options = {"encoder": [8], "critic": "twin"}
    agent = make(seed=3)
    agent = make(seed=3, policy_kwargs={**agent.policy_kwargs, **options}).learn(64)
    path = tmp_path / "acting.zip"
    write(path, agent.state_dict(acts_only=True))
    again = type(agent).load(path, env=agent.env)
    observations = agent.env.reset().repeat(3, axis=0)
    actions = (each.predict(observations, deterministic=True)[0] for each in (agent, again))
    np.testing.assert_array_equal(*actions)
    assert again.num_timesteps == agent.num_timesteps
    with pytest.raises(ValueError, match=r"cannot be trained: the file .* holds no critics"):
        again.learn(32)
    again.save(tmp_path / "again")
    assert (tmp_path / "again.zip").read_bytes() == path.read_bytes()


def test_an_agent_can_take_what_acts_and_keep_its_critics(tmp_path: Path) -> None:
    path, agent, other = tmp_path / "acting.zip", sac(seed=0), sac(seed=1)
    write(path, agent.state_dict(acts_only=True))
    before = deepcopy(other.policy.critic.state_dict())
    other.set_parameters(path, exact_match=False)
    for name, weight in agent.policy.actor.state_dict().items():
        assert other.policy.actor.state_dict()[name].equal(weight)
    assert all(other.policy.critic.state_dict()[name].equal(before[name]) for name in before)
    other.learn(32)
    other.set_parameters(path)
    assert other.acts_only
    agent.save(tmp_path / "whole")
    other.set_parameters(tmp_path / "whole")
    other.learn(32)


def test_what_acts_may_be_smaller_than_a_layer_of_its_critics(tmp_path: Path) -> None:
    agent = sac(policy_kwargs={"wiring": WIRING, "critic_layers": [256, 256]})
    write(tmp_path / "acting.zip", agent.state_dict(acts_only=True))
    assert LiquidSAC.load(tmp_path / "acting.zip").acts_only


@pytest.mark.parametrize("layers", [[2**20], [2**14] * 2, [2**10] * 40])
def test_critics_that_fill_memory_are_refused_where_the_file_lacks_them(
    layers: list[int], tmp_path: Path
) -> None:
    data = deepcopy(sac().state_dict(acts_only=True))
    data.data["agent"]["arguments"]["policy_kwargs"]["critic_layers"] = layers
    write(tmp_path / "agent.zip", data)
    with pytest.raises(CheckpointError, match="critic_layers make critics of"):
        LiquidSAC.load(tmp_path / "agent.zip")


@pytest.mark.parametrize(
    "space",
    [
        {"kind": "discrete", "n": 2**24, "start": 0},
        {"kind": "multi_discrete", "nvec": [2**23, 2**23]},
        {"kind": "multi_binary", "shape": [2**24]},
        {"kind": "box", "shape": [2**24], "dtype": "float32", "low": [0.0], "high": [1.0]},
    ],
)
def test_more_actions_than_weights_are_refused(space: dict[str, Any], tmp_path: Path) -> None:
    data = deepcopy(ppo().state_dict())
    data.data["agent"]["action_space"] = space
    write(tmp_path / "agent.zip", data)
    with pytest.raises(CheckpointError, match="too few for 16777216 actions"):
        LiquidPPO.load(tmp_path / "agent.zip")


@pytest.mark.parametrize("acts_only", [False, True])
def test_far_more_observations_than_weights_are_refused(acts_only: bool, tmp_path: Path) -> None:
    data = deepcopy(sac().state_dict(acts_only=acts_only))
    data.data["agent"]["observation_space"] = {"kind": "discrete", "n": 2**24, "start": 0}
    write(tmp_path / "agent.zip", data)
    with pytest.raises(CheckpointError, match="too few for 16777216 observations"):
        LiquidSAC.load(tmp_path / "agent.zip")


@pytest.mark.parametrize("change", ["missing", "unknown", "shape", "infinite"])
def test_forged_weights_of_what_acts_are_refused(change: str, tmp_path: Path) -> None:
    contents = sac().state_dict(acts_only=True)
    weights = dict(contents.tensors["policy"])
    name = next(key for key in weights if key.startswith("actor."))
    if change == "missing":
        del weights[name]
    elif change == "unknown":
        weights["critic.more"] = torch.zeros(2)
    else:
        weights[name] = weights[name][:1] if change == "shape" else weights[name] / 0.0
    write(tmp_path / "agent.zip", replace(contents, tensors={"policy": weights}))
    with pytest.raises(CheckpointError):
        LiquidSAC.load(tmp_path / "agent.zip")


def test_what_a_file_cannot_hold_is_asked_for(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="cannot hold the learning_rate of this LiquidPPO"):
        ppo(learning_rate=lambda progress: 1e-3 * progress).save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match=r"learning_rate is an object .* custom_objects="):
        LiquidPPO.load(tmp_path / "agent")
    again = LiquidPPO.load(tmp_path / "agent", custom_objects={"learning_rate": 2e-3})
    assert again.lr_schedule(1.0) == 2e-3
    with pytest.warns(UserWarning, match="cannot hold the action_noise of this LiquidSAC"):
        sac(action_noise=NormalActionNoise(np.zeros(1), np.ones(1))).save(tmp_path / "noisy")
    with pytest.raises(CheckpointError, match="action_noise is an object"):
        LiquidSAC.load(tmp_path / "noisy")
    assert LiquidSAC.load(tmp_path / "noisy", action_noise=None).action_noise is None


@pytest.mark.parametrize("name", ["agent", "lr_0.001"])
def test_save_writes_one_file_beside_a_folder_and_over_an_older_one(
    name: str, tmp_path: Path
) -> None:
    """A path without a suffix gets .zip, and any other is taken as it is, as SB3 does."""
    (tmp_path / "agent").mkdir()
    for seed in (0, 1):
        ppo(seed=seed).save(tmp_path / name)
    assert (tmp_path / (name if "." in name else f"{name}.zip")).is_file()
    assert LiquidPPO.load(tmp_path / name).seed == 1
    agent = ppo(seed=2)
    agent.set_parameters(tmp_path / name)
    assert agent.policy.state_dict().keys()


class WithBonus(LiquidPPO):
    """An agent with an argument of its own, which may also be kept under another name."""

    def __init__(self, *args: Any, bonus: Any = 0.0, name: str = "bonus", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name = name
        setattr(self, name, bonus)


class Quiet(WithBonus):
    """A subclass whose constructor passes its keyword arguments to its parent."""

    def __init__(self, policy: Any, env: Any, **kwargs: Any) -> None:
        super().__init__(policy, env, **kwargs)


@pytest.mark.parametrize("kind", [WithBonus, Quiet])
def test_arguments_of_a_subclass_are_saved(kind: type[WithBonus], tmp_path: Path) -> None:
    options: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "policy_kwargs": {"wiring": WIRING}}
    kind("LiquidPolicy", "CartPole-v1", bonus=[1, 2], gamma=0.5, **options).save(tmp_path / "agent")
    again = kind.load(tmp_path / "agent")
    assert (again.bonus, again.gamma, again.n_steps) == ([1, 2], 0.5, 16)  # type: ignore[attr-defined]
    for hidden in ({"bonus": 1.0, "name": "other"}, {"bonus": np.zeros(2)}):
        agent = kind("LiquidPolicy", "CartPole-v1", **hidden, **options)
        with pytest.warns(UserWarning, match=f"cannot hold the bonus of this {kind.__name__}"):
            agent.save(tmp_path / "agent")
        with pytest.raises(CheckpointError, match="bonus is an object that a file cannot hold"):
            kind.load(tmp_path / "agent")
        kind.load(tmp_path / "agent", bonus=np.zeros(2))


@pytest.mark.parametrize("part", [pytest.param("policy", marks=pytest.mark.slow), "policy.actor"])
def test_compiling_changes_no_file(part: str, tmp_path: Path) -> None:
    agent = ppo(seed=0)
    agent.save(tmp_path / "plain")
    owner, _, name = f"agent.{part}".rpartition(".")
    owner = agent if owner == "agent" else agent.policy
    setattr(owner, name, torch.compile(getattr(owner, name)))
    agent.save(tmp_path / "compiled")
    assert (tmp_path / "plain.zip").read_bytes() == (tmp_path / "compiled.zip").read_bytes()
    ppo(seed=1).save(tmp_path / "other")
    agent.set_parameters(tmp_path / "other")
    agent.save(tmp_path / "again")
    weights, expected = read(tmp_path / "again.zip"), read(tmp_path / "other.zip")
    for name, value in expected.tensors["policy"].items():
        assert weights.tensors["policy"][name].equal(value)


@pytest.mark.parametrize("make", AGENTS)
def test_a_file_holds_every_option_of_the_policy(
    make: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that other defaults do not make a file unreadable."""
    make(seed=0).save(tmp_path / "agent")
    options = make().policy.options
    saved = read(tmp_path / "agent.zip").data["agent"]["arguments"]["policy_kwargs"]
    assert saved.keys() >= vars(options).keys()
    assert saved["wiring"].keys() >= {*WIRING, "motor"}
    monkeypatch.setattr("liquid_control.policies.liquid.motor_pool", lambda *_: 3)
    changed: dict[str, Any] = {"encoder": (5,), "critic": "shared", "critic_layers": (3,)}
    for name in changed.keys() & vars(options).keys():
        monkeypatch.setitem(type(options).__init__.__kwdefaults__, name, changed[name])
    with pytest.raises(CheckpointError):
        make().set_parameters(tmp_path / "agent")
    type(make()).load(tmp_path / "agent")


def test_a_file_of_other_defaults_asks_for_them(tmp_path: Path) -> None:
    """Files of older versions hold only those options of the policy that were given."""
    options = {"wiring": WIRING, "critic": "shared"}
    contents = ppo(policy_kwargs=options).state_dict()
    data = deepcopy(dict(contents.data))
    data["agent"]["arguments"]["policy_kwargs"] = {"wiring": WIRING}
    write(tmp_path / "agent.zip", replace(contents, data=data))
    with pytest.raises(
        CheckpointError, match="had other defaults then; pass policy_kwargs: critic"
    ):
        LiquidPPO.load(tmp_path / "agent")
    LiquidPPO.load(tmp_path / "agent", policy_kwargs=options)


def test_what_was_given_to_load_is_named_and_the_file_is_not_blamed(tmp_path: Path) -> None:
    ppo().save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match=r"with the n_steps given: sequence_length must"):
        LiquidPPO.load(tmp_path / "agent", n_steps=24)
    with pytest.raises(CheckpointError, match=r"with the device given: device must be"):
        LiquidPPO.load(tmp_path / "agent", device="gpu")
    with pytest.raises(TypeError, match="LiquidPPO has no argument 'colour'"):
        LiquidPPO.load(tmp_path / "agent", colour="red")
    again = LiquidPPO.load(  # the habit of the Hugging Face hub and of RL Zoo
        tmp_path / "agent",
        custom_objects={"learning_rate": 0.0, "lr_schedule": lambda _: 0.0, "colour": "red"},
        n_steps=24,
        sequence_length=8,
        verbose=1,
    )
    assert (again.learning_rate, again.n_steps, again.verbose) == (0.0, 24, 1)
    assert not hasattr(again, "colour")


def test_a_large_seed_is_no_large_layer(tmp_path: Path) -> None:
    ppo(policy_kwargs={"wiring": {**WIRING, "seed": 2**31 - 1}}).save(tmp_path / "agent")
    LiquidPPO.load(tmp_path / "agent")


def test_a_file_of_sb3_is_loaded_on_trust_only(tmp_path: Path) -> None:
    agent = ppo(seed=0)
    BaseAlgorithm.save(agent, tmp_path / "old.zip")
    with pytest.raises(CheckpointError, match=r"not a liquid_control file.* trust=True"):
        LiquidPPO.load(tmp_path / "old.zip")
    with pytest.raises(CheckpointError, match="trust=True"):
        agent.set_parameters(tmp_path / "old.zip")
    again = LiquidPPO.load(tmp_path / "old.zip", trust=True)
    assert all(
        again.policy.state_dict()[name].equal(value)
        for name, value in agent.policy.state_dict().items()
    )
    agent.set_parameters(tmp_path / "old.zip", trust=True)


class Payload:
    """Leaves a trace if it is ever unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    """SB3 runs it; this is what loading without trust is there to prevent."""
    agent, trace = PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16), tmp_path / "trace"
    agent.payload = Payload(trace)  # type: ignore[attr-defined]
    agent.save(tmp_path / "evil.zip")
    with pytest.raises(CheckpointError):
        LiquidPPO.load(tmp_path / "evil.zip")
    with pytest.raises(CheckpointError):
        ppo().set_parameters(tmp_path / "evil.zip")
    assert not trace.exists()
    PPO.load(tmp_path / "evil.zip")
    assert trace.exists()


@pytest.mark.parametrize("make", AGENTS)
def test_another_agent_or_circuit_is_refused(make: Callable[..., Any], tmp_path: Path) -> None:
    agent = make()
    agent.save(tmp_path / "agent")
    other, theirs = (LiquidSAC, "LiquidPPO") if make is ppo else (LiquidPPO, "LiquidSAC")
    with pytest.raises(CheckpointError, match=f"it holds a {theirs}, and this is {other.__name__}"):
        other.load(tmp_path / "agent")
    larger = make(policy_kwargs={"wiring": {**WIRING, "neurons": 12}})
    before = {name: value.clone() for name, value in larger.policy.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"agent\.zip does not fit this agent: .*"):
        larger.set_parameters(tmp_path / "agent")
    for name, value in larger.policy.state_dict().items():
        assert value.equal(before[name])
    parts = {"policy": dict(list(agent.policy.state_dict().items())[1:])}
    write(
        tmp_path / "less.zip",
        replace(agent.state_dict(), tensors=agent.state_dict().tensors | parts),
    )
    with pytest.raises(CheckpointError, match="differs in"):
        agent.set_parameters(tmp_path / "less.zip")
    with pytest.raises(ValueError, match="spaces do not match"):
        type(agent).load(tmp_path / "agent", env=Recall())


def described_otherwise(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """An agent whose description was changed, and sealed again, as an attacker would."""
    contents = ppo().state_dict()
    data = deepcopy(contents.data)
    change(data["agent"])
    write(path, replace(contents, data=data))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda agent: agent["arguments"]["policy_kwargs"]["wiring"].update(neurons=10**9),
        lambda agent: agent["arguments"]["policy_kwargs"]["wiring"].update(neurons=10**4),
        lambda agent: agent["arguments"]["policy_kwargs"].update(encoder=[10**12]),
        lambda agent: agent["arguments"]["policy_kwargs"].update(neurons="os.system"),
        lambda agent: agent["arguments"]["policy_kwargs"].update(optimizer_class="os.system"),
        lambda agent: agent["arguments"].update(no_argument=1),
        lambda agent: agent["arguments"].update(n_steps="many"),
        lambda agent: agent["arguments"].update(n_epochs=1.5),
        lambda agent: agent["arguments"].update(vf_coef=10**30),
        lambda agent: agent["arguments"].update(clip_range_vf=1e300),
        lambda agent: agent["arguments"].update(
            recurrent_learning_rate={"kind": "linear", "start": 1e300, "end": 0, "end_fraction": 1}
        ),
        lambda agent: agent["arguments"].update(normalize_returns="no"),
        lambda agent: agent["arguments"].update(learning_rate=[1e-3]),
        lambda agent: agent["arguments"].pop("policy_kwargs"),
        lambda agent: agent["arguments"].update(policy_kwargs=None),
        lambda agent: agent["arguments"].update(tensorboard_log="/tmp"),
        lambda agent: agent["counters"].clear(),
        lambda agent: agent["counters"].update(num_timesteps=-1),
        lambda agent: agent["counters"].update(_n_updates=1.5),
        lambda agent: agent["counters"].update(_current_progress_remaining="x"),
        lambda agent: agent.update(n_envs=10**9),
        lambda agent: agent["observation_space"].update(kind="os.system"),
        lambda agent: agent["observation_space"].update(shape=[10**12]),
        lambda agent: agent["observation_space"].update(dtype="O"),
        lambda agent: agent.update(action_space=None),
        lambda agent: agent.clear(),
    ],
)
def test_impossible_agents_are_refused(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    path = described_otherwise(tmp_path / "agent.zip", change)
    with pytest.raises(CheckpointError, match=r"agent\.zip"):
        LiquidPPO.load(path)


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    contents = ppo().state_dict()
    policy = dict(contents.tensors["policy"])
    policy[next(iter(policy))] = torch.zeros(2)
    write(tmp_path / "agent.zip", replace(contents, tensors={**contents.tensors, "policy": policy}))
    with pytest.raises(CheckpointError, match=r"agent\.zip is not loaded"):
        LiquidPPO.load(tmp_path / "agent.zip")
    write(tmp_path / "other.zip", Contents("LiquidPPO", contents.data, {}))
    with pytest.raises(CheckpointError, match=r"other\.zip is not loaded"):
        LiquidPPO.load(tmp_path / "other.zip")


@pytest.fixture(scope="module")
def learned() -> dict[str, Contents]:
    """Trained agents, whose optimizers have moments."""
    return {"ppo": ppo().learn(32).state_dict(), "sac": sac().learn(64).state_dict()}


@pytest.mark.parametrize(
    ("kind", "group", "name", "value"),
    [
        ("ppo", "policy.optimizer", "0.exp_avg", torch.zeros(3)),
        ("ppo", "policy.optimizer", "0.exp_avg_sq", -1.0),
        ("ppo", "policy.optimizer", "0.step", torch.nan),
        ("ppo", "policy.optimizer", "0.exp_avg", None),
        ("ppo", "policy.optimizer", "999.exp_avg", torch.zeros(3)),
        ("ppo", "policy.optimizer", "0.step_wait", torch.zeros(3)),
        ("ppo", "policy", "log_std", torch.zeros(2)),
        ("ppo", "policy", "normalizer.mean", torch.nan),
        ("ppo", "policy", "normalizer.mean", 1e39),
        ("ppo", "return_normalizer", "mean", -1e300),
        ("ppo", "policy", "normalizer.variance", -1.0),
        ("ppo", "variables", "collect_rollouts", torch.zeros(1)),
        ("ppo", "variables", "num_timesteps", torch.zeros(1)),
        ("sac", "variables", "log_ent_coef", torch.nan),
        ("sac", "variables", "log_ent_coef", torch.zeros(3)),
        ("sac", "policy", "normalizer.count", torch.inf),
        ("sac", "ent_coef_optimizer", "0.exp_avg", torch.zeros(9)),
    ],
)
def test_forged_tensors_are_refused_and_change_nothing(
    kind: str,
    group: str,
    name: str,
    value: Any,
    learned: dict[str, Contents],
    tmp_path: Path,
) -> None:
    contents = learned[kind]
    tensors = dict(contents.tensors[group])
    if value is None:
        del tensors[name]
    elif isinstance(value, float):
        tensors[name] = torch.full_like(tensors[name], value)
    else:
        tensors[name] = value
    write(tmp_path / "agent.zip", replace(contents, tensors={**contents.tensors, group: tensors}))
    agent = ppo() if kind == "ppo" else sac()
    before = agent.state_dict()
    with pytest.raises(CheckpointError, match=r"agent\.zip is not loaded"):
        type(agent).load(tmp_path / "agent.zip")
    with pytest.raises(CheckpointError, match=r"agent\.zip does not fit"):
        agent.set_parameters(tmp_path / "agent.zip")
    after = agent.state_dict()
    assert after.data == before.data
    for part, each in before.tensors.items():
        assert all(tensor.equal(after.tensors[part][key]) for key, tensor in each.items())


@pytest.mark.parametrize("change", [{"lr": float("1e400")}, {"betas": [2, 3]}, {"params": [0]}])
def test_forged_settings_of_an_optimizer_are_refused(
    change: dict[str, Any], learned: dict[str, Contents]
) -> None:
    contents = learned["ppo"]
    data = deepcopy(dict(contents.data))
    data["optimizers"]["policy.optimizer"][0].update(change)
    with pytest.raises(CheckpointError, match=f"{min(change)} of its policy.optimizer"):
        ppo().load_state_dict(replace(contents, data=data))


class Louder(LiquidPolicy):
    """A policy without weights of its own."""

    def for_env(self, actions: torch.Tensor) -> Any:
        return super().for_env(actions)


def test_a_policy_class_is_recorded_and_asked_for(tmp_path: Path) -> None:
    agent = LiquidPPO(
        Louder, "CartPole-v1", n_steps=16, batch_size=16, policy_kwargs={"wiring": WIRING}
    )
    agent.save(tmp_path / "louder")
    with pytest.raises(CheckpointError, match=r"class Louder, and this is LiquidPolicy; pass"):
        LiquidPPO.load(tmp_path / "louder")
    with pytest.raises(CheckpointError, match="class Louder, and this is LiquidPolicy"):
        ppo().set_parameters(tmp_path / "louder")
    again = LiquidPPO.load(tmp_path / "louder", custom_objects={"policy_class": Louder})
    assert type(again.policy) is Louder
    ppo().save(tmp_path / "plain")
    with pytest.raises(CheckpointError, match="class LiquidPolicy, and this is Louder"):
        LiquidPPO.load(tmp_path / "plain", policy_class=Louder)
    with pytest.raises(CheckpointError, match="class LiquidPolicy, and this is Louder"):
        agent.set_parameters(tmp_path / "plain")


def test_a_policy_class_of_the_same_name_is_not_taken_for_ours(tmp_path: Path) -> None:
    namesake = type("LiquidPolicy", (LiquidPolicy,), {"__module__": "robot"})
    options: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "policy_kwargs": {"wiring": WIRING}}
    LiquidPPO(namesake, "CartPole-v1", **options).save(tmp_path / "namesake")
    with pytest.raises(
        CheckpointError, match=r"class robot\.LiquidPolicy, and this is LiquidPolicy"
    ):
        LiquidPPO.load(tmp_path / "namesake")
    again = LiquidPPO.load(tmp_path / "namesake", policy_class=namesake)
    assert type(again.policy) is namesake


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_the_class_that_an_alias_stands_for_can_be_given(
    name: str, learned: dict[str, Contents]
) -> None:
    kind = {"ppo": LiquidPPO, "sac": LiquidSAC}[name]
    policy = kind.policy_aliases["LiquidPolicy"]
    agent = kind.from_contents(learned[name], replaced={"policy_class": policy})
    assert type(agent.policy) is policy


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (3,)),
        spaces.Box(np.array([-np.inf, 0], np.float64), np.array([1, np.inf]), dtype=np.float64),
        spaces.Box(0, 255, (2, 3), np.uint8),
        spaces.Box(0, 60_000, (2,), np.uint16),
        spaces.Box(0, 1, (2,), bool),
        spaces.Discrete(5, start=-2),
        spaces.Discrete(5, dtype=np.int32),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiDiscrete([[2, 3]], np.int32, start=[[1, 0]]),
        spaces.MultiBinary(4),
        spaces.MultiBinary([4]),
        spaces.MultiBinary([4, 2]),
        spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Box(0, 1, ())}),
        spaces.Dict(b=spaces.Discrete(2), a=spaces.Box(0, 1, ())),
    ],
)
def test_spaces_survive_json(space: spaces.Space[Any]) -> None:
    found = space_from_json(json.loads(json.dumps(space_to_json(space))))
    assert found == space
    if isinstance(space, spaces.Dict):
        assert isinstance(found, spaces.Dict)
        assert [*found] == [*space]  # the order of features


@pytest.mark.parametrize("shape", [[], [2, 2]])
def test_a_count_of_several_axes_is_refused(shape: list[int]) -> None:
    with pytest.raises(CheckpointError, match="impossible space"):
        space_from_json({"kind": "multi_binary", "shape": shape, "counted": True})


def test_spaces_of_older_files_are_read() -> None:
    assert space_from_json({"kind": "discrete", "n": 3, "start": 1}) == spaces.Discrete(3, start=1)
    found = space_from_json({"kind": "multi_discrete", "nvec": [2, 3]})
    assert found == spaces.MultiDiscrete([2, 3])
    found = space_from_json({"kind": "multi_binary", "shape": [4]})
    assert found == spaces.MultiBinary(4)


class Unsorted(gym.Env[Any, Any]):
    """Gymnasium keeps this order, and sorts that of a dict."""

    action_space = spaces.Box(-1, 1, (2,))

    def __init__(self, *others: str) -> None:
        parts = [(name, spaces.Box(-1, 1, (2,))) for name in ("v", "u", *others)]
        self.observation_space = spaces.Dict(parts)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.mark.parametrize("others", [(), (PRIVILEGED,)])
@pytest.mark.parametrize("make", AGENTS)
def test_features_keep_the_order_of_their_space(
    make: Callable[..., Any], others: tuple[str, ...], tmp_path: Path
) -> None:
    env = Unsorted(*others)
    agent = make(env=env, seed=0).learn(64)
    agent.save(tmp_path / "agent")
    again = type(agent).load(tmp_path / "agent", env=env)
    observation = env.reset(seed=0)[0]
    batch = {name: np.stack([part, -part]) for name, part in observation.items()}
    seen = {name: part for name, part in observation.items() if name != PRIVILEGED}
    acted = Controller(agent.policy).step(seen, 0.0)
    for found in (
        agent.predict(batch, deterministic=True)[0][0],  # in PyTorch
        agent.predict(observation, deterministic=True)[0],
        again.predict(observation, deterministic=True)[0],
    ):
        np.testing.assert_allclose(found, acted, rtol=1e-4)


@pytest.mark.parametrize("make", AGENTS)
@pytest.mark.parametrize(
    "options",
    [
        {"policy_kwargs": {"optimizer_kwargs": {"amsgrad": True}}},
        {"policy_kwargs": {"nominal_interval": 86_400}},
        {"policy_kwargs": {"wiring": {"kind": "dense", "neurons": np.int64(8), "motor": 4}}},
        {"batch_size": np.int64(16), "learning_rate": np.float32(1e-3), "sequence_length": 4},
        {"sequence_length": np.int32(4), "gamma": np.float64(0.9)},
        {"policy_kwargs": {"critic_history": [1, 4]}},
    ],
)
def test_what_is_accepted_is_loaded(
    make: Callable[..., Any], options: dict[str, Any], tmp_path: Path
) -> None:
    policy = {"wiring": WIRING, **options.get("policy_kwargs", {})}
    agent = make(seed=0, **{**options, "policy_kwargs": policy}).learn(64)
    agent.save(tmp_path / "agent")
    again = type(agent).load(tmp_path / "agent", env=agent.env)
    assert (again.batch_size, again.gamma) == (agent.batch_size, agent.gamma)
    again.learn(64)


@pytest.mark.parametrize("make", AGENTS)
@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"wiring": {**WIRING, "seed": 5}}, "another wiring, though as many synapses"),
        ({"derivatives": [0.3]}, r"its derivatives: \[0.0\], and here \[0.3\]"),
        ({"critic_history": [3]}, r"its critic_history: \[1\], and here \[3\]"),
        ({"neuron_kwargs": {"mode": "no_gate"}}, "mode='default', and here mode='no_gate'"),
        ({"neuron_kwargs": {"time_scale": 7.0}}, r"time_scale=.*, and here time_scale=7\.0"),
    ],
)
def test_weights_of_another_circuit_are_refused(
    make: Callable[..., Any], others: dict[str, Any], words: str, tmp_path: Path
) -> None:
    own = {"wiring": WIRING, "derivatives": [0.0], "critic_history": [1]}
    make(policy_kwargs=own, seed=0).save(tmp_path / "agent")
    agent = make(policy_kwargs={**own, **others}, seed=1)
    before = {name: weight.clone() for name, weight in agent.policy.state_dict().items()}
    with pytest.raises(CheckpointError, match=words):
        agent.set_parameters(tmp_path / "agent")
    assert all(weight.equal(before[name]) for name, weight in agent.policy.state_dict().items())
    agent.set_parameters(tmp_path / "agent", exact_match=False)


@pytest.mark.parametrize("make", AGENTS)
@pytest.mark.parametrize("options", [{"mode": "default"}, {"memory_gain": 0.5}])
def test_weights_of_circuits_that_compute_the_same_are_loaded(
    make: Callable[..., Any], options: dict[str, Any], tmp_path: Path
) -> None:
    make(policy_kwargs={"wiring": WIRING}, seed=0).save(tmp_path / "agent")
    agent = make(policy_kwargs={"wiring": WIRING, "neuron_kwargs": options}, seed=1)
    agent.set_parameters(tmp_path / "agent")


def test_observations_of_64_bits_are_loaded(tmp_path: Path) -> None:
    class Large(gym.Env[Any, Any]):
        observation_space = spaces.Box(0, 2**64 - 1, (2,), np.uint64)
        action_space = spaces.Box(-1.0, 1.0, (1,))

    ppo(Large()).save(tmp_path / "agent")
    assert LiquidPPO.load(tmp_path / "agent").observation_space == Large.observation_space


def test_normalisation_cannot_be_taken_away(tmp_path: Path) -> None:
    ppo().save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match=r"policy differs in normalizer\.count"):
        LiquidPPO.load(tmp_path / "agent", normalize_observations=False)


def test_evaluation_keeps_the_best_agent(tmp_path: Path) -> None:
    agent = ppo()
    callback = EvalCallback(
        agent.get_env(),  # type: ignore[arg-type]
        eval_freq=16,
        n_eval_episodes=1,
        best_model_save_path=str(tmp_path),
        verbose=0,
    )
    agent.learn(32, callback)
    assert read(tmp_path / "best_model.zip").kind == "LiquidPPO"
    LiquidPPO.load(tmp_path / "best_model")


def test_only_paths_are_saved_to(tmp_path: Path) -> None:
    for options in ({"exclude": ["policy"]}, {"include": ["env"]}):
        with pytest.raises(TypeError, match="save takes a path"):
            ppo().save(tmp_path / "agent", **options)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        LiquidPPO.load(tmp_path / "nothing")


@pytest.mark.parametrize("make", AGENTS)
def test_a_trained_agent_can_be_copied(make: Callable[..., Any]) -> None:
    agent = make("Pendulum-v1", seed=0).learn(64)
    before = {name: each.clone() for name, each in agent.policy.state_dict().items()}
    copied = deepcopy(agent)
    copied.learn(64)
    for name, each in agent.policy.state_dict().items():
        assert each.equal(before[name])
    assert not all(each.equal(before[name]) for name, each in copied.policy.state_dict().items())


def test_an_agent_in_double_precision_is_not_saved_where_it_could_not_be_loaded(
    tmp_path: Path,
) -> None:
    agent = ppo("Pendulum-v1")
    agent.policy.double()
    agent.learn(32)
    with pytest.raises(ValueError, match=r"torch\.float64; save agent\.policy"):
        agent.save(tmp_path / "agent")
    assert [*tmp_path.iterdir()] == []
