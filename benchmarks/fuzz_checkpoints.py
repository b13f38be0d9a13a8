"""Mutated checkpoints, sealed again as an attacker would, that are resumed and trained on.

    python benchmarks/fuzz_checkpoints.py --cases 1000
    make fuzz                                            # 10,000 under AddressSanitizer

Values, types, shapes, names, JSON and bytes of checkpoints of LiquidPPO and LiquidSAC are changed,
in batched environments, in environments that are stepped one by one, and in Gymnasium's with
wrappers. Each must be refused with a CheckpointError, or train on with finite weights and in the
environments that it was given. Cases run in processes of their own, so that crashes are counted.
AddressSanitizer watches all memory that is allocated, and the accesses of our compiled code to it.
The seed and the number of a case reproduce it: `--seed 0 --first 4711 --cases 1`. Requires fork.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from table import print_table

sys.path.append(str(Path(__file__).parent.parent))

from tests.checkpoints import test_mutated_checkpoints as mutations

BATCH = 50  # cases of one process
HUNG = 60.0  # seconds beyond the patience in which nothing is heard of a case
WRONG = ("crashed", "hung", "wrong")
OUTCOMES = ("tried", "refused", "trained on", "stopped", *WRONG)


@dataclass
class Arguments:
    """Mutated checkpoints, each refused or trained on."""

    cases: int = 10_000
    """How many."""

    first: int = 0
    """Number of the first one."""

    seed: int = 0
    """Of the mutations."""

    processes: int = os.cpu_count() or 1
    """How many run at once."""

    patience: float = 10.0
    """Seconds after which loading is called hung; learning goes on for as long at most."""


class Patience(BaseException):
    """A case takes too long; no handler of errors catches it."""


def attempt(seed: int, number: int, patience: float) -> str:
    """Return what comes of one case; what is wrong with it comes after a colon."""
    draw = random.Random(f"{seed}.{number}")
    agent, env = draw.choice(list(mutations.AGENTS)), draw.choice(list(mutations.ENVS))
    files, done = mutations.mutated(mutations.original(agent, env), draw)
    learning = False

    def begins() -> None:
        nonlocal learning
        learning = True

    signal.setitimer(signal.ITIMER_REAL, patience, 1.0)  # again: some callbacks ignore errors
    try:
        return mutations.outcome(agent, env, files, begins)
    except Patience:
        return "trained on" if learning else f"hung: {agent}, {env}: {done}"
    except Exception as error:
        return f"wrong: {agent}, {env}: {done}: {type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def work(numbers: range, pipe: int, arguments: Arguments) -> None:
    """Run cases and write a line for each: its number, then what came of it."""

    def give_up(*_: Any) -> None:
        raise Patience

    signal.signal(signal.SIGALRM, give_up)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # where MuJoCo writes its warnings
        for number in numbers:
            try:
                came = attempt(arguments.seed, number, arguments.patience)
            except Patience:  # came while the case ended
                signal.setitimer(signal.ITIMER_REAL, 0)
                came = "hung: at its end"
            os.write(pipe, f"{number} {came.replace(chr(10), ' ')}\n".encode())
        os.chdir("/")


def run(batch: tuple[range, Arguments]) -> list[str]:
    """Run cases in a forked process; after one that crashes or hangs, go on in another."""
    numbers, arguments = batch
    lines: list[str] = []
    while len(lines) < len(numbers):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            work(numbers[len(lines) :], writing, arguments)
            os._exit(0)
        os.close(writing)
        text, ended = b"", "hung"
        while select.select([reading], [], [], arguments.patience + HUNG)[0]:
            if not (more := os.read(reading, 2**16)):
                ended = "crashed"
                break
            text += more
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        lines += text.decode().splitlines()
        if len(lines) < len(numbers):
            lines.append(f"{numbers[len(lines)]} {ended}: exit code {code}")
    return lines


def fuzz(arguments: Arguments) -> Counter[str]:
    """Run all cases, print those that are wrong, and count what came of them."""
    for agent in mutations.AGENTS:  # before processes are forked, which share them
        for env in mutations.ENVS:
            mutations.original(agent, env)
    last = arguments.first + arguments.cases
    batches = [
        (range(start, min(start + BATCH, last)), arguments)
        for start in range(arguments.first, last, BATCH)
    ]
    counts: Counter[str] = Counter()
    with multiprocessing.get_context("fork").Pool(arguments.processes) as pool:
        for lines in pool.imap_unordered(run, batches):
            for line in lines:
                number, _, came = line.partition(" ")
                kind = came.partition(":")[0]
                counts.update(["tried", kind])
                if kind in WRONG:
                    case = f"--seed {arguments.seed} --first {number} --cases 1"
                    print(f"{case}: {came}", file=sys.stderr, flush=True)
    return counts


def main(arguments: Arguments) -> None:
    """Run all cases and print how many are wrong."""
    torch.set_num_threads(1)
    start, counts = time.perf_counter(), fuzz(arguments)
    watched = hasattr(ctypes.CDLL(None), "__asan_init")
    name = f"seed {arguments.seed}, {'with' if watched else 'without'} AddressSanitizer"
    print_table(("checkpoints", *OUTCOMES), [(name, *(str(counts[each]) for each in OUTCOMES))])
    print(f"{time.perf_counter() - start:.0f} s")
    sys.exit(any(counts[each] for each in WRONG))


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
