"""Whatever is done to a recipe, it can be used, or one line names what is wrong with it."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from liquid_control import cli
from liquid_control.commands import train
from liquid_control.recipes.text import printable

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = [yaml.safe_load(path.read_text()) for path in sorted(CONFIGS.rglob("*.yaml"))]

NUMBERS = st.integers(-3, 300) | st.integers(-(2**70), 2**70) | st.floats() | st.floats(0, 2)
NAMES = [
    *(
        "sac",
        "ppo",
        "dense",
        "auto_ncp",
        "uniform",
        "fixed",
        "ltc",
        "lstm",
        "full",
        "mlp",
        "shared",
    ),
    *("HalfCheetah-v5", "CartPole-v1", "cuda", "auto", "inf", "1e-3"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | st.dates() | st.sampled_from(NAMES),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any, tuple[str, ...]]]:
    """Every container in a recipe with each of its keys, and the named keys that lead there."""
    for key, below in list(data.items() if isinstance(data, dict) else enumerate(data)):
        names = (*path, key) if isinstance(data, dict) else path
        yield data, key, names
        if isinstance(below, (dict, list)):
            yield from places(below, names)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, set[str]]:
    """The text of a recipe of ours to which some things were done, and the keys they were done to.

    A key is named with those above it, but for the section. There are none if the text was changed.
    """
    recipe, keys = deepcopy(draw(st.sampled_from(RECIPES))), set[str]()
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        data, key, names = draw(st.sampled_from(list(places(recipe))))
        change = draw(st.sampled_from(["replace"] * 6 + ["remove", "add", "rename"]))
        if change == "replace" or isinstance(data, list):
            alike = NUMBERS if isinstance(data[key], (int, float)) else st.sampled_from(NAMES)
            data[key] = draw(st.one_of(alike, alike, alike, VALUES))
        elif change == "remove":
            del data[key]
        elif change == "add":
            names = (*names[:-1], draw(st.text("keyé_ [/]\n", max_size=8)))
            data[names[-1]] = draw(VALUES)
        else:
            data[key[1:]] = data.pop(key)
            names = (*names, key[1:])
        keys.update(names[1:] or names)
        if not recipe:
            break
    text = yaml.safe_dump(recipe)
    if draw(st.integers(0, 9)) == 9:
        at = draw(st.integers(0, len(text)))
        text, keys = (
            text[:at] + draw(st.text(max_size=6)) + text[at + draw(st.integers(0, 6)) :],
            [],
        )
    return text, keys


def outcome(text: str) -> tuple[int, str]:
    """Exit code and complaint of `liquid-control train`, which stops before it learns."""
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(train, "begin", lambda *_, **__: 0),
        contextlib.redirect_stderr(io.StringIO()) as complaint,
    ):
        path = Path(folder) / "recipe.yaml"
        path.write_text(text, "utf-8")
        code = cli.main(["train", str(path), "--runs", f"{folder}/runs", "--quiet"])
    return code, complaint.getvalue()


def is_a_clear_message(code: int, complaint: str, keys: set[str]) -> bool:
    """Whether a recipe can be used, or one line names a key that is wrong with it."""
    if code == 0:
        return True
    (line,) = (each for each in complaint.splitlines() if not each.startswith("note: "))
    named = not keys or any(printable(key) in line for key in keys)
    return code == 2 and line.startswith("error: ") and named


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_a_mutated_recipe_is_valid_or_refused_in_one_line(case: tuple[str, set[str]]) -> None:
    text, keys = case
    code, complaint = outcome(text)
    note(complaint)
    assert is_a_clear_message(code, complaint, keys)
