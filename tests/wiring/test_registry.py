"""Wirings from data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from liquid_control.wiring import auto_ncp, dense, make_wiring, ncp, tap_withdrawal


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"kind": "auto_ncp", "neurons": 20}, auto_ncp(5, 20, 3)),
        (
            {"kind": "auto_ncp", "neurons": 20, "sparsity": 0.2, "seed": 3},
            auto_ncp(5, 20, 3, 0.2, 3),
        ),
        ({"kind": "dense", "neurons": 8, "sensory": 2, "motor": 1}, dense(2, 8, 1)),
        (
            {
                "kind": "ncp",
                "inter": 4,
                "command": 3,
                "sensory_fanout": 2,
                "inter_fanout": 1,
                "recurrent_command_synapses": 2,
                "motor_fanin": 1,
            },
            ncp(5, 4, 3, 3, 2, 1, 2, 1),
        ),
        ({"kind": "tap_withdrawal"}, tap_withdrawal()),
        ({"kind": "explicit", "wiring": dense(2, 3, 1).to_dict()}, dense(2, 3, 1)),
    ],
)
def test_a_spec_from_a_file_builds_what_its_call_does(spec: dict[str, Any], expected: Any) -> None:
    assert make_wiring(json.loads(json.dumps(spec)), sensory=5, motor=3) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "needs a kind, one of ncp, auto_ncp, dense"),
        ({"kind": "ncpp"}, "'ncpp'; choose one of ncp, auto_ncp"),
        ({"kind": ["ncp"]}, "choose one of"),
        ({"kind": "auto_ncp", "neuron": 64}, "unknown 'neuron' .* takes sensory, neurons, motor"),
        ({"kind": "auto_ncp"}, "also needs neurons"),
        ({"kind": "tap_withdrawal", "seed": 1}, "unknown 'seed' .* takes no arguments"),
    ],
)
def test_an_unknown_kind_or_key_is_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_wiring(spec, sensory=5, motor=3)


def test_missing_sizes_are_an_error() -> None:
    with pytest.raises(ValueError, match="also needs motor, sensory"):
        make_wiring({"kind": "auto_ncp", "neurons": 64})
