"""Facts of the tap-withdrawal circuit."""

from __future__ import annotations

import networkx as nx
import pytest

from liquid_control.wiring import Wiring, tap_withdrawal
from liquid_control.wiring.worm import SYNAPSES, Evidence


@pytest.fixture(name="wiring")
def _wiring() -> Wiring:
    return tap_withdrawal()


def test_it_has_the_cell_classes_of_the_circuit(wiring: Wiring) -> None:
    assert set(wiring.sensory_names) == {"PLM", "ALM", "AVM", "PVD"}
    assert set(wiring.neuron_names) == {"DVA", "PVC", "AVD", "AVA", "AVB", "FWD", "REV"}
    assert wiring.neuron_names[-wiring.motor_count :] == ("FWD", "REV")
    assert wiring.layers == (("command", 5), ("motor", 2))
    assert wiring.synapse_count == len(SYNAPSES) == 28


def test_the_graph_is_the_table(wiring: Wiring) -> None:
    edges = wiring.graph().edges(data="polarity")
    assert set(edges) == {(row.source, row.target, row.polarity) for row in SYNAPSES}


def test_each_touch_cell_reaches_both_commands(wiring: Wiring) -> None:
    graph = wiring.graph()
    for sensory in wiring.sensory_names:
        assert {"FWD", "REV"} <= nx.descendants(graph, sensory)


def test_touch_cells_excite_their_own_direction_and_inhibit_the_other(wiring: Wiring) -> None:
    edges = wiring.graph().edges
    assert edges["PLM", "PVC"]["polarity"] == edges["AVM", "AVD"]["polarity"] == 1
    opposite = (("PLM", "AVD"), ("PLM", "AVA"), ("ALM", "PVC"), ("AVM", "PVC"), ("AVM", "AVB"))
    assert {edges[pair]["polarity"] for pair in opposite} == {-1}


def test_the_two_directions_inhibit_each_other_and_drive_one_motor_each(wiring: Wiring) -> None:
    edges = wiring.graph().edges
    assert edges["AVA", "AVB"]["polarity"] == edges["AVB", "AVA"]["polarity"] == -1
    assert dict(wiring.graph().pred["FWD"]) == {"AVB": {"polarity": 1}}
    assert dict(wiring.graph().pred["REV"]) == {"AVA": {"polarity": 1}}


def test_chemical_synapses_of_a_class_share_one_sign_and_gap_junctions_excite() -> None:
    # Wicks et al. 1996 fitted one sign per presynaptic class; AVA's and AVB's motor synapses are
    # read from the output of their model, not from that sign.
    for source in {row.source for row in SYNAPSES}:
        fitted = {
            row.polarity
            for row in SYNAPSES
            if row.source == source and row.evidence not in (Evidence.COUPLING, Evidence.DRIVE)
        }
        assert len(fitted) == 1, source
    assert all(row.polarity == 1 for row in SYNAPSES if row.evidence is Evidence.COUPLING)


def test_every_synapse_was_seen_in_the_wiring_diagram() -> None:
    assert all(row.contacts > 0 for row in SYNAPSES)
    assert len({(row.source, row.target) for row in SYNAPSES}) == len(SYNAPSES)
