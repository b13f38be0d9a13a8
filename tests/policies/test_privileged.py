"""What is privileged reaches critics alone: actors act the same with it, without it, and by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

from liquid_control import (
    LiquidExtractor,
    LiquidPPO,
    LiquidRecurrentPolicy,
    LiquidSAC,
    envs,
)
from liquid_control.agents.surrogate import SurrogateOptions, surrogate
from liquid_control.policies import LiquidPolicy, SoftLiquidPolicy
from liquid_control.policies.controller import Controller
from liquid_control.policies.fused import FusedPolicy
from liquid_control.policies.observations import Splitter

WIRING = {"kind": "auto_ncp", "neurons": 12, "motor": 4}
SPACE = spaces.Dict(
    {
        "elapsed_time": spaces.Box(0.0, np.inf, (1,)),
        "observation": spaces.Box(-np.inf, np.inf, (3,)),
        "privileged": spaces.Box(-np.inf, np.inf, (5,)),
        "state": spaces.Box(-np.inf, np.inf, (2,)),  # after it in the alphabet
    }
)
ACTIONS = spaces.Box(-1.0, 1.0, (2,))
POLICIES = {
    "twin": lambda **options: LiquidPolicy(SPACE, ACTIONS, lambda _: 1e-3, **options),
    "mlp": lambda **options: LiquidPolicy(SPACE, ACTIONS, lambda _: 1e-3, critic="mlp", **options),
    "soft": lambda **options: SoftLiquidPolicy(SPACE, ACTIONS, lambda _: 1e-3, **options),
}
kinds = pytest.mark.parametrize("kind", POLICIES)
encoders = pytest.mark.parametrize("encoder", [None, [8]])


def make(kind: str, **options: Any) -> Any:
    torch.manual_seed(0)
    policy = POLICIES[kind](wiring=WIRING, nominal_interval=0.05, **options)
    if policy.normalizer is not None:
        policy.normalizer.update(torch.randn(50, 10) * torch.arange(1, 11) + 1)
    return policy


def observation(seed: int = 0, batch: int | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shape = () if batch is None else (batch,)
    drawn = {
        name: rng.normal(0, 1, (*shape, *part.shape)).astype(np.float32)
        for name, part in SPACE.spaces.items()
    }
    return drawn | {"elapsed_time": np.full((*shape, 1), 0.05, np.float32)}


def test_privileged_features_come_last() -> None:
    batch = {key: torch.from_numpy(part) for key, part in observation(batch=4).items()}
    split = Splitter(SPACE)
    features, _ = split(batch, 0.05)
    names = ("observation", "state", "privileged")
    assert torch.equal(features, torch.cat([batch[name] for name in names], dim=1))
    del batch["privileged"]
    assert torch.equal(split(batch, 0.05)[0], features[:, :5])


@kinds
@encoders
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_acting_does_not_need_it_and_does_not_see_it(
    kind: str, encoder: Any, batch: int | None
) -> None:
    policy = make(kind, encoder=encoder)
    seen, state, blind_state, other_state = observation(batch=batch), None, None, None
    for step in range(4):
        seen = observation(step, batch)
        blind = {key: part for key, part in seen.items() if key != "privileged"}
        other = seen | {"privileged": np.full_like(seen["privileged"], 1e6 * step)}
        action, state = policy.predict(seen, state, deterministic=True)
        blind_action, blind_state = policy.predict(blind, blind_state, deterministic=True)
        other_action, other_state = policy.predict(other, other_state, deterministic=True)
        np.testing.assert_array_equal(action, blind_action)
        np.testing.assert_array_equal(action, other_action)
    np.testing.assert_array_equal(state, blind_state)
    np.testing.assert_array_equal(state, other_state)


@kinds
@pytest.mark.parametrize("normalize", [True, False])
def test_one_action_of_the_kernels_is_that_of_pytorch(kind: str, normalize: bool) -> None:
    policy = make(kind, normalize_observations=normalize)
    seen = observation()
    fused, _ = policy.predict(seen, deterministic=True)
    batch = {key: torch.from_numpy(part)[None] for key, part in seen.items()}
    features, elapsed_time = policy.observe(batch)
    with torch.no_grad():
        actions, _ = policy(
            features, elapsed_time, policy.initial_actor_state(1), torch.ones(1), True
        )
    np.testing.assert_allclose(fused, policy.for_env(actions)[0], rtol=1e-5, atol=1e-6)


def run(policy: Any, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Motor activity and values over a sequence, with the gradients of the features."""
    steps, batch, _ = features.shape
    state = policy.initial_actor_critic_state(batch)
    flow = torch.full((steps, batch), 0.05), torch.zeros(steps, batch)
    if isinstance(policy, SoftLiquidPolicy):
        signal = policy.signal(features, *flow, torch.zeros(steps, batch, 2))
        motor, seen, _ = policy.unroll(signal, state)
        context = policy.critic.context(seen)
        return motor, policy.critic(context, torch.zeros(steps, batch, 2))
    motor, values, _ = policy.unroll(features, flow[0], state, flow[1])
    return motor, values


@kinds
@encoders
def test_no_gradient_of_an_action_reaches_it_and_every_value_depends_on_it(
    kind: str, encoder: Any
) -> None:
    policy = make(kind, encoder=encoder)
    features = torch.randn(6, 3, 10, requires_grad=True)
    motor, values = run(policy, features)
    (of_motor,) = torch.autograd.grad(motor.sum(), features, retain_graph=True)
    (of_values,) = torch.autograd.grad(values.sum(), features)
    assert not of_motor[..., 5:].any()
    assert of_motor[..., :5].any()
    assert (of_values[..., 5:] != 0).any(dim=(0, 1)).all()


