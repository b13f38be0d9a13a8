"""Wirings of one recurrent layer: dense, and at random to a given sparsity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from liquid_control.wiring.checks import at_most, fraction, neuron_count
from liquid_control.wiring.draws import Draws
from liquid_control.wiring.wiring import Wiring


def dense(sensory: int, neurons: int, motor: int, seed: int = 0) -> Wiring:
    """Connect every sensory neuron and every neuron to every neuron, itself included.

    The last `motor` of the `neurons` are the outputs. Polarities are drawn from `seed`.
    Raises ValueError or TypeError as `sparse_random` does.
    """
    return sparse_random(sensory, neurons, motor, sparsity=0.0, seed=seed)


def sparse_random(
    sensory: int,
    neurons: int,
    motor: int,
    sparsity: float,
    seed: int = 0,
) -> Wiring:
    """Omit the share `sparsity` of the synapses of `dense`, at random.

    Every sensory neuron keeps an outgoing and every motor neuron an incoming synapse.
    Raises ValueError for a count below one, more motor neurons than neurons, a sparsity outside
    [0, 1) or too high to reach every sensory and motor neuron, and TypeError for other types.
    """
    inputs = neuron_count("sensory", sensory)
    size = neuron_count("neurons", neurons)
    outputs = neuron_count("motor", motor)
    at_most("motor", outputs, size, "the number of neurons is")
    draws = Draws(seed)
    kept = _kept_synapses(inputs, size, outputs, fraction("sparsity", sparsity))

    # One table of all possible synapses: rows are the sensory neurons, then the others.
    present = _reached(inputs, size, outputs, draws)
    free = np.flatnonzero(~present)
    present.flat[free[draws.choose(kept - int(present.sum()), len(free))]] = True
    polarities = np.zeros(present.shape, dtype=np.int8)
    polarities[present] = draws.signs(kept)
    return Wiring(
        sensory=polarities[:inputs],
        recurrent=polarities[inputs:],
        motor_count=outputs,
        layers=(("command", size),),
    )


def _kept_synapses(inputs: int, neurons: int, outputs: int, sparsity: float) -> int:
    possible = (inputs + neurons) * neurons
    kept = round((1.0 - sparsity) * possible)
    needed = inputs + outputs
    if kept < needed:
        raise ValueError(
            f"sparsity {sparsity:g} leaves {kept} of {possible} synapses, too few to reach "
            f"{inputs} sensory and {outputs} motor neurons; lower sparsity to at most "
            f"{1.0 - needed / possible:.4g}"
        )
    return kept


def _reached(inputs: int, neurons: int, outputs: int, draws: Draws) -> npt.NDArray[np.bool_]:
    """Draw the synapses that no sparsity may remove: one per sensory and per motor neuron."""
    present = np.zeros((inputs + neurons, neurons), dtype=np.bool_)
    for source in range(inputs):
        present[source, draws.choose(1, neurons)] = True
    for target in range(neurons - outputs, neurons):
        if not present[:, target].any():
            present[draws.choose(1, inputs + neurons), target] = True
    return present
