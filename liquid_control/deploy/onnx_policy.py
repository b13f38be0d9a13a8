"""A policy in ONNX Runtime."""

from __future__ import annotations

import math
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
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or was not written by this package.
    """

    def __init__(self, path: Path | bytes) -> None:
        import onnxruntime as ort  # takes longer than the rest of this package

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        name = "the model" if isinstance(path, bytes) else str(path)
        content = path if isinstance(path, bytes) else Path(path).read_bytes()
        try:
            self._session = ort.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the classes of ONNX Runtime have no other base
            raise ValueError(f"{name} cannot be read; export it again: {error}") from error
        text = self._session.get_modelmeta().custom_metadata_map.get(FACTS)
        if text is None:
            raise ValueError(f"{name} has no property {FACTS!r}; export it with liquid-control")
        self.metadata = Metadata.from_json(text)
        self._check_inputs(name)
        self.motor: NDArray[np.float32] = np.zeros(self.metadata.motor_size, np.float32)
        facts = self.metadata  # and the values for each step
        self._size, self._shortest = facts.observation_size, facts.shortest
        self._longest = np.inf if facts.longest is None else facts.longest
        self._sizes = [math.prod(part["shape"]) for part in facts.observation]
        self._outputs = [each.name for each in self._session.get_outputs()]
        self._feed: dict[str, NDArray[Any]] = {"elapsed_time": np.zeros((1, 1), np.float32)}
        self._kept = np.zeros((1, 1), np.float32)
        self._started = np.ones((1, 1), np.float32)
        self.reset()

    def _check_inputs(self, name: str) -> None:
        """Raise a ValueError if the model takes other inputs than its facts say."""
        facts = self.metadata
        expected = {part["name"]: [*part["shape"]] for part in facts.observation}
        expected |= {"elapsed_time": [1], "episode_start": [1], "state": [facts.state_size]}
        found = {each.name: each.shape[1:] for each in self._session.get_inputs()}
        if found != expected:
            raise ValueError(f"{name} has the inputs {found}, and its facts {expected}")

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
            ValueError: a number is not finite or out of bounds; the state is unchanged then.
        """
        with np.errstate(over="ignore"):  # to infinity, which is rejected
            numbers = np.asarray(observation, np.float32).ravel()
            seconds = np.float32(elapsed_time)
        if len(numbers) != self._size:
            raise ValueError(f"an observation has {self._size} numbers, got {len(numbers)}")
        if not np.isfinite(numbers).all():
            raise ValueError("a number of the observation is not finite")
        if not self._shortest < seconds < self._longest:
            raise ValueError("the elapsed time is not finite, or out of the bounds of the policy")
        self._feed["elapsed_time"][0, 0] = seconds
        feed = self._feed
        feed["state"] = self._state
        feed["episode_start"] = self._started if self._is_first else self._kept
        feed |= self._parts(numbers)
        try:
            action, state, motor = self._session.run(self._outputs, feed)
        except Exception as error:  # see above
            raise ValueError(f"the model fails: {error}") from error
        if not (np.isfinite(action).all() and np.isfinite(state).all()):
            raise ValueError("the arithmetic overflowed")
        self._state, self.motor, self._is_first = state, motor[0], False
        chosen: NDArray[Any] = action.ravel()
        return chosen

    def _parts(self, numbers: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Split raw numbers into the inputs of the file."""
        parts: dict[str, NDArray[Any]] = {}
        first = 0
        for part, size in zip(self.metadata.observation, self._sizes, strict=True):
            values: NDArray[Any] = numbers[first : first + size]
            if part["sizes"]:
                whole = values.astype(np.int64)
                if not ((whole == values) & (whole >= 0) & (whole < part["sizes"])).all():
                    raise ValueError(f"the observation {part['name']} has no value of its kind")
                values = whole
            parts[part["name"]] = values.reshape(1, *part["shape"])
            first += size
        return parts
