"""Policies in C: compilers accept them, and they compute what PyTorch computes."""

from __future__ import annotations

import locale
import re
import threading
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from liquid_control.export.c_statements import GROUP, _groups
from liquid_control.export.c_tables import number, packed
from liquid_control.export.description import Dense, ExportError, Sum, flat
from liquid_control.export.policies import describe_policy
from liquid_control.export.quantization import codes, quantized, without_scales
from liquid_control.export.to_c import to_c

from . import cases, compilers

STEPS = 500
TOLERANCE = 1e-6  # of the range of each action


def errors(policy: Any, compiled: Any, steps: int = STEPS) -> Any:
    """Return the largest error of each action over a recording, relative to its range.

    The policy acts in double precision: its own rounding is no error of the other.
    """
    policy = deepcopy(policy).double()
    worst: Any = 0.0
    state = None
    span = policy.action_space.high - policy.action_space.low
    for observation, elapsed, start in cases.record(policy, steps):
        if start:
            compiled.reset()
        action, state = policy.predict(observation, state, np.array([start]), deterministic=True)
        acted = compiled.step(cases.flat(observation), elapsed)
        worst = np.maximum(worst, np.abs(acted - action.ravel()) / span.ravel())
    return worst


@compilers.HOST
@pytest.mark.parametrize("name", cases.NAMES)
def test_every_kind_of_neuron_agrees_with_pytorch(name: str, tmp_path: Path) -> None:
    policy = cases.make_policy(encoder=[8], **cases.CIRCUITS[name])
    compiled = compilers.compiled(describe_policy(policy), tmp_path)
    assert np.all(errors(policy, compiled) <= TOLERANCE)


@compilers.HOST
@pytest.mark.parametrize("name", cases.SOFT_NAMES)
def test_every_soft_policy_agrees_with_pytorch(name: str, tmp_path: Path) -> None:
    policy = cases.soft_policy(**cases.SOFT[name])
    compiled = compilers.compiled(describe_policy(policy), tmp_path)
    assert np.all(errors(policy, compiled) <= TOLERANCE)


@compilers.HOST
@pytest.mark.parametrize("kind", ["liquid", "soft"])
def test_what_critics_alone_see_is_not_exported(kind: str, tmp_path: Path) -> None:
    space = spaces.Dict({**cases.TIMED.spaces, "privileged": spaces.Box(-1, 1, (3,))})
    make = cases.make_policy if kind == "liquid" else cases.soft_policy
    policy = make(observations=space, encoder=[6])
    description = describe_policy(policy)
    assert [part.name for part in description.parts] == ["observation"]
    compiled = compilers.compiled(description, tmp_path)
    state, span = None, policy.action_space.high - policy.action_space.low
    for observation, elapsed, start in cases.record(policy, 100):
        del observation["privileged"]
        action, state = policy.predict(observation, state, np.array([start]), deterministic=True)
        if start:
            compiled.reset()
        acted = compiled.step(cases.flat(observation), elapsed)
        assert np.all(np.abs(acted - action.ravel()) <= TOLERANCE * span)


DISCRETE = [spaces.Discrete(5), spaces.MultiDiscrete([3, 2]), spaces.MultiBinary(4)]


@compilers.HOST
@pytest.mark.parametrize("actions", DISCRETE, ids=lambda space: type(space).__name__)
def test_discrete_observations_and_actions_are_the_same(actions: Any, tmp_path: Path) -> None:
    policy = cases.make_policy(observations=cases.MIXED, actions=actions, encoder=[6])
    compiled = compilers.compiled(describe_policy(policy), tmp_path)
    state, seen = None, set()
    for observation, elapsed, start in cases.record(policy, 300):
        if start:
            compiled.reset()
        action, state = policy.predict(observation, state, np.array([start]), deterministic=True)
        acted = compiled.step(cases.flat(observation), elapsed)
        np.testing.assert_array_equal(acted, np.ravel(action))
        seen.add(acted.tobytes())
    assert len(seen) > 1


def assert_no_warning(compiler: list[str], policies: Iterable[Any], folder: Path) -> None:
    for policy in policies:
        compilers.write(describe_policy(policy), folder)
        flags = (*compilers.STRICT, "-Wshadow", "-Wdouble-promotion")
        compilers.run(*compiler, *flags, "-c", "policy.c", "-o", "policy.o", cwd=folder)


