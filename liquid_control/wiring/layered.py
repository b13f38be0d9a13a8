"""Neural Circuit Policies: sensory -> inter -> command -> motor, after the worm's nervous system.

Source: Lechner, Hasani, Amini, Henzinger, Rus and Grosu, Neural circuit policies enabling auditable
autonomy, Nature Machine Intelligence 2, 642-652, 2020 (Methods, the design of NCPs).
"""

from __future__ import annotations

import numpy as np

from liquid_control.wiring.checks import at_most, fraction, neuron_count, whole_number
from liquid_control.wiring.draws import Draws
from liquid_control.wiring.wiring import Polarities, Wiring

_COMMAND_SHARE = 0.4  # of the neurons other than motor neurons, as in ncps' AutoNCP


def ncp(
    sensory: int,
    inter: int,
    command: int,
    motor: int,
    sensory_fanout: int,
    inter_fanout: int,
    recurrent_command_synapses: int,
    motor_fanin: int,
    seed: int = 0,
) -> Wiring:
    """Draw an NCP of the given layer sizes and degrees (Lechner et al. 2020).

    A sensory neuron excites or inhibits `sensory_fanout` inter neurons, an inter neuron
    `inter_fanout` command neurons; a motor neuron has synapses from `motor_fanin` command neurons.
    `recurrent_command_synapses` is the exact number of synapses among the command neurons.
    Inter and command neurons that received no input, and command neurons that reach no motor
    neuron, then get as many synapses as their layer has on average, at least one.

    Raises ValueError if a number is too small, or larger than its layer, and TypeError if it is not
    whole.
    """
    inputs = neuron_count("sensory", sensory)
    inters = neuron_count("inter", inter)
    commands = neuron_count("command", command)
    motors = neuron_count("motor", motor)
    to_inter = whole_number("sensory_fanout", sensory_fanout, at_least=1)
    to_command = whole_number("inter_fanout", inter_fanout, at_least=1)
    recurrent = whole_number("recurrent_command_synapses", recurrent_command_synapses, at_least=0)
    from_command = whole_number("motor_fanin", motor_fanin, at_least=1)
    at_most("sensory_fanout", to_inter, inters, "the number of inter neurons is")
    at_most("inter_fanout", to_command, commands, "the number of command neurons is")
    at_most("motor_fanin", from_command, commands, "the number of command neurons is")
    at_most(
        "recurrent_command_synapses",
        recurrent,
        commands**2,
        "the number of pairs of command neurons is",
    )

    draws = Draws(seed)
    neurons = inters + commands + motors
    wiring_sensory = np.zeros((inputs, neurons), dtype=np.int8)
    wiring_recurrent = np.zeros((neurons, neurons), dtype=np.int8)
    inter_layer = slice(0, inters)
    command_layer = slice(inters, inters + commands)
    motor_layer = slice(inters + commands, neurons)
    wiring_sensory[:, inter_layer] = _project(inputs, inters, to_inter, draws)
    wiring_recurrent[inter_layer, command_layer] = _project(inters, commands, to_command, draws)
    wiring_recurrent[command_layer, command_layer] = _scatter(commands, recurrent, draws)
    # A fan-in is the fan-out of the layer seen from its targets.
    wiring_recurrent[command_layer, motor_layer] = _project(motors, commands, from_command, draws).T
    return Wiring(
        sensory=wiring_sensory,
        recurrent=wiring_recurrent,
        motor_count=motors,
        layers=(("inter", inters), ("command", commands), ("motor", motors)),
    )


def auto_ncp(
    sensory: int,
    neurons: int,
    motor: int,
    sparsity: float = 0.5,
    seed: int = 0,
) -> Wiring:
    """Draw an NCP of `neurons` neurons in total, `motor` of them outputs, sized by `sparsity`.

    Four tenths of the other neurons become command neurons. Every degree is the share
    1 - sparsity of its layer, rounded down; there are twice as many recurrent command synapses as
    that share of the command layer (the rules of ncps 1.0.1's AutoNCP).

    Raises ValueError for counts below one, fewer than two neurons besides the motor neurons, and a
    sparsity outside [0, 1), and TypeError for other types.
    """
    total = neuron_count("neurons", neurons)
    motors = neuron_count("motor", motor)
    if total < motors + 2:
        raise ValueError(
            f"neurons is {total}, but {motors} motor, one inter and one command neuron are "
            f"needed; raise neurons to at least {motors + 2}"
        )
    density = 1.0 - fraction("sparsity", sparsity)
    commands = max(int(_COMMAND_SHARE * (total - motors)), 1)
    inters = total - motors - commands
    return ncp(
        sensory=sensory,
        inter=inters,
        command=commands,
        motor=motors,
        sensory_fanout=max(int(inters * density), 1),
        inter_fanout=max(int(commands * density), 1),
        recurrent_command_synapses=min(max(int(commands * density * 2), 1), commands**2),
        motor_fanin=max(int(commands * density), 1),
        seed=seed,
    )


def _project(sources: int, targets: int, fanout: int, draws: Draws) -> Polarities:
    """Connect each source to `fanout` targets, then the unconnected targets."""
    polarities = np.zeros((sources, targets), dtype=np.int8)
    for source in range(sources):
        polarities[source, draws.choose(fanout, targets)] = draws.signs(fanout)
    average_fanin = max(sources * fanout // targets, 1)
    for target in np.flatnonzero(~polarities.any(axis=0)):
        polarities[draws.choose(average_fanin, sources), target] = draws.signs(average_fanin)
    return polarities


def _scatter(neurons: int, synapses: int, draws: Draws) -> Polarities:
    """Draw `synapses` different synapses among `neurons`, self-synapses included."""
    polarities = np.zeros(neurons**2, dtype=np.int8)
    polarities[draws.choose(synapses, neurons**2)] = draws.signs(synapses)
    return polarities.reshape(neurons, neurons)
