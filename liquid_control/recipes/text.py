"""Recipes as text: reading and writing YAML, dotted keys, and one-line error messages."""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from liquid_control.recipes.errors import RecipeError

# Limits of a file, so that reading it takes seconds at most. Shipped recipes have 2 kB.
LARGEST, DEEPEST, LONGEST_NUMBER = 100_000, 30, 100


class _Loader(yaml.SafeLoader):
    """YAML of plain data: text, numbers, true, false and null in lists and mappings.

    What is a number is as in YAML 1.2: 3e-4 is one, and 010 is ten. Everything else is text, such
    as yes, dates, times and integers that are too large, so that the error of its key reports it.
    Duplicate keys, tags, anchors and aliases are errors.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._path: list[Any] = []  # keys and list indices of the current node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._path.append(index.value if isinstance(index, yaml.ScalarNode) else index)
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            self._refuse(event, "a recipe has no tags (!), anchors (&) or aliases (*)")
        if len(self._path) > DEEPEST:
            self._refuse(event, f"lists and mappings are nested more than {DEEPEST} deep")
        node = super().compose_node(parent, index)
        self._path.pop()
        return node

    def _refuse(self, event: yaml.Event, problem: str) -> None:
        path = ".".join(str(each) for each in self._path if each is not None)
        where = f"{cut(path, 40)}: " if path else ""
        raise yaml.composer.ComposerError(problem=where + problem, problem_mark=event.start_mark)  # type: ignore[arg-type]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # rejected below
            if key in keys:
                raise yaml.constructor.ConstructorError(
                    problem=f"key {short(key)} is given twice", problem_mark=key_node.start_mark
                )
            keys.add(key)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float | str:
        """Return a number, or its text if it is malformed or not a 64-bit integer."""
        text = str(node.value)
        if len(text) > LONGEST_NUMBER:
            return text
        try:
            if node.tag == f"{_TAG}float":
                return float(self.construct_yaml_float(node))
            number = int(text)
        except (ValueError, OverflowError):
            return text
        return number if abs(number) < 2**63 else text


_TAG = "tag:yaml.org,2002:"
_PLAIN = {  # what is not text, and its first characters
    "null": (r"(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "bool": (r"(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": (r"[-+]?[0-9][0-9_]*$", "-+0123456789"),
    "float": (
        r"(?i)([-+]?((\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)(e[-+]?[0-9]+)?|\.inf)|\.nan)$",
        "-+.0123456789",
    ),
}
for _kind in ("int", "float"):
    _Loader.add_constructor(f"{_TAG}{_kind}", _Loader.construct_number)


class _Dumper(yaml.SafeDumper):
    """YAML with lists on one line."""

    def represent_sequence(
        self, tag: str, sequence: Any, flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, flow_style=True)


_Loader.yaml_implicit_resolvers = {}  # those of YAML 1.1
for _kind, (_pattern, _first) in _PLAIN.items():
    for _side in (_Loader, _Dumper):  # which quotes such text, and that of YAML 1.1
        _side.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(_pattern), list(_first))


def to_yaml(data: Mapping[str, Any]) -> str:
    """Return JSON-able data as YAML that `parse_yaml` reads, with keys in their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False)


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML; a RecipeError names the line of `source` that is malformed or repeats a key."""
    if len(text) > LARGEST:
        raise RecipeError(
            f"{source}: longer than the {LARGEST:,} characters that a recipe may have"
        )
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{source}: line {mark.line + 1}" if mark else source
        raise RecipeError(f"{where}: {printable(error.problem or 'not YAML')}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{source}: not YAML: {one_line(error)}") from error


def read_text(path: Path, kind: str = "recipe", known: Sequence[str] = ()) -> str:
    """Read a file up to the limit; a RecipeError gives the reason for a failure, and similar names.

    Reading a pipe, a device or a file of the system, whose size is 0, may never end. `kind` is the
    expected kind of file, and `known` has names that stand for such files.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RecipeError(f"{path}: cannot be read: it is not a regular file")
        with path.open(encoding="utf-8") as file:
            return file.read(min(status.st_size, LARGEST + 1))
    except FileNotFoundError:
        shipped = "; `liquid-control recipes` lists those of the package"
        remedy = shipped if kind == "recipe" else ""
        raise RecipeError(f"{path}: no such {kind}{_near(path, known)}{remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {one_line(error)}") from error


