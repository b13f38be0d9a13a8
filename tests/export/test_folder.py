"""Exports are written whole or not at all, and altered files and other policies are found."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `deploy` is not installed")

from liquid_control.checkpoints import CheckpointError
from liquid_control.checkpoints.manifest import sealed
from liquid_control.commands.export import report
from liquid_control.export import ExportError, export_policy, folder, verify_folder
from liquid_control.export.agreement import (
    LARGEST_TOLERANCE,
    TOLERANCE,
    Agreement,
    act,
    record,
    tolerance_of,
)
from liquid_control.export.facts import Signals
from liquid_control.export.folder import build_files, check_files

from . import cases, compilers


def test_an_export_is_verified_and_read_again(tmp_path: Path) -> None:
    policy = cases.make_policy(encoder=[6])
    path = tmp_path / "exported"
    written = export_policy(policy, path, task="Test-v0", trained_interval=(0.02, 0.1))
    assert {each.name for each in path.iterdir()} == {
        "manifest.json",
        "policy.c",
        "policy.h",
        "policy.json",
        "policy.onnx",
    }
    assert all(each.holds and each.steps == 1000 for each in written.values())
    assert verify_folder(path, policy) == written
    facts = json.loads((path / "policy.json").read_text())
    assert facts["task"] == "Test-v0"
    assert facts["trained_interval"] == [0.02, 0.1]
    assert "task       Test-v0" in (path / "policy.h").read_text()


def test_the_same_policy_gives_the_same_files() -> None:
    policy = cases.make_policy(encoder=[6])
    assert build_files(policy, ("onnx", "c"))[0] == build_files(policy, ("onnx", "c"))[0]


def test_rates_of_change_of_discrete_observations_are_exported() -> None:
    policy = cases.make_policy(observations=cases.MIXED, derivatives=[0.0])
    files, metadata = build_files(policy, ("onnx", "c"))
    found = check_files(files, policy, metadata)
    assert all(each.holds for each in found.values())


@pytest.mark.parametrize("name", ["policy.c", "policy.h", "policy.onnx", "policy.json"])
def test_an_altered_file_is_refused(name: str, tmp_path: Path) -> None:
    policy = cases.make_policy()
    export_policy(policy, tmp_path / "it")
    path = tmp_path / "it" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        verify_folder(tmp_path / "it", policy)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"do not match its manifest: {name}"):
        verify_folder(tmp_path / "it", policy)


def test_a_folder_without_an_export_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no exported policy"):
        verify_folder(tmp_path, cases.make_policy())


FORGED: Mapping[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "state_size": (lambda facts: facts.update(state_size=10**12), "another state_size"),
    "negative": (lambda facts: facts.update(state_size=-1), "state_size must not be negative"),
    "unit": (lambda facts: facts["action"].update(units=["N"] * 3), "another action"),
    "hash": (lambda facts: facts.update(policy_sha256="0" * 64), "another policy_sha256"),
    "weights": (lambda facts: facts.update(weights="int3"), "can be int8 or int4, got 'int3'"),
    "rounding": (
        lambda facts: facts.update(rounding={"error": 1.0}),
        "rounding needs the keys error, mean_error",
    ),
    "key": (lambda facts: facts.update(reward=1), "reward is unknown"),
    "task": (lambda facts: facts.update(task="Other-v0"), "another task"),
    "interval": (lambda facts: facts.update(trained_interval=[0.01, 9.0]), "trained_interval"),
    "infinity": (lambda facts: facts.update(nominal_interval=1e999), "Infinity is no number"),
}


@pytest.mark.parametrize("forged", FORGED)
def test_forged_facts_are_found(forged: str, tmp_path: Path) -> None:
    policy, facts = cases.make_policy(), {"task": "Test-v0", "trained_interval": (0.02, 0.1)}
    files, _ = build_files(policy, ("c",), **facts)
    change, message = FORGED[forged]
    content = json.loads(files["policy.json"])
    change(content)
    sealed_export(tmp_path / "it", files | {"policy.json": json.dumps(content).encode()})
    with pytest.raises(CheckpointError, match=message):
        verify_folder(tmp_path / "it", policy, signals=Signals(), **facts)


@pytest.mark.parametrize("content", [b"[]", b"\xff", b"", b"{}"])
def test_facts_that_cannot_be_read_are_named(content: bytes, tmp_path: Path) -> None:
    policy = cases.make_policy()
    files, _ = build_files(policy, ("c",))
    sealed_export(tmp_path / "it", files | {"policy.json": content})
    with pytest.raises(CheckpointError, match="metadata of the policy cannot be read"):
        verify_folder(tmp_path / "it", policy)


@pytest.mark.parametrize("name", ["policy.c", "policy.h", "policy.json"])
def test_a_file_that_was_never_sealed_is_named(name: str, tmp_path: Path) -> None:
    policy = cases.make_policy()
    files, _ = build_files(policy, ("c",))
    del files[name]
    sealed_export(tmp_path / "it", files)
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        verify_folder(tmp_path / "it", policy)


def test_a_damaged_or_foreign_model_is_named(tmp_path: Path) -> None:
    policy = cases.make_policy()
    files, _ = build_files(policy, ("onnx",))
    sealed_export(tmp_path / "damaged", files | {"policy.onnx": b"no model"})
    with pytest.raises(CheckpointError, match="cannot be read; export it again"):
        verify_folder(tmp_path / "damaged", policy)
    facts = json.loads(files["policy.json"]) | {"certificate": {"return": 1e9}}
    sealed_export(tmp_path / "foreign", files | {"policy.json": json.dumps(facts).encode()})
    with pytest.raises(CheckpointError, match="not of this policy: onnx, whose code"):
        verify_folder(tmp_path / "foreign", policy)
    with pytest.raises(CheckpointError, match="have different facts"):
        verify_folder(tmp_path / "foreign", policy, trust=True)


@compilers.HOST
@pytest.mark.parametrize("weights", ["float32", "int8", "int4"])
def test_code_of_others_runs_with_trust_only(weights: str, tmp_path: Path) -> None:
    """Other weights are compared; other code, and other indices, are not even compiled."""
    policy, other = cases.make_policy(), cases.make_policy(seed=1)
    rounding = None if weights == "float32" else {"error": 0.1, "mean_error": 0.01}
    files, _ = build_files(policy, ("c",), weights, rounding=rounding)
    others, _ = build_files(other, ("c",), weights, rounding=rounding)
    sealed_export(tmp_path / "weights", files | {"policy.c": others["policy.c"]})
    assert not verify_folder(tmp_path / "weights", policy)["c"].holds

    place = tmp_path / "it_ran"
    run = f'static void __attribute__((constructor)) f(void) {{ fopen("{place}", "w"); }}\n'
    source, header = files["policy.c"], files["policy.h"]
    first_index = re.compile(rb"(_sources\[\d+\] = \{\s*)\d+")
    forged = {
        "source": {"policy.c": source + b"#include <stdio.h>\n" + run.encode()},
        "header": {"policy.h": b"#include <stdio.h>\n" + header + run.encode()},
        "table": {"policy.c": source.replace(b"};", b"}; int more[] = {1};", 1)},
        "index": {"policy.c": first_index.sub(rb"\g<1>255", source, count=1)},
        "literal": {"policy.c": source.replace(b"10.0f", b"50.0f")},
    }
    for name, changed in forged.items():
        sealed_export(tmp_path / name, files | changed)
        with pytest.raises(CheckpointError, match=r"give trust \(--trust\) to run and compare it"):
            verify_folder(tmp_path / name, policy)
    assert not place.exists()
    assert verify_folder(tmp_path / "source", policy, trust=True)["c"].holds
    assert place.exists()


@compilers.HOST
def test_weights_that_hardly_act_are_found(tmp_path: Path) -> None:
    """The action's upper bounds, which no recording reaches, are tables like weights."""
    policy = cases.make_policy()
    policy.action_net.weight.data *= 0.01
    files, _ = build_files(policy, ("c",))
    source = re.sub(rb"(float high\[3\] = \{\s*)1\.0f", rb"\g<1>900.0f", files["policy.c"])
    assert source != files["policy.c"]
    sealed_export(tmp_path / "it", files | {"policy.c": source})
    with pytest.raises(CheckpointError, match=r"acts like it: policy\.c has other weights"):
        verify_folder(tmp_path / "it", policy)


