"""`liquid-control replay`."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.progress import Progress

from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.checkpoints.durable import replacing
from liquid_control.commands.arguments import Replay
from liquid_control.commands.run_folder import check_new
from liquid_control.commands.run_loader import load_agent, open_run, unseen_robot
from liquid_control.commands.terminal import note, say
from liquid_control.deploy import Metadata, read_log
from liquid_control.export import ExportError, describe_policy
from liquid_control.export.agreement import TOLERANCE, act, record, tolerance_of
from liquid_control.export.facts import metadata_of
from liquid_control.monitoring import figures, film
from liquid_control.monitoring.film import FILM_RATE
from liquid_control.monitoring.robot_log import Replay as Replayed
from liquid_control.monitoring.robot_log import influence, replay_log
from liquid_control.policies.stateful import StatefulPolicy
from liquid_control.recipes import CommandError, Recipe, build_env

DPI = 120
Names = tuple[str, ...]


def execute(arguments: Replay) -> int:
    """Execute the command; return the exit code."""
    if not arguments.start >= 0 or not arguments.seconds > 0:
        raise CommandError(
            f"--start must be 0 or more and --seconds positive, got {arguments.start:g} and "
            f"{arguments.seconds:g}"
        )
    folder = arguments.output or Path(f"{arguments.log.stem}-replay")
    check_new(folder)
    try:
        facts, rows = read_log(arguments.log)
    except FileNotFoundError as error:
        raise CommandError(f"{arguments.log}: there is no such log") from error
    except IsADirectoryError as error:
        raise CommandError(f"{arguments.log} is a folder; give the log itself") from error
    except ImportError as error:
        raise CommandError("mcap is missing; pip install 'liquid-control[deploy]'") from error
    except ValueError as error:
        raise CommandError(str(error)) from error
    run, recipe = open_run(arguments.run, trust=arguments.trust)
    env = build_env(recipe)
    try:
        agent = load_agent(recipe, run, env)
    finally:
        env.close()
    agent.policy.to("cpu")
    check_policy(facts, agent, arguments)
    neurons = chosen_neurons(arguments.lesions, agent.policy.actor_circuit.wiring.neuron_names)
    try:
        replay = replay_log(agent.policy, facts, rows, *names(recipe))
        shown = replay.part(arguments.start, arguments.seconds)
    except ValueError as error:
        raise CommandError(f"{arguments.log}: {error}") from error
    report(replay, facts, agent.policy)
    moved = lesions(agent, replay, neurons, quiet=arguments.quiet)
    with replacing(folder) as partial:
        partial.mkdir()
        write_table(partial / "replay.csv", *table(replay))
        if neurons:
            circuit = shown.wiring.neuron_names
            header = ["neuron", *shown.action_names]
            ordered = sorted(zip(neurons, moved, strict=True), key=lambda row: -row[1].mean())
            write_table(
                partial / "lesions.csv", header, ([circuit[n], *each] for n, each in ordered)
            )
        save(figures.raster(shown), partial / "activity.png")
        first = int(np.searchsorted(replay.recording.times[:-1], arguments.start))
        recomputed = replay.recomputed[first : first + shown.steps]
        save(figures.compared_actions(shown, recomputed), partial / "actions.png")
        title = f"{recipe.task}, {arguments.log.name}"
        pictures = film.frames(shown, fps=FILM_RATE, title=title)
        film.to_mp4(pictures, partial / "film.mp4", FILM_RATE)
    say(f"Replay: {folder}")
    return 0


def check_policy(facts: Metadata, agent: LiquidPPO | LiquidSAC, arguments: Replay) -> None:
    """Raise a CommandError if another policy wrote the log."""
    try:
        expected = metadata_of(describe_policy(agent.policy))
    except ExportError as error:
        raise CommandError(str(error)) from error
    for what, theirs, ours in (
        ("observations", facts.observation_size, expected.observation_size),
        ("actions", facts.action_size, expected.action_size),
        ("a state", facts.state_size, expected.state_size),
        ("neurons", facts.neurons, expected.neurons),
        ("a nominal interval", facts.nominal_interval, expected.nominal_interval),
        ("a shortest interval", facts.shortest, expected.shortest),
        ("a longest interval", facts.longest, expected.longest),
    ):
        if theirs != ours:
            raise CommandError(
                f"{arguments.log} is of another policy than {arguments.run}: it has {what} of "
                f"{theirs}, and the run of {ours}"
            )
    if facts.policy_sha256 != expected.policy_sha256:
        raise CommandError(
            f"{arguments.log} is of another policy than {arguments.run}: the hashes of their "
            f"weights, {(facts.policy_sha256 or 'none')[:12]} and "
            f"{(expected.policy_sha256 or 'none')[:12]}, differ; give the run that was exported, "
            "as it was then"
        )


def chosen_neurons(wanted: Sequence[str], known: Names) -> list[int]:
    """Return the indices of neurons with these names.

    Raises:
        CommandError: there is no such neuron.
    """
    if list(wanted) == ["all"]:
        return list(range(len(known)))
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise CommandError(
            f"--lesions: there is no neuron {unknown[0]!r}; give all, or some of "
            f"{', '.join(known[:3])}, ..., {known[-1]}"
        )
    return [known.index(name) for name in wanted]


def names(recipe: Recipe) -> tuple[Names, Names]:
    """Return the names of observations and actions of a recipe's task."""
    robot = unseen_robot(recipe)
    try:
        return tuple(robot.get_wrapper_attr("observation_names")), tuple(
            robot.get_wrapper_attr("action_names")
        )
    finally:
        robot.close()


