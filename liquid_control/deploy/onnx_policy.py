"""A policy in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control.deploy.metadata import Metadata

FACTS = "liquid_control"  # the property of the file that has the metadata


class OnnxPolicy:
    """A policy and the state of one robot; see `CPolicy`, which has the same methods.

    Args:
        path: of policy.onnx, or its bytes.

    Raises:
        ImportError: onnxruntime is missing.
        ValueError: the file was not written by this package.
    """

    def __init__(self, path: Path | bytes) -> None:
        import onnxruntime as ort  # takes longer than the rest of this package

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(
            path if isinstance(path, bytes) else str(path),
            options,
            providers=["CPUExecutionProvider"],
        )
        facts = self._session.get_modelmeta().custom_metadata_map.get(FACTS)
        if facts is None:
            raise ValueError(f"{path!r} has no property {FACTS!r}; export it with liquid-control")
        self.metadata = Metadata.from_json(facts)
        self.motor: NDArray[np.float32] = np.zeros(self.metadata.motor_size, np.float32)
        self._kept = np.zeros((1, 1), np.float32)
        self._started = np.ones((1, 1), np.float32)
        self.reset()

    @property
    def state(self) -> NDArray[np.float32]:
        """The state, (state_size,)."""
        state: NDArray[np.float32] = self._state[0]
        return state

    def reset(self) -> None:
        """Begin an episode."""
        self._state = np.zeros((1, self.metadata.state_size), np.float32)
        self._is_first = True

    def step(self, observation: NDArray[Any], elapsed_time: float) -> NDArray[Any]:
        """Return the action (action_size,) for an observation (observation_size,) of raw numbers.

        Raises:
            ValueError: something is not finite or out of bounds; the state is as it was.
        """
        facts = self.metadata
        with np.errstate(over="ignore"):  # to infinity, which is refused
            numbers = np.asarray(observation, np.float32).ravel()
        if len(numbers) != facts.observation_size or not np.isfinite(numbers).all():
            raise ValueError("a number of the observation is not finite, or there are too many")
        longest = np.inf if facts.longest is None else facts.longest
        if not facts.shortest < np.float32(elapsed_time) < longest:
            raise ValueError("the elapsed time is not finite, or out of the bounds of the policy")
        seconds = np.array([[elapsed_time]], np.float32)
        starts = self._started if self._is_first else self._kept
        feed = {"elapsed_time": seconds, "state": self._state, "episode_start": starts}
        feed |= self._parts(numbers)
        action, state, motor = self._session.run(None, feed)
        if not (np.isfinite(action).all() and np.isfinite(state).all()):
            raise ValueError("the arithmetic overflowed")
        self._state, self.motor, self._is_first = state, motor[0], False
        chosen: NDArray[Any] = action.ravel()
        return chosen

    def _parts(self, numbers: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Split raw numbers into the inputs of the file."""
        parts: dict[str, NDArray[Any]] = {}
        first = 0
        for part in self.metadata.observation:
            size = int(np.prod(part["shape"]))
            values: NDArray[Any] = numbers[first : first + size]
            if part["sizes"]:
                whole = values.astype(np.int64)
                if not ((whole == values) & (whole >= 0) & (whole < part["sizes"])).all():
                    raise ValueError(f"the observation {part['name']} has no value of its kind")
                values = whole
            parts[part["name"]] = values.reshape(1, *part["shape"])
            first += size
        return parts
