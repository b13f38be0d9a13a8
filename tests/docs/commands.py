"""Runs the command lines of a page, with small numbers in the place of its own.

`liquid-control` runs in this process: trainings have few steps, and evaluations one short episode.
A command that stands on several pages runs once. Of what needs a display, and of what takes long in
tests that are not slow, the arguments are parsed; likewise of benchmarks. C is compiled without a
warning, and run. What installs, waits for a browser or needs a cluster is named in `ELSEWHERE` and
not run.
"""

from __future__ import annotations

import argparse
import itertools
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import tyro
from matplotlib.figure import Figure

from liquid_control import cli
from liquid_control.commands import doctor
from liquid_control.monitoring import figures
from liquid_control.recipes.library import find
from liquid_control.recipes.text import parse_yaml
from tests.docs.blocks import ROOT

LINKED = ("Makefile", "README.md", "benchmarks", "configs", "docs", "examples", "tests")
TINY = ["env.num_envs=2", "evaluation.episodes=1", "evaluation.ratios=[1]", "monitoring.every=null"]
TINY += ["env.kwargs={max_episode_steps: 50}"]
TINY_PPO = ["agent.n_steps=16", "agent.batch_size=32", "agent.n_epochs=1"]
TINY_PPO += ["agent.sequence_length=16", "agent.total_timesteps=64"]
TINY_SAC = ["agent.learning_starts=64", "agent.batch_size=64", "agent.total_timesteps=128"]
TINY_SAC += ["agent.buffer_size=20000"]
NEEDS_A_DISPLAY = {"watch"}
TAKES_LONG = {"inspect", "report", "sweep"}
LASTING = {
    "export",
    "new",
    "pack",
    "resume",
    "unpack",
    "verify",
}  # verbs that later commands of a page build on
ELSEWHERE = {  # programs that are not run: what installs, what serves, what needs a cluster
    "apt",
    "brew",
    "cd",
    "docker",
    "git",
    "optuna-dashboard",
    "podman",
    "ray",
    "source",
    "srun",
    "winget",
}


RAN: set[tuple[str, ...]] = set()  # commands
DRAWN: set[str] = set()  # verbs that have drawn the returns, or tried to draw, once


class ParsedError(Exception):
    """The arguments of a program are parsed, which is all that is asked of it."""


def command_lines(source: str) -> Iterator[list[str]]:
    """Yield the words of each command, with braces and stars expanded; comments are left out."""
    for line in source.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = [word for word in lexer if word not in ("&",)]
        if words:
            yield list(itertools.chain.from_iterable(map(_expanded, words)))


def _expanded(word: str) -> list[str]:
    """Return what a shell makes of a word with `{a,b}` or `*` in it."""
    if braces := re.fullmatch(r"([\w/.]*)\{([\w,]+)\}([\w/.]*)", word):
        first, choices, last = braces.groups()
        return [f"{first}{choice}{last}" for choice in choices.split(",")]
    if "*" in word and "=" not in word:
        return sorted(map(str, Path().glob(word))) or [word]
    return [word]


def run(words: list[str], *, slow: bool) -> None:
    """Run one command in the working directory; it must succeed."""
    if re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, value = words[0].split("=", 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, value)
            return run(words[1:], slow=slow)
    program, arguments = Path(words[0]).name, words[1:]
    if program == "liquid-control":
        liquid_control(arguments, slow=slow)
    elif program == "make":
        make(arguments, slow=slow)
    elif program in ("pip", "python", "python3") and {"install", "venv"} & {*arguments[:3]}:
        check_extras(arguments)
    elif program == "python":
        python(arguments)
    elif program == "cc":
        subprocess.run([*words, "-Wall", "-Wextra", "-Werror"], check=True)
        subprocess.run([Path(words[words.index("-o") + 1]).resolve()], check=True)
    elif program == "tensorboard":
        from tensorboard.program import TensorBoard

        TensorBoard().configure(words)
    else:
        assert program in ELSEWHERE, f"the tests cannot run {program!r}"
    return None


def liquid_control(arguments: list[str], *, slow: bool) -> None:
    """Run a verb of the command line with small numbers."""
    verb, given = (arguments or [""])[0], [_existing(word) for word in arguments]
    too_long = verb in TAKES_LONG and not slow
    if verb in NEEDS_A_DISPLAY or too_long or {"--address", "--help", "ray", "slurm"} & {*given}:
        with pytest.raises((ParsedError, SystemExit)) as caught:
            parse_only(lambda: cli.main(given))
        assert isinstance(caught.value, ParsedError) or caught.value.code == 0, arguments
        return
    once = verb not in LASTING and "--folder" not in given
    same = tuple(_one_name(word) for word in arguments)
    if not (once and same in RAN):
        with pytest.MonkeyPatch.context() as patch:
            if verb in DRAWN:  # the plot of the returns, which takes longest
                patch.setattr(figures, "rates", lambda *_, **__: Figure())
                patch.setattr(doctor, "rendering", lambda *_: iter(()))  # tries every back end
            assert cli.main(_small(verb, given)) == 0, arguments
        DRAWN.add(verb)
        RAN.add(same)


