"""LiquidPPO and LiquidSAC in RL Baselines3 Zoo: train, enjoy and tune as its own algorithms.

    pip install "liquid-control[rl_zoo]"
    python examples/rl_zoo.py train --algo liquid_ppo --env LiquidPendulum-v0
    python examples/rl_zoo.py enjoy --algo liquid_ppo --env LiquidPendulum-v0 -f logs --no-render

The word after the script is a command of RL Zoo, and all arguments are RL Zoo's; with `-optimize`,
`train` tunes. `TASKS` has the environments with hidden velocities and a variable rate. Other
environments work as well, at their constant rate.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import gymnasium as gym

from liquid_control import LiquidPPO, LiquidSAC, envs

ALGORITHMS = {"liquid_ppo": LiquidPPO, "liquid_sac": LiquidSAC}

# By id: a task and arguments of `envs.make`. RL Zoo does not pass `env_kwargs` of a file on to the
# environments that it evaluates in, so they are part of the id.
TASKS = {
    "LiquidPendulum-v0": ("InvertedPendulum-v5", "positions", envs.Uniform(0.02, 0.08)),
    "LiquidCheetah-v0": ("HalfCheetah-v5", "positions", envs.Uniform(0.03, 0.1)),  # seconds
}


def register_environments():
    """Register the environments with Gymnasium, where RL Zoo looks for them."""
    for name, (task, observe, interval) in TASKS.items():
        make = partial(envs.make, task, observe=observe, interval=interval)
        gym.register(name, entry_point=make, disable_env_checker=True, order_enforce=False)


def sample_policy(trial):
    """Return a policy with a circuit of a size that Optuna chooses."""
    size = trial.suggest_categorical("neurons", [32, 64, 128])
    return {"wiring": {"kind": "auto_ncp", "neurons": size, "motor": size // 4}}


def sample_liquid_ppo(trial, n_actions, n_envs, additional_args):
    """Return arguments of LiquidPPO that Optuna chooses, as RL Zoo's samplers do."""
    sequence_length = 2 ** trial.suggest_int("sequence_length_pow", 3, 5)
    rate = trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True)
    share = trial.suggest_float("recurrent_share", 0.01, 1.0, log=True)
    return {
        "learning_rate": rate,
        "recurrent_learning_rate": share * rate,
        "sequence_length": sequence_length,
        "n_steps": sequence_length * 2 ** trial.suggest_int("n_sequences_pow", 0, 3),
        "batch_size": sequence_length * n_envs,  # divides the rollout, and holds whole sequences
        "gamma": 1 - trial.suggest_float("one_minus_gamma", 1e-3, 0.03, log=True),
        "gae_lambda": 1 - trial.suggest_float("one_minus_gae_lambda", 0.01, 0.1, log=True),
        "policy_kwargs": sample_policy(trial),
    }


def sample_liquid_sac(trial, n_actions, n_envs, additional_args):
    """Return arguments of LiquidSAC that Optuna chooses, as RL Zoo's samplers do."""
    rate = trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True)
    share = trial.suggest_float("recurrent_share", 0.01, 1.0, log=True)
    return {
        "learning_rate": rate,
        "recurrent_learning_rate": share * rate,
        "gamma": 1 - trial.suggest_float("one_minus_gamma", 1e-3, 0.03, log=True),
        "tau": trial.suggest_float("tau", 1e-3, 0.02, log=True),
        "policy_kwargs": sample_policy(trial),
    }


SAMPLERS = {"liquid_ppo": sample_liquid_ppo, "liquid_sac": sample_liquid_sac}


def plug_in():
    """Add agents, environments and samplers to the tables of RL Zoo."""
    from rl_zoo3 import hyperparams_opt, utils

    utils.ALGOS |= ALGORITHMS
    hyperparams_opt.HYPERPARAMS_SAMPLER |= SAMPLERS
    register_environments()


def with_settings(arguments):
    """Return arguments of `train` with the settings beside this script, if none are given."""
    algorithm = next((each for each in ALGORITHMS if each in arguments), None)
    if arguments[:1] != ["train"] or algorithm is None or {"-conf", "--conf-file"} & {*arguments}:
        return arguments
    return [*arguments, "--conf-file", str(Path(__file__).with_name(f"rl_zoo_{algorithm}.yml"))]


if __name__ == "__main__":
    plug_in()
    from rl_zoo3.cli import main

    sys.argv[1:] = with_settings(sys.argv[1:])
    main()
