"""Recipes: every mistake raises one line that names the key; valid recipes load unchanged."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.utils import LinearSchedule

from liquid_control import envs
from liquid_control.agents import LiquidPPO, LiquidSAC
from liquid_control.policies.options import LiquidPolicyOptions, SoftLiquidPolicyOptions
from liquid_control.recipes import (
    Recipe,
    RecipeError,
    build_agent,
    build_env,
    build_robot,
    load_recipe,
)
from liquid_control.recipes.schema import (
    AgentSection,
    Linear,
    PolicySection,
    PPOSection,
    SACSection,
)
from liquid_control.recipes.sizes import policy_size
from liquid_control.recipes.text import parse_yaml, to_yaml

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(CONFIGS.rglob("*.yaml"))

SMALLEST = """
task: InvertedPendulum-v5
agent: {total_timesteps: 64, n_steps: 32, batch_size: 32}
policy: {wiring: {kind: dense, neurons: 4}}
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny" / "ncp.yaml"
    path.parent.mkdir()
    path.write_text(SMALLEST)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_shipped_recipe_is_valid_and_observes_what_its_name_says(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == f"{path.parent.name}-{path.stem}"
    part = path.stem.rpartition("_")[-1]
    assert recipe.env.observe == (part if part in {"full", "velocities"} else "positions")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_shipped_recipe_halves_and_doubles_the_nominal_interval(path: Path) -> None:
    recipe = load_recipe(path)
    robot = build_robot(recipe)
    nominal = robot.get_wrapper_attr("nominal_interval")
    physics = robot.unwrapped.model.opt.timestep  # type: ignore[attr-defined]
    robot.close()
    low, high = recipe.env.rule.bounds(nominal)
    assert high == pytest.approx(2 * nominal)
    assert nominal / 2 <= low + 1e-9 < nominal / 2 + physics  # 2.5 physics steps may be 3


@pytest.mark.parametrize(
    "folder", ["half_cheetah", "hopper", "walker2d", "ant", "swimmer", "humanoid"]
)
def test_a_robot_has_a_recipe_for_every_part_of_its_observation(folder: str) -> None:
    names = {path.stem for path in RECIPES if path.parent.name == folder}
    assert names >= {"ncp_ppo", "ncp_ppo_full", "ncp_ppo_velocities"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_resolved_recipe_loads_as_the_same_recipe(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path, ["seed=3", "policy.encoder=[8]"])
    resolved = tmp_path / "config.yaml"
    resolved.write_text(recipe.to_yaml())
    assert load_recipe(resolved) == recipe


@pytest.mark.parametrize(
    ("section", "agent"), [(PPOSection, LiquidPPO), (SACSection, LiquidSAC)], ids=["ppo", "sac"]
)
def test_defaults_are_those_of_the_agent(section: type[AgentSection], agent: type) -> None:
    parameters = inspect.signature(agent).parameters
    fields = section.model_fields.keys() - {"algorithm", "total_timesteps"}
    defaults = {name: section.model_fields[name].default for name in fields}
    assert defaults == {name: parameters[name].default for name in fields}


def test_every_option_of_the_policies_is_a_key() -> None:
    options = {
        field.name
        for policy in (LiquidPolicyOptions, SoftLiquidPolicyOptions)
        for field in dataclasses.fields(policy)
    }
    of_others = {"normalize_observations", "allow_any_interval", "image_layers", "image_features"}
    assert PolicySection.model_fields.keys() == options - of_others
    assert PolicySection().model_dump(exclude_none=True) == {}


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("agent.n_steps=128", "agent.n_steps", 128),
        ("agent.n_steps=0128", "agent.n_steps", 128),
        ("agent.total_timesteps=1_000_000", "agent.total_timesteps", 1_000_000),
        ("agent.learning_rate=3e-4", "agent.learning_rate", 3e-4),
        ("agent.learning_rate=1", "agent.learning_rate", 1.0),
        ("agent.learning_rate={start: 1e-3, end: 0}", "agent.learning_rate.end", 0.0),
        ("agent.target_kl=null", "agent.target_kl", None),
        ("agent.normalize_returns=false", "agent.normalize_returns", False),
        ("env.observe=[0, 1]", "env.observe", (0, 1)),
        ("env.interval=0.02", "env.interval", 0.02),
        ("policy.neurons=ltc", "policy.neurons", "ltc"),
        ("policy.encoder=[16, 8]", "policy.encoder", (16, 8)),
        ("evaluation.ratios=[1, 2.5]", "evaluation.ratios", (1.0, 2.5)),
        ("env.allow_any_interval=true", "env.allow_any_interval", True),
        ("name=mine", "name", "mine"),
    ],
)
def test_an_override_is_a_yaml_value(
    recipe_file: Path, override: str, path: str, value: Any
) -> None:
    found: Any = load_recipe(recipe_file, [override])
    for key in path.split("."):
        found = getattr(found, key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["010", "1_0", "1e5", ".5", "1:30", "yes", "no", "~", "<<", "="])
