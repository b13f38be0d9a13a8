"""`liquid-control doctor`: checks an installation, and suggests a remedy for each problem."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from rich.markup import escape

from liquid_control.commands.arguments import Doctor
from liquid_control.commands.display import paths
from liquid_control.commands.policy_package import is_packed
from liquid_control.commands.terminal import FAILED, say
from liquid_control.commands.trust import search_working_directory
from liquid_control.kernels import extension
from liquid_control.recipes import CommandError, build_agent, build_env, load_recipe

REQUIRED = ("torch", "mujoco", "gymnasium", "stable-baselines3", "numpy", "tensorboard")
OPTIONAL = {  # packages, and their extras
    "sb3-contrib": "contrib",
    "optuna": "sweep",
    "rliable": "sweep",
    "ray": "ray",
    "submitit": "slurm",
}

COMPILERS = {
    "linux": "apt install g++",
    "darwin": "xcode-select --install",
    "win32": "install the Build Tools for Visual Studio",
}

# The back ends of Gymnasium's renderer and their remedies, those for headless machines first.
BACK_ENDS = {
    "egl": "apt install libegl1 libgl1",
    "osmesa": "apt install libosmesa6",
    "glfw": "needs a display; use another back end without one",
}
if sys.platform != "linux":
    BACK_ENDS = {"glfw": "update the graphics driver"}

DRAW = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco/>")
with mujoco.Renderer(model, 8, 8) as renderer:
    renderer.update_scene(mujoco.MjData(model))
    renderer.render()
"""
TIMEOUT = 60.0  # seconds, for drawing one picture


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    """The subject of the check."""

    found: str
    """The result."""

    remedy: str = ""
    """How to fix a problem; empty if there is none."""

    fatal: bool = False
    """Whether the problem prevents training."""


def execute(arguments: Doctor) -> int:
    """Execute the command; return the exit code.

    Raises:
        CommandError: The recipe cannot be read, or its environments or agent cannot be built.
    """
    search_working_directory()  # a recipe's task may be a module of the user
    findings = [*diagnose(), *(training(arguments.recipe) if arguments.recipe else ())]
    say(diagnosis(findings), markup=True)
    return FAILED if any(each.fatal for each in findings) else 0


def diagnosis(findings: Iterable[Finding]) -> str:
    """Return the findings as text, one per line, each problem with its remedy."""

    def line(each: Finding) -> str:
        colour = "red" if each.fatal else "yellow"
        remedy = f"; [{colour}]remedy: {escape(each.remedy)}[/]" if each.remedy else ""
        return f"[bold]{each.name:<18}[/]{escape(each.found)}{remedy}"

    return "\n".join(map(line, findings))


def diagnose() -> list[Finding]:
    """Check everything that training and rendering depend on; rendering takes seconds."""
    return [*kernels(), *versions(), *processor(), *rendering()]


def kernels() -> Iterator[Finding]:
    """Yield the kernels in use and why, the built ones, and the compiler."""
    try:
        choice = extension.choose()
    except (ValueError, RuntimeError) as error:
        yield Finding("kernels", "none", str(error), fatal=True)
    else:
        why = f"{extension.VARIABLE}={choice.asked}"
        yield Finding(
            "kernels",
            f"{choice.in_use or 'PyTorch'} ({'; '.join((why, *choice.problems))})",
            extension.REMEDY if choice.problems else "",
        )
        built = ", ".join(choice.built) or "none"
        slower = set(choice.supported) - set(choice.built) and not choice.problems
        yield Finding("built", built, extension.REMEDY if slower else "")
    names = (os.environ.get("CXX", "c++"), "c++", "g++", "clang++", "cl")
    compiler = next(filter(None, map(shutil.which, names)), None)
    remedy = COMPILERS.get(sys.platform, "install GCC or Clang")
    yield (
        Finding("compiler", compiler)
        if compiler
        else Finding("compiler", "none found; only building kernels needs one", remedy)
    )


def versions() -> Iterator[Finding]:
    """Yield the versions of Python, of this package and of its dependencies."""
    yield Finding("python", platform.python_version())
    for name in ("liquid-control", *REQUIRED):
        version = _version(name)
        yield (
            Finding(name, version)
            if version
            else Finding(name, "missing", f"pip install {name}", fatal=True)
        )
    for name, extra in OPTIONAL.items():
        version = _version(name)
        remedy = f"pip install 'liquid-control[{extra}]'"
        yield Finding(name, version) if version else Finding(name, "not installed", remedy)


def processor() -> Iterator[Finding]:
    """Yield the processor's name, its instruction sets, and the threads that PyTorch uses."""
    yield Finding("processor", _processor_name())
    capability = torch.backends.cpu.get_cpu_capability()
    sets = ", ".join(extension.supported_sets(capability))
    yield Finding("features", f"{capability}, for kernels {sets}")
    yield Finding("cores", str(os.cpu_count()))
    yield Finding("threads", f"{torch.get_num_threads()} in PyTorch; a recipe sets its own number")


def training(path: Path) -> Iterator[Finding]:
    """Yield the implementations of updates and actions of a recipe's agent."""
    if path.is_file() and is_packed(path):
        raise CommandError(
            f"{path} is a packed policy, and doctor takes a recipe; give the config.yaml in the "
            "folder that `liquid-control unpack` makes of it"
        )
    recipe = load_recipe(path)
    env = build_env(recipe)
    try:
        for name, found in paths(build_agent(recipe, env)).items():
            yield Finding(name, found)
    finally:
        env.close()


def rendering() -> Iterator[Finding]:
    """Yield the selected GL back end, and those that work."""
    with ThreadPoolExecutor() as pool:
        faults = dict(zip(BACK_ENDS, pool.map(drawing_fault, BACK_ENDS), strict=True))
    yield gl_choice(os.environ.get("MUJOCO_GL"), [name for name in faults if not faults[name]])
    for name, fault in faults.items():
        yield Finding(name, f"no: {fault}", BACK_ENDS[name]) if fault else Finding(name, "works")
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform == "linux":
        yield Finding("display", screen or "none; pictures are drawn off screen")


def gl_choice(chosen: str | None, working: Sequence[str]) -> Finding:
    """Check the value of `MUJOCO_GL`, None if it is not set, against the back ends that work.

    Where it is not set, films and pictures are drawn with the first back end that works, and the
    `render` of Gymnasium's environments with glfw.
    """
    found = "MUJOCO_GL is not set: glfw" if chosen is None else f"MUJOCO_GL={chosen}"
    if (chosen if chosen is not None else "glfw") in working:
        return Finding("GL", found)
    if not working:
        return Finding("GL", f"{found}; nothing works", "make one of these back ends work")
    if chosen is None:
        found = f"MUJOCO_GL is not set: films use {working[0]}, Gymnasium's render() glfw, which"
    return Finding("GL", f"{found} does not work", f"set MUJOCO_GL={working[0]}")


def drawing_fault(back_end: str) -> str:
    """Draw a picture with a GL back end, in a process that may crash; return the error, or ""."""
    try:
        with tempfile.TemporaryDirectory() as folder:  # MuJoCo may leave a log behind
            done = subprocess.run(
                [sys.executable, "-c", DRAW],
                cwd=folder,
                env={**os.environ, "MUJOCO_GL": back_end},
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
            )
    except subprocess.TimeoutExpired:
        return f"no answer within {TIMEOUT:g} s"
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return textwrap.shorten(lines[-1], 80, placeholder=" ...")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} ({platform.machine()})"