@pytest.mark.parametrize("kind", ["twin", "mlp"])
@encoders
def test_updates_in_the_kernels_are_those_of_autograd(kind: str, encoder: Any) -> None:
    policy = make(kind, encoder=encoder)
    fused = FusedPolicy.of(policy)
    if fused is None:
        pytest.skip("the kernels are not compiled here")
    features, state = torch.randn(6, 3, 10), policy.initial_actor_critic_state(3)
    flow = torch.full((6, 3), 0.05), torch.zeros(6, 3)
    parameters, values = fused.evaluate(features, flow[0], state, flow[1])
    motor, expected, _ = policy.unroll(features, flow[0], state, flow[1])
    expected_parameters = policy.action_net(motor.flatten(0, 1))
    torch.testing.assert_close(values.view(6, 3), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parameters, expected_parameters, rtol=1e-4, atol=1e-5)
    d_actions, d_values = torch.randn_like(parameters), torch.randn_like(values)
    fused.backward(d_actions, d_values)
    found = [weight.grad.clone() for weight in policy.parameters() if weight.grad is not None]
    policy.zero_grad()
    loss = (expected_parameters * d_actions).sum() + (expected.reshape(-1, 1) * d_values).sum()
    loss.backward()
    wanted = [weight.grad for weight in policy.parameters() if weight.grad is not None]
    for gradient, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-4)


@kinds
def test_a_controller_takes_observations_without_it(kind: str) -> None:
    policy = make(kind)
    controller = Controller(policy)
    assert set(controller.observation_space.spaces) == {"observation", "state"}  # type: ignore[attr-defined]
    seen = observation()
    expected, _ = policy.predict(seen, deterministic=True)
    given = {name: seen[name] for name in ("observation", "state")}
    np.testing.assert_allclose(controller.step(given, 1.0), expected, rtol=1e-6)


def cheetah(privileged: Any = "all") -> Any:
    return envs.make_vec(
        "InvertedPendulum-v5",
        2,
        observe="positions",
        sensors=[envs.Noise(0.01), envs.Delay(0.0, 0.04)],
        bodies=envs.Randomize(mass=(0.7, 1.3)),
        privileged=privileged,
        max_episode_steps=20,
        interval=envs.Uniform(0.02, 0.08),
        seed=0,
        threads=1,
    )


AGENTS: dict[str, Any] = {
    "ppo": (LiquidPPO, {"n_steps": 32, "batch_size": 32, "n_epochs": 2}),
    "sac": (
        LiquidSAC,
        {"learning_starts": 16, "batch_size": 32, "sequence_length": 8, "burn_in": 4},
    ),
}


@pytest.mark.parametrize("name", AGENTS)
def test_agents_learn_with_it_and_act_without_it_after_loading(name: str, tmp_path: Path) -> None:
    kind, options = AGENTS[name]
    policy = {"wiring": {"kind": "dense", "neurons": 6}}
    model = kind("LiquidPolicy", cheetah(), policy_kwargs=policy, seed=0, device="cpu", **options)
    model.learn(128)
    assert model.policy.observed == 2
    assert model.policy.privileged == 4 + 2  # the whole observation, a delay and a mass
    model.save(tmp_path / "model.zip")
    loaded = kind.load(tmp_path / "model.zip", device="cpu")
    seen = {"observation": np.zeros(2), "elapsed_time": np.full(1, 0.04, np.float32)}
    action, _ = model.predict(seen, deterministic=True)
    np.testing.assert_array_equal(loaded.predict(seen, deterministic=True)[0], action)
    evaluate_policy(model, cheetah(), n_eval_episodes=2)


def test_the_loss_of_ppo_is_that_of_autograd() -> None:
    kind, options = AGENTS["ppo"]
    policy = {"wiring": {"kind": "dense", "neurons": 6}}
    model = kind("LiquidPolicy", cheetah(), policy_kwargs=policy, seed=0, device="cpu", **options)
    model.learn(64)
    fused = FusedPolicy.of(model.policy)
    if fused is None:
        pytest.skip("the kernels are not compiled here")
    (minibatch, *_) = model.rollout_buffer.minibatches(2)
    chosen = SurrogateOptions(0.2, None, 0.01, 0.5, True)
    ours, theirs = (surrogate(model.policy, each, minibatch, chosen)[0] for each in (fused, None))
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=1e-4, atol=1e-5)


def test_what_cannot_hide_it_from_actors_refuses_it() -> None:
    with pytest.raises(ValueError, match="critic='shared' observes only the actor's neurons"):
        LiquidPolicy(SPACE, ACTIONS, lambda _: 1e-3, wiring=WIRING, critic="shared")
    with pytest.raises(ValueError, match="share_encoder feeds the actor"):
        make("soft", share_encoder=True, encoder=[8])
    with pytest.raises(ValueError, match="RecurrentPPO acts with actor and critic"):
        RecurrentPPO(LiquidRecurrentPolicy, cheetah(), policy_kwargs={"wiring": WIRING})
    windows = envs.VecWindow(cheetah(), 3)
    extractor = {
        "features_extractor_class": LiquidExtractor,
        "features_extractor_kwargs": {"wiring": WIRING, "nominal_interval": 0.04},
    }
    with pytest.raises(ValueError, match="SB3's critics have the same observations"):
        PPO("MultiInputPolicy", windows, policy_kwargs=extractor, device="cpu")
    only = spaces.Dict({key: SPACE[key] for key in ("elapsed_time", "privileged")})
    with pytest.raises(ValueError, match="has only elapsed_time and privileged"):
        LiquidPolicy(only, ACTIONS, lambda _: 1e-3, wiring=WIRING)
