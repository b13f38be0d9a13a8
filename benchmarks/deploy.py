"""Time of one step of an exported policy: in C, in ONNX Runtime, and in this package.

    python benchmarks/deploy.py
    python benchmarks/deploy.py --neurons cfc ltc --realtime 600

The policy of `benchmarks/acting.py`: 17 numbers of an observation, elapsed time, an encoder of 64,
an NCP of 64 neurons and 6 actions; and the same sizes with a dense `nn.LSTM` in the place of the
circuit. C is timed in a C program, one step at a time, everything else from Python; all sides take
turns. The second table is a control loop at 200 Hz in real time, in C by ctypes, with a log and
another process that computes beside it.
"""

from __future__ import annotations

import itertools
import multiprocessing
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
import torch
import tyro
from acting import INTERVAL, make_policy
from onnx import TensorProto, helper, numpy_helper
from table import print_table

from liquid_control import LiquidPolicy
from liquid_control.deploy import ControlLoop, CPolicy, OnnxPolicy, compile_c
from liquid_control.export.facts import metadata_of
from liquid_control.export.policies import describe_policy
from liquid_control.export.quantization import BITS, quantized
from liquid_control.export.to_c import to_c
from liquid_control.export.to_onnx import IR_VERSION, OPSET, to_onnx
from liquid_control.policies import Controller

RATE = 200.0  # of the control loop, in Hz
TIMER = """
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "policy.h"
int main(int count, char **arguments) {
    static policy_state state;
    float observation[POLICY_OBSERVATION_SIZE], action[POLICY_ACTION_SIZE];
    const int steps = count > 1 ? atoi(arguments[1]) : 1;
    policy_reset(&state);
    for (int step = 0; step < steps; ++step) {
        struct timespec before, after;
        for (int i = 0; i < POLICY_OBSERVATION_SIZE; ++i) {
            observation[i] = (float)rand() / (float)RAND_MAX * 4.0f - 2.0f;
        }
        clock_gettime(CLOCK_MONOTONIC, &before);
        policy_step(&state, observation, POLICY_NOMINAL_INTERVAL, action);
        clock_gettime(CLOCK_MONOTONIC, &after);
        const long seconds = (long)(after.tv_sec - before.tv_sec);
        printf("%ld\\n", 1000000000L * seconds + after.tv_nsec - before.tv_nsec);
    }
    return 0;
}
"""


@dataclass
class Arguments:
    """Time of one step of an exported policy."""

    neurons: tuple[Literal["cfc", "ltc", "ctrnn", "lrc", "lstm", "gru"], ...] = ("cfc",)
    """Neurons of the circuits."""

    rounds: int = 20
    """Turns of each side."""

    steps: int = 500
    """Steps in a turn."""

    compiler: str = "gcc"
    """C compiler."""

    realtime: float = 0.0
    """Seconds of the control loop; 0 leaves it out."""


def torch_lstm() -> Any:
    """Return a session of the usual recurrent policy: linear layer, nn.LSTM, linear layer."""
    torch.manual_seed(0)
    lstm, head = torch.nn.LSTM(64, 64), torch.nn.Linear(64, 6)
    encoder = torch.nn.Linear(18, 64)

    def numbers(tensor: torch.Tensor) -> Any:
        return tensor.detach().numpy()

    order = [0, 3, 1, 2]  # of ONNX's gates among PyTorch's

    def gates(tensor: torch.Tensor) -> Any:
        parts = numbers(tensor).reshape(4, 64, *tensor.shape[1:])
        return parts[order].reshape(1, 256, *tensor.shape[1:])

    weights = {
        "encoder": numbers(encoder.weight).T,
        "encoder_bias": numbers(encoder.bias),
        "w": gates(lstm.weight_ih_l0),
        "r": gates(lstm.weight_hh_l0),
        "b": np.concatenate([gates(lstm.bias_ih_l0), gates(lstm.bias_hh_l0)], axis=1),
        "head": numbers(head.weight).T,
        "head_bias": numbers(head.bias),
        "row": np.array([1, 1, 64]),
        "column": np.array([1, 64]),
    }
    nodes = [
        helper.make_node("Gemm", ["seen", "encoder", "encoder_bias"], ["layer"]),
        helper.make_node("Tanh", ["layer"], ["encoded"]),
        helper.make_node("Reshape", ["encoded", "row"], ["x"]),
        helper.make_node(
            "LSTM", ["x", "w", "r", "b", "", "h", "c"], ["", "h2", "c2"], hidden_size=64
        ),
        helper.make_node("Reshape", ["h2", "column"], ["activity"]),
        helper.make_node("Gemm", ["activity", "head", "head_bias"], ["mean"]),
        helper.make_node("Clip", ["mean", "low", "high"], ["action"]),
    ]
    weights |= {"low": np.float32(-1), "high": np.float32(1)}
    kind = TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("seen", kind, [1, 18])]
    inputs += [helper.make_tensor_value_info(name, kind, [1, 1, 64]) for name in "hc"]
    outputs = [helper.make_tensor_value_info("action", kind, [1, 6])]
    outputs += [helper.make_tensor_value_info(name, kind, [1, 1, 64]) for name in ("h2", "c2")]
    constants = [numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in weights.items()]
    graph = helper.make_graph(nodes, "lstm", inputs, outputs, constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options)


def timed(act: Callable[[], object], steps: int) -> list[float]:
    """Return the seconds of each call."""
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - start)
    return seconds


