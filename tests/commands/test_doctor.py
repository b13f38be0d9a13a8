"""`liquid-control doctor` on complete, partial and bare installations."""

from __future__ import annotations

import os
import re
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from liquid_control import __version__, cli
from liquid_control.commands import doctor
from liquid_control.commands.doctor import Finding
from liquid_control.commands.policy_package import POLICY
from liquid_control.kernels import extension
from liquid_control.kernels.passes import WIDEST

RECIPES = Path(__file__).parents[2] / "configs" / "inverted_pendulum"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder, without the user's settings."""
    monkeypatch.chdir(tmp_path)
    for name in (extension.VARIABLE, "MUJOCO_GL", "CXX"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove compiler, kernels, extras, display and renderers."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(extension, "built_sets", lambda folder: ())
    monkeypatch.setattr(doctor, "DRAW", "raise RuntimeError('no GL')")
    without(monkeypatch, "sb3-contrib")


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    version = metadata.version

    def find(name: str) -> str:
        if name in packages:
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", find)


def found() -> dict[str, Finding]:
    return {each.name: each for each in doctor.diagnose()}


def test_it_reports_what_is_in_use_and_leaves_no_files(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines}
    assert rows["kernels"].startswith(extension.choose().in_use or "PyTorch")
    assert rows["liquid-control"] == __version__
    assert rows["python"] == ".".join(map(str, sys.version_info[:3]))
    for name in doctor.REQUIRED:
        assert rows[name] == metadata.version(name)
    assert rows.keys() >= {"built", "compiler", "processor", "features", "cores", "threads", "GL"}
    assert list(elsewhere.iterdir()) == []


@pytest.mark.usefixtures("bare")
def test_a_bare_machine_can_train_and_every_problem_has_a_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lacks = {name: each for name, each in found().items() if each.remedy}
    assert lacks.keys() == {"kernels", "compiler", "sb3-contrib", "GL", *doctor.BACK_ENDS}
    assert "PyTorch" in lacks["kernels"].found
    assert cli.main(["doctor"]) == 0
    shown = capsys.readouterr().out.splitlines()
    for each in lacks.values():
        assert any(each.found in line and each.remedy in line for line in shown)


def test_a_missing_package_ends_with_2_and_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, "tensorboard")
    monkeypatch.setattr(doctor, "DRAW", "")
    assert cli.main(["doctor"]) == 2
    assert "missing; remedy: pip install tensorboard" in capsys.readouterr().out


def test_a_setting_that_stops_every_training_ends_with_2_and_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(extension.VARIABLE, "fast")
    monkeypatch.setattr(doctor, "DRAW", "")
    assert cli.main(["doctor"]) == 2
    assert "=fast: unknown; use one of auto" in capsys.readouterr().out


def test_requested_kernels_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = extension.Choice("avx2", ("avx512", "avx2", "plain"), ("avx2", "plain"), None)
    module = ModuleType("_avx2")
    module.instruction_set = "avx2"  # type: ignore[attr-defined]
    for kernels, name in ((module, "avx2"), (None, "PyTorch")):
        used = extension.Choice(choice.asked, choice.supported, choice.built, kernels)
        monkeypatch.setattr(extension, "choose", lambda used=used: used)
        in_use, built, _ = doctor.kernels()
        assert in_use == Finding("kernels", f"{name} (LIQUID_CONTROL_KERNELS=avx2)")
        assert built == Finding("built", "avx2, plain", extension.REMEDY)  # and no avx512


@pytest.mark.parametrize(
    ("chosen", "working", "remedy"),
    [
        (None, ["glfw"], ""),
        (None, ["egl", "glfw"], ""),
        (None, ["egl", "osmesa"], "set MUJOCO_GL=egl"),
        ("osmesa", ["egl", "osmesa"], ""),
        ("glfw", ["osmesa"], "set MUJOCO_GL=osmesa"),
        ("", ["egl", "glfw"], "set MUJOCO_GL=egl"),
        ("ogl", ["glfw"], "set MUJOCO_GL=glfw"),
        ("egl", [], "make one of these back ends work"),
    ],
)
def test_the_gl_back_end_is_checked_against_those_that_work(
    chosen: str | None, working: list[str], remedy: str
) -> None:
    assert doctor.gl_choice(chosen, working).remedy == remedy


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("open('MUJOCO_LOG.TXT', 'w').close()", ""),
        ("import os, sys; sys.exit(os.environ['MUJOCO_GL'] != 'egl')", ""),
        ("raise RuntimeError('no GL')", "RuntimeError: no GL"),
        ("import os; os._exit(7)", "exit code 7"),
        ("raise RuntimeError('x ' * 500)", "RuntimeError: x x"),
        ("import time; time.sleep(60)", "no answer within 0.5 s"),
    ],
)
def test_a_back_end_that_fails_crashes_or_hangs_is_only_reported(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, code: str, fault: str
) -> None:
    monkeypatch.setattr(doctor, "DRAW", code)
    monkeypatch.setattr(doctor, "TIMEOUT", 0.5 if "sleep" in code else 60.0)
    text = doctor.drawing_fault("egl")
    assert text.startswith(fault)
    assert bool(text) == bool(fault)
    assert len(text) <= 80
    assert list(elsewhere.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="a file is a program by its name there")
def test_the_compiler_is_the_one_that_a_build_would_take(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("clang++", "my-compiler"):
        (elsewhere / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(elsewhere))
    assert [*doctor.kernels()][-1] == Finding("compiler", str(elsewhere / "clang++"))
    monkeypatch.setenv("CXX", "my-compiler")
    assert [*doctor.kernels()][-1] == Finding("compiler", str(elsewhere / "my-compiler"))


@pytest.mark.parametrize(
    ("recipe", "encoder", "updates", "acting"),
    [
        ("ncp_ppo", 32, "compiled kernels (", "compiled kernels ("),
        ("ncp_ppo", WIDEST + 1, "PyTorch: the kernels do not support its circuit, or", "PyTorch"),
        ("ncp_sac", 32, "compiled kernels (", "compiled kernels ("),
    ],
)
def test_it_says_what_computes_the_agent_of_a_recipe(
    recipe: str, encoder: int, updates: str, acting: str, elsewhere: Path
) -> None:
    text = (RECIPES / f"{recipe}.yaml").read_text()
    path = elsewhere / "recipe.yaml"
    path.write_text(re.sub(r"encoder: .*", f"encoder: [{encoder}]", text))
    rows = {each.name: each.found for each in doctor.training(path)}
    assert rows["updates"].startswith(updates)
    assert rows["acting"].startswith(acting)


def test_a_packed_policy_is_named(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(elsewhere / "policy.zip", "w") as members:
        members.writestr(POLICY, "")
    assert cli.main(["doctor", str(elsewhere / "policy.zip")]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "is a packed policy, and doctor takes a recipe; give the config.yaml" in error


def test_a_recipe_that_is_missing_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "missing.yaml"]) == 2
    assert "missing.yaml" in capsys.readouterr().err
