"""What people install: the sdist, the wheel built from it, and both at work elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import liquid_control
from liquid_control.kernels import extension

ROOT = Path(__file__).parent.parent
NOT_SOURCE = (".git", ".venv", "runs", "build", "dist", "*.egg-info", ".*_cache", "__pycache__")
OURS = ("PYTHONPATH", "LIQUID_CONTROL_BUILD", extension.VARIABLE)  # settings of this run of tests
BINARIES = (".so", ".pyd")
NO_COMPILER = {"PATH": "", "CC": "no-such-compiler", "CXX": "no-such-compiler"}

needs_no_compiler = pytest.mark.skipif(os.name == "nt", reason="its compiler cannot be hidden")


def attempt(*command: str | Path, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command away from the checkout, with some variables of the environment set."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    return subprocess.run(
        command, cwd=cwd, env=environment | settings, capture_output=True, text=True, timeout=600
    )


def run(*command: str | Path, cwd: Path, **settings: str) -> str:
    """Run a command that must succeed; return what it prints, errors and warnings included."""
    done = attempt(*command, cwd=cwd, **settings)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    return text


def environment(home: Path) -> Path:
    """Make an environment that borrows what this one has, but for our package; its scripts."""
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    # A path that is added this way comes last, and .pth files inside it are not read.
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / ("Scripts" if os.name == "nt" else "bin")


def install(package: Path, scripts: Path, **settings: str) -> None:
    """Install an sdist or a wheel without the network."""
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--no-cache-dir")
    pip = (sys.executable, "-m", "pip", "--python", scripts / "python")
    run(*pip, "install", *offline, package, cwd=scripts, **settings)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from it; without the network.

    The wheel takes over the checkout's kernels, which are newer than their sources in the sdist, as
    a repeated build would; `test_the_sdist_compiles_to_the_wheel` compiles them.
    """
    folder = tmp_path_factory.mktemp("packaging")
    source = folder / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    build(source, "--sdist", folder)
    (sdist,) = folder.glob("*.tar.gz")
    unpacked = unpack(sdist, folder / "unpacked")
    libraries = (
        unpacked / "build" / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    )
    for kernel in [path for path in ROOT.glob("liquid_control/*/*") if path.suffix in BINARIES]:
        copy = libraries / kernel.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kernel, copy)
    build(unpacked, "--wheel", folder)
    return folder


def build(source: Path, what: str, folder: Path) -> None:
    """Build an sdist or a wheel into a folder."""
    run(
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        what,
        "--outdir",
        folder,
        source,
        cwd=folder,
    )


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist; return the folder of its project."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (project,) = folder.iterdir()
    return project


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    (path,) = built.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of a new environment that has the wheel, and borrows its dependencies."""
    scripts = environment(tmp_path_factory.mktemp("environment"))
    install(wheel, scripts)
    return scripts


def test_the_wheel_adds_one_name_with_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"liquid_control"}
    assert "liquid_control/py.typed" in names


def test_the_wheel_holds_every_module_and_template_of_the_package(wheel: Path) -> None:
    package = ROOT / "liquid_control"
    suffixes = {".py", ".jinja", ".json", ".template", ".zip"}
    files = {
        path.relative_to(ROOT).as_posix() for path in package.rglob("*") if path.suffix in suffixes
    }
    recipes = (path.relative_to(ROOT) for path in ROOT.glob("configs/*/*.yaml"))
    files |= {f"liquid_control/{path.as_posix()}" for path in recipes}
    assert files <= set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_is_for_this_platform_and_holds_the_kernels_but_not_their_sources(
    wheel: Path, tmp_path: Path
) -> None:
    assert not wheel.name.endswith("-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.endswith((".cpp", ".h")) or "/src/" in name]
    zipfile.ZipFile(wheel).extractall(tmp_path)
    built = extension.built_sets(tmp_path / "liquid_control" / "kernels")
    assert built == extension.built_sets(extension.FOLDER)


@pytest.mark.slow
def test_the_sdist_compiles_to_the_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    project = unpack(sdist, tmp_path / "unpacked")
    build(project, "--wheel", tmp_path)
    (compiled,) = tmp_path.glob("*.whl")
    assert compiled.name == wheel.name
    assert zipfile.ZipFile(compiled).namelist() == zipfile.ZipFile(wheel).namelist()


def test_the_wheel_says_version_licence_and_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    metadata = archive.read(f"{info}/METADATA").decode().splitlines()
    assert f"Version: {liquid_control.__version__}" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    scripts = archive.read(f"{info}/entry_points.txt").decode()
    assert "liquid-control = liquid_control.cli:main" in scripts


def test_the_sdist_holds_recipes_tests_and_build_files(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {"/".join(name.split("/")[1:]) for name in archive.getnames()}
    recipes = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml")}
    assert recipes
    files = {"README.md", "LICENSE", "Makefile", "constraints.txt", "tests/test_packaging.py"}
    kernels = {path.relative_to(ROOT).as_posix() for path in extension.FOLDER.glob("src/*")}
    assert any(name.endswith(".h") for name in kernels)
    assert names >= recipes | files | kernels | {"setup.py"}
    assert not any("__pycache__" in name or name.startswith((".venv", "runs/")) for name in names)
    assert not any(name.endswith(BINARIES) for name in names)


@pytest.mark.parametrize("command", [["liquid-control"], ["python", "-m", "liquid_control"]])
def test_the_installed_command_explains_itself(
    installed: Path, tmp_path: Path, command: list[str]
) -> None:
    program, *arguments = command
    text = run(installed / program, *arguments, "--help", cwd=tmp_path)
    assert "train" in text
    assert "evaluate" in text


def test_a_robot_needs_no_requirement_but_numpy(installed: Path, tmp_path: Path) -> None:
    """`deploy` is imported where the requirements of training cannot be."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=]", each)[0].lower() for each in project["dependencies"]}
    assert "numpy" in names
    modules = {"pyyaml": "yaml", "pillow": "PIL"}
    absent = [modules.get(name, name.replace("-", "_")) for name in sorted(names - {"numpy"})]
    code = f"import sys; sys.modules |= dict.fromkeys({absent}); import liquid_control.deploy"
    run(installed / "python", "-c", code, cwd=tmp_path)


