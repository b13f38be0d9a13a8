"""What a policy says its actor's circuit hears is what it heard while acting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.testing import assert_close

from liquid_control.neurons.lesion import at_rest
from tests.policies.conftest import OBSERVATIONS, draw, make_policy
from tests.policies.test_recurrent import make_policy as make_recurrent
from tests.policies.test_soft import make_soft

STEPS, BATCH = 16, 3
POLICIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "liquid": (make_policy, {}),
    "liquid, encoder": (make_policy, {"encoder": [7], "neurons": "ltc"}),
    "liquid, unnormalised": (make_policy, {"normalize_observations": False}),
    "soft": (make_soft, {}),
    "soft, encoder": (make_soft, {"encoder": [7]}),
    "soft, shared encoder": (make_soft, {"encoder": [7], "share_encoder": True}),
    "recurrent": (make_recurrent, {"encoder": [7]}),
}
STARTS = np.zeros((STEPS, BATCH), np.float32)
STARTS[0] = STARTS[5, 1] = STARTS[9, 2] = 1


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest) -> Any:
    return build(request.param)


def build(name: str, space: spaces.Space[Any] | None = None) -> Any:
    make, options = POLICIES[name]
    torch.manual_seed(0)
    return make(OBSERVATIONS["dict with time"] if space is None else space, **options)


def act(policy: Any, observations: Any) -> tuple[Tensor, Tensor]:
    """Actions (steps, batch, ...) as `forward` chose them, and the activity `predict` passed on."""
    neurons = policy.actor_circuit.wiring.neuron_count
    actions, activity, state = [], [], None
    for observation, start in zip(_steps(observations), STARTS, strict=True):
        action, state = policy.predict(observation, state, start, deterministic=True)
        from_env = getattr(policy, "from_env", torch.as_tensor)
        actions.append(from_env(action))
        carried = state[0][0] if isinstance(state, tuple) else state
        activity.append(torch.as_tensor(carried[:, :neurons]))
    return torch.stack(actions), torch.stack(activity)


def _steps(observations: Any) -> list[Any]:
    if isinstance(observations, dict):
        return [{key: part[t] for key, part in observations.items()} for t in range(STEPS)]
    return list(observations)


def run(policy: Any, observations: Any, actions: Tensor) -> Tensor:
    """The activity (steps, batch, neurons) of the actor's circuit by what it is said to hear."""
    seen = [policy.observe(policy.obs_to_tensor(each)[0]) for each in _steps(observations)]
    features, times = zip(*seen, strict=True)
    with torch.no_grad():
        inputs, elapsed_time, starts = policy.actor_inputs(
            torch.stack(features), torch.stack(times), torch.as_tensor(STARTS), actions
        )
        return policy.actor_circuit.activity(inputs, None, elapsed_time, starts)[0]


@pytest.mark.parametrize("space", OBSERVATIONS)
@pytest.mark.parametrize("name", POLICIES)
def test_the_circuit_run_by_what_it_hears_does_what_it_did(name: str, space: str) -> None:
    policy = build(name, OBSERVATIONS[space])
    observations = draw(OBSERVATIONS[space], STEPS, BATCH)
    actions, activity = act(policy, observations)
    assert_close(run(policy, observations, actions), activity, rtol=1e-4, atol=1e-5)
    assert activity.std(dim=0).min() > 1e-4


def test_only_a_soft_actor_hears_its_actions(policy: Any) -> None:
    observations = draw(policy.observation_space, STEPS, BATCH)
    actions, activity = act(policy, observations)
    changed = actions.clone()
    changed[3] += 0.5
    activity, other = (run(policy, observations, each) for each in (actions, changed))
    assert torch.equal(other[:4], activity[:4])
    heard = not torch.equal(other[4], activity[4])
    assert heard is hasattr(policy, "from_env")


def test_an_action_is_not_heard_in_the_next_episode(policy: Any) -> None:
    observations = draw(policy.observation_space, STEPS, BATCH)
    actions, _ = act(policy, observations)
    changed = actions.clone()
    changed[4, 1] += 0.5
    before, after = (run(policy, observations, each) for each in (actions, changed))
    assert torch.equal(before, after)


def test_a_lesion_rests_while_the_policy_acts(policy: Any) -> None:
    observations = draw(policy.observation_space, STEPS, BATCH)
    actions, activity = act(policy, observations)
    motor = policy.actor_circuit.wiring.neuron_count - 1
    with at_rest(policy.actor_circuit, motor):
        lesioned, resting = act(policy, observations)
    assert (resting[..., motor] == 0).all()
    assert not torch.equal(lesioned, actions)

    restored, again = act(policy, observations)
    assert torch.equal(restored, actions)
    assert torch.equal(again, activity)