@pytest.mark.parametrize("name", cases.NAMES)
@pytest.mark.parametrize("compiler", compilers.COMPILERS)
def test_compilers_accept_every_kind_without_a_warning(
    compiler: list[str], name: str, tmp_path: Path
) -> None:
    assert_no_warning(compiler, [cases.make_policy(encoder=[8], **cases.CIRCUITS[name])], tmp_path)


@pytest.mark.parametrize("compiler", compilers.COMPILERS)
def test_compilers_accept_every_space_without_a_warning(
    compiler: list[str], tmp_path: Path
) -> None:
    policies = [cases.soft_policy(), cases.make_policy(observations=cases.MIXED, encoder=[6])]
    policies += [cases.make_policy(actions=space) for space in DISCRETE]
    assert_no_warning(compiler, policies, tmp_path)


@compilers.HOST
def test_optimisation_does_not_change_a_bit(tmp_path: Path) -> None:
    policy = cases.make_policy(encoder=[8])
    description = describe_policy(policy)
    actions = []
    for level in ("-O0", "-O2", "-O3"):
        (tmp_path / level).mkdir()
        compiled = compilers.compiled(description, tmp_path / level, level)
        acted = [
            compiled.step(cases.flat(observation), elapsed).tobytes()
            for observation, elapsed, _ in cases.record(policy, 50)
        ]
        actions.append(acted)
    assert actions[0] == actions[1] == actions[2]


@compilers.HOST
def test_bad_input_keeps_the_last_action_and_state(tmp_path: Path) -> None:
    policy = cases.make_policy(observations=cases.MIXED, encoder=[6])
    compiled = compilers.compiled(describe_policy(policy), tmp_path)
    recording = cases.record(policy, 3)
    last = [compiled.step(cases.flat(seen), elapsed) for seen, elapsed, _ in recording][-1]
    memory = compiled._memory.copy()
    good, elapsed = cases.flat(recording[0][0]), recording[0][1]
    names = [part.name for part in describe_policy(policy).parts]
    assert names[0] == "box"  # six numbers, followed by two, two flags and indices

    def changed(index: int, value: float) -> Any:
        bad = good.copy()
        bad[index] = value
        return bad

    mode = good.size - 3  # of 5 values
    bad: list[tuple[Any, float]] = [(changed(0, value), elapsed) for value in (np.nan, np.inf)]
    bad += [(changed(mode, value), elapsed) for value in (-1, 5, 0.5, 1e9)]
    bad += [(good, value) for value in (np.nan, np.inf, -np.inf, -0.05, 0.0, 1e9, 6.0, 1e-4)]
    for observation, seconds in bad:
        with pytest.raises(ValueError, match=r"observation|elapsed time"):
            compiled.step(observation, seconds)
        np.testing.assert_array_equal(compiled._action, last)
        np.testing.assert_array_equal(compiled._memory, memory)


@compilers.HOST
def test_any_elapsed_time_is_taken_where_the_policy_allows_it(tmp_path: Path) -> None:
    for neurons in ("cfc", "ltc", "ctrnn", "lrc", "lstm", "gru"):
        (tmp_path / neurons).mkdir()
        policy = cases.make_policy(neurons=neurons, allow_any_interval=True)
        compiled = compilers.compiled(describe_policy(policy), tmp_path / neurons)
        observation, _, _ = cases.record(policy, 1)[0]
        for elapsed in (1e-30, 1e-42, 1e9):
            timed = {**observation, "elapsed_time": np.float32([elapsed])}
            action, state = policy.predict(timed, None, np.array([True]), deterministic=True)
            compiled.reset()
            acted = compiled.step(cases.flat(timed), elapsed)
            np.testing.assert_allclose(acted, action, atol=3e-6)
            np.testing.assert_allclose(compiled.state, state[0], rtol=1e-5, atol=1e-6)
        with pytest.raises(ValueError, match="elapsed time"):
            compiled.step(cases.flat(observation), 0.0)


@compilers.HOST
def test_denormal_observations_are_numbers_like_others(tmp_path: Path) -> None:
    policy = cases.make_policy(normalize_observations=False)
    compiled = compilers.compiled(describe_policy(policy), tmp_path)
    observation = {"observation": np.full(5, 1e-41, np.float32), "elapsed_time": np.float32([0.05])}
    action, _ = policy.predict(observation, None, np.array([True]), deterministic=True)
    np.testing.assert_allclose(compiled.step(np.full(5, 1e-41), 0.05), action, atol=2e-6)