def test_text_that_resembles_something_else_stays_text(text: str) -> None:
    assert parse_yaml(to_yaml({"name": text}), "here") == {"name": text}


def test_the_last_override_wins_and_opens_what_is_absent(recipe_file: Path) -> None:
    overrides = ["env.kwargs.reset_noise_scale=0.1", "seed=1", "seed=2"]
    recipe = load_recipe(recipe_file, overrides)
    assert recipe.env.kwargs == {"reset_noise_scale": 0.1}
    assert recipe.seed == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("agent.n_stepz=3", ["agent.n_stepz: unknown key", "did you mean agent.n_steps?"]),
        ("learning_rate=3", ["learning_rate: unknown key", "mean agent.learning_rate?"]),
        (
            "env.quux=3",
            ["env.quux: unknown key", "known here: actuators, address, allow_any_interval, block"],
        ),
        ("policy.use_sde=true", ["policy.use_sde: unknown key"]),
        ("agent.learning_rate={begin: 1, end: 0}", ["agent.learning_rate."]),
        ("agent.n_steps=many", ["agent.n_steps: ", "integer", "'many'"]),
        ("agent.n_steps=12.5", ["agent.n_steps: ", "integer", "12.5"]),
        ("agent.n_steps=true", ["agent.n_steps: ", "integer"]),
        ("agent.n_steps='128'", ["agent.n_steps: ", "integer"]),
        ("agent.n_steps=2:08", ["agent.n_steps: ", "integer", "'2:08'"]),
        ("agent.normalize_returns=yes", ["agent.normalize_returns: ", "boolean", "'yes'"]),
        ("agent.normalize_returns=1", ["agent.normalize_returns: ", "boolean", "1"]),
        ("env={<<: {num_envs: 2}}", ["env.<<: unknown key"]),
        ("agent.n_steps=0", ["agent.n_steps: ", "greater than 0"]),
        ("agent.buffer_size=9", ["agent.buffer_size: unknown key of this agent, though another"]),
        ("agent.n\nk=1", ["agent.'n\\nk': unknown key"]),
        ("env.num_envs=100000", ["env.num_envs: ", "65536"]),
        ("policy.encoder=[64, 1000000]", ["policy.encoder.1: ", "65536"]),
        ("agent.gamma=1.5", ["agent.gamma: ", "less than or equal to 1"]),
        ("agent.gamma=.nan", ["agent.gamma: ", "finite"]),
        ("agent.learning_rate=fast", ["agent.learning_rate: ", "number", "'fast'"]),
        ("agent.algorithm=dqn", ["agent.algorithm: ", "'ppo' or 'sac'"]),
        ("agent=3", ["agent: "]),
        ("env.observe=angles", ["env.observe: ", "'positions'"]),
        ("env.interval=-1", ["env.interval: ", "above 0"]),
        ("env.threads=-1", ["env.threads: ", "greater than or equal to 0"]),
        ("env.interval={kind: sometimes}", ["env.interval: ", "'sometimes'", "uniform"]),
        ("env.interval={kind: fixed, seconds: x}", ["env.interval: ", "number"]),
        ("env.interval={kind: trace, path: none.csv}", ["env.interval: ", "none.csv"]),
        ("evaluation.ratios=[1, -2]", ["evaluation.ratios.1: ", "greater than 0"]),
        ("policy.wiring=dense", ["policy.wiring: ", "dictionary"]),
        ("seed=-1", ["seed: "]),
        ("seed=2026-99-99", ["seed: ", "'2026-99-99'"]),
        (f"seed={'9' * 5000}", ["seed: ", "integer"]),
        ("checkpoint_every=1e20", ["checkpoint_every: ", "less than 9223372036854775808"]),
        ("agent.total_timesteps=1e30", ["agent.total_timesteps: ", "less than"]),
        (f"seed=0x{'f' * 5000}", ["seed: ", "integer"]),
        ("seed=0b_", ["seed: ", "integer", "'0b_'"]),
        ("agent.stats_window_size=9223372036854775808", ["agent.stats_window_size: "]),
        ("name=../elsewhere", ["name: "]),
        ("name=<b>", ["name: ", "'<b>'"]),
        (f"name={'n' * 300}", ["name: ", "at most 100"]),
        (f"task={'n' * 300}", ["task: ", "at most 200"]),
        ("task=Ant v5", ["task: ", "'Ant v5'"]),
        ("threads=2147483648", ["threads: ", "1024"]),
        ("env.threads=2147483648", ["env.threads: ", "1024"]),
        ("agent.device=meta", ["agent.device: ", "'meta'"]),
        ("agent.device=abacus", ["agent.device: ", "'abacus'"]),
        ("policy.log_std_init=-12345", ["policy.log_std_init: ", "-20"]),
        ("evaluation.episodes=100000", ["evaluation.episodes: ", "65536"]),
        ("env.interval=2026-99-99", ["env.interval: "]),
        (".".join("a" * 5000) + "=1", ["write it as key=value"]),
        ("env.kwargs.a=" + "[" * 3000, ["--set env.kwargs.a: line 1", "30 deep"]),
        ("task=2026", ["task: ", "string"]),
        ("agent.n_steps", ["agent.n_steps: write it as key=value"]),
        ("agent..n_steps=1", ["write it as key=value"]),
        ("agent.n_steps=[1", ["agent.n_steps: line 1"]),
        ("task.name=x", ["task is 'InvertedPendulum-v5', which has no keys"]),
    ],
)
def test_a_wrong_override_raises_one_line_with_its_path(
    recipe_file: Path, override: str, words: list[str]
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file, [override])
    text = str(caught.value)
    assert "\n" not in text
    assert [word for word in words if word not in text] == [], text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task: [1, 2", ["line 1"]),
        ("task: a\ntask: b", ["line 2", "'task' is given twice"]),
        ("agent: {n_steps: 1, n_steps: 2}", ["'n_steps' is given twice"]),
        ("- a\n- b", ["a mapping of keys"]),
        ("", ["a mapping of keys"]),
        ("3: 4", ["this key is required", "task", "agent", "3"]),
        ("agent: {total_timesteps: 1}", ["task: this key is required"]),
        ("task: x\nagent: {}", ["agent.total_timesteps: this key is required"]),
        ("task: !!python/object/apply:os.getcwd []", ["line 1"]),
        ("task: \x00", ["not YAML"]),
        ("seed: !!int z", ["line 1: seed: a recipe has no tags"]),
        ("a: 1\nb: {c: &x [1]}", ["line 2: b.c: a recipe has no tags (!), anchors (&)"]),
        ("a: *x", ["line 1: a: a recipe has no tags (!), anchors (&) or aliases (*)"]),
        ("a: " + "[" * 3000, ["line 1: a.0.0.", "nested more than 30 deep"]),
        ("- " * 3000, ["nested more than 30 deep"]),
        ("? " * 3000, ["nested more than 30 deep"]),
        ("a: 1\n" * 30_000, ["longer than the 100,000 characters"]),
    ],
)
def test_a_malformed_recipe_raises_one_line(recipe_file: Path, text: str, words: list[str]) -> None:
    recipe_file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file)
    assert str(caught.value).startswith(str(recipe_file))
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_recipe_of_sac_builds_that_agent(tmp_path: Path) -> None:
    path = tmp_path / "sac.yaml"
    path.write_text(
        "task: InvertedPendulum-v5\n"
        "agent: {algorithm: sac, total_timesteps: 9,\n"
        "  burn_in: 8, batch_size: 64, buffer_size: 160}\n"
        "policy: {wiring: {kind: dense, neurons: 4}, n_critics: 3}\n"
    )
    agent = agent_of(load_recipe(path, ["agent.recurrent_learning_rate={start: 1e-3, end: 0}"]))
    assert isinstance(agent, LiquidSAC)
    assert (agent.burn_in, agent.batch_size, agent.buffer_size) == (8, 64, 160)
    assert isinstance(agent.recurrent_learning_rate, LinearSchedule)
    with pytest.raises(RecipeError, match=r"agent\.n_steps: unknown key"):
        load_recipe(path, ["agent.n_steps=64"])


