"""The frozen description itself: content, copies, files, graphs and errors."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from liquid_control.wiring import Wiring


@st.composite
def wirings(draw: st.DrawFn) -> Wiring:
    """Any wiring, with synapses back to earlier layers, empty rows and several layers."""
    inputs, neurons = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    polarities = st.sampled_from((-1, 0, 1))
    first_layer = draw(st.integers(0, neurons - 1))
    sizes = [("inter", first_layer), ("command", neurons - first_layer)]
    return Wiring(
        sensory=draw(arrays.arrays(np.int8, (inputs, neurons), elements=polarities)),
        recurrent=draw(arrays.arrays(np.int8, (neurons, neurons), elements=polarities)),
        motor_count=draw(st.integers(1, neurons)),
        layers=tuple((name, size) for name, size in sizes if size),
    )


def small(**changes: object) -> Wiring:
    content = {
        "sensory": [[1, 0, 0], [0, -1, 0]],
        "recurrent": [[0, 0, 1], [0, 1, -1], [0, 0, 0]],
        "motor_count": 1,
        "layers": (("command", 2), ("motor", 1)),
    }
    return Wiring(**(content | changes))  # type: ignore[arg-type]


@given(wirings())
def test_every_way_to_copy_gives_an_equal_and_equally_frozen_wiring(wiring: Wiring) -> None:
    through_a_file = Wiring.from_dict(json.loads(json.dumps(wiring.to_dict())))
    for twin in (through_a_file, pickle.loads(pickle.dumps(wiring)), copy.deepcopy(wiring)):
        assert twin == wiring
        assert hash(twin) == hash(wiring)
        assert not twin.sensory.flags.writeable
        assert not twin.recurrent.flags.writeable


@given(wirings(), st.data())
def test_a_single_changed_synapse_makes_wirings_differ(wiring: Wiring, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, wiring.neuron_count - 1))
    recurrent = wiring.recurrent.copy()
    recurrent[row, 0] = -1 if recurrent[row, 0] == 1 else recurrent[row, 0] + 1
    assert dataclasses.replace(wiring, recurrent=recurrent) != wiring


@given(wirings())
def test_the_graph_holds_the_synapses_and_nothing_else(wiring: Wiring) -> None:
    graph = wiring.graph()
    assert graph.number_of_edges() == wiring.synapse_count
    names = [*wiring.sensory_names, *wiring.neuron_names]
    assert list(graph) == names
    matrix = nx.to_numpy_array(graph, nodelist=names, weight="polarity")
    np.testing.assert_array_equal(matrix[:, : wiring.sensory_count], 0)
    np.testing.assert_array_equal(
        matrix[:, wiring.sensory_count :], np.vstack((wiring.sensory, wiring.recurrent))
    )


@given(wirings())
def test_layers_tile_the_neurons_in_order(wiring: Wiring) -> None:
    covered = [
        index for where in wiring.layer_slices.values() for index in range(*where.indices(10**6))
    ]
    assert covered == list(range(wiring.neuron_count))
    assert list(wiring.layer_slices) == [name for name, _ in wiring.layers]


def test_graph_nodes_know_their_layer_and_whether_they_are_outputs() -> None:
    nodes = small().graph().nodes
    assert nodes["sensory_1"] == {"layer": "sensory", "motor": False}
    assert nodes["command_1"] == {"layer": "command", "motor": False}
    assert nodes["motor_0"] == {"layer": "motor", "motor": True}


def test_a_wiring_cannot_be_changed_from_inside_or_outside() -> None:
    source = np.array([[1, 0, 0], [0, -1, 0]])
    wiring = small(sensory=source)
    source[0, 0] = -1
    assert wiring.sensory[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        wiring.sensory[0, 0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        wiring.motor_count = 2  # type: ignore[misc]


def test_counts_and_repr() -> None:
    wiring = small()
    assert (wiring.sensory_count, wiring.neuron_count, wiring.synapse_count) == (2, 3, 5)
    assert wiring.sensory.dtype == wiring.recurrent.dtype == np.int8
    assert repr(wiring) == "Wiring(2 sensory, 2 command, 1 motor; 1 outputs, 5 synapses)"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"sensory": [[2, 0, 0]]}, ValueError, "-1, 0 and"),
        ({"sensory": [[256, 0, 0]]}, ValueError, "-1, 0 and"),  # would be 0 as int8
        ({"sensory": [[0.5, 0, 0]]}, TypeError, "whole numbers"),
        ({"sensory": [1, 0, 0]}, ValueError, "shape"),
        ({"recurrent": np.zeros((2, 2), dtype=int)}, ValueError, r"\(3, 3\)"),
        ({"motor_count": 4}, ValueError, "lower motor_count to at most 3"),
        ({"motor_count": 0}, ValueError, "at least 1"),
        ({"motor_count": 1.0}, TypeError, "whole number"),
        ({"layers": (("command", 2),)}, ValueError, "sum to 3"),
        ({"layers": (("a", 2), ("a", 1))}, ValueError, "different names"),
        ({"layers": (("a", 3), ("b", 0))}, ValueError, "layer 'b'"),
        ({"neuron_names": ("a", "b")}, ValueError, "3 neuron_names"),
        ({"neuron_names": ("a", "b", "sensory_0")}, ValueError, "its own name"),
        ({"neuron_names": ("a", "b", 3)}, TypeError, "strings"),
    ],
)
def test_content_that_does_not_fit_is_refused(
    changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "colour"),
        ({"recurrent_synapses": [[0, 9, 1]]}, "0 -> 9"),
        ({"recurrent_synapses": [[-1, 0, 1]]}, "-1 -> 0"),
        ({"recurrent_synapses": [[0, 0, 2]]}, "got 2"),
        ({"recurrent_synapses": [[0, 0, 1], [0, 0, -1]]}, "second time"),
    ],
)
def test_files_with_wrong_content_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wiring.from_dict(small().to_dict() | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": None}, r"layers must list \[name, size\], got None"),
        ({"layers": [["motor", 2, 1]]}, r"layers must list .*, got \['motor', 2, 1\] in it"),
        ({"neuron_names": 3}, "neuron_names must list different names, got 3"),
        ({"sensory_synapses": [[0, 1]]}, r"must list \[from, to, polarity\], got \[0, 1\] in it"),
        ({"recurrent_synapses": [[0, 1.5, 1]]}, "recurrent_synapses must hold whole numbers"),
    ],
)
def test_files_without_the_lists_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Wiring.from_dict(small().to_dict() | changes)


def test_files_that_lack_a_key_are_refused() -> None:
    content = small().to_dict()
    del content["layers"]
    with pytest.raises(ValueError, match="layers"):
        Wiring.from_dict(content)
