"""The keys of a recipe, their types and defaults, and reading a recipe from its file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import torch
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    StringConstraints,
    Tag,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from stable_baselines3.common.type_aliases import Schedule

from liquid_control.agents.options import DeviceName, PPOOptions, SACOptions, TrainFreq
from liquid_control.collectors.blocks import check_blocks, default_block
from liquid_control.envs import Interval, conditions_from, interval_from
from liquid_control.policies.options import (
    CircuitOptions,
    LiquidPolicyOptions,
    Options,
    SoftLiquidPolicyOptions,
)
from liquid_control.recipes.errors import RecipeError
from liquid_control.recipes.library import find, names
from liquid_control.recipes.text import (
    explain,
    parse_yaml,
    read_text,
    set_key,
    short,
    to_yaml,
)


def _check_interval(value: Any) -> Any:
    """Check an interval with `interval_from`, so that its error carries the key's path."""
    try:
        interval_from(value)
    except (TypeError, OSError) as error:  # pydantic reports ValueErrors only
        raise ValueError(str(error)) from error
    return value


def _check_condition(key: str) -> AfterValidator:
    """Check a key with `conditions_from`, so that its error carries the key's path."""

    def check(value: Any) -> Any:
        try:
            conditions_from(**{key: value})
        except TypeError as error:  # pydantic reports ValueErrors only
            raise ValueError(str(error)) from error
        return value

    return AfterValidator(check)


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


# Lists in YAML become tuples, because a recipe is immutable.
Size: TypeAlias = Annotated[int, Field(ge=1, le=65_536)]
Sizes: TypeAlias = Annotated[tuple[Size, ...], Field(strict=False)]
Indices: TypeAlias = Annotated[tuple[NonNegativeInt, ...], Field(strict=False)]
Ratios: TypeAlias = Annotated[tuple[PositiveFloat, ...], Field(strict=False, max_length=100)]
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**31)]
Steps: TypeAlias = Annotated[
    Annotated[int, Field(gt=0, lt=2**63)],  # larger ones are no numbers in a file
    BeforeValidator(lambda value: int(value) if _is_whole(value) else value),
]
"""Control steps; 2e6 is one of the ways to write them."""
Workers: TypeAlias = Annotated[
    Annotated[int, Field(ge=0, le=65_536)] | None, Field(validate_default=True)
]
IntervalSpec: TypeAlias = Annotated[
    float | dict[str, JsonValue] | None, AfterValidator(_check_interval)
]


Part: TypeAlias = dict[str, JsonValue]
Parts: TypeAlias = Annotated[tuple[Part, ...], Field(strict=False, max_length=100)]