@compilers.HOST
def test_overflow_is_refused(tmp_path: Path) -> None:
    policy = cases.make_policy(neurons="cfc", neuron_kwargs={"mode": "pure"})
    policy.actor.circuit.sensory.weight.data.fill_(3e38)
    compiled = compilers.compiled(describe_policy(policy), tmp_path)
    with pytest.raises(ValueError, match="overflow"):
        compiled.step(np.full(5, 100.0), 0.05)
    assert not compiled._memory.any()


@compilers.HOST
def test_the_first_action_after_a_reset_is_that_of_a_new_policy(tmp_path: Path) -> None:
    policy = cases.soft_policy()
    compiled = compilers.compiled(describe_policy(policy), tmp_path)
    recording = [(cases.flat(seen), elapsed) for seen, elapsed, _ in cases.record(policy, 20)]
    first = [compiled.step(*each) for each in recording]
    compiled.reset()
    np.testing.assert_array_equal([compiled.step(*each) for each in recording], first)


@compilers.HOST
def test_two_states_may_run_in_two_threads(tmp_path: Path) -> None:
    policy = cases.make_policy(encoder=[8])
    description = describe_policy(policy)
    robots = [compilers.compiled(description, tmp_path)]
    robots.append(type(robots[0])(tmp_path / "policy.so", robots[0].metadata))
    recordings = [
        [(cases.flat(seen), elapsed) for seen, elapsed, _ in cases.record(policy, 2000, seed=seed)]
        for seed in (1, 2)
    ]
    alone = []
    for robot, recording in zip(robots, recordings, strict=True):
        alone.append([robot.step(*each).tobytes() for each in recording])
        robot.reset()
    together: list[list[bytes]] = [[], []]

    def act(index: int) -> None:
        together[index] = [robots[index].step(*each).tobytes() for each in recordings[index]]

    threads = [threading.Thread(target=act, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


@compilers.HOST
def test_a_changed_weight_is_found(tmp_path: Path) -> None:
    """Every table of the policy counts: one number of each is changed in turn."""
    policy = cases.make_policy(encoder=[8])
    source = to_c(describe_policy(policy)).source
    tables = re.findall(r"static const float (\w+)\[.*?\};", source, re.DOTALL)
    assert len(tables) >= 6
    (tmp_path / "right").mkdir()
    right = compilers.compiled(describe_policy(policy), tmp_path / "right")
    assert np.all(errors(policy, right, 100) <= TOLERANCE)
    for table in tables:
        folder = tmp_path / table
        folder.mkdir()
        compilers.write(describe_policy(policy), folder)
        text = re.search(rf"float {table}\[.*?\}};", source, re.DOTALL)
        assert text
        changed = re.sub(
            r"-?\d\.\d+(e-\d+)?f", lambda found: f"({found[0]} + 0.01f)", text[0], count=1
        )
        assert changed != text[0]
        (folder / "policy.c").write_text(source.replace(text[0], changed))
        library = compilers.compile_c(
            folder / "policy.c", folder / "policy.so", compiler="gcc", flags=("-O0",)
        )
        wrong = compilers.CPolicy(library, right.metadata)
        assert np.any(errors(policy, wrong, 100) > TOLERANCE), table


def test_libraries_of_other_exports_are_refused(tmp_path: Path) -> None:
    small, large = (
        describe_policy(cases.make_policy(encoder=[8], wiring={"kind": "auto_ncp", "neurons": n}))
        for n in (12, 20)
    )
    folder = tmp_path / "large"
    folder.mkdir()
    compilers.compiled(large, folder)
    with pytest.raises(ValueError, match=r"compile policy\.c of the same export"):
        compilers.CPolicy(folder / "policy.so", compilers.metadata_of(small))


@compilers.HOST
def test_a_library_that_is_compiled_again_acts_as_the_new_policy(tmp_path: Path) -> None:
    observation = np.ones(5, np.float32)
    for seed in range(3):
        policy = cases.make_policy(seed=seed)
        acting = compilers.compiled(describe_policy(policy), tmp_path)
        timed = {"observation": observation, "elapsed_time": np.float32([cases.NOMINAL])}
        expected = policy.predict(timed, None, np.array([True]), deterministic=True)[0]
        np.testing.assert_allclose(acting.step(observation, cases.NOMINAL), expected, atol=1e-5)
    assert {path.name for path in tmp_path.iterdir()} == {"policy.c", "policy.h", "policy.so"}


@compilers.HOST
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_weights_that_round_to_zero_are_zero(weights: str, tmp_path: Path) -> None:
    policy = cases.make_policy()
    with torch.no_grad():
        policy.action_net.weight.fill_(1e-45)
    acting = compilers.compiled(quantized(describe_policy(policy), weights), tmp_path)
    action = acting.step(np.ones(5, np.float32), cases.NOMINAL)
    bias = policy.action_net.bias.detach().numpy()
    np.testing.assert_allclose(
        action, np.clip(bias, cases.ACTIONS.low, cases.ACTIONS.high), rtol=1e-6
    )


@compilers.HOST
def test_names_of_observations_end_no_comment(tmp_path: Path) -> None:
    part = spaces.Box(-1.0, 1.0, (2,))
    observations = spaces.Dict({'a */ #include "/etc/passwd" /*': part, "b": part})
    policy = cases.make_policy(observations=observations)
    compilers.compiled(describe_policy(policy), tmp_path)


def test_bounds_beyond_single_precision_are_refused() -> None:
    actions = spaces.Box(np.float32([-3e38, 1]), np.float32([3e38, 2]))
    with pytest.raises(ExportError, match="too far apart for single precision"):
        describe_policy(cases.soft_policy(actions=actions))


def test_literals_are_exact_in_every_locale() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)
    numbers = np.concatenate([numbers[np.isfinite(numbers)], np.float32([0, 1, -1, 1e10, 1e-45])])
    before = locale.setlocale(locale.LC_NUMERIC)
    try:
        for name in ("de_DE.UTF-8", "C"):
            try:
                locale.setlocale(locale.LC_NUMERIC, name)
            except locale.Error:
                continue
            for value in numbers:
                text = number(value)
                assert re.fullmatch(r"-?\d+(\.\d+)?(e[-+]\d+)?f", text)
                assert "." in text or "e" in text
                assert np.float32(text[:-1]) == value
    finally:
        locale.setlocale(locale.LC_NUMERIC, before)


@pytest.mark.parametrize("weights", ["float32", "int8", "int4"])
def test_sizes_are_those_of_the_tables(weights: str) -> None:
    description = describe_policy(cases.make_policy(encoder=[8]))
    rounded = description if weights == "float32" else quantized(description, weights)
    sources = to_c(rounded)
    found = 0
    widths = {"float": 4, "int8_t": 1, "uint8_t": 1, "uint16_t": 2}
    for kind, shape in re.findall(r"static const (\w+) \w+((?:\[\d+\])+)", sources.source):
        found += widths[kind] * int(np.prod([int(each) for each in re.findall(r"\d+", shape)]))
    assert found == sources.flash
    assert f"{sources.flash:,} bytes of constants" in sources.header
    assert f"{sources.circuit:,} bytes of them for the circuit" in sources.header
    around = {"shift": 5, "scale": 5, "low": 3, "high": 3}  # floats, where they are not all equal
    layers = (6 * 8 + 8) + (4 * 3 + 3)
    if weights == "float32":
        assert sources.flash - sources.circuit <= 4 * (layers + sum(around.values()))
        assert sources.flash - sources.circuit >= 4 * (layers + 10)
    assert sources.state == 4 * (16 + 3)


def test_int8_is_a_quarter_of_the_weights_and_a_circuit_of_64_neurons_fits_into_8_kb() -> None:
    policy = cases.make_policy(
        wiring={"kind": "auto_ncp", "neurons": 64, "motor": 32}, encoder=[64]
    )
    description = describe_policy(policy)
    sizes = {"float32": to_c(description).circuit}
    sizes |= {name: to_c(quantized(description, name)).circuit for name in ("int8", "int4")}
    assert sizes["int8"] <= 8 * 1024
    assert sizes["int4"] < sizes["int8"] < 0.5 * sizes["float32"]


@compilers.HOST
@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in {"cfc", "ltc"} else pytest.mark.slow)
        for name in cases.CIRCUITS
    ],
)
def test_rounded_weights_compute_what_the_same_floats_compute(
    name: str, weights: str, tmp_path: Path
) -> None:
    policy = cases.make_policy(encoder=[8], **cases.CIRCUITS[name])
    rounded = quantized(describe_policy(policy), weights)
    for folder in ("whole", "plain"):
        (tmp_path / folder).mkdir()
    whole = compilers.compiled(rounded, tmp_path / "whole", "-O1", "-Wshadow", "-Wdouble-promotion")
    plain = compilers.compiled(without_scales(rounded), tmp_path / "plain")
    span = policy.action_space.high - policy.action_space.low
    for observation, elapsed, start in cases.record(policy, 300):
        if start:
            whole.reset()
            plain.reset()
        seen = cases.flat(observation)
        apart = np.abs(whole.step(seen, elapsed) - plain.step(seen, elapsed))
        assert np.all(apart <= TOLERANCE * span)


