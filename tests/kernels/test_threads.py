"""Threads and processes change how long the kernels take, and nothing else."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import SubprocVecEnv

from liquid_control.kernels import extension
from liquid_control.wiring import dense
from tests.export.compilers import missing, run
from tests.kernels.cases import (
    KINDS,
    assert_equal,
    build,
    gradients,
    sequence,
    values,
)

pytestmark = pytest.mark.usefixtures("kernels", "thread_count")

needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")
TIMEOUT = 60  # seconds


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("batch", [1, 17, 33, 70])
def test_results_do_not_depend_on_the_number_of_threads(
    kind: str, dtype: torch.dtype, batch: int
) -> None:
    circuit = build(kind).to(dtype)
    case = sequence(circuit, 20, batch).to(dtype)
    found = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        found.append(values(circuit, case) | gradients(circuit, case))
    for other in found[1:]:
        assert_equal(other, found[0])


def test_python_threads_do_not_disturb_each_other() -> None:
    """The kernels release the interpreter lock, so that calls run at the same time."""
    torch.set_num_threads(2)
    circuits = [build(kind) for kind in KINDS]
    cases = [sequence(circuit, 20, 33) for circuit in circuits]
    expected = list(map(gradients, circuits, cases))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(gradients, circuits * 4, cases * 4))
    for one, other in zip(found, expected * 4, strict=True):
        assert_equal(one, other)


def polls_during(work: Callable[[], object]) -> int:
    """How often this thread runs, tried every millisecond while another thread works."""
    polls = 0
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        while not running.done():
            time.sleep(0.001)
            polls += 1
    return polls


def test_the_interpreter_goes_on_while_the_kernels_work() -> None:
    circuit = build("ltc", dense(4, 64, 4))
    case = sequence(circuit, 100, 64)
    outputs, _ = circuit(*case)
    assert polls_during(lambda: values(circuit, case)) > 20
    assert polls_during(outputs.sum().backward) > 20


FAILING_TASKS = """
#include <new>
#include <vector>

#include "threads.h"

int main() {
    for (std::size_t threads = 1; threads <= 4; ++threads) {
        for (std::size_t failing = 0; failing < 100; ++failing) {
            bool caught = false;
            try {
                liquid::in_parallel(100, threads, [&](std::size_t task, std::size_t) {
                    if (task == failing) throw std::bad_alloc();
                });
            } catch (const std::bad_alloc&) {
                caught = true;
            }
            std::vector<int> done(100, 0);
            liquid::in_parallel(100, threads, [&](std::size_t task, std::size_t) {
                liquid::in_parallel(1, threads, [&](std::size_t, std::size_t) { done[task] = 1; });
            });
            if (!caught || done != std::vector<int>(100, 1)) return 1;
        }
    }
}
"""


@missing("g++")
def test_what_a_task_throws_reaches_the_caller_and_the_threads_go_on(tmp_path: Path) -> None:
    """Without memory, a call fails; the process does not end."""
    (tmp_path / "failing.cpp").write_text(FAILING_TASKS)
    sources = Path(extension.__file__).parent / "src"
    run("g++", "-std=c++17", "-pthread", f"-I{sources}", "failing.cpp", "-o", "it", cwd=tmp_path)
    run(tmp_path / "it", cwd=tmp_path)


def report(connection: Connection, work: Callable[[], np.ndarray]) -> None:
    connection.send(work())


def forked(work: Callable[[], np.ndarray]) -> np.ndarray:
    """The result of `work` in a forked child; fails if it hangs or crashes."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=report, args=(theirs, work), daemon=True)
    child.start()
    theirs.close()
    try:
        assert ours.poll(TIMEOUT), "the forked process hangs"
        return ours.recv()
    finally:
        child.kill()
        child.join()


def outputs_on_two_threads() -> np.ndarray:
    torch.set_num_threads(2)
    circuit = build("cfc-default")
    case = sequence(circuit, 20, 70)
    outputs, last = circuit(*case)
    (outputs.sum() + last.sum()).backward()
    return np.concatenate([outputs.detach().numpy().ravel(), circuit.bias.grad.numpy().ravel()])


@needs_fork
def test_a_forked_process_unrolls_as_its_parent_does() -> None:
    expected = outputs_on_two_threads()
    assert np.array_equal(forked(outputs_on_two_threads), expected)


class Dreamer(gym.Env):
    """An environment that unrolls a circuit in each step."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def reset(self, **_: object) -> tuple[np.ndarray, dict[str, object]]:
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        return (
            np.zeros(1, dtype=np.float32),
            float(outputs_on_two_threads().sum()),
            False,
            False,
            {},
        )


@needs_fork
def test_workers_of_stable_baselines_unroll_as_their_parent_does() -> None:
    expected = float(outputs_on_two_threads().sum())
    workers = SubprocVecEnv([Dreamer, Dreamer], start_method="fork")
    try:
        workers.reset()
        _, rewards, _, _ = workers.step(np.zeros((2, 1)))
    finally:
        workers.close()
    assert np.array_equal(rewards, [expected, expected])