class Section(BaseModel):
    """A part of a recipe: immutable, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Linear(Section):
    """A number that changes linearly over the training."""

    start: NonNegativeFloat
    end: NonNegativeFloat


Algorithm: TypeAlias = Literal["ppo", "sac"]
Device: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^(auto|(cpu|cuda|hpu|mps|xpu)(:\d{1,3})?)$")
]
# Types in a recipe for types of options that YAML cannot hold as they are.
IN_YAML: dict[Any, Any] = {
    DeviceName: Device,
    Mapping[str, Any]: dict[str, JsonValue],
    Sequence[int]: Sizes,
    Schedule: Linear,
}
NOT_IN_YAML = (torch.device, TrainFreq)


class EnvSection(Section):
    """The environments to train in; see `liquid_control.envs.make_vec`."""

    observe: Literal["full", "positions", "velocities"] | Indices = "full"
    interval: IntervalSpec = None
    """None (nominal), seconds, or a mapping such as {kind: uniform, low: 0.02, high: 0.08}."""
    allow_any_interval: bool = False
    """Accept intervals that are more than 100 times longer or shorter than the nominal one."""
    sensors: Annotated[Parts, _check_condition("sensors")] = ()
    """Effects on observations, in order, such as {kind: noise, std: 0.01}."""
    actuators: Annotated[Parts, _check_condition("actuators")] = ()
    """Effects on actions, in order, such as {kind: delay, low: 0.0, high: 0.05}."""
    bodies: Annotated[Part | None, _check_condition("bodies")] = None
    """Differences of the robot from the model, such as {mass: [0.7, 1.3]}."""
    events: Annotated[Parts, _check_condition("events")] = ()
    """Events during an episode, such as {kind: push, every: 5.0, impulse: 2.0}."""
    privileged: Literal["full", "drawn", "all"] | None = None
    """Additional observations of critics; see `liquid_control.envs.conditions_from`."""
    num_envs: Size = 1
    threads: Annotated[int, Field(ge=0, le=1024)] | None = None
    """Threads that simulate; null: one per processor; 0: no threads, one env after the other."""
    kwargs: dict[str, JsonValue] = {}
    """Arguments of the task's constructor."""
    block: Size | None = None
    """Environments that act together if there are workers; by default up to 4."""
    workers: Workers = None
    """Processes that step and act, see `WorkerVecEnv`; 0: blocks in this one; null: no blocks."""
    engine: Literal["ray"] = "ray"
    """The engine that starts the workers."""
    address: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    """The address of a running Ray cluster, or "auto"; null starts Ray on this machine."""
    worker_cpus: PositiveFloat = 1.0
    """Processors that each worker reserves."""

    @model_validator(mode="before")
    @classmethod
    def _with_block(cls, data: Any) -> Any:
        """Set the blocks of environments with workers, independently of later defaults."""
        if not isinstance(data, dict) or data.get("workers") is None:
            return data
        num_envs = data.get("num_envs", 1)
        if data.get("block") is not None or type(num_envs) is not int or num_envs < 1:
            return data
        return {**data, "block": default_block(num_envs)}

    @field_validator("block", "workers")
    @classmethod
    def _divides(cls, number: int | None, info: ValidationInfo) -> int | None:
        """Check that blocks divide the environments, and workers the blocks."""
        num_envs, block = info.data.get("num_envs"), info.data.get("block")
        if number is None and block is not None:
            raise ValueError("block is for workers; set workers too, 0 to train in this process")
        if number is None or num_envs is None:
            return number
        if info.field_name == "block":
            check_blocks(num_envs, number, 0)
        elif block is not None:
            check_blocks(num_envs, block, number)
        return number

    @property
    def rule(self) -> Interval:
        """The interval as an object."""
        return interval_from(self.interval)


class AgentSection(Section):
    """The algorithm and its options, with the defaults of the agent's class."""

    total_timesteps: Steps
    """Control steps to learn from, over all environments."""


def _keys_of(options: type[Options]) -> dict[str, tuple[Any, Any]]:
    """Return the keys that a recipe has for options: (type, default) by name."""
    hints = get_type_hints(options, include_extras=True)
    return {
        field.name: (_recipe_type(hints[field.name]), field.default)
        for field in dataclasses.fields(options)
    }