def test_weights_are_rounded_to_the_nearest_multiple_of_their_scale() -> None:
    for name in ("cfc", "ltc"):
        description = describe_policy(cases.make_policy(encoder=[8], **cases.CIRCUITS[name]))
        for weights, most in (("int8", 127), ("int4", 7)):
            rounded = quantized(description, weights)
            pairs = zip(flat(description.statements), flat(rounded.statements), strict=True)
            checked = 0
            for (_, before), (_, after) in pairs:
                if isinstance(before, Dense):
                    assert isinstance(after, Dense)
                    exact, found, scales = before.weight, after.weight, after.scales[:, None]
                    np.testing.assert_array_equal(before.bias, after.bias)
                elif isinstance(before, Sum):
                    exact, found = before.parameters, after.parameters
                    scales = np.repeat(after.scales, np.diff(before.starts), axis=1)
                else:
                    continue
                assert np.all(np.abs(found - exact) <= 0.5001 * scales)
                whole = codes(after)
                assert np.abs(whole).max() == most
                np.testing.assert_allclose(whole.reshape(exact.shape) * scales, found, rtol=1e-6)
                checked += 1
            assert checked >= 4
    with pytest.raises(ExportError, match="int8 already"):
        quantized(quantized(description, "int8"), "int4")
    with pytest.raises(ExportError, match="int8 or int4, got 'int2'"):
        quantized(description, "int2")