CIRCUIT = """
import torch
from liquid_control.kernels import extension
from liquid_control.neurons import CfC
from liquid_control.wiring import dense
for _ in range(2):
    extension.load()
    circuit = CfC(dense(sensory=3, neurons=5, motor=2))
    outputs, _ = circuit(torch.ones(4, 2, 3), circuit.initial_state(2))
print(*outputs.shape)
"""


@needs_no_compiler
@pytest.mark.slow
def test_the_sdist_installs_without_a_compiler_and_says_once_that_it_is_slower(
    sdist: Path, tmp_path: Path
) -> None:
    scripts = environment(tmp_path)
    install(sdist, scripts, **NO_COMPILER)
    text = run(scripts / "python", "-W", "always", "-c", CIRCUIT, cwd=tmp_path)
    assert "4 2 2" in text
    assert text.count("RuntimeWarning: compiled kernels: none are built") == 1
    assert text.count("pip install --force-reinstall") == 1


@needs_no_compiler
@pytest.mark.parametrize(
    ("build", "fails"),
    [
        ("optional", False),
        ("required", True),
        pytest.param("off", False, marks=pytest.mark.slow),
        pytest.param("sanitize", True, marks=pytest.mark.slow),
        pytest.param("yes", True, marks=pytest.mark.slow),
    ],
)
def test_a_build_that_requires_kernels_fails_without_a_compiler(
    built: Path, tmp_path: Path, build: str, fails: bool
) -> None:
    command = (
        sys.executable,
        "setup.py",
        "build_ext",
        "--build-lib",
        tmp_path,
        "--build-temp",
        tmp_path,
    )
    done = attempt(*command, cwd=built / "source", LIQUID_CONTROL_BUILD=build, **NO_COMPILER)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    assert ("no-such-compiler" in done.stdout + done.stderr) == (build not in {"off", "yes"})


def test_the_installed_command_trains_a_recipe_by_its_name_with_the_kernels_of_the_checkout(
    installed: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    tiny = ["agent.total_timesteps=64", "agent.n_steps=32", "agent.batch_size=32"]
    tiny += ["agent.n_epochs=1", "agent.sequence_length=32", "env.num_envs=2"]
    tiny += ["evaluation.episodes=2", "evaluation.ratios=[1]", "monitoring.every=null"]
    command = installed / "liquid-control"
    shown = run(command, "train", "inverted_pendulum/ncp_ppo", "--set", *tiny, cwd=empty)
    used = extension.choose().in_use
    plan = dict(line.split(maxsplit=1) for line in shown.splitlines() if line.startswith("updates"))
    assert plan == {"updates": f"compiled kernels ({used})"} if used else "PyTorch" in shown
    assert [path.name for path in empty.iterdir()] == ["runs"]
    (evaluation,) = empty.glob("runs/inverted_pendulum-ncp_ppo/*/evaluation.json")
    assert json.loads(evaluation.read_text())["task"] == "InvertedPendulum-v5"


def test_citation_and_changelog_name_this_version() -> None:
    version = liquid_control.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    headings = re.findall(r"^## \[(.+)\](.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    (first, _), (newest, date), *_ = headings
    assert (first, newest) == ("Unreleased", version)
    assert re.fullmatch(r" - \d{4}-\d\d-\d\d", date)


def test_a_tag_publishes_what_was_built_and_nothing_else_may() -> None:
    folder = ROOT / ".github/workflows"
    if not folder.exists():
        pytest.skip("an unpacked sdist has no workflows")
    workflows = {path.name: yaml.safe_load(path.read_text()) for path in folder.glob("*.yml")}
    jobs = [(name, job) for name, each in workflows.items() for job in each["jobs"].items()]
    may_publish = [(file, name) for file, (name, job) in jobs if "id-token" in str(job)]
    assert may_publish == [("release.yml", "publish")]
    publish = workflows["release.yml"]["jobs"]["publish"]
    assert {*publish["needs"]} == {*workflows["release.yml"]["jobs"]} - {"publish"}
    assert publish["if"] == "github.event_name == 'push'"
    assert workflows["release.yml"][True]["push"] == {"tags": ["v*"]}  # `on`, to YAML 1.1
    assert all(each["permissions"] == {"contents": "read"} for each in workflows.values())


def test_the_links_at_the_root_lead_into_the_package() -> None:
    for name in ("envs", "agents"):
        link = ROOT / name
        if not link.exists():
            pytest.skip("an unpacked sdist has no links")
        assert link.resolve() == ROOT / "liquid_control" / name