@pytest.mark.parametrize("text", ["<b>x</b>", "a b", "a\nb", "a\x1b[31mb", "größe", "$x$", ""])
@pytest.mark.parametrize("key", ["name", "task"])
def test_names_are_plain(key: str, text: str, recipe_file: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file, [f"{key}={json.dumps(text)}"])
    message = str(caught.value)
    assert f"{key}: String should match pattern" in message
    assert message.isprintable()


def test_a_default_name_is_plain(recipe_file: Path) -> None:
    for name in ("my robots", "<größe>", ".hidden"):
        folder = recipe_file.parent / name
        folder.mkdir()
        path = folder / "a b.yaml"
        path.write_text(recipe_file.read_text())
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*-a-b", load_recipe(path).name)


def test_control_steps_may_be_written_as_powers_of_ten(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file, ["agent.total_timesteps=2e6", "checkpoint_every=1.5e3"])
    assert (recipe.agent.total_timesteps, recipe.checkpoint_every) == (2_000_000, 1500)
    for wrong in ("2.5", ".nan", ".inf", "-1e3"):
        with pytest.raises(RecipeError, match=r"agent\.total_timesteps: "):
            load_recipe(recipe_file, [f"agent.total_timesteps={wrong}"])


def test_several_mistakes_are_all_named(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=r"agent\.gamma: .*agent\.n_steps"):
        load_recipe(recipe_file, ["agent.n_steps=0", "agent.gamma=2"])


