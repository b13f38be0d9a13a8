"""Policies in ONNX: the checker accepts them, and they compute what PyTorch computes."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from liquid_control.export.facts import Signals, metadata_of
from liquid_control.export.folder import export_policy
from liquid_control.export.policies import describe_policy

from . import cases
from .interpreter import Interpreter

pytest.importorskip("onnx", reason="the extra `export` is not installed")
ort = pytest.importorskip("onnxruntime", reason="the extra `deploy` is not installed")

from liquid_control.deploy.onnx_policy import OnnxPolicy  # noqa: E402
from liquid_control.export import to_onnx as to_onnx_module  # noqa: E402
from liquid_control.export.to_onnx import OPSET, to_onnx  # noqa: E402

STEPS = 1000
TOLERANCE = 1e-6  # of the range of each action
DISCRETE = [spaces.Discrete(5), spaces.MultiDiscrete([3, 2]), spaces.MultiBinary(4)]


def model_of(policy: Any, **options: Any) -> Any:
    description = describe_policy(policy, **options)
    return to_onnx(description, metadata_of(description, task="Test-v0"))


def errors(policy: Any, steps: int = STEPS) -> Any:
    """Return the largest error of each action over a recording, relative to its range.

    The policy acts in double precision: its own rounding is no error of the other.
    """
    exported = OnnxPolicy(model_of(policy).SerializeToString())
    policy = deepcopy(policy).double()
    worst: Any = 0.0
    state = None
    span = policy.action_space.high - policy.action_space.low
    for observation, elapsed, start in cases.record(policy, steps):
        if start:
            exported.reset()
        action, state = policy.predict(observation, state, np.array([start]), deterministic=True)
        acted = exported.step(cases.flat(observation), elapsed)
        worst = np.maximum(worst, np.abs(acted - action.ravel()) / span.ravel())
        np.testing.assert_allclose(exported.state, state[0], rtol=1e-4, atol=1e-5)
    return worst


@pytest.mark.parametrize("name", cases.NAMES)
def test_every_kind_of_neuron_agrees_with_pytorch(name: str) -> None:
    steps = 200 if name.split(", ")[-1] in {"euler", "memory", "rk4"} else STEPS
    policy = cases.make_policy(encoder=[8], **cases.CIRCUITS[name])
    assert np.all(errors(policy, steps) <= TOLERANCE)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.float16])
def test_observations_of_other_numbers_are_exported(dtype: Any, tmp_path: Path) -> None:
    policy = cases.make_policy(observations=spaces.Box(0, 200, (3,), dtype))
    assert export_policy(policy, tmp_path / "it", ("onnx",))["onnx"].holds


@pytest.mark.parametrize("name", ["scale", "low", "range", "constant", "Concat_1"])
def test_an_observation_may_have_any_name(name: str, tmp_path: Path) -> None:
    space = spaces.Dict({name: cases.VECTOR, "other": cases.VECTOR})
    for number, make in enumerate((cases.make_policy, cases.soft_policy)):
        folder = tmp_path / str(number)
        assert export_policy(make(observations=space), folder, ("onnx",))["onnx"].holds


@pytest.mark.parametrize("name", cases.SOFT_NAMES)
def test_every_soft_policy_agrees_with_pytorch(name: str) -> None:
    assert np.all(errors(cases.soft_policy(**cases.SOFT[name])) <= TOLERANCE)


@pytest.mark.parametrize("actions", DISCRETE, ids=lambda space: type(space).__name__)
def test_discrete_observations_and_actions_are_the_same(actions: Any) -> None:
    policy = cases.make_policy(observations=cases.MIXED, actions=actions, encoder=[6])
    exported = OnnxPolicy(model_of(policy).SerializeToString())
    state = None
    for observation, elapsed, start in cases.record(policy, 200):
        if start:
            exported.reset()
        action, state = policy.predict(observation, state, np.array([start]), deterministic=True)
        acted = exported.step(cases.flat(observation), elapsed)
        np.testing.assert_array_equal(acted, np.ravel(action))


@pytest.mark.parametrize("space", [cases.VECTOR, spaces.Discrete(4)], ids=["box", "discrete"])
def test_policies_without_elapsed_time_ignore_it(space: Any) -> None:
    policy = cases.make_policy(observations=space)
    exported = OnnxPolicy(model_of(policy).SerializeToString())
    observation = cases.record(policy, 1)[0][0]
    action, _ = policy.predict(observation, None, np.array([True]), deterministic=True)
    for elapsed in (0.02, 0.2):
        exported.reset()
        np.testing.assert_allclose(exported.step(np.ravel(observation), elapsed), action, atol=1e-5)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("name", ["cfc", "ltc", "gru", "soft", "discrete"])
def test_a_batch_is_what_its_robots_are_one_by_one(name: str, sampled: bool) -> None:
    if name == "soft":
        policy = cases.soft_policy()
    elif name == "discrete":
        policy = cases.make_policy(observations=cases.MIXED, actions=spaces.Discrete(3))
    else:
        policy = cases.make_policy(neurons=name, encoder=[6])
    description = describe_policy(policy, sampled=sampled)
    model = to_onnx(description, metadata_of(description))
    session = ort.InferenceSession(model.SerializeToString())
    rng = np.random.default_rng(0)
    batch = 7
    recording = cases.record(policy, batch)
    feed = {
        "elapsed_time": np.float32([[elapsed] for _, elapsed, _ in recording]),
        "state": rng.normal(size=(batch, description.state_size)).astype(np.float32),
        "episode_start": np.float32([[0], [1], [0], [0], [1], [0], [0]]),
    }
    if sampled:
        feed["noise"] = rng.normal(size=(batch, description.action.noise)).astype(np.float32)
    kinds = {each.name: each.type for each in session.get_inputs()}
    for part in description.parts:
        rows = np.stack([seen[part.name] for seen, _, _ in recording])
        feed[part.name] = rows.astype(np.int64 if "int64" in kinds[part.name] else np.float32)
    together = session.run(None, feed)
    for robot in range(batch):
        alone = session.run(None, {key: rows[robot : robot + 1] for key, rows in feed.items()})
        interpreter = Interpreter(description)
        if not feed["episode_start"][robot]:
            first = 0
            for vector, size in description.states.items():
                interpreter.vectors[vector][:] = feed["state"][robot, first : first + size]
                first += size
        noise = feed["noise"][robot] if sampled else None
        exact = interpreter.step(
            cases.flat(recording[robot][0]), float(feed["elapsed_time"][robot, 0]), noise
        )
        np.testing.assert_allclose(together[0][robot].ravel(), exact, atol=1e-5)
        for whole, single in zip(together, alone, strict=True):
            np.testing.assert_allclose(whole[robot], single[0], atol=1e-6)


def test_the_file_says_what_it_is() -> None:
    policy = cases.make_policy()
    model = model_of(policy)
    assert [each.version for each in model.opset_import] == [OPSET]
    exported = OnnxPolicy(model.SerializeToString())
    facts = exported.metadata
    assert facts.task == "Test-v0"
    assert facts.nominal_interval == cases.NOMINAL
    assert facts.action["high"] == [1.0, 0.5, 3.0]
    properties = {each.key: each.value for each in model.metadata_props}
    assert properties["action_scale"] == "1,1.25,1.5"
    assert properties["observation_names"] == "observation"


def test_names_and_units_are_those_that_other_tools_read() -> None:
    description = describe_policy(cases.make_policy())
    signals = Signals(
        tuple("abcde"), ("m", "rad", "", "", "1"), tuple("xyz"), ("N",) * 3, ("j", "k")
    )
    model = to_onnx(description, metadata_of(description, signals=signals))
    found = {each.key: each.value for each in model.metadata_props}
    assert found["joint_names"] == "j,k"
    assert found["observation.element_names"] == "a,b,c,d,e"
    assert found["observation.units"] == "m,rad,,,1"
    assert found["action.element_names"] == "x,y,z"
    assert found["action.units"] == "N,N,N"
    facts = OnnxPolicy(model.SerializeToString()).metadata
    assert facts.joint_names == ("j", "k")
    assert facts.observation[0]["units"] == ["m", "rad", "", "", "1"]
    few = metadata_of(description, signals=Signals(("a",), ("m",), ("x",)))
    assert "units" not in few.observation[0]  # those of another observation
    assert "element_names" not in few.action


def test_bad_input_leaves_the_state_as_it_was() -> None:
    policy = cases.make_policy(observations=cases.MIXED, encoder=[6])
    exported = OnnxPolicy(model_of(policy).SerializeToString())
    good = cases.flat(cases.record(policy, 1)[0][0])
    exported.step(good, 0.05)
    state = exported.state.copy()
    bad = good.copy()
    bad[0] = np.nan
    wrong = good.copy()
    wrong[-3] = 7
    for observation, elapsed in [
        (bad, 0.05),
        (wrong, 0.05),
        (good, np.nan),
        (good, 0),
        (good, 1e9),
    ]:
        with pytest.raises(ValueError, match=r"observation|elapsed time"):
            exported.step(observation, elapsed)
        np.testing.assert_array_equal(exported.state, state)


def test_denormals_and_the_first_step_after_a_reset() -> None:
    policy = cases.make_policy(normalize_observations=False)
    exported = OnnxPolicy(model_of(policy).SerializeToString())
    tiny = {"observation": np.full(5, 1e-41, np.float32), "elapsed_time": np.float32([0.05])}
    action, _ = policy.predict(tiny, None, np.array([True]), deterministic=True)
    np.testing.assert_allclose(exported.step(np.full(5, 1e-41), 0.05), action, atol=2e-6)
    recording = [(cases.flat(seen), elapsed) for seen, elapsed, _ in cases.record(policy, 20)]
    exported.reset()
    first = [exported.step(*each) for each in recording]
    exported.reset()
    np.testing.assert_array_equal([exported.step(*each) for each in recording], first)


@pytest.mark.parametrize("neurons", ["cfc", "ltc", "gru"])
def test_any_elapsed_time_is_taken_where_the_policy_allows_it(neurons: str) -> None:
    policy = cases.make_policy(neurons=neurons, allow_any_interval=True)
    exported = OnnxPolicy(model_of(policy).SerializeToString())
    observation, _, _ = cases.record(policy, 1)[0]
    for elapsed in (1e-30, 1e-42, 1e9):
        timed = {**observation, "elapsed_time": np.float32([elapsed])}
        action, state = policy.predict(timed, None, np.array([True]), deterministic=True)
        exported.reset()
        np.testing.assert_allclose(exported.step(cases.flat(timed), elapsed), action, atol=3e-6)
        np.testing.assert_allclose(exported.state, state[0], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="elapsed time"):
        exported.step(cases.flat(observation), 0.0)


def test_a_changed_weight_is_found() -> None:
    policy = cases.make_policy(encoder=[8])
    model = model_of(policy)
    weights = [
        each
        for each in model.graph.initializer
        if each.name.endswith(("weights", "bias", "shift", "scale"))
    ]
    assert len(weights) >= 8
    seen = cases.record(policy, 30)
    for weight in weights:
        before = weight.raw_data
        values = np.frombuffer(before, np.float32).copy()
        values[np.abs(values).argmax()] += 0.01
        weight.raw_data = values.tobytes()
        exported = OnnxPolicy(model.SerializeToString())
        weight.raw_data = before
        state, worst = None, 0.0
        for observation, elapsed, start in seen:
            action, state = policy.predict(
                observation, state, np.array([start]), deterministic=True
            )
            if start:
                exported.reset()
            acted = exported.step(cases.flat(observation), elapsed)
            worst = max(worst, float(np.abs(acted - action).max()))
        assert worst > 1e-5, weight.name


def test_few_synapses_are_gathered_and_many_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = cases.make_policy(wiring={**cases.WIRING, "neurons": 32})
    matrices = {node.op_type for node in model_of(policy).graph.node}
    assert "Gather" not in matrices
    monkeypatch.setattr(to_onnx_module, "LARGE", 0)
    monkeypatch.setattr(to_onnx_module, "DENSITY", 2.0)
    assert "Gather" in {node.op_type for node in model_of(policy).graph.node}
    assert np.all(errors(policy, 200) <= TOLERANCE)