def _one_name(word: str) -> str:
    """Return the same text for the path of a recipe and for its name in the library."""
    return word.removeprefix("configs/").removesuffix(".yaml")


def _existing(word: str) -> str:
    """Return a word of a command with the newest run in the place of RUN, and so on."""
    if word == "RUN":
        runs = sorted(Path("runs").glob("*/*/config.yaml"), key=lambda path: path.stat().st_mtime)
        return str(runs[-1].parent)
    return {"RECIPE": "configs/half_cheetah/ncp_ppo.yaml"}.get(word, word)


def _small(verb: str, given: list[str]) -> list[str]:
    """Return the arguments of a verb with small numbers."""
    if verb == "train":
        recipe = parse_yaml(find(Path(given[1])).read_text(), given[1])
        sac = recipe["agent"].get("algorithm") == "sac"
        return [*given, "--set", *TINY, *(TINY_SAC if sac else TINY_PPO)]
    if verb == "sweep":
        recipes = [word for word in given if word.endswith("_ppo.yaml")][2:]
        given = [word for word in given if word not in recipes and "sac" not in word]
        trials = ["--trials", "2"] if "--trials" in given else []
        given = _without(given, "--seeds", "--trials")
        return [*given, *trials, "--seeds", "0", "--jobs", "1", "--set", *TINY, *TINY_PPO]
    if verb == "resume":  # the run is finished, so that it is extended in any case
        given = [re.sub(r"(total_timesteps=)\S+", r"\g<1>192", word) for word in given]
        return given if "--set" in given else [*given, "--set", "agent.total_timesteps=128"]
    if verb in ("evaluate", "export", "inspect"):
        given = [*_without(given, "--episodes"), "--episodes", "1"]
    if verb == "inspect":
        given = [*_without(given, "--lesion-episodes"), "--lesion-episodes", "0"]
    if verb == "record":
        given = [*_without(given, "--seconds"), "--seconds", "0.2"]
    return given


def _without(given: list[str], *names: str) -> list[str]:
    """Leave out options that have one value each."""
    kept = []
    words = iter(given)
    for word in words:
        if word in names:
            next(words)
        else:
            kept.append(word)
    return kept


def parse_only(start) -> None:
    """Call a program that stops once its arguments are parsed."""

    def stopping(parse):
        def stop(*arguments, **options):
            parse(*arguments, **options)
            raise ParsedError

        return stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tyro, "cli", stopping(tyro.cli))
        patch.setattr(
            argparse.ArgumentParser, "parse_args", stopping(argparse.ArgumentParser.parse_args)
        )
        start()


def make(arguments: list[str], *, slow: bool) -> None:
    """Check that a target exists; `make train` trains."""
    variables = dict(word.split("=", 1) for word in arguments if "=" in word)
    (target,) = [word for word in arguments if "=" not in word] or ["help"]
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert target in targets
    if target == "train":
        recipe = variables.get("RECIPE", "configs/half_cheetah/ncp_ppo.yaml")
        liquid_control(["train", recipe, *shlex.split(variables.get("ARGS", ""))], slow=slow)


def python(arguments: list[str]) -> None:
    """Run a script of the page; of ours, parse the arguments or import it."""
    if arguments[0] == "-m":
        module, *rest = arguments[1:]
        assert module == "liquid_control", module
        return liquid_control(rest, slow=False)
    script = Path(arguments[0])
    if script.resolve().is_relative_to(ROOT / "examples"):
        runpy.run_path(str(script), run_name="example")  # other tests run them to the end
        return None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        patch.syspath_prepend(str(script.resolve().parent))
        if script.resolve().is_relative_to(ROOT / "benchmarks"):
            with pytest.raises(ParsedError):
                parse_only(lambda: runpy.run_path(str(script.resolve()), run_name="__main__"))
        else:
            runpy.run_path(str(script), run_name="__main__")
    return None


def check_extras(arguments: list[str]) -> None:
    """Check that what is installed of this package has the extras that are named."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in arguments:
        if found := re.match(r"(?:liquid-control|\.)\[([\w,]+)\]", word):
            assert {*found[1].split(",")} <= project["optional-dependencies"].keys(), word


def working_directory(folder: Path, run_folder: Path) -> None:
    """Fill a folder with links to the repository, and with a run, for the commands of a page."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(run_folder, folder / "runs" / "half_cheetah-ncp_ppo" / "20260131-120000-0")
