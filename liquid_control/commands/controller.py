"""Loads the controller of a robot from a run, a packed policy, or a saved agent."""

from __future__ import annotations

from pathlib import Path

import torch

from liquid_control.checkpoints import CheckpointError, Contents, read
from liquid_control.checkpoints.saved_agent import NORMALIZED, found
from liquid_control.commands.policy_package import agent_of, read_packed
from liquid_control.commands.run_folder import Run, check_newest
from liquid_control.commands.run_source import packed_file
from liquid_control.policies import Controller


def load_controller(path: str | Path, device: torch.device | str = "cpu") -> Controller:
    """Load a trained policy to control a robot, without an environment and without running code.

    Args:
        path: a run, a file that `liquid-control pack` or `save` wrote, a checkpoint, the name of an
            example policy, or hub:OWNER/NAME.
        device: where it runs; a single observation is fastest on the CPU.

    Raises:
        FileNotFoundError: there is no such file, or the run has no trained agent yet.
        CommandError: the Hub cannot be reached, or has no such policy.
        CheckpointError: it is damaged or invalid, was trained with `VecNormalize`, or its agent is
            a custom class; then use `Controller(YourAgent.load(path).policy)`.
    """
    contents = _contents(Path(path))
    agent = agent_of(contents, path, device)
    if agent is None:
        raise CheckpointError(
            f"{path} holds a {contents.kind}, and a controller is loaded of LiquidPPO and "
            "LiquidSAC; use liquid_control.policies.Controller"
            f"({contents.kind}.load(...).policy)"
        )
    if contents.data["agent"].get(NORMALIZED):
        raise CheckpointError(
            f"the agent of {path} was trained with VecNormalize, whose statistics are not in it; "
            "train without, since policies normalise what they observe, or normalise yourself for "
            f"Controller({contents.kind}.load(...).policy)"
        )
    return Controller(agent.policy)


def _contents(path: Path) -> Contents:
    run = Run(path)
    if run.config.exists():
        if not run.model.exists():
            raise FileNotFoundError(
                f"{run.model}: no agent was saved in this run yet; pass one of its checkpoints"
            )
        check_newest(run)
        return read(run.model)
    packed = packed_file(path := found(path))
    return read(path) if packed is None else read_packed(packed)
