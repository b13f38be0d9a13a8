"""`liquid-control inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from rich.progress import Progress

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.agents.evaluation import TRAINED
from liquid_control.agents.nominal_interval import nominal_interval
from liquid_control.checkpoints.durable import write_text
from liquid_control.commands.evaluate import examine
from liquid_control.commands.run_folder import new_evaluation
from liquid_control.commands.run_loader import (
    UNSEEN,
    open_run,
    restore,
    unseen_robot,
    unseen_robots,
)
from liquid_control.commands.terminal import Quiet, RunFolder, otherwise, say
from liquid_control.commands.trust import UNTRUSTED, TrustFlags
from liquid_control.monitoring import circuit_of, figures, film, leaves, record, report_on
from liquid_control.monitoring.analysis import Lesions, lesions, listening
from liquid_control.monitoring.film import GIF_RATE
from liquid_control.monitoring.tensorboard import TensorBoardWriter
from liquid_control.recipes import CommandError, Recipe, build_env


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

    def run(self) -> int:
        """Run the command; return the exit code."""
        if self.lesion_episodes < 0:
            raise CommandError(f"--lesion-episodes must be 0 or more, got {self.lesion_episodes}")
        if not self.lesion_seconds > 0:
            raise CommandError(f"--lesion-seconds must be positive, got {self.lesion_seconds:g}")
        given = {"evaluation.episodes": self.episodes, "seed": self.seed}
        overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
        run, recipe = open_run(self.folder, overrides, self.trust)
        env = build_env(recipe)
        agent = restore(recipe, run, env)
        nominal = nominal_interval(env)
        env.close()

        robot = unseen_robot(recipe)
        recording = record(agent, robot)
        robot.close()
        pictures = film.frames(
            recording, fps=GIF_RATE, seconds=recipe.monitoring.film_seconds, title=recipe.task
        )
        gif = film.to_gif(pictures, GIF_RATE)
        lesion_results = self._lesions(recipe, agent, nominal)
        path = new_evaluation(run, datetime.now())
        evaluations = examine(recipe, agent, path, nominal, quiet=self.quiet)
        trained = evaluations.pop(TRAINED)
        page = report_on(
            recipe.task,
            circuit_of(agent),
            recording,
            film=gif,
            lesions=lesion_results,
            evaluations=evaluations,
            trained=trained,
            facts={
                "Run": run.folder.name,
                "Recipe": recipe.name,
                "Seed": str(recipe.seed),
                "Trained for": f"{agent.num_timesteps:,} steps",
            },
            settings=leaves(recipe.model_dump(mode="json")),
        )
        write_text(run.report, page)
        if lesion_results is not None:
            writer = TensorBoardWriter.in_folder(run.inspection)
            heard = listening(recording)
            figure = figures.listening_map(heard, recording.wiring, lesion_results.scores)
            writer.figure("circuit/lesions", figure, agent.num_timesteps)
            writer.flush()
        say(f"Report: {run.report}")
        return 0

    def _lesions(
        self, recipe: Recipe, agent: LiquidPPO | LiquidSAC, nominal: float
    ) -> Lesions | None:
        if not self.lesion_episodes:
            return None
        steps = max(round(self.lesion_seconds / nominal), 1)
        env = unseen_robots(shortened(recipe, steps), self.lesion_episodes)
        with Progress(disable=self.quiet) as bars:
            neurons = circuit_of(agent).wiring.neuron_count
            bar = bars.add_task("holding each neuron at rest", total=neurons)
            result = lesions(
                agent,
                env,
                seed=UNSEEN + recipe.seed,
                on_neuron=lambda done: bars.update(bar, completed=done),
            )
        env.close()
        return result


def shortened(recipe: Recipe, steps: int) -> Recipe:
    """Return a recipe whose episodes end after `steps` nominal intervals."""
    arguments = {**recipe.env.kwargs, "max_episode_steps": steps}
    env = recipe.env.model_copy(update={"kwargs": arguments})
    return recipe.model_copy(update={"env": env})