def test_a_missing_recipe_names_its_neighbours(recipe_file: Path) -> None:
    for wrong in (recipe_file.with_stem("npc"), recipe_file.parent.with_name("tinny") / "ncp.yaml"):
        with pytest.raises(RecipeError, match=f"no such recipe; did you mean {recipe_file}"):
            load_recipe(wrong)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "binary", "system"])
def test_what_is_no_text_file_is_not_read(kind: str, tmp_path: Path) -> None:
    paths = {"folder": tmp_path, "device": Path("/dev/zero"), "system": Path("/proc/kmsg")}
    path = paths.get(kind, tmp_path / "recipe.yaml")
    if kind == "pipe":
        os.mkfifo(path)  # reading it would not end
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe\x00" * 100)
    if not path.exists():
        pytest.skip(f"this system has no {path}")
    with pytest.raises(RecipeError, match=r"cannot be read|a mapping of keys"):
        load_recipe(path)


def test_a_default_name_has_only_letters_digits_and_marks(recipe_file: Path) -> None:
    path = recipe_file.rename(recipe_file.with_name("my <b>robot.yaml"))
    assert load_recipe(path).name == "tiny-my-b-robot"


@pytest.mark.parametrize("critic", ["twin", "mlp", "shared"])
@pytest.mark.parametrize("neurons", ["cfc", "ltc", "ctrnn", "lrc", "lstm", "gru"])
def test_the_estimate_of_weights_is_a_bound(recipe_file: Path, neurons: str, critic: str) -> None:
    sizes = ["policy.wiring={kind: dense, neurons: 64}", "policy.encoder=[32]"]
    recipe = load_recipe(
        recipe_file, [f"policy.neurons={neurons}", f"policy.critic={critic}", *sizes]
    )
    agent = agent_of(recipe)
    weights, _ = policy_size(recipe, features=4, actions=1)
    counts = [each.numel() for each in agent.policy.parameters()]
    actual = sum(count for count in counts if count > 64)  # without biases of layers
    assert actual <= weights <= 6 * actual


def test_a_recipe_does_not_change(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file)
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 1  # type: ignore[misc]


def test_environments_are_stepped_together_on_as_many_threads_as_the_recipe_says(
    recipe_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "liquid_control")
    for threads, words in ((0, "4 envs, stepped one by one"), (3, "4 envs, stepped together on 3")):
        recipe = load_recipe(recipe_file, ["env.num_envs=4", f"env.threads={threads}"])
        build_env(recipe).close()
        assert words in caplog.records[-1].getMessage()


def agent_of(recipe: Recipe) -> LiquidPPO:
    env = build_env(recipe)
    try:
        return build_agent(recipe, env)
    finally:
        env.close()


