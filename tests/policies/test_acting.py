"""The fused acting step is the plain one: the same actions, states, errors and random numbers."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from liquid_control import LiquidPolicy
from liquid_control.kernels import extension
from liquid_control.neurons import NEURONS
from liquid_control.neurons.lesion import at_rest
from liquid_control.policies import Controller
from liquid_control.policies.acting import FusedActor, why_not_fused
from liquid_control.policies.moments import ObservationNormalizer
from tests.policies.conftest import ACTIONS, NOMINAL, PARTS, PLAIN, at, draw, make_policy

pytestmark = pytest.mark.skipif(extension.load() is None, reason="no compiled kernels")

STEPS = 5
TIME = spaces.Box(0.0, np.inf, (1,))
VECTOR = spaces.Dict({"observation": PLAIN, "elapsed_time": TIME})
SEVERAL = spaces.Dict(
    {
        "above": spaces.Box(-1.0, 1.0, (2, 2)),
        "elapsed_time": TIME,
        "level": spaces.Box(-1.0, 1.0, (1,), np.float64),
        "z": spaces.Box(-1.0, 1.0, (3,), np.float64),
    }
)
OBSERVATIONS = {"box": PLAIN, "vector": VECTOR, "several": SEVERAL}
OPTIONS: dict[str, dict[str, Any]] = {
    **{each: {"neurons": each} for each in NEURONS},
    **{f"{each} alone": {"neurons": each, "encoder": None} for each in NEURONS},
    "cfc pure": {"neuron_kwargs": {"mode": "pure"}},
    "cfc no gate": {"neuron_kwargs": {"mode": "no_gate"}},
    "cfc with memory": {"neuron_kwargs": {"memory": "lstm"}},
    "cfc with gain": {"neuron_kwargs": {"output_mapping": "linear"}},
    "cfc with mapping": {"neuron_kwargs": {"output_mapping": "affine"}},
    "ltc without mappings": {
        "neurons": "ltc",
        "neuron_kwargs": {"input_mapping": None, "output_mapping": None},
    },
    "dense": {"wiring": {"kind": "dense", "neurons": 9, "motor": 9}},
    "two layers": {"encoder": [9, 17]},
    "not normalised": {"normalize_observations": False},
    "any interval": {"allow_any_interval": True},
    "derivatives": {"derivatives": [0.0, 0.2]},
}


@contextmanager
def plain() -> Iterator[None]:
    """Leave acting to PyTorch; circuits still run in the kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LiquidPolicy, "fused_actor", lambda policy: None)
        yield


def episode(
    policy: LiquidPolicy, observations: spaces.Space[Any], *, deterministic: bool
) -> list[Any]:
    """Actions and states of a seeded episode, and the next random number."""
    torch.manual_seed(3)
    drawn = draw(observations, STEPS, 1)
    found, state = [], None
    for step in range(STEPS):
        start = np.array([step == 3])
        action, state = policy.predict(at(drawn, step, 0), state, start, deterministic)
        found += [action, state]
    return [*found, torch.rand(1).numpy()]


def assert_same(found: list[Any], expected: list[Any]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert type(mine) is type(theirs)
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def assert_agree(policy: LiquidPolicy, observations: spaces.Space[Any] = PLAIN) -> None:
    """The fused actor acts, and as PyTorch does."""
    assert policy.fused_actor() is not None
    for deterministic in (True, False):
        with plain():
            expected = episode(policy, observations, deterministic=deterministic)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LiquidPolicy, "forward", None)  # PyTorch has no part in it
            found = episode(policy, observations, deterministic=deterministic)
        assert_same(found, expected)


def lively(policy: LiquidPolicy) -> LiquidPolicy:
    """Draw all parameters, so that none has no effect."""
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            weight.add_(0.3 * torch.randn_like(weight) * (not name.startswith("action_net")))
    return policy


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_circuit_acts_as_in_pytorch(options: dict[str, Any]) -> None:
    assert_agree(lively(make_policy(VECTOR, **options)), VECTOR)


@pytest.mark.parametrize("observations", OBSERVATIONS.values(), ids=OBSERVATIONS)
@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_every_space_acts_as_in_pytorch(
    actions: spaces.Space[Any], observations: spaces.Space[Any]
) -> None:
    assert_agree(make_policy(observations, actions), observations)


