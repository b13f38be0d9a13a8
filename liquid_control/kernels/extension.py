"""Selection of the compiled kernels, among those built and supported by the processor."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import torch

VARIABLE = "LIQUID_CONTROL_KERNELS"
INSTRUCTION_SETS = ("avx512", "avx2", "plain")  # the best first

FOLDER = Path(__file__).parent

# Only a checkout has the C++ sources next to the modules. pip caches the wheels that it builds, and
# would reinstall the one without kernels.
REBUILD = (
    "pip install --editable ."
    if (FOLDER / "src").is_dir()
    else "pip install --force-reinstall --no-deps --no-cache-dir liquid-control"
)
REMEDY = f"install a C++ compiler, then run `{REBUILD}`"


@dataclass(frozen=True)
class Choice:
    """The kernels in use, and the available ones."""

    asked: str
    """The value of `LIQUID_CONTROL_KERNELS`: an instruction set, "auto" or "off"."""

    supported: tuple[str, ...]
    """Instruction sets that the processor runs, the best first."""

    built: tuple[str, ...]
    """Instruction sets that are built in this installation, the best first."""

    module: ModuleType | None
    """The module in use; None if PyTorch is used."""

    problems: tuple[str, ...] = ()
    """Why better kernels are not in use, unless they were turned off."""

    @property
    def in_use(self) -> str | None:
        """The instruction set in use; None if PyTorch is used."""
        return None if self.module is None else str(self.module.instruction_set)


@cache
def load() -> ModuleType | None:
    """Return the compiled kernels for this processor; None if PyTorch is used instead.

    The environment variable `LIQUID_CONTROL_KERNELS` forces an instruction set (avx512, avx2,
    plain) or PyTorch (off); it is read once. If kernels are missing or broken and were not turned
    off, one RuntimeWarning reports it.

    Raises:
        ValueError: If `LIQUID_CONTROL_KERNELS` has an unknown value.
        RuntimeError: If it names kernels that cannot run here.
    """
    choice = choose()
    if choice.problems:
        instead = choice.in_use or "slower PyTorch"
        warnings.warn(
            f"compiled kernels: {'; '.join(choice.problems)}; using {instead} instead. To get "
            f"them, {REMEDY}; `liquid-control doctor` shows more",
            RuntimeWarning,
            stacklevel=2,
        )
    return choice.module


def choose() -> Choice:
    """Choose the kernels as `load` does, but without a warning, and again at every call.

    Raises:
        ValueError: If `LIQUID_CONTROL_KERNELS` has an unknown value.
        RuntimeError: If it names kernels that cannot run here.
    """
    asked = os.environ.get(VARIABLE, "auto")
    supported, built = supported_sets(torch.backends.cpu.get_cpu_capability()), built_sets(FOLDER)
    if asked == "off":
        return Choice(asked, supported, built, None)
    if asked == "auto":
        return _best(supported, built)
    if asked not in INSTRUCTION_SETS:
        known = ", ".join(("auto", *INSTRUCTION_SETS, "off"))
        raise ValueError(f"{VARIABLE}={asked}: unknown; use one of {known}")
    if asked not in supported:
        raise RuntimeError(
            f"{VARIABLE}={asked}: this processor cannot run it; use one of auto, "
            f"{', '.join(supported)}"
        )
    if asked not in built:
        raise RuntimeError(f"{VARIABLE}={asked}: not built; {REMEDY}, or use auto")
    try:
        return Choice(asked, supported, built, _import(asked))
    except ImportError as error:
        raise RuntimeError(f"{VARIABLE}={asked}: does not load ({error}); {REMEDY}") from error


def supported_sets(capability: str) -> tuple[str, ...]:
    """Return the instruction sets, the best first, of a processor of PyTorch's `capability`."""
    best = capability.lower()
    return INSTRUCTION_SETS[INSTRUCTION_SETS.index(best if best in INSTRUCTION_SETS else "plain") :]


def built_sets(folder: Path) -> tuple[str, ...]:
    """Return the instruction sets, the best first, whose modules are in `folder`."""
    return tuple(
        name
        for name in INSTRUCTION_SETS
        if any((folder / f"_{name}{suffix}").exists() for suffix in EXTENSION_SUFFIXES)
    )


def _best(supported: tuple[str, ...], built: tuple[str, ...]) -> Choice:
    names = [name for name in supported if name in built]
    problems: tuple[str, ...] = () if names else ("none are built for this processor and Python",)
    for name in names:
        try:
            return Choice("auto", supported, built, _import(name), problems)
        except ImportError as error:
            problems += (f"{name} does not load ({error})",)
    return Choice("auto", supported, built, None, problems)


def _import(name: str) -> ModuleType:
    return import_module(f"{__package__}._{name}")