def test_the_agent_has_the_recipes_numbers(recipe_file: Path) -> None:
    overrides = ["agent.learning_rate={start: 1e-3, end: 1e-4}", "agent.sequence_length=16"]
    recipe = load_recipe(recipe_file, [*overrides, "policy.neurons=ltc", "env.num_envs=3"])
    agent = agent_of(recipe)
    schedule = agent.lr_schedule
    assert [schedule(1.0), schedule(0.5), schedule(0.0)] == pytest.approx([1e-3, 5.5e-4, 1e-4])
    assert (agent.n_envs, agent.n_steps, agent.sequence_length) == (3, 32, 16)
    assert type(agent.policy.actor_circuit).__name__ == "LTC"
    assert agent.policy.actor_circuit.wiring.neuron_count == 4
    assert isinstance(recipe.agent.learning_rate, Linear)
    assert isinstance(agent.learning_rate, LinearSchedule)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("task=NoSuchTask-v5", "unknown task 'NoSuchTask-v5'"),
        ("task=CartPole-v1", "CartPole-v1 has no MuJoCo physics"),
        ("task=HalfCheetah-v1", "task and env: Environment version v1 for `HalfCheetah`"),
        ("task=no_such_module:Robot-v0", "No module named 'no_such_module'"),
        ("task=..robots:Robot-v0", "task and env: "),
        ("env.kwargs={wheels: 3}", "wheels"),
        ("env.kwargs={frame_skip: 0}", "env.kwargs.frame_skip: "),
        ("env.kwargs={frame_skip: 1000000000}", "env.kwargs.frame_skip: "),
        ("env.kwargs={frame_skip: two}", "env.kwargs.frame_skip: "),
        ("env.kwargs={max_episode_steps: 1000000000000}", "env.kwargs.max_episode_steps: "),
        ("env.kwargs={reset_noise_scale: -1}", "env.kwargs.reset_noise_scale: "),
        ("env.kwargs={reset_noise_scale: true}", "env.kwargs.reset_noise_scale: "),
        ("env.kwargs={xml_file: /nowhere.xml}", "env.kwargs.xml_file: "),
        ("env.kwargs={xml_file: /}", "env.kwargs.xml_file: "),
        ("env.kwargs={xml_file: 3}", "env.kwargs.xml_file: "),
        ("env.kwargs={task: Ant-v5}", "env.kwargs.task: cannot be given here; set task"),
        ("env.kwargs={seed: 0}", "env.kwargs.seed: cannot be given here; set seed"),
        ("env.kwargs={interval: 0.04}", "env.kwargs.interval: cannot be given here; set env.inter"),
        ("env.kwargs={observe: full}", "env.kwargs.observe: cannot be given here; set env.observe"),
        ("env.kwargs={num_envs: 2}", "env.kwargs.num_envs: cannot be given here; set env.num_env"),
        ("env.kwargs={threads: 2}", "env.kwargs.threads: cannot be given here; set env.threads"),
        ("env.kwargs={render_mode: human}", "env.kwargs.render_mode: cannot be given here"),
        ("env={num_envs: 65536, threads: 0}", "num_envs must be at most 1024 where envs are"),
        ("env.interval=0.001", "shorter than one physics step"),
        ("agent.sequence_length=24", "sequence_length"),
        ("agent.batch_size=1", "batch_size"),
        ("policy.neurons=spiking", "neurons must be one of"),
        ("policy.critic=harsh", "critic must be one of"),
        ("policy.wiring={kind: knitted}", "unknown kind of wiring 'knitted'"),
        ("policy.wiring={kind: dense, neurons: 0}", "neurons"),
        ("policy.wiring={kind: dense, neurons: 16384}", "policy.wiring, "),
        ("agent.n_steps=1000000000000000", "agent.n_steps and env.num_envs: "),
        ("agent.n_steps=1000000000", "agent.n_steps and env.num_envs: "),
        ("agent={algorithm: sac, total_timesteps: 1, buffer_size: 100000000000}", "agent.buffer_"),
        ("policy.encoder=[65536, 65536]", "policy.encoder"),
        ("policy.critic_layers=[65536, 65536]", "layers: up to 4,"),
        (
            "policy={neurons: ltc, neuron_kwargs: {ode_steps: 1000000000}}",
            "neuron_kwargs.ode_steps",
        ),
        ("policy.neuron_kwargs={colour: red}", "neuron_kwargs of cfc neurons: "),
        ("policy.n_critics=3", "n_critics"),
    ],
)
def test_what_cannot_be_built_raises_one_line(recipe_file: Path, override: str, words: str) -> None:
    recipe = load_recipe(recipe_file, [override])
    with pytest.raises(RecipeError) as caught:
        agent_of(recipe)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
