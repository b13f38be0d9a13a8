"""The arguments of the commands.

They are parsed before anything else of this package is imported, because that takes seconds, and
`--help` would as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

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
    """Import a module of your own that registers tasks, such as my_tasks. May be repeated."""

    trust: Flag = False
    """Import the modules and open the files that the recipe names, which are listed first."""


UNTRUSTED = Trust()
TrustFlags = tyro.conf.OmitArgPrefixes[Trust]


@dataclass(frozen=True)
class Train:
    """Train an agent from a recipe, then evaluate it. If stopped by Ctrl-C, it can be resumed."""

    recipe: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """A YAML file, such as configs/inverted_pendulum/ncp_ppo.yaml, or a run's config.yaml."""

    overrides: Overrides = ()
    """Change keys of the recipe, such as agent.n_steps=128; values are YAML."""

    seed: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Seed of weights and environments."""

    init: Annotated[Path | None, otherwise("RUN", "new weights")] = None
    """Start with the weights and normaliser of this run's policy, which may be of another task or
    recipe with the same circuit; the optimizer and the count of steps start anew."""

    runs: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs")
    """Folder in which the run's folder is created."""

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Resume:
    """Resume an interrupted training from its last checkpoint; the result is the same.

    What came after the checkpoint is repeated, and logged once. `--set agent.total_timesteps=2e6`
    extends a training, also a finished one. Rates that change linearly then follow the new total:
    halfway through it, they are halfway between start and end, wherever they were before.
    """

    folder: RunFolder
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0."""

    trust: TrustFlags = UNTRUSTED

    overrides: Overrides = ()
    """Change keys that do not change what was trained so far: a larger agent.total_timesteps,
    agent.device, evaluation.*, monitoring.*, checkpoint_every, env.threads and threads. Another
    device or number of PyTorch's threads rounds differently from now on."""

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Evaluate:
    """Measure the return of a trained agent at several control rates, as a table and a plot.

    The results are kept in the run's folder `evaluations`; those of the end of the training stay
    in `evaluation.json`. A run that is being trained is evaluated at its last checkpoint.
    """

    folder: RunFolder
    """The folder of a run, such as runs/inverted_pendulum-ncp_ppo/20260131-120000-0."""

    episodes: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Episodes at each rate."""

    ratios: Annotated[tuple[float, ...] | None, otherwise("RATIO ...", "the recipe's")] = None
    """Fixed intervals to try, as multiples of the nominal one."""

    seed: Annotated[int | None, otherwise("N", "the recipe's")] = None
    """Seed of the episodes; for any seed, they differ from those of the training."""

    trust: TrustFlags = UNTRUSTED

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Record:
    """Film an episode of a trained robot and its neurons, as MP4 and as animated GIF."""

    folder: RunFolder
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0."""

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
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0."""

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
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0."""

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
    """The folder of a run, such as runs/half_cheetah-ncp_ppo/20260131-120000-0."""

    output: Annotated[Path | None, otherwise("FILE", "the recipe's name")] = None
    """The file to write; it ends in .zip."""

    trust: TrustFlags = UNTRUSTED

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Unpack:
    """Unpack a policy into a run's folder after checking all of it; nothing in it is run."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A file that `pack` wrote."""

    output: Annotated[Path | None, otherwise("FOLDER", "the file's name")] = None
    """The folder to create."""

    quiet: Quiet = False
    """Print problems only."""


@dataclass(frozen=True)
class Doctor:
    """Check this installation and print remedies for problems. Exits with 0 if it can train."""

    quiet: ClassVar[bool] = False
