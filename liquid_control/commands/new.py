"""`liquid-control new`."""

from __future__ import annotations

import ast
import re
import sys
from importlib.resources import files
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from shlex import quote

from liquid_control.checkpoints.durable import replacing
from liquid_control.commands.arguments import New
from liquid_control.commands.terminal import say
from liquid_control.recipes import CommandError
from liquid_control.recipes.text import cut

TEMPLATES, SUFFIX = "new_project", ".template"
MODULE, CLASS = "my_robot", "MyRobot"  # names in the templates


def execute(arguments: New) -> int:
    """Execute the command; return the exit code."""
    folder = arguments.folder
    module = module_name(folder)
    if folder.exists():
        raise CommandError(f"{cut(str(folder))} exists; choose another folder")
    try:
        with replacing(folder) as partial:
            partial.mkdir()
            for name, text in project(module).items():
                (partial / name).write_text(text, "utf-8")
    except (FileExistsError, NotADirectoryError) as error:
        parent = cut(str(folder.parent))
        raise CommandError(f"{cut(str(folder))}: {parent} is not a folder") from error
    say(f"Written: {folder}\nTrain it: cd {quote(str(folder))} && liquid-control train recipe.yaml")
    return 0


def module_name(folder: Path) -> str:
    """Return the name of the task's module, from that of the folder.

    Raises:
        CommandError: It is not a valid module name, or another module has it.
    """
    module = re.sub(r"[-. ]+", "_", folder.absolute().name).lower()
    if not module.isascii() or not module.isidentifier() or not module.strip("_"):
        raise CommandError(
            f"{cut(str(folder))}: a module is named after the folder, so use letters, digits "
            "and _, such as my_robot"
        )
    if module in sys.modules or find_spec(module) is not None:
        raise CommandError(f"{cut(str(folder))}: {module} is a module already; choose another name")
    task = class_name(module)
    if iskeyword(module) or not task.isidentifier() or {module, task} & used_names():
        raise CommandError(
            f"{cut(str(folder))}: {module} or {task} is a word of Python, or a name in the files "
            "of the project; choose another name, such as my_robot"
        )
    return module


def class_name(module: str) -> str:
    """Return the name of the task's class, from that of its module."""
    return "".join(word.capitalize() for word in module.split("_"))


def used_names() -> set[str]:
    """Return the names that the templates use, but for those of the module and its class."""
    nodes = [
        node
        for name, text in templates().items()
        if name.endswith(".py")
        for node in ast.walk(ast.parse(text))
    ]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}
    return names - {MODULE, CLASS}


def project(module: str) -> dict[str, str]:
    """Return the texts of a project's files by name, with the module's name filled in."""

    def named(text: str) -> str:
        return text.replace(MODULE, module).replace(CLASS, class_name(module))

    return {named(name): named(text) for name, text in templates().items()}


def templates() -> dict[str, str]:
    """Return the texts of the templates, by the names of their files."""
    return {
        each.name.removesuffix(SUFFIX): each.read_text("utf-8")
        for each in (files("liquid_control.commands") / TEMPLATES).iterdir()
        if each.name.endswith(SUFFIX)
    }