def test_actions_are_clipped_to_their_bounds() -> None:
    policy = make_policy(PLAIN, spaces.Box(np.float32([-1, -np.inf]), np.float32([0.5, 9])))
    assert_agree(policy)
    actions = np.array(episode(policy, PLAIN, deterministic=True)[:-1:2])
    assert (actions[:, 0] == 0.5).any() or (actions[:, 0] == -1).any()


def test_double_precision_actions_stay_so() -> None:
    assert_agree(make_policy(PLAIN, spaces.Box(-1.0, 1.0, (2,), np.float64)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_batch_of_one_stays_a_batch(dtype: type) -> None:
    policy, drawn = make_policy(SEVERAL), draw(SEVERAL, 1, 1)
    batch = {name: part[0].astype(dtype) for name, part in drawn.items()}
    found = policy.fused_actor().predict(batch, None, None, True)
    with plain():
        expected = policy.predict(batch, deterministic=True)
    assert expected[0].shape == (1, 2)
    assert_same(list(found), list(expected))


def test_a_row_of_a_batch_that_lies_column_by_column_is_fused() -> None:
    policy = make_policy(VECTOR)
    drawn = draw(VECTOR, 1, 20)
    rows = {name: np.asfortranarray(part[0])[:1] for name, part in drawn.items()}
    assert not rows["observation"].flags.c_contiguous
    start = np.ones(1, bool)
    found = policy.fused_actor().predict(rows, None, start, True)
    assert found is not None
    with plain():
        assert_same(list(found), list(policy.predict(rows, None, start, True)))


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("observations", OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_a_controller_acts_as_in_pytorch(observations: spaces.Space[Any], name: str) -> None:
    policy, drawn = make_policy(observations, ACTIONS[name]), draw(observations, STEPS, 1)

    def steps() -> list[Any]:
        controller = Controller(policy)
        seen = [at(drawn, step, 0) for step in range(STEPS)]
        if isinstance(observations, spaces.Dict):
            seen = [
                {key: part for key, part in each.items() if key in controller._parts}
                for each in seen
            ]
        return [controller.step(each, NOMINAL * step**1.3) for step, each in enumerate(seen)]

    with plain():
        expected = steps()
    assert_same(steps(), expected)


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns, or its error."""
    try:
        return [np.asarray(each).tolist() for each in call()]
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        return type(error), str(error)


def test_a_double_state_has_derivatives_too() -> None:
    policy = make_policy(VECTOR, derivatives=[0.1])
    observation = {"observation": np.ones(3, np.float32), "elapsed_time": np.float32([0.05])}
    _, state = policy.predict(observation, deterministic=True)
    expected = policy.predict(observation, state, deterministic=True)
    found = policy.predict(observation, np.array(state.tolist()), deterministic=True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


ODD: dict[str, tuple[Any, ...]] = {
    "not a number": (np.array([0.0, np.nan, 0.0]), 0.05),
    "too large": (np.array([0.0, 1e300, 0.0]), 0.05),
    "another shape": (np.zeros(4), 0.05),
    "no numbers": (np.array(["a", "b", "c"]), 0.05),
    "an impossible time": (np.zeros(3), -0.05),
    "no time": (np.zeros(3), np.nan),
    "hours": (np.zeros(3), 7200.0),
    "a batch": (np.zeros((2, 3)), [[0.05], [0.06]]),
    "whole numbers": (np.arange(3), 0.05),
    "swapped bytes": (np.arange(3.0).astype(">f8"), 0.05),
    "another state": (np.zeros(3), 0.05, np.zeros((1, 5), np.float32)),
    "a double state": (np.zeros(3), 0.05, np.zeros((1, 12))),
    **{
        f"a state with NaN at {place}": (
            np.zeros(3),
            0.05,
            np.float32([[0] * place + [np.nan] + [0] * (11 - place)]),
        )
        for place in (0, 5, 11)
    },
    "starts of two": (np.zeros(3), 0.05, None, np.array([True, False])),
    "starts in words": (np.zeros(3), 0.05, None, np.array(["False"])),
    "no start": (np.zeros(3), 0.05, None, np.array([None])),
}


@pytest.mark.parametrize("given", ODD.values(), ids=ODD)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_what_is_odd_meets_what_pytorch_does_with_it(given: tuple[Any, ...]) -> None:
    features, time, *others = given
    observation = {
        "observation": features,
        "elapsed_time": np.reshape(time, np.shape(time) or (1,)).astype(np.float32),
    }
    policy = make_policy(VECTOR)
    rest = (*others, None, None)[:2]

    def call() -> Any:
        policy._without_state = False  # no warning
        return policy.predict(observation, *rest, deterministic=True)

    with plain():
        expected = outcome(call)
    assert repr(outcome(call)) == repr(expected)


def through_data(policy: LiquidPolicy) -> None:
    for weight in policy.parameters():
        weight.data = 0.9 * weight.data


def in_place(policy: LiquidPolicy) -> None:
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(0.9)


def moments(policy: LiquidPolicy) -> None:
    policy.normalizer.update(10 * torch.rand(9, 3))


def another_encoder(policy: LiquidPolicy) -> None:
    policy.actor.encoder[0] = nn.Linear(4, 64)


def another_weight(policy: LiquidPolicy) -> None:
    policy.action_net.weight = nn.Parameter(torch.randn(2, policy.action_net.in_features))


def another_scale(policy: LiquidPolicy) -> None:
    policy.actor_circuit.time_scale = 0.7


def another_mapping(policy: LiquidPolicy) -> None:
    count = policy.actor_circuit.wiring.motor_count
    policy.actor_circuit.output_mapping = type(policy.actor_circuit)(
        policy.actor_circuit.wiring, output_mapping="affine"
    ).output_mapping
    with torch.no_grad():
        policy.actor_circuit.output_mapping.gain.copy_(torch.rand(count))


def no_normalizer(policy: LiquidPolicy) -> None:
    policy.normalizer = None


def another_normalizer(policy: LiquidPolicy) -> None:
    policy.normalizer = make_policy(VECTOR).normalizer
    policy.normalizer.clip = 0.1


@pytest.mark.parametrize("neurons", NEURONS)
@pytest.mark.parametrize(
    "change",
    [
        in_place,
        through_data,
        moments,
        another_encoder,
        another_weight,
        another_scale,
        another_mapping,
        no_normalizer,
        another_normalizer,
    ],
    ids=lambda each: each.__name__,
)
def test_the_next_step_is_that_of_the_changed_policy(
    change: Callable[[LiquidPolicy], None], neurons: str
) -> None:
    policy = lively(make_policy(VECTOR, neurons=neurons))
    before = episode(policy, VECTOR, deterministic=True)
    change(policy)
    assert_agree(policy, VECTOR)
    assert not np.allclose(before[0], episode(policy, VECTOR, deterministic=True)[0])


def test_a_lesion_is_felt() -> None:
    policy = make_policy(VECTOR)
    before = episode(policy, VECTOR, deterministic=True)
    with at_rest(policy.actor_circuit, 1):
        assert_agree(policy, VECTOR)
        assert episode(policy, VECTOR, deterministic=True)[1][0, 1] == 0
    assert_same(episode(policy, VECTOR, deterministic=True), before)


@pytest.mark.parametrize("encoder", [None, [8]])
@pytest.mark.parametrize("normalized", [True, False])
def test_a_policy_in_double_precision_acts_alike(
    normalized: bool, encoder: list[int] | None
) -> None:
    policy = make_policy(VECTOR, encoder=encoder, normalize_observations=normalized)
    exact = deepcopy(policy).double()
    single, twice = (episode(each, VECTOR, deterministic=True)[:-1] for each in (policy, exact))
    for mine, theirs in zip(single, twice, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


class Other(LiquidPolicy):
    """A subclass may act in another way."""


def hook(policy: LiquidPolicy) -> Any:
    return policy.actor.register_forward_hook(lambda *_: None)


def hook_before(policy: LiquidPolicy) -> Any:
    return policy.action_net.register_forward_pre_hook(lambda *_: None)


def hook_of_everything(policy: LiquidPolicy) -> Any:
    return nn.modules.module.register_module_forward_hook(lambda *_: None)


@pytest.mark.parametrize("add", [hook, hook_before, hook_of_everything])
def test_hooks_are_called(add: Callable[[LiquidPolicy], Any]) -> None:
    policy = make_policy()
    for _ in range(2):
        assert policy.fused_actor() is not None
        handle = add(policy)
        assert policy.fused_actor() is None
        handle.remove()
    assert policy.fused_actor() is not None


def pytorch(policy: LiquidPolicy) -> None:
    policy.actor_circuit.backend = "pytorch"


def another_head(policy: LiquidPolicy) -> None:
    policy.action_net = nn.Sequential(policy.action_net, nn.Softplus())


def subclass(policy: LiquidPolicy) -> None:
    policy.__class__ = Other


def double(policy: LiquidPolicy) -> None:
    policy.double()


def elsewhere(policy: LiquidPolicy) -> None:
    policy.to("meta")


def own_method(policy: LiquidPolicy) -> None:
    policy.forward = lambda *_: None  # type: ignore[method-assign]


def own_normalization(policy: LiquidPolicy) -> None:
    policy._normalize = lambda features: features  # type: ignore[method-assign]


def own_privacy(policy: LiquidPolicy) -> None:
    policy._for_actor = lambda features: 0 * features  # type: ignore[method-assign]


def own_forward(policy: LiquidPolicy) -> None:
    policy.action_net.forward = lambda inputs: inputs  # type: ignore[method-assign]


class Residual(nn.Sequential):
    """A stack that adds something of its own."""


def residual_encoder(policy: LiquidPolicy) -> None:
    policy.actor.encoder = Residual(*policy.actor.encoder)  # type: ignore[misc]


class OtherNormalizer(ObservationNormalizer):
    """A subclass may compute something else."""


def normalizer_subclass(policy: LiquidPolicy) -> None:
    policy.normalizer = OtherNormalizer(3)


def another_mapping_module(policy: LiquidPolicy) -> None:
    policy.actor_circuit.output_mapping = nn.Tanh()  # type: ignore[assignment]


def frozen_weight(policy: LiquidPolicy) -> None:
    nn.utils.parametrize.register_parametrization(policy.action_net, "weight", nn.Tanh())


@pytest.mark.parametrize(
    "change",
    [
        pytorch,
        another_head,
        residual_encoder,
        subclass,
        double,
        elsewhere,
        own_method,
        own_normalization,
        own_privacy,
        own_forward,
        normalizer_subclass,
        another_mapping_module,
        frozen_weight,
    ],
    ids=lambda each: each.__name__,
)
def test_pytorch_does_the_rest(change: Callable[[LiquidPolicy], None]) -> None:
    policy = make_policy()
    assert policy.fused_actor() is not None
    assert why_not_fused(policy) is None
    change(policy)
    assert policy.fused_actor() is None
    assert why_not_fused(policy)
    assert policy.fused_actor() is None


@pytest.mark.parametrize(
    ("observations", "options"),
    [
        (PARTS, {}),
        (spaces.Box(0, 9, (3,), np.int64), {}),
        (spaces.MultiBinary(3), {}),
        (PLAIN, {"encoder": [600]}),
        (PLAIN, {"neurons": "ctrnn", "neuron_kwargs": {"input_mapping": "linear"}}),
        (PLAIN, {"neurons": "ltc", "neuron_kwargs": {"solver": "rk4"}}),
    ],
    ids=str,
)
def test_pytorch_does_what_the_kernels_do_not(
    observations: spaces.Space[Any], options: dict[str, Any]
) -> None:
    policy = make_policy(observations, **options)
    assert policy.fused_actor() is None
    policy.predict(at(draw(observations, 1, 1), 0, 0))


@pytest.mark.parametrize(
    "copy", [deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))], ids=["deep", "pickled"]
)
def test_a_copy_acts_on_its_own(copy: Callable[[LiquidPolicy], LiquidPolicy]) -> None:
    policy = make_policy(VECTOR)
    before = episode(policy, VECTOR, deterministic=True)
    policy.lr_schedule = None
    other = copy(policy)
    in_place(policy)
    assert_same(episode(other, VECTOR, deterministic=True), before)
    assert isinstance(other.fused_actor(), FusedActor)
    assert other.fused_actor() is not policy.fused_actor()


def test_threads_do_not_disturb_each_other() -> None:
    policy, drawn = make_policy(PLAIN, neurons="gru"), draw(PLAIN, 64, 1)[:, 0]

    state, start = np.zeros((1, policy.actor_circuit.state_size), np.float32), np.array([False])

    def act(observation: Any) -> Any:
        return [policy.predict(observation, state, start, True)[0] for _ in range(50)]

    expected = [act(each) for each in drawn]
    with ThreadPoolExecutor(8) as pool:
        np.testing.assert_array_equal(list(pool.map(act, drawn)), expected)
