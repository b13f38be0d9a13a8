"""The floors of the package: an import points to a lower floor, and modules never form a circle.

Every import counts: at the top, inside functions, and under `TYPE_CHECKING`.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "liquid_control"

FLOORS = {
    "wiring": 0,
    "checkpoints": 0,
    "deploy": 0,
    "kernels": 1,
    "neurons": 2,
    "policies": 3,
    "collectors": 4,
    "export": 4,
    "storage": 5,
    "agents": 6,
    "monitoring": 7,
    "recipes": 8,
    "sweeps": 9,
    "commands": 10,
    "cli": 11,
    "__main__": 12,
}
SIDE = "envs"  # no floor: it imports none of the others, and only JOINERS import it
JOINERS = {"recipes", "commands", "cli"}
FACADE = "__init__"  # the package's own __init__ gathers public names; only JOINERS import it
LOOSE = {"__init__", "__main__", "cli"}  # modules at the package's top


def part_of(module: str) -> str:
    """The part of the package that a dotted module name lies in."""
    return [*module.split("."), FACADE][1]


def imported_modules(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Absolute names of what a module imports, at the top or inside functions."""
    parents = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            # `from liquid_control import envs` names a part; any other name stays in `source`.
            yield from (f"{source}.{alias.name}" for alias in node.names)


def module_imports(package: Path) -> dict[str, set[str]]:
    """For each module of `package`, by dotted name, the modules of `package` that it imports."""
    paths = {}
    for path in package.rglob("*.py"):
        names = path.relative_to(package.parent).with_suffix("").parts
        paths[".".join(names[:-1] if path.stem == "__init__" else names)] = path
    # A folder without __init__ is a package too.
    known = {*paths, *(name.rpartition(".")[0] for name in paths), package.name}
    graph = {}
    for module, path in paths.items():
        tree = ast.parse(path.read_text("utf-8"))
        targets = set()
        for target in imported_modules(tree, module, path.stem == "__init__"):
            while target and target not in known:  # the rest names something in a module
                target = target.rpartition(".")[0]
            if target:
                targets.add(target)
        graph[module] = targets - {module}
    return graph


def arrows(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Pairs (importing part, imported part)."""
    pairs = {
        (part_of(module), part_of(target))
        for module, targets in graph.items()
        for target in targets
    }
    return {(source, target) for source, target in pairs if source not in {target, FACADE}}


def complaint(source: str, target: str) -> str | None:
    """Say why `source` must not import `target`; None if it may."""
    if unknown := {source, target} - FLOORS.keys() - {SIDE, FACADE}:
        return f"{unknown} has no floor; give it one in FLOORS"
    if source == SIDE:
        return f"{SIDE} imports {target}, but imports none of the others"
    if target in {SIDE, FACADE}:
        return None if source in JOINERS else f"only {JOINERS} may import {target}, not {source}"
    if FLOORS[target] >= FLOORS[source]:
        return f"{source} (floor {FLOORS[source]}) imports {target} (floor {FLOORS[target]})"
    return None


def complaints(package: Path) -> list[str]:
    """Every breach of the rules in `package`."""
    graph = module_imports(package)
    found = [text for pair in sorted(arrows(graph)) if (text := complaint(*pair))]
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found.append(f"a circle of imports: {error.args[1]}")
    return found


def test_imports_never_point_up() -> None:
    assert complaints(PACKAGE) == []


def test_every_part_has_a_floor() -> None:
    parts = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert parts == FLOORS.keys() | {SIDE, FACADE}


def test_few_modules_lie_at_the_top() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == LOOSE


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("neurons/cell.py", "from liquid_control.policies import LiquidPolicy"),
        ("neurons/cell.py", "def late():\n    from ..agents.ppo import LiquidPPO"),
        ("wiring/ncp.py", "import liquid_control.cli"),
        ("wiring/ncp.py", "from liquid_control.checkpoints import read"),
        ("checkpoints/logs.py", "from liquid_control import wiring"),
        (
            "policies/liquid.py",
            "if TYPE_CHECKING:\n    from liquid_control.agents import PPO",
        ),
        ("envs/make.py", "from liquid_control.wiring import ncp"),
        ("agents/ppo.py", "from liquid_control import envs"),
        ("agents/ppo.py", "from liquid_control import __version__"),
        ("mystery/thing.py", "from liquid_control import wiring"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, path: str, code: str) -> None:
    package = tmp_path / "liquid_control"
    for part in ("neurons", "wiring", "checkpoints", "policies", "agents", "envs", "mystery"):
        (package / part).mkdir(parents=True)
        (package / part / "__init__.py").touch()
    (package / "cli.py").touch()
    (package / path).write_text(code)
    assert len(complaints(package)) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("import liquid_control.agents.second", "from liquid_control.agents import first"),
        ("from liquid_control.agents.second import a", "def late():\n    from .first import b"),
        (
            "if TYPE_CHECKING:\n    from .second import A",
            "from .first import B",
        ),
        ("from liquid_control.agents import a", ""),  # the package's own names, from inside
    ],
)
def test_a_circle_of_modules_is_found(tmp_path: Path, first: str, second: str) -> None:
    folder = tmp_path / "liquid_control" / "agents"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("from liquid_control.agents.first import a")
    (folder / "first.py").write_text(first)
    (folder / "second.py").write_text(second)
    (text,) = complaints(folder.parent)
    assert "circle" in text