def lesions(
    agent: LiquidPPO | LiquidSAC, replay: Replayed, neurons: Sequence[int], *, quiet: bool
) -> np.ndarray:
    """Measure the influence of some neurons on the actions, with a progress bar."""
    if not neurons:
        return np.empty((0, replay.recomputed.shape[1]))
    with Progress(disable=quiet) as bars:
        bar = bars.add_task("holding neurons at rest", total=len(neurons))
        moved = influence(
            agent.policy,
            replay,
            neurons,
            on_neuron=lambda done: bars.update(bar, completed=done),
        )
    known, mean = replay.recording.wiring.neuron_names, moved.mean(axis=1)
    for index in np.argsort(-mean)[:5]:
        say(f"{known[neurons[index]]} at rest moves actions by {mean[index]:.2g} of their range")
    return moved


def report(replay: Replayed, facts: Metadata, policy: StatefulPolicy) -> None:
    """Print a summary of the log, and the differences of its actions from the policy's."""
    recording, errors = replay.recording, replay.errors
    say(
        f"{recording.duration:.1f} s, {recording.steps:,} steps with an observation, "
        f"{replay.skipped:,} without"
    )
    worst = int(errors.max(axis=1).argmax())
    say(
        f"actions differ from those of the policy by at most {errors.max():.2g} of their range, "
        f"and by {errors.mean():.2g} on average; most at {recording.times[worst]:.2f} s"
    )
    if facts.weights != "float32":
        note(f"the robot's policy had weights in {facts.weights}, this one has them in float32")
    elif errors.max() > TOLERANCE:
        moments = record(policy, metadata_of(describe_policy(policy)))
        accepted = tolerance_of(policy, moments, np.stack([*act(policy, moments)]))
        if errors.max() > accepted:
            note(
                f"exported policies agree within {accepted:.2g}; actions that were changed after "
                "the policy, or a compiler with -ffast-math, are reasons for more"
            )


def table(replay: Replayed) -> tuple[list[str], Iterable[list[float]]]:
    """Return the header and the rows of replay.csv."""
    recording = replay.recording
    header = ["step", "time", "elapsed_time"]
    header += [f"recorded {name}" for name in recording.action_names]
    header += [f"recomputed {name}" for name in recording.action_names]
    header += recording.wiring.neuron_names
    columns = (
        replay.rows[:, None],
        recording.times[:-1, None],
        recording.elapsed_time[:, None],
        recording.actions,
        replay.recomputed,
        recording.activity,
    )
    return header, (
        [value for column in columns for value in column[step].tolist()]
        for step in range(recording.steps)
    )


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