def test_models_of_others_do_not_run(tmp_path: Path) -> None:
    """A node that acts on what no recording shows, an initializer, and another property."""
    import onnx

    policy = cases.make_policy()
    policy.action_net.weight.data *= 0.01
    files, _ = build_files(policy, ("onnx",))

    def verify(name: str, change: Callable[[Any], object]) -> None:
        model = onnx.load_from_string(files["policy.onnx"])
        change(model)
        forged = model.SerializeToString(deterministic=True)
        assert forged != files["policy.onnx"]
        sealed_export(tmp_path / name, files | {"policy.onnx": forged})
        verify_folder(tmp_path / name, policy)

    def backdoor(model: Any) -> None:
        graph = model.graph
        last = next(node for node in graph.node if "action" in node.output)
        last.output[0] = "honest"
        graph.node.append(onnx.helper.make_node("Neg", ["honest"], ["action"]))

    def raise_bound(model: Any) -> None:
        (bound,) = (each for each in model.graph.initializer if each.name == "high")
        values = onnx.numpy_helper.to_array(bound) * 900
        bound.CopyFrom(onnx.numpy_helper.from_array(values, "high"))

    for name, change, message in (
        ("node", backdoor, "not of this policy: onnx, whose code"),
        ("property", lambda model: model.metadata_props.pop(), "not of this policy: onnx, whose"),
        ("bound", raise_bound, r"acts like it: policy\.onnx has other weights"),
    ):
        with pytest.raises(CheckpointError, match=message):
            verify(name, change)


