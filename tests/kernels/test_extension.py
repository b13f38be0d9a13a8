"""The choice of compiled kernels, and the messages where there are none."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

from liquid_control.kernels import extension
from liquid_control.kernels.extension import INSTRUCTION_SETS, VARIABLE

ALL = ("avx512", "avx2", "plain")


class Machine:
    """A processor and an installation, and a record of the modules that were loaded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.capability, self.built, self.broken = "AVX512", ALL, set[str]()
        self.loaded: list[str] = []
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: self.capability)
        monkeypatch.setattr(extension, "built_sets", lambda folder: self.built)
        monkeypatch.setattr(extension, "import_module", self.load)

    def load(self, module: str) -> ModuleType:
        name = module.removeprefix("liquid_control.kernels._")
        if name in self.broken:
            raise ImportError(f"undefined symbol of {name}")
        self.loaded.append(name)
        kernels = ModuleType(module)
        kernels.instruction_set = name  # type: ignore[attr-defined]
        return kernels


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.delenv(VARIABLE, raising=False)
    return Machine(monkeypatch)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Choose the kernels again before and after each test."""
    extension.load.cache_clear()
    yield
    extension.load.cache_clear()


@pytest.mark.parametrize(
    ("capability", "built", "best"),
    [
        ("AVX512", ALL, "avx512"),
        ("AVX512", ("avx2", "plain"), "avx2"),
        ("AVX512", ("plain",), "plain"),
        ("AVX2", ALL, "avx2"),
        ("AVX2", ("avx512", "plain"), "plain"),
        ("DEFAULT", ALL, "plain"),
        ("SVE256", ("plain",), "plain"),
    ],
)
def test_the_best_that_processor_and_installation_have_is_used(
    machine: Machine, capability: str, built: tuple[str, ...], best: str
) -> None:
    machine.capability, machine.built = capability, built
    module = extension.load()
    assert module is not None
    assert module.instruction_set == best == extension.choose().in_use
    assert set(machine.loaded) == {best}


@pytest.mark.parametrize("name", ALL)
def test_an_instruction_set_can_be_forced(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(VARIABLE, name)
    assert extension.choose().in_use == name
    assert machine.loaded == [name]


@pytest.mark.parametrize(
    ("capability", "name"), [("AVX2", "avx512"), ("DEFAULT", "avx512"), ("SVE256", "avx2")]
)
def test_what_the_processor_lacks_is_refused_before_it_is_loaded(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capability: str, name: str
) -> None:
    machine.capability = capability
    monkeypatch.setenv(VARIABLE, name)
    with pytest.raises(RuntimeError, match=rf"={name}: this processor cannot .* use one of auto"):
        extension.load()
    assert machine.loaded == []


def test_what_is_forced_and_not_built_or_broken_is_an_error_with_a_remedy(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "avx2")
    machine.built = ("plain",)
    with pytest.raises(RuntimeError, match=r"=avx2: not built; install a C\+\+ compiler"):
        extension.load()
    machine.built, machine.broken = ALL, {"avx2"}
    with pytest.raises(RuntimeError, match=r"undefined symbol of avx2.*pip install"):
        extension.load()


@pytest.mark.parametrize("value", ["", "AVX2", "sse", "0"])
def test_any_other_value_is_an_error(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ValueError, match="use one of auto, avx512, avx2, plain, off"):
        extension.load()


@pytest.mark.parametrize("built", [(), ("avx512",)])
def test_without_kernels_one_warning_says_so_and_pytorch_does_the_work(
    machine: Machine, built: tuple[str, ...]
) -> None:
    machine.capability, machine.built = "DEFAULT", built
    with pytest.warns(RuntimeWarning, match=r"none are built.*pip install.*doctor") as caught:
        modules = [extension.load() for _ in range(3)]
    assert modules == [None] * 3
    assert len(caught) == 1


def test_kernels_that_are_turned_off_are_not_missed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    for machine.built in (ALL, ()):
        extension.load.cache_clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert extension.load() is None
    assert machine.loaded == []


def test_broken_kernels_are_reported_and_the_next_best_are_used(machine: Machine) -> None:
    machine.broken = {"avx512", "avx2"}
    with pytest.warns(RuntimeWarning) as caught:
        module = extension.load()
    assert module is not None
    assert module.instruction_set == "plain"
    (warning,) = caught
    for words in ("avx512 does not load (undefined symbol of avx512)", "avx2 does", "using plain"):
        assert words in str(warning.message)


def test_a_file_that_is_no_module_counts_as_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    suffix = extension.EXTENSION_SUFFIXES[0]
    (tmp_path / f"_plain{suffix}").write_bytes(b"no machine code")
    (tmp_path / "_avx2.of-another-python.so").touch()
    assert extension.built_sets(tmp_path) == ("plain",)
    (tmp_path / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path.parent)
    monkeypatch.setattr(extension, "FOLDER", tmp_path)
    monkeypatch.setattr(extension, "__package__", tmp_path.name)
    with pytest.warns(RuntimeWarning, match=r"plain does not load \(.*using slower PyTorch"):
        assert extension.load() is None


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_each_module_is_compiled_for_what_its_name_says(name: str) -> None:
    choice = extension.choose()
    if name not in choice.built or name not in choice.supported:
        pytest.skip(f"no {name} here")
    assert import_module(f"liquid_control.kernels._{name}").instruction_set == name
