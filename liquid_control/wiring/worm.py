"""The tap-withdrawal circuit of the worm C. elegans, with a source for every synapse.

A tap on its dish makes the worm back away or speed up. Chalfie et al. (J. Neurosci. 5, 956-964,
1985) found the cells behind touch by ablation, Wicks and Rankin (J. Neurosci. 15, 2434-2444, 1995)
those behind the tap response.

Sources of the table
- `contacts`: counted in the wiring diagram of White, Southgate, Thomson and Brenner, The structure
  of the nervous system of the nematode Caenorhabditis elegans, Phil. Trans. R. Soc. B 314, 1-340,
  1986, in the digitised form that OpenWorm's c302 carries. Left and right cells are added up.
- `COUPLING`: a gap junction in the same diagram. It passes a signal on with its sign, hence +1.
- `MODEL`: a chemical synapse whose sign was never measured, but inferred by fitting models to the
  behaviour of ablated worms: Wicks, Roehrig and Rankin, J. Neurosci. 16, 4017-4031, 1996, who gave
  each class of neurons one sign and could decide it for seven of the nine classes. The signs are
  those of the model in Hasani, Lechner, Amini, Rus and Grosu, A natural lottery ticket winner,
  ICML 2020, PMLR 119, 4082-4093 (its published circuit files).
- `TOUCH`: as `MODEL`, and supported by physiology: touch cells form gap junctions with the
  interneurons they excite and inhibit the opposite ones by chemical synapses (Chalfie et al. 1985;
  WormAtlas, AVM, after Kaplan and Driscoll 1997).
- `RIVALS`: as `MODEL`, and the common view of experimenters: AVA and AVB, which drive backward and
  forward movement, inhibit each other (stated, with its sources, in Hierarchical competing
  inhibition circuits govern motor stability in C. elegans, Nature Communications 16, 2025,
  doi:10.1038/s41467-025-59668-4).
- `DRIVE`: AVA excites the motor neurons of backward movement, types DA and VA, by chemical synapses
  (Kawano et al., Neuron 72, 572-586, 2011).

Signs from fits remain open to dispute: Rakowski and Karbowski (PLoS Computational Biology 13,
e1005834, 2017) found that the best fit to locomotion makes every synapse between these
interneurons inhibitory.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np

from liquid_control.wiring.wiring import Wiring


class Evidence(Enum):
    """The evidence for a synapse's polarity; the module's docstring lists the publications."""

    COUPLING = "gap junction"
    MODEL = "fit of a model to behaviour"
    TOUCH = "fit of a model to behaviour; touch cells inhibit the opposite direction"
    RIVALS = "fit of a model to behaviour; the two directions inhibit each other"
    DRIVE = "excites motor neurons"


class Synapse(NamedTuple):
    """One class of neurons acting on another."""

    source: str
    target: str
    polarity: int
    contacts: int
    evidence: Evidence


SENSORY = ("PLM", "ALM", "AVM", "PVD")
COMMAND = ("DVA", "PVC", "AVD", "AVA", "AVB")
MOTOR = ("FWD", "REV")

SYNAPSES = (
    Synapse("PLM", "DVA", -1, 5, Evidence.MODEL),
    Synapse("PLM", "PVC", +1, 2, Evidence.COUPLING),
    Synapse("PLM", "AVD", -1, 5, Evidence.TOUCH),
    Synapse("PLM", "AVA", -1, 5, Evidence.TOUCH),
    Synapse("ALM", "PVC", -1, 9, Evidence.TOUCH),
    Synapse("ALM", "AVD", -1, 1, Evidence.MODEL),
    Synapse("AVM", "PVC", -1, 9, Evidence.TOUCH),
    Synapse("AVM", "AVD", +1, 2, Evidence.COUPLING),
    Synapse("AVM", "AVB", -1, 12, Evidence.TOUCH),
    Synapse("PVD", "DVA", -1, 3, Evidence.MODEL),
    Synapse("PVD", "PVC", -1, 30, Evidence.MODEL),
    Synapse("PVD", "AVA", -1, 27, Evidence.MODEL),
    Synapse("DVA", "PVC", -1, 4, Evidence.MODEL),
    Synapse("DVA", "AVB", -1, 1, Evidence.MODEL),
    Synapse("PVC", "DVA", +1, 4, Evidence.MODEL),
    Synapse("PVC", "AVD", +1, 13, Evidence.MODEL),
    Synapse("PVC", "AVA", +1, 20, Evidence.MODEL),
    Synapse("PVC", "AVB", +1, 31, Evidence.MODEL),
    Synapse("AVD", "PVC", +1, 1, Evidence.MODEL),
    Synapse("AVD", "AVA", +1, 63, Evidence.MODEL),
    Synapse("AVD", "AVB", +1, 1, Evidence.MODEL),
    Synapse("AVA", "PVC", -1, 28, Evidence.MODEL),
    Synapse("AVA", "AVD", -1, 4, Evidence.MODEL),
    Synapse("AVA", "AVB", -1, 2, Evidence.RIVALS),
    Synapse("AVB", "AVD", -1, 3, Evidence.MODEL),
    Synapse("AVB", "AVA", -1, 27, Evidence.RIVALS),
    Synapse("AVB", "FWD", +1, 55, Evidence.COUPLING),
    Synapse("AVA", "REV", +1, 167, Evidence.DRIVE),
)


def tap_withdrawal() -> Wiring:
    """Return the worm's tap-withdrawal circuit: 4 sensory, 5 command, 2 motor neurons, 28 synapses.

    Each neuron stands for a class of cells. Sensory: PLM (touch at the tail), ALM and AVM (touch at
    the front), PVD (harsh touch). Command: the interneurons DVA, PVC, AVD, AVA and AVB, one
    recurrent layer, because they act on each other in circles. Motor: FWD and REV, the commands to
    the motor neurons for forward (DB, VB) and backward (DA, VA) movement.

    `SYNAPSES` in this module holds the published source of each synapse and of its polarity. Most
    polarities were inferred from behaviour, not measured.

    Omitted, because a polarity could not be verified or a wiring cannot express them: the gap
    junctions ALM-AVM (between sensory neurons), AVA-PVC, AVB-DVA and DVA-PVC (parallel to a
    chemical synapse, or of unknown effect); the chemical synapses PLM -> PVC (parallel to the gap
    junction), DVA -> AVA, and those of PVC, AVD and DVA on motor neurons; and synapses within a
    class.
    """
    neurons = COMMAND + MOTOR
    rows = {name: row for row, name in enumerate(SENSORY + neurons)}
    polarities = np.zeros((len(rows), len(neurons)), dtype=np.int8)
    for synapse in SYNAPSES:
        polarities[rows[synapse.source], neurons.index(synapse.target)] = synapse.polarity
    return Wiring(
        sensory=polarities[: len(SENSORY)],
        recurrent=polarities[len(SENSORY) :],
        motor_count=len(MOTOR),
        layers=(("command", len(COMMAND)), ("motor", len(MOTOR))),
        sensory_names=SENSORY,
        neuron_names=neurons,
    )