@pytest.mark.parametrize("encoder", ["null", "[]", "[8]"])
def test_a_resolved_recipe_builds_the_same_policy_whatever_the_defaults_are(
    algorithm: str, encoder: str, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("task: InvertedPendulum-v5\nagent: {total_timesteps: 64}\n")
    recipe = load_recipe(path, [f"agent.algorithm={algorithm}", f"policy.encoder={encoder}"])
    policy = build_agent(recipe, build_env(recipe)).policy
    path.write_text(recipe.with_policy(policy.options).to_yaml())
    resolved = load_recipe(path)
    missing = {name for name, value in resolved.policy if value is None}
    others = {"actor_layers", "n_critics", "share_encoder"} if algorithm == "ppo" else set()
    of_ppo = {"critic", "log_std_init"}
    others |= of_ppo if algorithm == "sac" else set()
    assert missing == others | {
        "critic_wiring",
        "neuron_kwargs",
        "nominal_interval",
        "optimizer_kwargs",
    }
    again = build_agent(resolved, build_env(resolved)).policy
    for (name, one), (_, other) in zip(
        policy.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert one.equal(other), name


CONDITIONS = """
env:
  sensors:
    - {kind: noise, std: 0.01, bias: [-0.01, 0.01]}
    - {kind: delay, low: 0.02, high: 0.06}
    - {kind: dropout, probability: 0.1, hold: false}
    - {kind: quantize, step: 0.001}
    - {kind: age}
  actuators: [{kind: delay, low: 0.04}, {kind: rate_limit, rate: 20}]
  bodies: {mass: [0.7, 1.3], gain: {slider: [0.5, 1]}}
  events: [{kind: change, at: [1, 2], gain: 0}, {kind: push, every: 5, impulse: 2, body: cart}]
  privileged: all
  num_envs: 2
"""


def test_conditions_of_a_recipe_reach_its_environments_and_its_copy(recipe_file: Path) -> None:
    recipe_file.write_text(SMALLEST + CONDITIONS)
    recipe = load_recipe(recipe_file)
    copy = recipe_file.with_name("copy.yaml")
    copy.write_text(recipe.to_yaml())
    assert load_recipe(copy) == recipe
    parts = envs.conditions_from(
        recipe.env.sensors,
        recipe.env.actuators,
        recipe.env.bodies,
        recipe.env.events,
        recipe.env.privileged,
    )
    assert parts.sensors[1] == envs.Delay(0.02, 0.06)
    assert build_robot(recipe).get_wrapper_attr("conditions") == parts
    assert build_env(recipe).get_attr("conditions") == [parts] * 2
    model = build_agent(recipe, build_env(recipe))
    model.learn(64)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.sensors=[{kind: noise, std: -1}]", "env.sensors: sensors[0]: std must be at least 0"),
        ("env.sensors=[{kind: nose}]", "env.sensors: sensors[0].kind 'nose' is unknown; use one"),
        ("env.sensors={kind: noise}", "env.sensors: "),
        ("env.actuators=[{kind: noise, std: 1}]", "env.actuators: actuators[0].kind 'noise' is"),
        ("env.bodies={mass: [1.3, 0.7]}", "env.bodies: bodies: mass is an empty range"),
        ("env.bodies={mass: heavy}", "env.bodies: bodies: mass must be a number, got 'heavy'"),
        (
            "env.events=[{kind: push, every: 1}]",
            "env.events: events[0]: 'push' lacks key 'impulse'",
        ),
        ("env.privileged=everything", "env.privileged: "),
        ("env.kwargs.sensors=[]", "env.kwargs.sensors: cannot be given here; set env.sensors"),
        ("env.bodies={mass: {tail: 2}}", "mass.tail: the model has no body 'tail'"),
    ],
)
def test_a_bad_condition_is_named_with_its_key(
    recipe_file: Path, override: str, message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        build_env(load_recipe(recipe_file, [override]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