def sealed_export(path: Path, files: Mapping[str, bytes]) -> None:
    """Write files with a manifest that fits them, as anyone can."""
    path.mkdir()
    for name, content in sealed(files, folder.FORMAT, folder.VERSION).items():
        (path / name).write_bytes(content)


def test_nothing_is_written_unless_everything_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = cases.make_policy(encoder=[4])
    (tmp_path / "kept").mkdir()
    with pytest.raises(FileExistsError, match="choose another folder"):
        export_policy(policy, tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir())
    wrong = {"c": Agreement(1000, 1e-3, TOLERANCE)}
    monkeypatch.setattr(folder, "check_files", lambda *_: wrong)
    with pytest.raises(ExportError, match=r"nothing is written: policy in c differs .* by 0.001"):
        export_policy(policy, tmp_path / "new")

    def diverges(*_: object) -> None:
        raise ValueError("the next state of predict is not finite")

    monkeypatch.setattr(folder, "check_files", diverges)
    with pytest.raises(ExportError, match="nothing is written, since the policy does not act: the"):
        export_policy(policy, tmp_path / "new")
    policy.actor.encoder[1] = torch.nn.ELU()
    with pytest.raises(ExportError, match="the encoder"):
        export_policy(policy, tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"kept"}


@compilers.HOST
@pytest.mark.parametrize("weights", ["int8", pytest.param("int4", marks=pytest.mark.slow)])
def test_rounded_weights_are_verified(weights: str, tmp_path: Path) -> None:
    policy = cases.make_policy(encoder=[6])
    rounding = {"error": 0.125, "mean_error": 0.01, "return": 99.0, "float_return": 100.0}
    path = tmp_path / "it"
    written = export_policy(policy, path, weights=weights, rounding=rounding)
    assert written.keys() == {"onnx", "c"}
    for agreement in written.values():
        assert agreement.holds
        assert 1e-4 < agreement.rounding < (0.1 if weights == "int8" else 0.9)
    assert verify_folder(path, policy) == written
    header = (path / "policy.h").read_text()
    assert "moves actions by at most 0.12 of their range" in header
    assert "mean return 99; with weights in single precision 100" in header
    facts = json.loads((path / "policy.json").read_text())
    assert facts["weights"] == weights
    assert facts["rounding"] == rounding
    # Weights in single precision are not the rounded ones, and so are those of another policy.
    policy.actor.circuit.sensory.weight.data += 0.05
    assert not any(each.holds for each in verify_folder(path, policy).values())


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_actions_that_cannot_change_agree(weights: str, tmp_path: Path) -> None:
    actions = spaces.Box(np.float32([-1, 1]), np.float32([1, 1]))
    policy = cases.make_policy(actions=actions)
    agreements = export_policy(policy, tmp_path / "robot", weights=weights)
    assert all(each.holds for each in agreements.values())


def test_nan_does_not_agree() -> None:
    assert not Agreement(1000, float("nan"), TOLERANCE).holds