def set_key(data: dict[str, Any], override: str) -> None:
    """Set "dotted.key=YAML value" in nested mappings, in place."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys) or len(keys) > DEEPEST:
        raise RecipeError(
            f"--set {cut(override)}: write it as key=value, such as agent.n_steps=128"
        )
    for depth, key in enumerate(keys[:-1], start=1):
        below = data.setdefault(key, {})
        if not isinstance(below, dict):
            above = ".".join(keys[:depth])
            raise RecipeError(
                f"--set {cut(override)}: {above} is {short(below)}, which has no keys"
            )
        data = below
    data[keys[-1]] = parse_yaml(text, f"--set {cut(path)}")


def explain(error: ValidationError, data: Mapping[str, Any], model: type[BaseModel]) -> str:
    """Return pydantic's error about `data` in one line: the key's dotted path, and the reason.

    Of several errors the deepest is returned, because in a union that is the intended type.
    """
    details = [(_path(each, data), each) for each in error.errors(include_url=False)]
    path, detail = max(details, key=lambda each: len(each[0]))
    if detail["type"] == "extra_forbidden":
        text = f"unknown key{_suggestion(path, model)}"
    elif detail["type"] == "missing":
        text = "this key is required"
    else:
        text = f"{detail['msg'].removeprefix('Value error, ')}, got {short(detail['input'])}"
    others = sorted({".".join(other) for other, _ in details} - {".".join(path)})
    more = f" (see also {cut(', '.join(others))})" if others else ""
    return f"{'.'.join(path)}: {text}{more}"


def _path(detail: ErrorDetails, data: Any) -> tuple[str, ...]:
    """Return the keys that lead to an error, without pydantic's names for members of a union."""
    path = []
    for step in detail["loc"]:
        below = dict(enumerate(data)) if isinstance(data, list) else data
        if isinstance(below, Mapping) and step in below:
            data = below[step]
        elif not (detail["type"] == "missing" and step == detail["loc"][-1]):
            continue
        path.append(printable(str(step)))
    return tuple(path)


def _suggestion(path: Sequence[str], model: type[BaseModel]) -> str:
    """Return a hint to a known key that resembles an unknown one, if possible a sibling."""
    known = sorted(set(_known_paths(model)))
    if ".".join(path) in known:
        return f" of this {path[-2]}, though another kind of {path[-2]} has it"
    siblings = [each for each in known if each.rpartition(".")[0] == ".".join(path[:-1])]
    for candidates in (siblings, known):
        by_name = {each.rpartition(".")[2]: each for each in candidates}
        if near := difflib.get_close_matches(path[-1], by_name, n=1):
            return f"; did you mean {by_name[near[0]]}?"
    return f"; known here: {', '.join(each.rpartition('.')[2] for each in siblings)}"


def _known_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of every key of a model and of the models in it."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for part in _parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _known_paths(part, f"{prefix}{name}.")


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield a type and the types it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _near(path: Path, known: Sequence[str]) -> str:
    """Return a hint to YAML files and names that resemble a path that does not exist."""
    folder = next((each for each in path.parents if each.is_dir()), Path())
    existing = [str(each) for pattern in ("*.yaml", "*/*.yaml") for each in folder.glob(pattern)]
    near = difflib.get_close_matches(str(path), sorted({*existing, *known}), n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def printable(text: str) -> str:
    """Return text, in at most 100 characters: unchanged if it prints on one line, else quoted."""
    return cut(text if text and text.isprintable() else repr(text))


def one_line(error: BaseException) -> str:
    """Return an error's message on one line; what cannot be printed, such as ESC, is escaped."""
    text = " ".join(str(error).split())
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def short(value: Any) -> str:
    """Return a value's repr in at most sixty characters."""
    return cut(repr(value), 60)


def cut(text: str, length: int = 100) -> str:
    """Return text in at most `length` characters."""
    return text if len(text) <= length else f"{text[: length - 3]}..."
