"""The arguments of the commands.

They are parsed before the rest of this package is imported, because that takes seconds, and would
delay `--help`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from liquid_control.commands.terminal import Flag, Overrides, Quiet, RunFolder, otherwise


@dataclass(frozen=True)
class Trust:
    """Arguments of commands that run the recipe of others; without them it runs no code."""

    imports: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="import", metavar="MODULE"),
    ] = ()
    """Import your module that registers tasks, such as my_tasks. May be repeated."""

    trust: Flag = False
    """Import the modules and open the files that the recipe names, which are listed first."""


UNTRUSTED = Trust()
TrustFlags = tyro.conf.OmitArgPrefixes[Trust]


@dataclass(frozen=True)
class Train:
    """Train an agent from a recipe, then evaluate it. If stopped by Ctrl-C, it can be resumed."""

    recipe: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """A YAML file, the name of a recipe that `liquid-control recipes` lists, such as
    half_cheetah/ncp_ppo, or a run's config.yaml."""

    overrides: Overrides = ()
    """Change keys of the recipe, such as agent.n_steps=128; values are YAML."""

    seed: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Seed of weights and environments."""

    init: Annotated[Path | None, otherwise("RUN", "new weights")] = None
    """Start with the weights and normaliser of this run's policy, which may be of another task or
    recipe with the same circuit; the optimizer and the count of steps are reset."""

    runs: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs")
    """Folder in which the run's folder is created."""

    folder: Annotated[Path | None, otherwise("RUN", "RUNS/RECIPE/DATE-SEED")] = None
    """Train in this folder. An interrupted training of the same recipe there resumes from its last
    checkpoint, and a finished one is left unchanged, so the same command can be repeated until the
    training is finished."""

    quiet: Quiet = False
    """Print a summary and problems only."""


@dataclass(frozen=True)
class Sweep:
    """Train many runs: recipes with several seeds, or a search over ranges of their values.

    A study is one folder under RUNS. Repeating the same command resumes it: finished runs
    are not repeated, and interrupted ones resume. Exit code 0: all runs finished; 1: some were
    given up; 2: the study cannot begin; 130: interrupted.
    """

    recipes: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE ...")]
    """Recipes, or one search file: a recipe with ranges such as {log: [1e-4, 3e-3]}, {int: [16,
    128]}, {float: [0, 1]} or {choice: [cfc, ltc]} instead of values."""

    seeds: Annotated[str, tyro.conf.arg(metavar="SEEDS")] = "0"
    """Seeds of every recipe or trial, such as 0-4 or 0,3,7."""

    trials: Annotated[int, tyro.conf.arg(metavar="N")] = 50
    """Trials of a search."""

    on: Literal["local", "ray", "slurm"] = "local"
    """Where to train: in processes of this machine, on Ray, or in jobs of Slurm."""

    address: Annotated[str | None, otherwise("ADDRESS", "a Ray of this command's own")] = None
    """Ray cluster to join, such as auto."""

    slurm: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Parameters of submitit, such as slurm_partition=cpu timeout_min=240."""

    jobs: Annotated[int | None, otherwise("N", "one for each processor")] = None
    """Runs that are trained at once."""

    overrides: Overrides = ()
    """Change keys of all recipes, such as agent.total_timesteps=1e5; values are YAML."""

    runs: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs")
    """Folder of the study's folder."""

    name: Annotated[str | None, otherwise("NAME", "that of the recipes")] = None
    """Name of the study's folder."""

    quiet: Quiet = False
    """Print a summary and problems only."""


@dataclass(frozen=True)
class Report:
    """Report on a study: the returns of its recipes on each task, and their confidence.

    Writes results.csv, a row for each run and control rate; report.html, one page that needs no
    other file; and report.md with figures/. Runs that are still trained are reported as they are.
    """

    study: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]
    """The folder of a study, with its runs as RECIPE/SEED."""

    threshold: Annotated[
        tuple[str, ...], otherwise("R|TASK=R ...", "80 % of the way from random to best")
    ] = ()
    """Return whose steps and seconds are reported, of all tasks or each, such as
    Hopper-v5=1000 HalfCheetah-v5=3000."""

    output: Annotated[Path | None, otherwise("DIR", "the study's folder")] = None
    """Folder of the results, created if necessary."""

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Resume:
    """Resume an interrupted training from its last checkpoint, with the same result.

    Steps after the checkpoint are repeated, and logged once. `--set agent.total_timesteps=2e6`
    extends a training, also a finished one. Rates that change linearly then follow the new total:
    halfway through it, they are halfway between start and end, wherever they were before.
    """

    folder: RunFolder
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0."""

    trust: TrustFlags = UNTRUSTED

    overrides: Overrides = ()
    """Change keys that do not change what was trained so far: a larger agent.total_timesteps,
    agent.device, evaluation.*, monitoring.*, checkpoint_every, env.threads, threads, and other
    workers in place of those it has (env.workers, env.engine, env.address, env.worker_cpus).
    Another device or number of PyTorch's threads rounds differently from now on."""

    quiet: Quiet = False
    """Print a summary and problems only."""


