"""Rounds: a number of control steps of all environments, under way or collected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from liquid_control.collectors.blocks import Request, Weights
from liquid_control.collectors.transitions import EpisodeEnd, Transitions


class Collected(NamedTuple):
    """Control steps of all environments.

    Attributes:
        transitions: fields (steps, num_envs, ...).
        ends: where episodes ended, in order of time.
        infos: of the steps that ended an episode, in the order of `ends`.
        observation: after the last step.
        version: of the weights that acted, as `begin` was given it.
    """

    transitions: Transitions
    ends: list[EpisodeEnd]
    infos: list[dict[str, Any]]
    observation: Any
    version: int

    @property
    def starts(self) -> NDArray[np.bool_]:
        """Where an episode starts after the last step, (num_envs,)."""
        return self.transitions.ended[-1].numpy()

    def ends_by_step(self) -> list[list[EpisodeEnd]]:
        """Return the episode ends of each step."""
        ends: list[list[EpisodeEnd]] = [[] for _ in self.transitions.ended]
        for end in self.ends:
            ends[end.step].append(end._replace(step=0))
        return ends

    def steps(
        self,
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]]:
        """Yield rewards, dones and infos of each step; infos are empty where no episode ended."""
        by_place = {
            (end.step, end.env): info for end, info in zip(self.ends, self.infos, strict=True)
        }
        rewards, dones = self.transitions.rewards.numpy(), self.transitions.ended.numpy()
        for step in range(len(rewards)):
            infos = [by_place.get((step, env), {}) for env in range(rewards.shape[1])]
            yield rewards[step], dones[step], infos


class Round(NamedTuple):
    """A round under way: what each worker was asked, and the calls that were begun."""

    weights: Weights
    version: int
    steps: int
    arguments: list[tuple[Any, list[Request]]]
    calls: list[Any]
    bytes_sent: int
