"""A policy in C in place of the agent's, to evaluate the exported policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control.deploy import CPolicy, Metadata, compile_c
from liquid_control.export.description import Description
from liquid_control.export.facts import metadata_of
from liquid_control.export.to_c import to_c
from liquid_control.policies.observations import ELAPSED_TIME

C_SOURCE, C_HEADER = "policy.c", "policy.h"


def compiled(description: Description, folder: Path, **facts: Any) -> CPolicy:
    """Compile a description in an existing folder; facts as for `metadata_of`.

    Raises:
        FileNotFoundError: there is no C compiler.
    """
    sources = to_c(description)
    return compiled_sources(
        sources.source.encode(), sources.header.encode(), folder, metadata_of(description, **facts)
    )


def compiled_sources(source: bytes, header: bytes, folder: Path, metadata: Metadata) -> CPolicy:
    """Compile policy.c and policy.h in an existing folder."""
    (folder / C_SOURCE).write_bytes(source)
    (folder / C_HEADER).write_bytes(header)
    return CPolicy(compile_c(folder / C_SOURCE, folder / "policy.so"), metadata)


class InC:
    """A policy in C for many robots, evaluated one by one.

    Args:
        policy: compiled.
    """

    def __init__(self, policy: CPolicy) -> None:
        self.policy = policy

    def predict(
        self,
        observation: Any,
        state: NDArray[np.float32] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return actions (robots, ...) and the next state, as the agent's policy does.

        Raises:
            ValueError: the policy rejects an observation.
        """
        assert episode_start is not None
        assert deterministic
        facts, policy = self.policy.metadata, self.policy
        count = len(episode_start)
        named = isinstance(observation, dict)
        parts = [observation[part["name"]] if named else observation for part in facts.observation]
        numbers = np.concatenate([np.reshape(part, (count, -1)) for part in parts], axis=1)
        elapsed = np.full(count, facts.nominal_interval)
        if facts.is_timed:
            elapsed = np.reshape(observation[ELAPSED_TIME], count).astype(np.float64)
        after = np.empty((count, facts.state_size), np.float32)
        actions = np.empty((count, facts.action_size), np.float32)
        for robot in range(count):
            policy.reset()
            if state is not None and not episode_start[robot]:
                policy.state[:] = state[robot]
            actions[robot] = policy.step(numbers[robot], float(elapsed[robot]))
            after[robot] = policy.state
        kind = np.float32 if facts.action["kind"] == "box" else np.int64
        return actions.astype(kind).reshape(count, *facts.action["shape"]), after