@dataclass(frozen=True)
class Evaluate:
    """Measure the return of a trained agent at several control rates, as a table and a plot.

    The results are kept in the run's folder `evaluations`; those of the end of the training stay
    in `evaluation.json`. A run that is being trained is evaluated at its last checkpoint.
    """

    folder: RunFolder
    """The folder of a run, such as runs/inverted_pendulum-ncp_ppo/20260131-120000-0; or a
    file that `pack` wrote, hub:OWNER/NAME, or an example policy such as
    half_cheetah/ncp_ppo. Those are unpacked into runs/unpacked first."""

    episodes: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Episodes at each rate."""

    ratios: Annotated[tuple[float, ...] | None, otherwise("RATIO ...", "the recipe's")] = None
    """Fixed intervals to try, as multiples of the nominal one."""

    seed: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Seed of the episodes; for any seed, they differ from those of the training."""

    stress: Annotated[Path | None, otherwise("FILE", "none")] = None
    """Instead of control rates, test the conditions in this YAML file: noise, dropout, delay,
    actuator_delay (values of each), and changes of the robot in mid-episode. Writes a CSV file and
    a figure for each of them into the run's folder `stress`."""

    trust: TrustFlags = UNTRUSTED

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Record:
    """Film an episode of a trained robot and its neurons, as MP4 and as animated GIF."""

    folder: RunFolder
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0; or a file
    that `pack` wrote, hub:OWNER/NAME, or an example policy such as
    half_cheetah/ncp_ppo. Those are unpacked into runs/unpacked first."""

    seconds: float = 10.0
    """Longest duration, in simulated seconds."""

    ratio: Annotated[float | None, otherwise("RATIO", "the intervals of the training")] = None
    """A fixed control interval, as a multiple of the nominal one."""

    seed: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Seed of the episode; for any seed, it differs from those of the training."""

    trust: TrustFlags = UNTRUSTED

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Inspect:
    """Report on a trained robot and its neurons, on one page that needs no other file.

    The page shows a film, the activity of all neurons, the circuit and its time constants, the
    correlations and lesion score of each neuron, and the return at each control rate.
    """

    folder: RunFolder
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0; or a file
    that `pack` wrote, hub:OWNER/NAME, or an example policy such as
    half_cheetah/ncp_ppo. Those are unpacked into runs/unpacked first."""

    episodes: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Episodes at each control rate."""

    lesion_episodes: int = 4
    """Episodes with each neuron in turn held at rest; 0 skips lesions, which take longest."""

    lesion_seconds: float = 10.0
    """Longest duration of those episodes, in simulated seconds."""

    seed: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Seed of the episodes; for any seed, they differ from those of the training."""

    trust: TrustFlags = UNTRUSTED

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Watch:
    """Show a trained robot live in MuJoCo's viewer, until its window is closed."""

    folder: RunFolder
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0; or a file
    that `pack` wrote, hub:OWNER/NAME, or an example policy such as
    half_cheetah/ncp_ppo. Those are unpacked into runs/unpacked first."""

    ratio: Annotated[float | None, otherwise("RATIO", "the intervals of the training")] = None
    """A fixed control interval, as a multiple of the nominal one."""

    seed: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Seed of the first episode; for any seed, it differs from those of the training."""

    trust: TrustFlags = UNTRUSTED

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Pack:
    """Pack a trained policy with recipe, evaluation, film and model card into one file."""

    folder: RunFolder
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0; or a file
    that `pack` wrote, hub:OWNER/NAME, or an example policy such as
    half_cheetah/ncp_ppo. Those are unpacked into runs/unpacked first."""

    output: Annotated[Path | None, otherwise("FILE", "the recipe's name")] = None
    """The file to write; it ends in .zip."""

    push: Annotated[str | None, otherwise("OWNER/NAME", "not pushed")] = None
    """Also push it to this repository of the Hugging Face Hub, created if necessary."""

    private: Flag = False
    """Create that repository as a private one."""

    acts_only: Flag = False
    """Leave out critics and optimizers. The file is a fraction of the size, and its policy can be
    evaluated, filmed, exported and packed again, but not trained."""

    trust: TrustFlags = UNTRUSTED

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Unpack:
    """Unpack a policy into a run's folder after checking all of it, without running code."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A file that `pack` wrote, the name of an example policy, or hub:OWNER/NAME."""

    output: Annotated[Path | None, otherwise("FOLDER", "the file's name")] = None
    """The folder to create."""

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Recipes:
    """List the recipes of the package, or print one, to train it or to start your own."""

    name: Annotated[str | None, tyro.conf.Positional, otherwise("NAME", "list all")] = None
    """Print this recipe as YAML, such as half_cheetah/ncp_ppo."""

    quiet: ClassVar[bool] = False


