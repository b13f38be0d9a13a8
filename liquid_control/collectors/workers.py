"""Workers with an equal share of the blocks each; one that is lost is replaced."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any

from liquid_control.collectors.blocks import Host, MakeEnvs, Packed
from liquid_control.collectors.engines import Engine
from liquid_control.collectors.ray_workers import Lost

logger = logging.getLogger(__name__)

MOST_LOSSES = 5  # of one worker in one round


class Workers:
    """The workers of a `WorkerVecEnv`; arguments as there.

    Attributes:
        engine: which started them.
        states: of every block before the round under way, to which the blocks of a lost worker
            return; None before the first reset.
        replaced: workers that were lost and replaced.
    """

    def __init__(
        self,
        engine: Engine,
        make: MakeEnvs,
        num_envs: int,
        workers: int,
        block: int,
        seed: int | None,
    ) -> None:
        self.engine, self._block = engine, block
        self._share = num_envs // block // max(workers, 1)  # blocks of a worker
        self._workers = [
            engine.start(partial(Host, make, firsts, block, seed))
            for firsts in self.divided(range(0, num_envs, block))
        ]
        self.states: list[Packed] | None = None
        self.replaced = 0

    def __len__(self) -> int:
        return len(self._workers)

    def divided(self, blocks: Sequence[Any]) -> list[list[Any]]:
        """Divide what there is one of for each block."""
        return [
            list(blocks[begin : begin + self._share])
            for begin in range(0, len(blocks), self._share)
        ]

    def start(self, method: str, arguments: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Begin a call of every host, each with its arguments."""
        return [
            worker.start(method, *each)
            for worker, each in zip(self._workers, arguments, strict=True)
        ]

    def call(self, method: str, *of_blocks: Sequence[Any]) -> list[Any]:
        """Call a method of every host with what its blocks get, and chain the results."""
        arguments = list(zip(*map(self.divided, of_blocks), strict=True)) or [()] * len(self)
        results = [
            self.result(index, call, method, *arguments[index])
            for index, call in enumerate(self.start(method, arguments))
        ]
        return list(chain.from_iterable(result for result in results if result is not None))

    def result(self, index: int, call: Any, method: str, *arguments: Any) -> Any:
        """Wait for a call; replace its worker if that is lost, and call again."""
        worker = self._workers[index]
        for _ in range(MOST_LOSSES):
            try:
                if call is None:
                    if self.states is not None:
                        states = self.divided(self.states)[index]
                        worker.result(worker.start("load_state_dicts", states))
                    call = worker.start(method, *arguments)
                return worker.result(call)
            except Lost as error:
                reason, call = error, None
                logger.warning("worker %d was lost and is replaced: %s", index, error)
                self.replaced += 1
                worker.replace()
        raise RuntimeError(
            f"worker {index} was lost {MOST_LOSSES} times in a row; the last time: {reason}"
        )

    def ask(
        self, method: str, indices: Iterable[int], *arguments: Any, **keywords: Any
    ) -> list[Any]:
        """Call a method of VecEnv that takes `indices`, where they are."""
        wanted = list(indices)
        by_worker: dict[int, dict[int, list[int]]] = {}
        for index in wanted:
            worker, block, place = self._place(index)
            by_worker.setdefault(worker, {}).setdefault(block, []).append(place)
        found: dict[int, Any] = {}
        for worker, blocks in by_worker.items():
            results = self._call_one(worker, "ask", method, blocks, arguments, keywords)
            for block, chosen in blocks.items():
                first = (worker * self._share + block) * self._block
                values = results[block] or [None] * len(chosen)
                found |= {first + each: value for each, value in zip(chosen, values, strict=True)}
        return [found[index] for index in wanted]

    def reproduction(self, index: int) -> dict[str, Any]:
        """Return what reproduces the last step of an environment."""
        worker, block, place = self._place(index)
        found: dict[str, Any] = self._call_one(worker, "reproduction", block, place)
        return found

    def _place(self, index: int) -> tuple[int, int, int]:
        """Return the worker of an environment, its block there, and its number in the block."""
        block, place = divmod(index, self._block)
        return *divmod(block, self._share), place

    def _call_one(self, worker: int, method: str, *arguments: Any) -> Any:
        call = self._workers[worker].start(method, *arguments)
        return self.result(worker, call, method, *arguments)