def test_groups_of_targets_have_few_synapses_or_one_target() -> None:
    rng = np.random.default_rng(0)
    for most in (3, 40, 400):
        starts = np.concatenate([[0], np.cumsum(rng.integers(0, most, 50))])
        bounds = _groups(starts)
        assert (bounds[0], bounds[-1]) == (0, 50)
        assert (np.diff(bounds) > 0).all()
        synapses = np.diff(starts[bounds])
        assert ((synapses <= GROUP) | (np.diff(bounds) == 1)).all()
        assert ((synapses[:-1] + synapses[1:] > GROUP) | (most > GROUP)).all()  # none is needless


@compilers.HOST
def test_neurons_with_many_synapses_agree_with_pytorch(tmp_path: Path) -> None:
    wiring = {"kind": "sparse_random", "neurons": 30, "motor": 3, "sparsity": 0.1}
    policy = cases.make_policy(neurons="ltc", wiring=wiring, encoder=[150])
    compiled = compilers.compiled(describe_policy(policy), tmp_path)
    assert np.all(errors(policy, compiled, 200) <= TOLERANCE)


def test_four_bits_are_packed_in_pairs() -> None:
    values = np.array([[-7, 7, 0], [1, -1, 3], [-8, 5, 6]], np.int8)
    bytes_ = packed(values)
    assert len(bytes_) == 5
    unpacked = [((int(bytes_[index >> 1]) >> (4 * (index & 1))) & 15 ^ 8) - 8 for index in range(9)]
    assert unpacked == values.ravel().tolist()


def test_comments_cannot_end_early_and_noise_is_refused() -> None:
    policy = cases.make_policy()
    sources = to_c(describe_policy(policy), facts=["a task */ int main; /*"])
    assert "a task * / int main; / *" in sources.header
    assert "floats in the byte order of the machine" in sources.header
    with pytest.raises(ExportError, match="no noise"):
        to_c(describe_policy(policy, sampled=True))
