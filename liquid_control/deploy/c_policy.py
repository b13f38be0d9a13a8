"""A policy in C, compiled to a shared library and called through ctypes."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liquid_control.deploy.metadata import Metadata

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
"""Flags under which generated policies compile without a warning."""

COMPILERS = ("cc", "gcc", "clang")
"""The first one found is used."""

MESSAGES = {
    1: "a number of the observation is not finite, or no value of its kind",
    2: "the elapsed time is not finite, or out of the bounds of the policy",
    3: "the arithmetic overflowed",
}


class CompilerError(RuntimeError):
    """A C compiler fails, or what it made cannot be loaded."""


class CPolicy:
    """A compiled policy and the state of one robot.

    Args:
        library: from `compile_c`.
        metadata: of the same export.

    Raises:
        CompilerError: the library cannot be loaded.
        ValueError: the library says that it is of a policy of other sizes.
    """

    def __init__(self, library: str | Path, metadata: Metadata) -> None:
        self.metadata = metadata
        try:
            loaded = _load(Path(library).resolve())
        except OSError as error:  # such as of a folder that is mounted with noexec
            raise CompilerError(f"{library} cannot be loaded: {error}") from error
        self._reset, self._step = loaded.policy_reset, loaded.policy_step
        pointer = ctypes.POINTER(ctypes.c_float)
        self._reset.argtypes, self._reset.restype = [pointer], None
        self._step.argtypes = [pointer, pointer, ctypes.c_float, pointer]
        self._step.restype = ctypes.c_int
        memory = metadata.state_size + metadata.action_size
        sizes = (metadata.observation_size, metadata.action_size, memory)
        if (found := _sizes(loaded)) not in (None, sizes):
            raise ValueError(
                f"{library} is a policy with an observation, an action and a state of {found} "
                f"numbers, but the metadata are of one with {sizes}; compile policy.c of the same "
                "export"
            )
        self._observation, self._action, self._memory = (np.zeros(n, np.float32) for n in sizes)
        self._pointers = [
            array.ctypes.data_as(pointer)
            for array in (self._memory, self._observation, self._action)
        ]
        self.reset()

    @property
    def state(self) -> NDArray[np.float32]:
        """The state, (state_size,), without the last action."""
        return self._memory[: self.metadata.state_size]

    def reset(self) -> None:
        """Begin an episode."""
        self._reset(self._pointers[0])

    def step(self, observation: NDArray[Any], elapsed_time: float) -> NDArray[np.float32]:
        """Return the action (action_size,) for an observation (observation_size,) of raw numbers.

        Args:
            observation: the numbers of all parts, in order.
            elapsed_time: seconds; that of the first step is the nominal interval.

        Raises:
            ValueError: a number is not finite or out of bounds, or there are too few or too many;
                the state is unchanged then.
        """
        with np.errstate(over="ignore"):  # to infinity, which the policy rejects
            numbers = np.asarray(observation, np.float32).ravel()
            if len(numbers) != len(self._observation):
                raise ValueError(
                    f"an observation has {len(self._observation)} numbers, got {len(numbers)}"
                )
            self._observation[:] = numbers
            seconds = float(np.float32(elapsed_time))
        memory, seen, action = self._pointers
        code = self._step(memory, seen, seconds, action)
        if code:
            raise ValueError(MESSAGES.get(code, f"the policy returned {code}"))
        return self._action.copy()


_digests: dict[Path, bytes] = {}  # of the libraries that this process has loaded


def _load(path: Path) -> Any:
    """Load a library; one that was compiled again under the same path as a copy.

    The system has loaded the earlier one under that name, and would return it again.
    """
    digest = sha256(path.read_bytes()).digest()
    if _digests.setdefault(path, digest) == digest:
        return ctypes.CDLL(str(path))
    with TemporaryDirectory(dir=path.parent, ignore_cleanup_errors=True) as folder:
        return ctypes.CDLL(shutil.copy(path, folder))


def _sizes(library: ctypes.CDLL) -> tuple[int, ...] | None:
    """Return the sizes that a library says; None if it is of an early export, which says none."""
    try:
        return tuple((ctypes.c_int * 3).in_dll(library, "policy_sizes"))
    except ValueError:  # there is no such name
        return None


def compile_c(
    source: str | Path,
    library: str | Path,
    *,
    compiler: str | None = None,
    flags: Sequence[str] = ("-O2",),
) -> Path:
    """Compile policy.c to a shared library; return its path.

    Args:
        source: policy.c, in the same folder as policy.h.
        library: the file to write.
        compiler: a C compiler; by default the first one found of cc, gcc and clang.
        flags: additional compiler flags.

    Raises:
        FileNotFoundError: there is no compiler.
        CompilerError: it fails; the message has its first lines.
    """
    found = compiler or next(filter(shutil.which, COMPILERS), None)
    if found is None:
        raise FileNotFoundError("no C compiler is found; install gcc or clang, or use policy.onnx")
    command = [found, "-std=c99", "-shared", "-fPIC", *flags, str(source), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompilerError(f"{found} fails: " + " ".join(done.stderr.split()[:60]))
    return Path(library)
