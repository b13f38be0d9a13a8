"""The floors of the package: an import never points up, and folders never import in a circle."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "liquid_control"

FLOORS = {
    "neurons": 0,
    "wiring": 0,
    "kernels": 1,
    "policies": 2,
    "agents": 3,
    "monitoring": 3,
    "runs": 4,
    "recipe_text": 4,
    "config": 4,
    "display": 4,
    "doctor": 4,
    "sharing": 4,
    "commands": 4,
    "cli": 4,
    "__main__": 4,
}
SIDE = "envs"  # no floor: it imports none of the others, and only JOINERS import it
JOINERS = {"config", "cli"}
FACADE = "__init__"  # the package's own __init__ gathers public names; only JOINERS import it


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


def arrows(package: Path) -> set[tuple[str, str]]:
    """Pairs (importing part, imported part), within `package`."""
    parts = {path.stem for path in package.iterdir()}
    pairs = set()
    for path in package.rglob("*.py"):
        is_package = path.stem == "__init__"
        names = path.relative_to(package.parent).with_suffix("").parts
        module = ".".join(names[:-1] if is_package else names)
        for target in imported_modules(ast.parse(path.read_text("utf-8")), module, is_package):
            if target.split(".")[0] == package.name:
                part = part_of(target)
                pairs.add((part_of(module), part if part in parts else FACADE))
    return {(source, target) for source, target in pairs if source not in {target, FACADE}}


def complaint(source: str, target: str) -> str | None:
    """Say why `source` must not import `target`; None if it may."""
    if unknown := {source, target} - FLOORS.keys() - {SIDE, FACADE}:
        return f"{unknown} has no floor; give it one in FLOORS"
    if source == SIDE:
        return f"{SIDE} imports {target}, but imports none of the others"
    if target in {SIDE, FACADE}:
        return None if source in JOINERS else f"only {JOINERS} may import {target}, not {source}"
    if FLOORS[target] > FLOORS[source]:
        return f"{source} (floor {FLOORS[source]}) imports {target} (floor {FLOORS[target]})"
    return None


def complaints(package: Path) -> list[str]:
    """Every breach of the rules in `package`."""
    pairs = arrows(package)
    found = [text for pair in sorted(pairs) if (text := complaint(*pair))]
    order = graphlib.TopologicalSorter[str]()
    for source, target in pairs:
        order.add(source, target)
    try:
        order.prepare()
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
    assert parts <= FLOORS.keys() | {SIDE, FACADE}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("neurons/cell.py", "from liquid_control.policies import LiquidPolicy"),
        ("neurons/cell.py", "def late():\n    from ..agents.ppo import LiquidPPO"),
        ("wiring/ncp.py", "import liquid_control.cli"),
        ("envs/make.py", "from liquid_control.wiring import ncp"),
        ("agents/ppo.py", "from liquid_control import envs"),
        ("agents/ppo.py", "from liquid_control import __version__"),
        ("mystery/thing.py", "from liquid_control import wiring"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, path: str, code: str) -> None:
    package = tmp_path / "liquid_control"
    for part in ("neurons", "wiring", "policies", "agents", "envs", "mystery"):
        (package / part).mkdir(parents=True)
    (package / "cli.py").touch()
    (package / path).write_text(code)
    assert len(complaints(package)) == 1


def test_a_circle_on_one_floor_is_found(tmp_path: Path) -> None:
    package = tmp_path / "liquid_control"
    for part, other in (("neurons", "wiring"), ("wiring", "neurons")):
        (package / part).mkdir(parents=True)
        (package / part / "__init__.py").write_text(f"import liquid_control.{other}")
    (text,) = complaints(package)
    assert "circle" in text
