"""`liquid-control new`."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

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
    say(f"Written: {folder}\nTrain it: cd {folder} && liquid-control train recipe.yaml")
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
    if find_spec(module) is not None:
        raise CommandError(f"{cut(str(folder))}: {module} is a module already; choose another name")
    return module


def project(module: str) -> dict[str, str]:
    """Return the texts of a project's files by name, with the module's name filled in."""
    task = "".join(word.capitalize() for word in module.split("_"))

    def named(text: str) -> str:
        return text.replace(MODULE, module).replace(CLASS, task)

    templates = files("liquid_control.commands") / TEMPLATES
    return {
        named(each.name.removesuffix(SUFFIX)): named(each.read_text("utf-8"))
        for each in templates.iterdir()
        if each.name.endswith(SUFFIX)
    }
