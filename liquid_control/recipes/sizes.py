"""Estimates of an agent's weights and memory, to reject a recipe before it exhausts the machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from liquid_control.policies.observations import feature_count
from liquid_control.policies.options import LiquidPolicyOptions, SoftLiquidPolicyOptions
from liquid_control.recipes.errors import RecipeError
from liquid_control.recipes.schema import PPOSection, Recipe, SACSection
from liquid_control.storage.memory import gigabytes, memory_of_machine
from liquid_control.storage.sequences import default_batch

MOST_WEIGHTS = 2**26
"""A dense circuit of 4,000 neurons, which takes half a minute to build."""

MOST_ODE_STEPS = 1000
NUMBER = 4  # bytes
PER_WEIGHT = 16 * NUMBER  # gradient, moments, indices, and deviations while it is built
GATES = 5  # the most weights per synapse of a neuron model, or of a memory


def check_sizes(recipe: Recipe, env: VecEnv) -> None:
    """Raise a RecipeError if the agent has too many weights or needs more memory than there is.

    The estimate treats circuits as dense, since their weights become dense matrices.
    """
    steps = (recipe.policy.neuron_kwargs or {}).get("ode_steps")
    if isinstance(steps, int) and steps > MOST_ODE_STEPS:
        raise RecipeError(
            f"policy.neuron_kwargs.ode_steps: at most {MOST_ODE_STEPS} solver steps in a control "
            f"step, got {steps}"
        )
    features, actions = feature_count(env.observation_space, images=True), _size(env.action_space)
    history = (features + actions) * len(recipe.policy.critic_history or ())
    features *= 1 + len(recipe.policy.derivatives or ())
    features += history
    weights, activity = policy_size(recipe, features, actions)
    circuit = "policy.wiring, policy.encoder and layers"
    if weights > MOST_WEIGHTS:
        raise RecipeError(
            f"{circuit}: up to {weights:,} weights in matrices, and {MOST_WEIGHTS:,} are the most; "
            "use fewer neurons or smaller layers"
        )
    needs = {circuit: PER_WEIGHT * weights}
    needs |= _training(recipe.agent, env.num_envs, features + actions + 12, activity)
    memory = memory_of_machine()
    if (total := sum(needs.values())) > memory:
        key = max(needs, key=needs.__getitem__)
        raise RecipeError(
            f"{key}: training takes about {gigabytes(total)} of memory, of which this takes "
            f"{gigabytes(needs[key])}, and the machine has {gigabytes(memory)}; lower it"
        )


def policy_size(recipe: Recipe, features: int, actions: int) -> tuple[int, int]:
    """Return bounds of a policy's weights, and of the values that it computes in a control step.

    Args:
        recipe: The recipe.
        features: Numbers in an observation, without the elapsed time.
        actions: Numbers in an action.
    """
    is_sac = isinstance(recipe.agent, SACSection)
    options_of = SoftLiquidPolicyOptions if is_sac else LiquidPolicyOptions
    options: Any = options_of(**recipe.policy.model_dump(mode="json", exclude_none=True))
    wirings = [options.wiring]
    if is_sac or options.critic == "twin":
        wirings.append(options.critic_wiring or options.wiring)
    seen = features + 1 + actions * is_sac
    encoder = (seen, *(options.encoder or ()))
    gates = GATES * (2 if (options.neuron_kwargs or {}).get("memory") else 1)
    critics = getattr(options, "n_critics", 1)
    weights = activity = 0
    for wiring in wirings:
        neurons = _neurons(wiring)
        critic = (seen + neurons, *(options.critic_layers or ()), 1)
        actor = (neurons, *(getattr(options, "actor_layers", None) or ()), 2 * actions)
        weights += gates * neurons * (neurons + encoder[-1] + 2)
        activity += 3 * gates * neurons
        for sizes, count in ((encoder, 1), (actor, 1), (critic, critics)):
            weights += count * sum(size * following for size, following in pairwise(sizes))
            activity += count * sum(sizes)
    return weights, activity


def _training(
    agent: PPOSection | SACSection, envs: int, width: int, activity: int
) -> dict[str, int]:
    """Return the bytes of stored and unrolled steps, by the keys that determine them.

    Args:
        agent: The algorithm and its options.
        envs: Number of environments.
        width: Numbers stored per control step.
        activity: Numbers computed per control step.
    """
    stored = NUMBER * width
    if isinstance(agent, SACSection):
        length = agent.sequence_length
        steps = agent.batch_size * (1 + (agent.burn_in + 1) / length)
        state = NUMBER * activity / 4  # before each sequence
        return {
            "agent.buffer_size": int(agent.buffer_size * (stored + state / length)),
            "agent.batch_size": int(2 * NUMBER * steps * activity),
        }
    steps = agent.n_steps * envs
    length = agent.sequence_length or min(16, agent.n_steps)
    batch = agent.batch_size or default_batch(steps, agent.sequence_length)
    return {
        "agent.n_steps and env.num_envs": 3 * stored * steps,
        "agent.batch_size": 2 * NUMBER * min(batch, steps) * activity,
        "agent.sequence_length and env.num_envs": NUMBER * length * envs * activity,
    }


def _neurons(wiring: Mapping[str, Any]) -> int:
    """Return the number of neurons of a wiring, or 0 if it gives none or invalid ones."""
    if isinstance(names := wiring.get("neuron_names"), list):
        return len(names)
    layers = ("neurons",) if "neurons" in wiring else ("inter", "command", "motor")
    counts = (wiring.get(layer) for layer in layers)
    return sum(count for count in counts if type(count) is int and count > 0)


def _size(space: spaces.Space[Any]) -> int:
    """Return the numbers in an action."""
    return math.prod(space.shape or (1,))