@dataclass(frozen=True)
class New:
    """Write a small working project: a robot, its task, a recipe and a test.

    Its README has the two commands that train it and test it.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The folder to create, such as my_robot; its name becomes that of the task's module."""

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Export:
    """Export a trained policy as files for robots, which need no Python, and verify them.

    The folder has policy.onnx for ONNX Runtime, policy.c and policy.h in C99, policy.json with the
    facts of the policy, its certificate, and the hashes of all files. It is written atomically.
    """

    folder: RunFolder
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0; or a file
    that `pack` wrote, hub:OWNER/NAME, or an example policy such as
    half_cheetah/ncp_ppo. Those are unpacked into runs/unpacked first."""

    format: Literal["onnx", "c", "all"] = "all"
    """Which files to write."""

    quantize: Annotated[
        Literal["int8", "int4"] | None, otherwise("{int8,int4}", "weights in single precision")
    ] = None
    """Round the weights in C to 8 or 4 bits, with a float scale for each neuron and gate. ONNX then
    has the rounded weights as floats. The certificate is that of the rounded policy; the effect of
    rounding is measured, and stored in all files."""

    episodes: int = 8
    """Episodes in each condition of the certificate, which lists the intervals, delays and
    shares of dropped observations with which the policy keeps its return; 0 omits it."""

    output: Annotated[Path | None, otherwise("DIR", "the recipe's name")] = None
    """The folder to create."""

    trust: TrustFlags = UNTRUSTED

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Verify:
    """Check exported files: hashes, facts, code, and their agreement with a run's policy.

    Both act on 1,000 observations at jittered intervals. Exit code 0: they agree.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """A folder that `export` wrote."""

    against: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """The run, in any form that `export` takes."""

    trust: TrustFlags = UNTRUSTED

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Replay:
    """Run the log of a robot through its policy: neurons, actions, and a film of both.

    Writes replay.csv, a row for each step with the recorded and the recomputed actions and the
    activity of each neuron; activity.png and actions.png; film.mp4; and, with --lesions,
    lesions.csv. The folder is written atomically.
    """

    log: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="LOG")]
    """An MCAP file that `deploy.ControlLoop` wrote."""

    run: RunFolder
    """The run whose policy acted, in any form that `export` takes."""

    start: float = 0.0
    """First second of the film and the figures."""

    seconds: float = 10.0
    """Their duration."""

    lesions: Annotated[tuple[str, ...], otherwise("NEURON ...", "none")] = ()
    """Neurons to hold at rest, one at a time, such as motor_0, or all, to measure the change of
    actions on the observations of the log."""

    output: Annotated[Path | None, otherwise("DIR", "the log's name")] = None
    """The folder to create."""

    trust: TrustFlags = UNTRUSTED

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Doctor:
    """Check this installation and print remedies for problems. Exits with 0 if it can train.

    With a recipe, it also reports whether compiled kernels or PyTorch compute its agent's updates
    and actions.
    """

    recipe: Annotated[Path | None, tyro.conf.Positional, otherwise("RECIPE", "none")] = None
    """A recipe, as `train` takes it, such as half_cheetah/ncp_ppo."""

    quiet: ClassVar[bool] = False
