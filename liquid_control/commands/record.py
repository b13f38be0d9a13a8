"""`liquid-control record`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from liquid_control.agents.nominal_interval import nominal_interval
from liquid_control.checkpoints.durable import replacing
from liquid_control.commands.run_loader import Rate, open_run, restore, unseen_robot
from liquid_control.commands.terminal import Quiet, RunFolder, otherwise, say
from liquid_control.commands.trust import UNTRUSTED, TrustFlags
from liquid_control.monitoring import film, record
from liquid_control.monitoring.film import FILM_RATE, GIF_RATE
from liquid_control.recipes import CommandError, build_env


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

    def run(self) -> int:
        """Run the command; return the exit code."""
        if not self.seconds > 0:
            raise CommandError(f"--seconds must be positive, got {self.seconds:g}")
        seed = () if self.seed is None else (f"seed={self.seed}",)
        run, recipe = open_run(self.folder, seed, self.trust)
        env = build_env(recipe)
        agent = restore(recipe, run, env)
        interval: Rate = "trained" if self.ratio is None else self.ratio * nominal_interval(env)
        env.close()
        robot = unseen_robot(recipe, interval)
        recording = record(agent, robot, seconds=self.seconds)
        robot.close()
        film_path, gif_path = run.videos / "film.mp4", run.videos / "film.gif"
        try:
            film.to_mp4(
                film.frames(recording, fps=FILM_RATE, title=recipe.task), film_path, FILM_RATE
            )
            pictures = film.frames(recording, fps=GIF_RATE, title=recipe.task)
            with replacing(gif_path) as path:
                path.write_bytes(film.to_gif(pictures, GIF_RATE))
        except OSError as error:
            reason = error.strerror or error
            raise CommandError(f"{run.videos}: a film cannot be written: {reason}") from error
        say(f"Film: {film_path}\nGIF: {gif_path}")
        return 0