def _recipe_type(hint: Any) -> Any:
    """Replace the members of a type that YAML cannot hold."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return Union[tuple(IN_YAML.get(each, each) for each in members if each not in NOT_IN_YAML)]  # noqa: UP007


class PPOSection(create_model("PPOKeys", __base__=AgentSection, **_keys_of(PPOOptions))):  # type: ignore[misc]
    """`LiquidPPO`."""

    algorithm: Algorithm = "ppo"


class SACSection(create_model("SACKeys", __base__=AgentSection, **_keys_of(SACOptions))):  # type: ignore[misc]
    """`LiquidSAC`."""

    algorithm: Algorithm = "sac"


def _algorithm(agent: Any) -> Algorithm:
    """Return the algorithm of a section; PPO if it is missing or unknown."""
    name = agent.get("algorithm") if isinstance(agent, dict) else getattr(agent, "algorithm", None)
    return "sac" if name == "sac" else "ppo"


AnyAgent: TypeAlias = Annotated[
    Annotated[PPOSection, Tag("ppo")] | Annotated[SACSection, Tag("sac")],
    Discriminator(_algorithm),
]


def _policy_keys() -> dict[str, tuple[Any, None]]:
    """Return every option of the policies as a key whose default is None."""
    keys = _keys_of(LiquidPolicyOptions) | _keys_of(SoftLiquidPolicyOptions)
    del keys["normalize_observations"]  # an option of the agent, which passes it on
    del keys["allow_any_interval"]  # an option of the environments, from which agents take it
    del keys["image_layers"], keys["image_features"]  # MuJoCo tasks have no images
    return {name: (hint | None, None) for name, (hint, _) in keys.items()}


class PolicySection(create_model("PolicyKeys", __base__=Section, **_policy_keys())):  # type: ignore[misc]
    """`policy_kwargs` of the agent; a key that is left out has the default of its policy."""


class EvaluationSection(Section):
    """Evaluation of the trained agent."""

    episodes: Size = 20
    """Episodes at each rate."""
    ratios: Ratios = (0.5, 1.0, 2.0)
    """Fixed control intervals, as multiples of the nominal one."""


class MonitoringSection(Section):
    """Monitoring in TensorBoard; see `liquid_control.monitoring`."""

    every: Steps | Literal["fifth"] | None = "fifth"
    """Control steps, over all environments, between two recordings with evaluations; fifth: a brief
    recording after each fifth of the training, and a full one at its end; null: no recordings."""
    film_seconds: PositiveFloat = 4.0
    """Simulated seconds of an episode in a film."""
    episodes: Size = 4
    """Episodes at each control rate."""


class Recipe(Section):
    """A complete description of a training run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=100)]
    """Folder of the runs; by default the recipe's folder and file name, joined by a hyphen."""
    task: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:/-]+$", max_length=200)]
    env: EnvSection = EnvSection()
    agent: AnyAgent
    policy: PolicySection = PolicySection()
    evaluation: EvaluationSection = EvaluationSection()
    monitoring: MonitoringSection = MonitoringSection()
    checkpoint_every: Steps | None = 100_000
    """Control steps, over all environments, between two checkpoints; null: no checkpoints."""
    seed: Seed = 0
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads of PyTorch; one is fastest for small circuits."""

    def with_policy(self, options: CircuitOptions) -> Recipe:
        """Return the recipe with every option of its policy, independent of later defaults.

        Options that follow from the environment, such as the nominal interval, are left open.
        """
        given = {**vars(options), "nominal_interval": None}
        for name in ("encoder", "actor_layers", "critic_layers"):  # no layers; null is the default
            if name in given:
                given[name] = given[name] or ()
        policy = {name: given[name] for name in PolicySection.model_fields if name in given}
        return self.model_copy(update={"policy": PolicySection.model_validate(policy)})

    def to_yaml(self) -> str:
        """Return the recipe as YAML, with all defaults except those of the policy."""
        data = self.model_dump(mode="json")
        data["policy"] = self.policy.model_dump(mode="json", exclude_none=True)
        return to_yaml(data)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from a file, and apply overrides.

    A recipe may name modules and files. `build_env` imports and opens them, and so does this
    function for recorded intervals; `needs_trust` lists them.

    Args:
        path: A YAML file, or the name of a recipe of the package, such as half_cheetah/ncp_ppo.
        overrides: Assignments such as "agent.n_steps=128": a dotted path and a YAML value.

    Raises:
        RecipeError: If the file is missing or is not YAML, or if a key is unknown, missing or
            repeated or has an invalid value.
    """
    return recipe_from(read_recipe(path, overrides), str(path))


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the keys of a recipe, not yet checked; arguments and errors as of `load_recipe`."""
    path = find(Path(path))
    known = () if path.exists() else names()
    data = parse_yaml(read_text(path, known=known), str(path))
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys, got {short(data)}")
    for override in overrides:
        set_key(data, override)
    absolute = path.absolute()
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{absolute.parent.name}-{absolute.stem}")
    data.setdefault("name", name.lstrip(".-")[:100])
    return data


def recipe_from(data: dict[str, Any], source: str) -> Recipe:
    """Return the recipe of these keys; a RecipeError names `source` and the invalid key."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{source}: {explain(error, data, Recipe)}") from error