def sides(neurons: str, folder: Path, arguments: Arguments) -> dict[str, Callable[[], list[float]]]:
    """Return functions that time some steps of each side."""
    policy = make_policy(LiquidPolicy, neurons)
    description = describe_policy(policy)
    metadata, sources = metadata_of(description), to_c(description)
    for name, text in {"policy.c": sources.source, "policy.h": sources.header}.items():
        (folder / name).write_text(text)
    (folder / "timer.c").write_text(TIMER)
    program = folder / "timer"
    command = [arguments.compiler, "-std=c99", "-O2", "policy.c", "timer.c", "-o", "timer"]
    subprocess.run(command, cwd=folder, check=True)
    rounded = {}
    for weights in BITS:
        place = folder / weights
        place.mkdir()
        texts = to_c(quantized(description, weights))
        for name, text in {"policy.c": texts.source, "policy.h": texts.header}.items():
            (place / name).write_text(text)
        (place / "timer.c").write_text(TIMER)
        subprocess.run(command, cwd=place, check=True)
        rounded[f"C, {weights}, circuit of {texts.circuit:,} bytes"] = place / "timer"
    library = compile_c(folder / "policy.c", folder / "policy.so", compiler=arguments.compiler)
    in_c = CPolicy(library, metadata)
    onnx = OnnxPolicy(to_onnx(description, metadata).SerializeToString())
    lstm = torch_lstm()
    controller, ticks = Controller(policy), itertools.count()
    seen = np.random.default_rng(0).normal(size=17).astype(np.float32)
    double = seen.astype(np.float64)
    zeros = np.zeros((1, 1, 64), np.float32)
    feed = {"seen": np.zeros((1, 18), np.float32), "h": zeros, "c": zeros}
    parts = {
        "observation": seen[None],
        "elapsed_time": np.full((1, 1), INTERVAL, np.float32),
        "state": np.zeros((1, metadata.state_size), np.float32),
        "episode_start": np.zeros((1, 1), np.float32),
    }

    def in_program(program: Path = program) -> list[float]:
        done = subprocess.run(
            [program, str(20 * arguments.steps)], capture_output=True, text=True, check=True
        )
        return [1e-9 * int(line) for line in done.stdout.split()]

    acts: dict[str, Callable[[], object]] = {
        "C by ctypes": lambda: in_c.step(seen, INTERVAL),
        "ONNX Runtime, session": lambda: onnx._session.run(None, parts),
        "ONNX Runtime, OnnxPolicy": lambda: onnx.step(seen, INTERVAL),
        "ONNX Runtime, nn.LSTM, session": lambda: lstm.run(None, feed),
        "Controller, compiled kernels": lambda: controller.step(double, next(ticks) * INTERVAL),
    }
    functions = {name: lambda act=act: timed(act, arguments.steps) for name, act in acts.items()}
    programs = {f"C, {arguments.compiler} -O2, circuit of {sources.circuit:,} bytes": program}
    programs |= rounded
    timers = {name: lambda path=path: in_program(path) for name, path in programs.items()}
    return {**timers, **functions}


def load() -> None:
    """Compute without end."""
    numbers = np.random.default_rng(0).normal(size=(200, 200))
    while True:
        numbers = np.tanh(numbers @ numbers.T / 200)


def realtime(seconds: float, neurons: str, folder: Path) -> None:
    """Print latency and jitter of a control loop in real time."""
    description = describe_policy(make_policy(LiquidPolicy, neurons))
    metadata = metadata_of(description, trained_interval=(0.5 / RATE, 2 / RATE))
    policy = CPolicy(folder / "policy.so", metadata)
    seen = np.zeros(17, np.float32)
    beside = multiprocessing.get_context("spawn").Process(target=load, daemon=True)
    beside.start()
    latency, jitter = [], []
    with ControlLoop(policy, log=folder / "log.mcap") as loop:
        for _ in range(int(RATE)):  # fills caches
            loop.step(seen)
        due, before = time.monotonic(), getrusage(RUSAGE_SELF).ru_maxrss
        latency.clear()
        jitter.clear()
        for _ in range(int(seconds * RATE)):
            due += 1 / RATE
            time.sleep(max(0.0, due - time.monotonic()))
            start = time.monotonic()
            loop.step(seen)
            latency.append(time.monotonic() - start)
            jitter.append(start - due)
        events, dropped = dict(loop.events), loop._log.dropped if loop._log else 0
        grown = getrusage(RUSAGE_SELF).ru_maxrss - before
    beside.terminate()
    rows = []
    for name, values in (("latency", latency), ("jitter", jitter)):
        points = np.quantile(values, [0.5, 0.99, 0.999])
        rows.append([name, *(f"{1e6 * point:,.0f}" for point in points)])
    print()
    print_table((f"{seconds:g} s at {RATE:g} Hz", "p50, us", "p99, us", "p99.9, us"), rows)
    print(f"\nevents: {events or 'none'}; rows that the log dropped: {dropped}")
    measured = len(latency) * 64 // 1024  # two lists of floats
    print(f"memory: {grown:,} KiB more at the end, of which these figures take {measured:,}")


def main(arguments: Arguments) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = []
        for neurons in arguments.neurons:
            place = folder / neurons  # of its own, because a library is loaded once by its path
            place.mkdir()
            functions = sides(neurons, place, arguments)
            seconds: dict[str, list[float]] = {name: [] for name in functions}
            for _ in range(arguments.rounds):
                for name, function in functions.items():
                    seconds[name] += function()
            for name, values in seconds.items():
                points = np.quantile(values, [0.5, 0.99])
                rows.append([f"{neurons}: {name}", *(f"{1e6 * point:.1f}" for point in points)])
        print_table(("one step", "p50, us", "p99, us"), rows)
        if arguments.realtime:
            realtime(arguments.realtime, neurons, place)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
