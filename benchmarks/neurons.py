"""Speed of our circuits against ncps and nn.LSTM: forward and backward, and one acting step.

    python benchmarks/neurons.py

Every circuit has 64 neurons, 24 inputs and 8 outputs. Ours get an elapsed time for every step and
sequence, as in training at a variable rate; ncps, which cannot take one per sequence, and nn.LSTM
get none. All sides run in one process, in turns, on one torch thread. A second table sets two
threads against one, by the clock on the wall: it needs two idle cores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import ncps.torch
import torch
import tyro
from ncps.wirings import AutoNCP
from table import print_table
from timing import Turns, in_turns
from torch import Tensor, nn

from liquid_control.neurons import CTRNN, GRU, LRC, LSTM, LTC, CfC, Circuit
from liquid_control.wiring import auto_ncp, dense

SENSORY, NEURONS, MOTOR = 24, 64, 8
SHAPES = ((16, 64), (64, 32), (8, 256))  # batch, time
THREADED = (64, 32)
BASELINE = "nn.LSTM"


@dataclass
class Arguments:
    """Speed of our circuits against ncps and nn.LSTM."""

    rounds: int = 7
    """Rounds in which every side runs once; the table shows medians over them."""

    seconds: float = 0.1
    """Least processor time per side and round; slow sides run once a round."""


def our_circuits() -> dict[str, Circuit]:
    """Return the circuits under test."""
    wired = auto_ncp(SENSORY, NEURONS, MOTOR)
    full = dense(SENSORY, NEURONS, MOTOR)
    return {
        "NCP-CfC": CfC(wired),
        "dense CfC": CfC(full),
        "NCP-LTC, 6 steps": LTC(wired, ode_steps=6),
        "NCP-CT-RNN": CTRNN(wired),
        "NCP-LRC, 6 steps": LRC(wired, ode_steps=6),
        "NCP-LSTM": LSTM(wired),
        "dense LSTM": LSTM(full),
        "dense GRU": GRU(full),
    }


def ncps_circuits() -> dict[str, nn.Module]:
    """Return the circuits of ncps with the same neurons and sizes, under our names."""
    return {
        "NCP-CfC": ncps.torch.CfC(SENSORY, AutoNCP(NEURONS, MOTOR), batch_first=False),
        "dense CfC": ncps.torch.CfC(
            SENSORY, NEURONS, proj_size=MOTOR, backbone_layers=0, batch_first=False
        ),
        "NCP-LTC, 6 steps": ncps.torch.LTC(SENSORY, AutoNCP(NEURONS, MOTOR), batch_first=False),
    }


def training_step(module: nn.Module, inputs: Tensor, *times: Tensor | None) -> Callable[[], object]:
    """Return a function that unrolls `module` over a sequence and back-propagates through it."""

    def run() -> None:
        module.zero_grad(set_to_none=True)
        outputs, _ = module(inputs, *times)
        outputs.sum().backward()

    return run


def acting_step(module: nn.Module, inputs: Tensor, *times: Tensor | None) -> Callable[[], object]:
    """Return a function that takes one control step without gradients."""

    def run() -> None:
        module(inputs, *times)

    return run


def sides(
    batch: int, time: int, step: Callable[..., Callable[[], object]]
) -> dict[str, Callable[[], object]]:
    """Return the functions to time for sequences of one shape; names of ncps have a prefix."""
    inputs = torch.randn(time, batch, SENSORY)
    elapsed_time = torch.rand(time, batch) + 0.5
    ours = {
        name: step(circuit, inputs, circuit.initial_state(batch), elapsed_time)
        for name, circuit in our_circuits().items()
    }
    theirs = {f"ncps {name}": step(module, inputs) for name, module in ncps_circuits().items()}
    return {BASELINE: step(nn.LSTM(SENSORY, NEURONS), inputs), **ours, **theirs}


def rows(what: str, turns: Turns[str], steps: int) -> list[list[str]]:
    """Return the table's rows for one kind of work of `steps` steps, in microseconds per step."""

    def microseconds(side: str) -> str:
        return f"{turns.median(side) / steps * 1e6:.1f}" if side in turns.seconds else ""

    return [
        [
            name,
            what,
            microseconds(name),
            microseconds(BASELINE),
            microseconds(f"ncps {name}"),
            f"{turns.ratio(name, BASELINE):.2f}",
            f"{turns.ratio(name, 'dense CfC'):.2f}",
            f"{turns.ratio(f'ncps {name}', name):.1f}" if f"ncps {name}" in turns.seconds else "",
        ]
        for name in our_circuits()
    ]


def threads_rows(arguments: Arguments) -> list[list[str]]:
    """Return the table's rows on one thread against two, for sequences of a larger batch."""
    batch, time = THREADED
    inputs = torch.randn(time, batch, SENSORY)
    elapsed_time = torch.rand(time, batch) + 0.5

    def on_threads(count: int, run: Callable[[], object]) -> Callable[[], object]:
        def work() -> None:
            torch.set_num_threads(count)
            run()

        return work

    table = []
    for name, circuit in our_circuits().items():
        run = training_step(circuit, inputs, circuit.initial_state(batch), elapsed_time)
        work = {str(count): on_threads(count, run) for count in (1, 2)}
        turns = in_turns(
            work, rounds=arguments.rounds, seconds=arguments.seconds, clock=perf_counter
        )
        steps = [f"{turns.median(side) / batch / time * 1e6:.2f}" for side in work]
        table.append([name, f"train B{batch} T{time}", *steps, f"{turns.ratio('1', '2'):.2f}"])
    torch.set_num_threads(1)
    return table


def main(arguments: Arguments) -> None:
    """Measure every shape and print two tables."""
    torch.set_num_threads(1)
    torch.manual_seed(0)

    def measure(batch: int, time: int, step: Callable[..., Callable[[], object]]) -> Turns[str]:
        work: Mapping[str, Callable[[], object]] = sides(batch, time, step)
        return in_turns(work, rounds=arguments.rounds, seconds=arguments.seconds)

    table = [
        row
        for batch, time in SHAPES
        for row in rows(
            f"train B{batch} T{time}", measure(batch, time, training_step), batch * time
        )
    ]
    with torch.no_grad():
        table += rows("act B1", measure(1, 1, acting_step), 1)
    print("CPU microseconds per step and sequence, one thread\n")
    print_table(
        (
            "circuit",
            "work",
            "ours",
            BASELINE,
            "ncps",
            f"ours / {BASELINE}",
            "ours / dense CfC",
            "ncps / ours",
        ),
        table,
    )
    print("\nMicroseconds on the wall per step and sequence\n")
    print_table(("circuit", "work", "1 thread", "2 threads", "1 / 2"), threads_rows(arguments))


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