@compilers.HOST
def test_the_tolerance_follows_what_single_precision_changes() -> None:
    """Action weights ten times as large amplify rounding; a thousand times is refused."""
    tolerances = {}
    for gain in (1.0, 10.0, 1000.0):
        policy = cases.make_policy(encoder=[6])
        policy.action_net.weight.data *= gain
        files, metadata = build_files(policy, ("onnx", "c"))
        found = check_files(files, policy, metadata)
        assert all(each.holds for each in found.values()) == (gain < 1000.0)
        if gain == 10.0:  # else the test could not fail
            assert all(each.error > TOLERANCE for each in found.values())
        tolerances[gain] = found["c"].tolerance
    assert tolerances[1.0] == TOLERANCE
    assert TOLERANCE < tolerances[10.0] < LARGEST_TOLERANCE
    assert tolerances[1000.0] == LARGEST_TOLERANCE


def test_a_wider_tolerance_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    report({"c": Agreement(1000, 2e-6, 8e-6), "onnx": Agreement(1000, 5e-7, TOLERANCE)}, ())
    printed = " ".join("".join(capsys.readouterr()).split())
    assert "policy in c may differ by 8e-06 instead of 1e-06" in printed
    assert "policy in onnx may" not in printed


def test_nan_does_not_widen_the_tolerance() -> None:
    policy = cases.make_policy(encoder=[6])
    moments = record(policy, build_files(policy, ("onnx",))[1], steps=5)
    acted = np.stack([*act(policy, moments)])
    acted[2, 0] = np.nan
    assert tolerance_of(policy, moments, acted) == TOLERANCE


@compilers.HOST
def test_a_change_of_any_parameter_of_the_policy_is_found() -> None:
    """One number of each tensor that acts is changed in turn, in the policy that is compared."""
    policy = cases.make_policy(encoder=[6])
    files, metadata = build_files(policy, ("onnx",))
    acting = [each for each in policy.named_parameters() if not each[0].startswith("critic")]
    assert len(acting) > 5
    for name, parameter in acting:
        if name == "log_std":
            continue
        flat = parameter.data.view(-1)
        index = int(flat.abs().argmax())
        kept = flat[index].item()
        flat[index] += 0.02
        assert not check_files(files, policy, metadata, steps=100)["onnx"].holds, name
        flat[index] = kept
    assert check_files(files, policy, metadata)["onnx"].holds


def wirings(inputs: int) -> st.SearchStrategy[dict[str, Any]]:
    """Wirings of every kind for some inputs."""
    sizes = st.integers(4, 20)
    ncp = st.builds(
        lambda neurons, seed: {
            "kind": "auto_ncp",
            "neurons": neurons + 6,
            "motor": 3,
            "seed": seed,
        },
        sizes,
        st.integers(0, 99),
    )
    random = st.builds(
        lambda neurons, sparsity, seed: {
            "kind": "sparse_random",
            "neurons": neurons,
            "motor": 3,
            "sparsity": sparsity,
            "seed": seed,
        },
        sizes,
        st.floats(0.0, 0.6),
        st.integers(0, 99),
    )
    dense = st.builds(lambda neurons: {"kind": "dense", "neurons": neurons, "motor": 3}, sizes)
    return st.one_of(ncp, random, dense)


NEURONS = ["cfc", "cfc, no gate", "cfc, pure", "cfc, memory", "ltc", "ctrnn", "lrc", "lstm", "gru"]


@compilers.HOST
@settings(max_examples=15)
@given(data=st.data())
def test_random_policies_agree(data: st.DataObject) -> None:
    """Random wirings, neurons, encoders, observations and actions, in both formats."""
    encoder = data.draw(st.lists(st.integers(3, 12), max_size=2)) or None
    name = data.draw(st.sampled_from(NEURONS))
    features = data.draw(st.integers(1, 9))
    space = spaces.Dict(
        {
            "observation": spaces.Box(-np.inf, np.inf, (features,)),
            "elapsed_time": spaces.Box(0.0, np.inf, (1,)),
        }
    )
    policy = cases.make_policy(
        observations=data.draw(st.sampled_from([space, cases.MIXED, cases.VECTOR])),
        actions=data.draw(st.sampled_from([cases.ACTIONS, spaces.Discrete(3)])),
        wiring=data.draw(wirings(features)),
        encoder=encoder,
        normalize_observations=data.draw(st.booleans()),
        seed=data.draw(st.integers(0, 999)),
        **cases.CIRCUITS[name],
    )
    files, metadata = build_files(policy, ("onnx", "c"), trained_interval=(0.02, 0.1))
    found = check_files(files, policy, metadata, steps=200)
    assert found.keys() == {"onnx", "c"}
    for agreement in found.values():
        assert agreement.holds, agreement
