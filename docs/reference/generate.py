"""Writes the parts of the reference that are generated: keys of recipes, and the command line.

`mkdocs.yml` names this module as a hook. It replaces the comments `<!-- generated: NAME -->` of a
page by what the function of that name in `PARTS` returns.
"""

from __future__ import annotations

import ast
import html
import inspect
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import tyro
from mkdocs.utils import get_relative_url
from stable_baselines3 import PPO, SAC

from liquid_control import cli
from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.commands.usage import EXAMPLES
from liquid_control.policies.options import (
    CircuitOptions,
    LiquidPolicyOptions,
    SoftLiquidPolicyOptions,
)
from liquid_control.recipes import Recipe
from liquid_control.recipes import schema as sections

MARK = re.compile(r"<!-- generated: (\w+) -->")
GOOGLE = re.compile(r"^    (\w+): (.*(?:\n        .*)*)", re.MULTILINE)  # in Args, Attributes
SPHINX = re.compile(r":param (\w+): (.*(?:\n    .*)*)")  # in SB3's docstrings
AGENTS = {  # by the section of a recipe: the agent, SB3's, whose options it shares, and its policy
    "PPOSection": (LiquidPPO, PPO, LiquidPolicyOptions),
    "SACSection": (LiquidSAC, SAC, SoftLiquidPolicyOptions),
}
SEARCH, OWN_SEARCH = "https://unpkg.com/iframe-worker/shim", "assets/iframe-worker.js"
OWN_WORDS = {  # keys that no docstring describes, or whose meaning differs from SB3's
    "name": "Name of the folder of the runs; by default the recipe's folder and file name.",
    "task": "Name of the task in Gymnasium, or `module:Name-v0` for one that a module registers.",
    "observe": "Part of the observation that the agent gets, or indices of its entries.",
    "num_envs": "Environments that are stepped at once.",
    "seed": "Seed of weights and environments.",
    "algorithm": "`ppo` is LiquidPPO, `sac` is LiquidSAC.",
    "learning_rate": "Learning rate of Adam.",
    "batch_size": "Control steps of a minibatch, in whole sequences.",
    "gamma": "Discount for each nominal control interval.",
    "gae_lambda": "Lambda of GAE for each nominal control interval.",
    "device": "Device of PyTorch.",
    "ent_coef": "Weight of the entropy.",
    "n_steps": "Control steps of a rollout in each environment.",
    "stats_window_size": "Episodes over which the logged return is averaged.",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marks of a page; mkdocs calls this for every page."""
    return MARK.sub(lambda mark: PARTS[mark.group(1)](), markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Take the script for searches in files from this site, so that pages need no network."""
    return output.replace(SEARCH, get_relative_url(OWN_SEARCH, page.url))


def on_post_template(output_content: str, **_: Any) -> str:
    """Do so in the page that a server shows for a wrong address."""
    return output_content.replace(SEARCH, f"/{OWN_SEARCH}")


def recipe() -> str:
    """Return a table of keys for each section of a recipe."""
    schema = Recipe.model_json_schema()
    for name, described in ({"Recipe": schema} | schema["$defs"]).items():
        for part in reversed(getattr(getattr(sections, name), "__mro__", ())):
            if issubclass(part, sections.Section) and vars(sections).get(part.__name__) is part:
                for key, words in _docstrings(part).items():
                    described["properties"][key]["description"] = words
    return "\n\n".join(_section("", schema, schema))


def _docstrings(section: type) -> dict[str, str]:
    """Return the docstrings of the keys that a section defines, by key.

    Pydantic would collect them whenever the section is imported, which takes half of that time.
    """
    (definition,) = ast.parse(inspect.getsource(section)).body
    found = {}
    for line, following in pairwise(getattr(definition, "body", ())):
        match line, following:
            case (
                ast.AnnAssign(target=ast.Name(id=key)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[key] = inspect.cleandoc(text)
    return found


def _section(path: str, section: Mapping[str, Any], schema: Any) -> Iterator[str]:
    """Yield the table of a section, and those of the sections in it."""
    yield _keys(path or "A recipe", section, schema, {})
    for key, value in section["properties"].items():
        inner = f"{path}.{key}".lstrip(".")
        for name in _sections_of(value, schema):
            if name in AGENTS:
                agent, base, _ = AGENTS[name]
                words = _words_of(base) | _words_of(agent)
                title = f"{inner}, {agent.__name__}"
                yield _keys(title, schema["$defs"][name], schema, words)
            elif name == "PolicySection":
                for agent, _, options in AGENTS.values():
                    yield _policy_keys(f"{inner}, {agent.__name__}", options, schema)
            else:
                yield from _section(inner, schema["$defs"][name], schema)


def _sections_of(value: Mapping[str, Any], schema: Any) -> list[str]:
    """Return the names of the sections that a key can hold; a linear change is a value."""
    choices = (value, *value.get("oneOf", ()), *value.get("anyOf", ()))
    names = [each["$ref"].split("/")[-1] for each in choices if "$ref" in each]
    return [name for name in names if name != "Linear" and "properties" in schema["$defs"][name]]


def _policy_keys(title: str, options: type[CircuitOptions], schema: Any) -> str:
    """Return the table of a policy's keys, with the defaults of its class."""
    defaults = vars(options())
    properties = {}
    for name, value in schema["$defs"]["PolicySection"]["properties"].items():
        if name in defaults:
            values = [each for each in value["anyOf"] if each.get("type") != "null"]
            default = defaults[name]
            properties[name] = {"anyOf": values, "default": default}
    properties["nominal_interval"]["default"] = "the task's"
    words = _words_of(CircuitOptions) | _words_of(options)
    return _keys(title, {"properties": properties}, schema, words)


def _keys(title: str, section: Mapping[str, Any], schema: Any, words: Mapping[str, str]) -> str:
    """Return a table of keys: what each can be, its default and meaning."""
    lines = [f"## {title}", "", "| key | values | default | meaning |", "|---|---|---|---|"]
    required = section.get("required", ())
    for key, value in section["properties"].items():
        default = "" if key in required else f"`{_yaml(value.get('default'))}`"
        if _sections_of(value, schema):
            values, default, meaning = "a section", "", "See below."
        else:
            values = _values(value, schema)
            meaning = OWN_WORDS.get(key) or value.get("description") or words[key]
        cells = (f"`{key}`", values, default, _sentence(meaning))
        lines.append("| " + " | ".join(_cell(each) for each in cells) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _number(value: float) -> float:
    return int(value) if value == int(value) else value


def _yaml(value: Any) -> str:
    return json.dumps(value).replace('"', "")


def _values(value: Mapping[str, Any], schema: Any) -> str:
    """Describe the values that a key can have."""
    if "$ref" in value:
        name = value["$ref"].split("/")[-1]
        return "`{start: ..., end: ...}`" if name == "Linear" else name
    for choice in ("anyOf", "oneOf"):
        if choice in value:
            described = [_values(each, schema) for each in value[choice]]
            return " or ".join(dict.fromkeys(described))
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    kind = value.get("type")
    if kind == "array":
        items = _values(value["items"], schema)
        for one in ("a whole number", "a number", "a mapping"):
            items = items.replace(one, one.removeprefix("a ") + "s")
        return "a list of " + items
    words = {
        "integer": "a whole number",
        "number": "a number",
        "string": "a word",
        "boolean": "`true`, `false`",
        "object": "a mapping",
        "null": "`null`",
    }.get(kind, "a value")
    bounds = {
        "minimum": "at least {:,}",
        "exclusiveMinimum": "above {:,}",
        "maximum": "at most {:,}",
        "exclusiveMaximum": "below {:,}",
    }
    limits = [text.format(_number(value[name])) for name, text in bounds.items() if name in value]
    return ", ".join([words, *limits])


def _words_of(source: type) -> dict[str, str]:
    """Return the descriptions of arguments or attributes in the docstring of a class."""
    text = inspect.getdoc(source) or ""
    return dict((SPHINX if ":param" in text else GOOGLE).findall(text))


def _sentence(words: str) -> str:
    text = " ".join(words.replace("``", "`").split())
    return text[:1].upper() + text[1:].removesuffix(".") + "."


def commands() -> str:
    """Return a section for each verb of the command line."""
    return "\n\n".join(_verb(command, name) for command, name in cli.MODULES.items())


def _verb(command: type, name: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = tyro.extras.get_parser(command, prog=f"liquid-control {name}")
    text = inspect.getdoc(command) or ""
    examples = ["```sh", *EXAMPLES[name], "```"]
    lines = [f"## {name}", "", text, "", *examples, "", '<dl class="arguments" markdown="0">']
    for action in parser._actions:
        if action.dest == "help":
            continue
        flag = " ".join([*action.option_strings[:1], action.metavar or ""]).strip()
        lines.append(f"<dt><code>{html.escape(flag)}</code></dt>")
        words = " ".join((action.help or "").split()).removesuffix("(default: )")
        lines.append(f"<dd>{_marked(words)}</dd>")
    return "\n".join([*lines, "</dl>"])


def _marked(text: str) -> str:
    """Escape text for HTML; what stands between backticks is code."""
    pieces: Iterator[str] = iter(html.escape(text, quote=False).split("`"))
    return "".join(
        piece if index % 2 == 0 else f"<code>{piece}</code>" for index, piece in enumerate(pieces)
    )


PARTS = {"recipe": recipe, "commands": commands}
