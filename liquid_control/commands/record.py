"""`liquid-control record`."""

from __future__ import annotations

from liquid_control.checkpoints.durable import replacing
from liquid_control.collectors.nominal_interval import nominal_interval
from liquid_control.commands.arguments import Record
from liquid_control.commands.run_folder import check_writable
from liquid_control.commands.run_loader import Rate, load_agent, open_run, unseen_robot
from liquid_control.commands.terminal import say
from liquid_control.monitoring import film, record
from liquid_control.monitoring.film import FILM_RATE, GIF_RATE
from liquid_control.recipes import CommandError, build_env


def execute(arguments: Record) -> int:
    """Execute the command; return the exit code."""
    if not arguments.seconds > 0:
        raise CommandError(f"--seconds must be positive, got {arguments.seconds:g}")
    seed = () if arguments.seed is None else (f"seed={arguments.seed}",)
    run, recipe = open_run(arguments.folder, seed, arguments.trust)
    check_writable(run)
    env = build_env(recipe)
    agent = load_agent(recipe, run, env)
    interval: Rate = (
        "trained" if arguments.ratio is None else arguments.ratio * nominal_interval(env)
    )
    env.close()
    robot = unseen_robot(recipe, interval)
    recording = record(agent, robot, seconds=arguments.seconds)
    robot.close()
    film_path, gif_path = run.videos / "film.mp4", run.videos / "film.gif"
    try:
        film.to_mp4(film.frames(recording, fps=FILM_RATE, title=recipe.task), film_path, FILM_RATE)
        pictures = film.frames(recording, fps=GIF_RATE, title=recipe.task)
        with replacing(gif_path) as path:
            path.write_bytes(film.to_gif(pictures, GIF_RATE))
    except OSError as error:
        reason = error.strerror or error
        raise CommandError(f"{run.videos}: a film cannot be written: {reason}") from error
    say(f"Film: {film_path}\nGIF: {gif_path}")
    return 0
