"""LiquidSAC: its mathematics on scripted episodes, and its habits, which are those of SB3's SAC."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize
from torch.testing import assert_close

from liquid_control import LiquidSAC, envs
from liquid_control.agents.soft_losses import soft_targets
from liquid_control.storage.replay import Sequences
from tests.agents.scripted import (
    ALIGNED,
    LONG,
    SPACE,
    WITHIN,
    Episode,
    Scripted,
    Step,
    Stop,
    Tick,
    acts,
    learn_three_episodes,
    scalars,
    total_reward,
    weights,
)

pytestmark = pytest.mark.filterwarnings("ignore:rich is experimental")

LENGTH, BURN_IN = 4, 2
SCRIPTS = [
    WITHIN,
    [
        *(*ALIGNED[:-1], Step(1.7, 5.0), Step(0.5, 1.0)),
        *(Step(0.8, 2.0), Step(1.2, -1.0), Step(0.3, 0.5), Step(1.5, 1.0, "truncated")),
    ],
    LONG,
]


class Bounded(Scripted):
    """Each action has bounds of its own."""

    action_space = spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 1.0]), dtype=np.float32)


class Narrow(Tick):
    """Actions are at most a half."""

    action_space = spaces.Box(-0.5, 0.5, (2,))


def build(env: Any = None, **options: Any) -> LiquidSAC:
    """A small agent whose actions and values differ clearly from one state to another."""
    policy_kwargs = {
        "wiring": {"kind": "auto_ncp", "neurons": 10},
        "critic_layers": [16],
    } | options.pop("policy_kwargs", {})
    options = {
        "buffer_size": 3000,
        "learning_starts": 30,
        "batch_size": 8 * LENGTH,
        "sequence_length": LENGTH,
        "burn_in": BURN_IN,
        "seed": 0,
        "device": "cpu",
    } | options
    return LiquidSAC(
        "LiquidPolicy",
        Bounded.playing(SCRIPTS) if env is None else env,
        policy_kwargs=policy_kwargs,
        **options,
    )


def collect(model: LiquidSAC, steps: int = 60) -> LiquidSAC:
    """Act for some steps of each environment, and leave the weights as they are."""
    model.train = lambda **_: None  # type: ignore[method-assign]
    assert model.env is not None
    return model.learn(steps * model.env.num_envs)


def everything(model: LiquidSAC) -> Sequences:
    return model.replay_buffer._gather(np.arange(len(model.replay_buffer)))


def window(sequences: Sequences, index: int) -> Sequences:
    """One of them."""
    names = Sequences.__dataclass_fields__
    chosen = {name: getattr(sequences, name) for name in names}
    return Sequences(
        **{
            name: each[index : index + 1] if name == "state" else each[:, index : index + 1]
            for name, each in chosen.items()
        }
    )


class TestTargets:
    def test_by_hand(self) -> None:
        """A step of two intervals and one of a half, one that terminates, one that is cut."""
        targets = soft_targets(
            rewards=torch.tensor([[1.0], [2.0], [3.0]]),
            terminated=torch.tensor([[0.0], [0.0], [1.0]]),
            duration=torch.tensor([[2.0], [0.5], [1.0], [3.0]]),
            next_values=torch.tensor([[10.0], [20.0], [1e9]]),
            next_log_prob=torch.tensor([[-1.0], [4.0], [7.0]]),
            gamma=0.81,
            ent_coef=torch.tensor(0.5),
        )
        expected = [
            1 + 0.81**2 * (10 + 0.5 * 0.5 * 1),  # the next action is held for half an interval
            2 + 0.9 * (20 - 0.5 * 1.0 * 4),
            3.0,
        ]
        assert_close(targets.flatten(), torch.tensor(expected))

    def test_losses_are_those_of_episodes_unrolled_from_their_start(self) -> None:
        """Of each window: burn-in, state, discounts, ends and what is left out have to be right."""
        model = build(gamma=0.9, normalize_observations=False, learning_starts=90)
        collect(model)
        critic, target = model.critic, model.critic_target
        with torch.no_grad():
            target.of_value.mul_(3).add_(0.2)
            critic.of_value.mul_(3)
        sequences, alpha = everything(model), torch.tensor(0.3)
        found = 0
        for episode in played(model):
            actor_activity, seen, actions = from_its_start(model, episode)
            for first in range(0, len(episode.steps), LENGTH):
                steps = episode.steps[first : first + LENGTH]
                here = episode.observations[first]["observation"]
                places = (sequences.features[BURN_IN] == torch.from_numpy(here)).all(dim=1)
                if not places.any():  # the episode goes on, and the window is not complete
                    continue
                (index,) = torch.nonzero(places).flatten().tolist()
                torch.manual_seed(found)
                with torch.no_grad():
                    actor_loss, critic_loss, deficit = model._losses(
                        window(sequences, index), alpha
                    )
                    torch.manual_seed(found)
                    padded = torch.zeros(LENGTH + 1, 1, actor_activity.shape[-1])
                    padded[: len(steps) + 1] = actor_activity[first : first + len(steps) + 1]
                    chosen, log_prob = model.policy.actor(padded)
                    costs, errors, deficits = [], [], []
                    for t, step in enumerate(steps):
                        now, after = slice(first + t, first + t + 1), first + t + 1
                        context = critic.context(seen[now])
                        values = critic(context, actions[now]).flatten()
                        best = critic(context, chosen[t : t + 1]).min()
                        following = slice(after, after + 1)
                        context = target.context(seen[following])
                        reached = target(context, chosen[t + 1 : t + 2]).min()
                        held = (episode.steps[after : after + 1] or [step])[0].ratio
                        soft = reached - 0.3 * held * log_prob[t + 1, 0]
                        goes_on = step.ending != "terminated"
                        worth = step.reward + goes_on * 0.9**step.ratio * soft
                        errors.append(0.5 * (values - worth).square().sum())
                        costs.append(0.3 * step.ratio * log_prob[t, 0] - best)
                        deficits.append(step.ratio * (log_prob[t, 0] - 2.0))
                for ours, expected in (
                    (actor_loss, costs),
                    (critic_loss, errors),
                    (deficit, deficits),
                ):
                    assert_close(ours, torch.stack(expected).mean(), rtol=1e-3, atol=1e-4)
                found += 1
        assert found == len(model.replay_buffer) > 40


def played(model: LiquidSAC) -> list[Episode]:
    return [episode for env in model.env.envs for episode in env.episodes]  # type: ignore[union-attr]


def from_its_start(model: LiquidSAC, episode: Episode) -> tuple[torch.Tensor, ...]:
    """Activity of the actor's neurons, what the critics' heads see, and the actions."""
    policy = model.policy
    stacked = {key: np.stack([each[key] for each in episode.observations]) for key in SPACE}
    features, elapsed_time = policy.observe(policy.obs_to_tensor(stacked)[0])
    actions = torch.zeros(0, 2)
    if episode.actions:
        actions = policy.from_env(np.stack(episode.actions))
    previous = torch.cat([torch.zeros(1, 2), actions])
    with torch.no_grad():
        starts = torch.zeros(len(features), 1)
        signal = policy.signal(features[:, None], elapsed_time[:, None], starts, previous[:, None])
        actor_activity, seen, _ = policy.unroll(signal, policy.initial_actor_critic_state(1))
    return actor_activity, seen, actions[:, None]


class TestUpdate:
    def test_seeded_runs_agree_bit_for_bit(self) -> None:
        def run(seed: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
            model = build(seed=seed).learn(120)
            figures = dict(model.logger.name_to_value)
            return weights(model), {k: v for k, v in figures.items() if k.startswith("train")}

        one, same, other = run(1), run(1), run(2)
        assert_close(one[0], same[0], rtol=0, atol=0)
        assert one[1] == same[1]
        assert one[1]["train/critic_loss"] != other[1]["train/critic_loss"]

    def test_actor_and_critics_learn_from_their_own_loss_alone(self) -> None:
        model = collect(build(policy_kwargs={"encoder": [7]}))
        theirs = [*model.critic.parameters()]
        own = [*model.actor.parameters()]
        sequences, alpha = everything(model), torch.tensor(0.3)
        actor_loss, critic_loss, _ = model._losses(sequences, alpha)
        for loss, reached, spared in ((actor_loss, own, theirs), (critic_loss, theirs, own)):
            gradients = torch.autograd.grad(
                loss, [*reached, *spared], retain_graph=True, allow_unused=True
            )
            assert all(each is not None for each in gradients[: len(reached)])
            assert all(each is None for each in gradients[len(reached) :])

    def test_what_is_masked_has_no_weight(self) -> None:
        model = collect(build())
        sequences = everything(model)
        short = int(sequences.mask.sum(dim=0).argmin())
        one = window(sequences, short)
        last = int(one.mask.sum())
        assert last < LENGTH

        def losses() -> list[float]:
            torch.manual_seed(0)
            with torch.no_grad():
                return [each.item() for each in model._losses(one, torch.tensor(0.3))]

        before = losses()
        for column in (one.rewards, one.actions, one.duration[1:]):
            column[last:] += 5.0
        one.features[BURN_IN + last + 1 :] += 5.0
        assert losses() == before
        one.rewards[last - 1] += 5.0
        assert losses() != before

    def test_gradients_stop_at_the_burn_in(self) -> None:
        model = collect(build())
        sequences = everything(model)
        inside = sequences.episode_start[: BURN_IN + 1].sum(dim=0) == 0
        sequences.features.requires_grad_()
        actor_loss, critic_loss, _ = model._losses(sequences, torch.tensor(0.3))
        (gradient,) = torch.autograd.grad(actor_loss + critic_loss, sequences.features)
        assert (gradient[:BURN_IN] == 0).all()
        assert inside.any()
        assert (gradient[BURN_IN, inside].abs().sum(dim=1) > 0).all()

    def test_targets_follow_slowly(self) -> None:
        model = collect(build(tau=0.25, learning_rate=0.0))
        before = [weight.clone() for weight in model.critic_target.parameters()]
        with torch.no_grad():
            for weight in model.critic.parameters():
                weight.add_(1.0)
        del model.train
        model.train(gradient_steps=1, batch_size=LENGTH)
        for weight, old, new in zip(
            model.critic_target.parameters(), before, model.critic.parameters(), strict=True
        ):
            assert_close(weight, 0.75 * old + 0.25 * new)

    def test_circuits_have_a_learning_rate_of_their_own(self) -> None:
        model = build(learning_rate=1e-3, recurrent_learning_rate=0.0)
        before = weights(model)
        model.learn(120)
        changed = {name for name, value in weights(model).items() if (value != before[name]).any()}
        assert any("head" in name for name in changed)
        trained = [name for name, each in model.policy.named_parameters() if each.requires_grad]
        circuits = {name for name in trained if "circuit" in name}
        assert len(circuits) > 4
        assert changed.isdisjoint(circuits)
        assert model.logger.name_to_value["train/recurrent_learning_rate"] == 0.0

    @pytest.mark.parametrize(
        "circuit",
        [
            *({"neurons": neurons} for neurons in ("cfc", "ltc", "lstm")),
            *(
                pytest.param({"neurons": neurons}, marks=pytest.mark.slow)
                for neurons in ("ctrnn", "lrc", "gru")
            ),
            {"neuron_kwargs": {"memory": "lstm"}, "wiring": {"kind": "dense", "neurons": 6}},
            {"neuron_kwargs": {"plasticity": "readout"}, "encoder": [7]},
            {"encoder": [7], "share_encoder": True},
        ],
        ids=lambda circuit: str(list(circuit.values())),
    )
    def test_every_kind_of_circuit_learns(self, circuit: dict[str, Any]) -> None:
        model = build(policy_kwargs=circuit)
        before = weights(model)
        model.learn(90)
        after = weights(model)
        for name, weight in model.policy.named_parameters():
            assert torch.isfinite(weight).all()
            # The critics' heads read all neurons as they are.
            if weight.requires_grad and "critic.body.circuit.output_mapping" not in name:
                assert (after[name] != before[name]).any(), name

    @pytest.mark.parametrize(
        ("ent_coef", "expected"), [(0.25, 0.25), ("auto_0.5", 0.5), ("auto", 1.0)]
    )
    def test_entropy_coefficient(self, ent_coef: str | float, expected: float) -> None:
        model = build(ent_coef=ent_coef, learning_rate=1e-5).learn(90)
        assert model.logger.name_to_value["train/ent_coef"] == pytest.approx(expected, rel=1e-2)
        assert ("train/ent_coef_loss" in model.logger.name_to_value) == (ent_coef != 0.25)

    @pytest.mark.parametrize(("target_entropy", "rises"), [(50.0, True), (-50.0, False)])
    def test_coefficient_rises_where_entropy_is_short(
        self, target_entropy: float, rises: bool
    ) -> None:
        model = build(target_entropy=target_entropy, learning_rate=1e-2).learn(120)
        assert model.log_ent_coef is not None
        assert (model.log_ent_coef.item() > 0) == rises

    @pytest.mark.parametrize(
        ("options", "updates"),
        [
            ({"gradient_steps": 1}, 20),
            ({"gradient_steps": -1}, 60),
            ({"gradient_steps": 2, "train_freq": 5}, 8),
            ({"gradient_steps": 1, "learning_starts": 89}, 1),
            ({"gradient_steps": 1, "learning_starts": 90}, 0),
        ],
    )
    def test_updates_keep_up_as_in_sb3(self, options: dict[str, int], updates: int) -> None:
        """30 steps of 3 environments; after 30 of them all, 20 rounds are left."""
        assert build(**options).learn(90)._n_updates == updates

    def test_updates_wait_for_the_first_whole_sequence(self) -> None:
        model = build(Bounded.playing([LONG]), learning_starts=0).learn(LENGTH)
        assert model._n_updates == 0
        assert model.learn(1, reset_num_timesteps=False)._n_updates == 1


class TestCollecting:
    def test_the_state_before_a_window_is_that_of_its_episode_so_far(self) -> None:
        """Also of episodes that went on through many updates, were the weights left as they are."""
        model = collect(build(normalize_observations=False))
        sequences, found = everything(model), 0
        for episode in played(model):
            stacked = {key: np.stack([each[key] for each in episode.observations]) for key in SPACE}
            features, elapsed = model.policy.observe(model.policy.obs_to_tensor(stacked)[0])
            actions = torch.zeros(0, 2)
            if episode.actions:
                actions = model.policy.from_env(np.stack(episode.actions))
            previous = torch.cat([torch.zeros(1, 2), actions])
            for first in range(LENGTH - BURN_IN, len(episode.steps), LENGTH):
                here = features[first]
                places = (sequences.features[0] == here).all(dim=1)
                places &= sequences.episode_start[: BURN_IN + 1].sum(dim=0) == 0
                if not places.any():
                    continue
                (index,) = torch.nonzero(places).flatten().tolist()
                with torch.no_grad():
                    signal = model.policy.signal(
                        features[:first, None],
                        elapsed[:first, None],
                        torch.zeros(first, 1),
                        previous[:first, None],
                    )
                    *_, state = model.policy.unroll(
                        signal, model.policy.initial_actor_critic_state(1)
                    )
                assert_close(sequences.state[index], state[0], rtol=1e-4, atol=1e-5)
                found += 1
        assert found > 20

    def test_one_number_of_noise_is_for_all_actions(self) -> None:
        one, two = (
            collect(build(action_noise=NormalActionNoise(np.full(n, 0.3), np.zeros(n))))
            for n in (1, 2)
        )
        for name, values in vars(everything(one)).items():
            assert_close(values, vars(everything(two))[name])

    def test_actions_are_kept_as_they_were_made_noise_included(self) -> None:
        noise = NormalActionNoise(np.array([0.3, -0.3]), np.zeros(2))
        model = collect(build(action_noise=noise, learning_starts=0))
        silent = collect(build(learning_starts=0))
        sequences = everything(model)
        made = {}
        for episode in played(model):
            for seen, action in zip(episode.observations, episode.actions, strict=False):
                made[tuple(seen["observation"])] = model.policy.from_env(action[None])[0]
        for features, action, lies_in in zip(
            sequences.features[BURN_IN:-1].flatten(0, 1),
            sequences.actions.flatten(0, 1),
            sequences.mask.flatten(),
            strict=True,
        ):
            if lies_in:
                assert_close(action, made[tuple(features.numpy())], rtol=1e-4, atol=1e-5)
        shift = played(model)[0].actions[0] - played(silent)[0].actions[0]
        expected = [0.3 * 2, -0.3 * 0.5]  # the bounds are -2 to 2 and 0 to 1
        np.testing.assert_allclose(shift, expected, atol=1e-5)

    def test_warm_up_draws_from_the_action_space(self) -> None:
        model = collect(build(learning_starts=10_000), 300)
        drawn = np.stack([action for episode in played(model) for action in episode.actions])
        space = Bounded.action_space
        ranks = (drawn - space.low) / (space.high - space.low)
        counts = np.histogram(ranks, bins=4, range=(0, 1))[0]
        assert counts.min() > 0.8 * counts.mean()

    def test_observations_seen_make_the_moments(self) -> None:
        model = collect(build())
        seen = [
            each["observation"]
            for episode in played(model)
            for each in episode.observations[: len(episode.steps)]
        ]
        assert model.policy.normalizer is not None
        assert model.policy.normalizer.count == 60 * 3
        np.testing.assert_allclose(model.policy.normalizer.mean, np.mean(seen, axis=0), rtol=1e-5)

    @pytest.mark.slow
    def test_memory_does_not_grow(self) -> None:
        model = collect(build(buffer_size=20 * LENGTH * 3), 30)
        replay = model.replay_buffer
        before = replay._slots.data_ptr(), replay._states.data_ptr(), replay._slots.shape
        sizes = []
        for _ in range(6):
            model.learn(100 * 3, reset_num_timesteps=False)
            sizes.append(len(replay))
        assert before == (replay._slots.data_ptr(), replay._states.data_ptr(), replay._slots.shape)
        assert max(sizes) <= 20 * LENGTH * 3

    def test_another_reset_ends_the_episodes_under_way(self) -> None:
        model = collect(build(Bounded.playing([LONG])), 10)
        assert len(model.replay_buffer) == 2
        model.learn(2)  # resets the environment; of ten steps, nine know what followed
        assert len(model.replay_buffer) == 3
        sequences = everything(model)
        assert sequences.mask.sum(dim=0).tolist() == [4, 4, 1]
        assert sequences.terminated.sum() == 0

    def test_after_a_callback_stopped_it_the_next_step_is_an_episodes_first(self) -> None:
        """SB3 does not keep the step at which a callback stops."""
        model = build(Bounded.playing([LONG]), learning_starts=1000)
        model.learn(100, callback=Stop(7))
        assert model.num_timesteps == 7
        model.learn(8, reset_num_timesteps=False)
        before, after = played(model)
        assert (len(before.steps), len(after.steps)) == (7, 8)
        starts = everything(model).features[BURN_IN, :, 0].tolist()
        labels = [each["observation"][0] for each in (*before.observations, *after.observations)]
        assert starts == pytest.approx([labels[0], labels[4], labels[8]])

    def test_after_loading_a_replay_an_episode_starts(self, tmp_path: Path) -> None:
        model = build(Bounded.playing([LONG]), learning_starts=1000).learn(6)
        model.save_replay_buffer(tmp_path / "replay")
        model.learn(4, reset_num_timesteps=False)
        model.load_replay_buffer(tmp_path / "replay")
        model.learn(5, reset_num_timesteps=False)
        before, after = played(model)
        assert (len(before.steps), len(after.steps)) == (10, 5)
        assert everything(model).mask.sum(dim=0).tolist() == [4, 1, 4]


class TestNotFinite:
    @pytest.mark.parametrize(
        ("broken", "quantity"),
        [
            (Step(1.0, np.nan), "rewards"),
            (Step(1.0, np.inf), "rewards"),
            (Step(np.nan, 1.0), "elapsed_time"),
            (Step(np.nan, 1.0, "truncated"), "elapsed_time"),
            (Step(np.nan, 1.0, "terminated"), "elapsed_time"),
            (Step(1.0, 1.0, broken=True), "observation"),
            (Step(1.0, 1.0, "truncated", broken=True), "terminal observation"),
        ],
    )
    def test_it_raises_before_any_weight_changes(self, broken: Step, quantity: str) -> None:
        script = [Step(1.0, 1.0) for _ in range(12)]
        script[9] = broken
        model = build(Bounded.playing([LONG, script]), learning_starts=10_000)
        before = weights(model)
        with pytest.raises(ValueError, match=f"{quantity} of environment 1 not finite"):
            model.learn(2 * 12)
        after = weights(model)
        moments = {name for name in before if name.startswith("normalizer")}
        for name in before.keys() - moments:
            assert_close(after[name], before[name], rtol=0, atol=0)
        sequences = everything(model)
        assert torch.isfinite(sequences.features).all()
        assert torch.isfinite(sequences.rewards).all()

    def test_terminal_observations_of_terminated_episodes_are_ignored(self) -> None:
        falls = [Step(1.0, 1.0, "terminated", broken=True)] * 12
        runs = [Step(1.0, 1.0, "truncated")] * 12
        model = build(Bounded.playing([falls, runs])).learn(2 * 40)
        assert model._n_updates > 0
        assert all(torch.isfinite(weight).all() for weight in model.policy.parameters())


class TestHabits:
    """What users of SB3's SAC rely on."""

    def test_arguments_of_sac_come_first_and_ours_by_name(self) -> None:
        theirs = list(inspect.signature(SAC.__init__).parameters.values())
        ours = list(inspect.signature(LiquidSAC.__init__).parameters.values())
        assert [(p.name, p.kind) for p in ours[: len(theirs)]] == [(p.name, p.kind) for p in theirs]
        assert {p.kind for p in ours[len(theirs) :]} == {inspect.Parameter.KEYWORD_ONLY}
        different = {p.name for p, q in zip(theirs, ours, strict=False) if p.default != q.default}
        assert different == {"batch_size"}
        assert inspect.signature(LiquidSAC.learn).parameters.keys() == (
            inspect.signature(SAC.learn).parameters.keys()
        )

    @pytest.mark.parametrize(
        ("task", "interval"), [("Pendulum-v1", 0.05), ("InvertedPendulum-v5", 0.04)]
    )
    def test_tasks_by_their_gymnasium_names(self, task: str, interval: float) -> None:
        model = LiquidSAC("LiquidPolicy", task, seed=0, buffer_size=1000, learning_starts=40)
        model.learn(60)
        assert model.num_timesteps == 60
        assert model._n_updates > 0
        assert model.policy.nominal_interval == pytest.approx(interval)

    def test_batched_tasks_with_a_variable_rate(self) -> None:
        env = envs.make_vec(
            "InvertedPendulum-v5", num_envs=3, interval=envs.Uniform(0.02, 0.08), seed=0
        )
        model = build(env).learn(300)
        durations = everything(model).duration[:-1][everything(model).mask > 0]
        assert durations.std() > 0.1
        assert 0.5 <= durations.min() < durations.max() <= 2.0

    def test_episodes_as_the_unit_of_training(self) -> None:
        model = build(Narrow(), train_freq=(1, "episode"), gradient_steps=-1, learning_starts=8)
        assert model.learn(24)._n_updates == 16

    def test_saved_and_loaded_it_acts_the_same_and_goes_on(self, tmp_path: Path) -> None:
        model = build(recurrent_learning_rate=1e-4).learn(150)
        model.save(tmp_path / "model")
        model.save_replay_buffer(tmp_path / "new" / "replay")
        loaded = LiquidSAC.load(tmp_path / "model", env=Bounded.playing(SCRIPTS))
        loaded.load_replay_buffer(tmp_path / "new" / "replay")
        assert_close(weights(loaded), weights(model), rtol=0, atol=0)
        assert_close(
            loaded.policy.optimizer.state_dict()["state"],
            model.policy.optimizer.state_dict()["state"],
        )
        assert_close(loaded.log_ent_coef, model.log_ent_coef)
        for name in Sequences.__dataclass_fields__:
            ours, theirs = (getattr(everything(each), name) for each in (loaded, model))
            assert_close(ours, theirs, rtol=0, atol=0)

        ours, theirs = (acts(each, Bounded.playing(SCRIPTS)) for each in (loaded, model))
        np.testing.assert_array_equal(ours, theirs)

        updates = loaded._n_updates
        loaded.learn(30, reset_num_timesteps=False)
        assert loaded.num_timesteps == 180
        assert loaded._n_updates == updates + 10
        assert loaded.policy.optimizer.param_groups[0]["lr"] == 1e-4

    def test_evaluation_keeps_the_state_of_each_environment(self) -> None:
        model = build(Narrow()).learn(60)
        total = total_reward(model, Narrow())
        for copies in (1, 3):
            mean, deviation = evaluate_policy(
                model, make_vec_env(Narrow, n_envs=copies), n_eval_episodes=6
            )
            assert mean == pytest.approx(total, rel=1e-3, abs=1e-4)
            assert deviation == pytest.approx(0.0, abs=1e-4)

    def test_callbacks_of_sb3(self, tmp_path: Path) -> None:
        model = build(make_vec_env(Narrow, n_envs=2))
        evaluation = learn_three_episodes(model, Narrow, tmp_path)
        assert model.num_timesteps == 6 * 8  # three episodes of each environment
        assert evaluation.best_mean_reward > -np.inf
        best = LiquidSAC.load(tmp_path / "best_model")
        assert best.policy.state_size == model.policy.state_size

    def test_another_environment(self) -> None:
        model = build(make_vec_env(Narrow, n_envs=2)).learn(60)
        model.set_env(make_vec_env(Narrow, n_envs=2))
        assert model.learn(60, reset_num_timesteps=False).num_timesteps == 120

    def test_schedules_follow_the_progress(self) -> None:
        model = build(
            learning_rate=LinearSchedule(1e-3, 0.0, 1.0),
            recurrent_learning_rate=LinearSchedule(1e-4, 5e-5, 1.0),
        ).learn(90)
        assert model.logger.name_to_value["train/learning_rate"] == pytest.approx(0.0)
        rate = model.logger.name_to_value["train/recurrent_learning_rate"]
        assert rate == pytest.approx(5e-5)

    def test_tensorboard_shows_what_sb3_shows(self, tmp_path: Path) -> None:
        def tags(name: str, algorithm: Callable[..., Any]) -> set[str]:
            env = make_vec_env(Narrow, n_envs=2)
            algorithm(env, tensorboard_log=str(tmp_path)).learn(120)
            return scalars(tmp_path / f"{name}_1")

        def sac(env: Any, **options: Any) -> SAC:
            return SAC("MlpPolicy", env, learning_starts=30, buffer_size=1000, **options)

        theirs = tags("SAC", sac)
        assert tags("LiquidSAC", build) == theirs
        assert {"rollout/ep_rew_mean", "train/ent_coef", "train/critic_loss"} <= theirs

    def test_the_callers_policy_kwargs_stay_as_they_are(self) -> None:
        policy_kwargs = {"critic_layers": [8]}
        LiquidSAC("LiquidPolicy", Narrow(), buffer_size=160, policy_kwargs=policy_kwargs)
        assert policy_kwargs == {"critic_layers": [8]}

    def test_vec_normalize_is_refused(self) -> None:
        model = build(VecNormalize(make_vec_env(Narrow, n_envs=2)))
        with pytest.raises(ValueError, match="take VecNormalize off"):
            model.learn(10)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"batch_size": 10}, "batch_size must be a multiple of sequence_length = 4.* got 10"),
            ({"batch_size": 0}, "batch_size must be greater than 0, got 0"),
            ({"sequence_length": 0}, "sequence_length must be greater than 0, got 0"),
            ({"burn_in": 5}, "burn_in must be at least 0 and at most sequence_length = 4, got 5"),
            ({"buffer_size": 10}, "buffer_size must hold at least 5 sequences"),
            ({"gamma": 1.5}, "gamma must be at most 1, got 1.5"),
            ({"gradient_steps": -2}, "gradient_steps must be at least -1, got -2"),
            ({"learning_rate": float("inf")}, "learning_rate must be finite, got inf"),
            ({"ent_coef": float("inf")}, "ent_coef must be finite, got inf"),
            ({"target_entropy": float("nan")}, "target_entropy must be finite, got nan"),
            ({"n_steps": 3}, "leave n_steps 1, not 3"),
            ({"use_sde": True}, "use_sde is not supported"),
            ({"replay_buffer_class": ReplayBuffer}, "leave out replay_buffer_class"),
            ({"replay_buffer_kwargs": {}}, "leave out replay_buffer_class"),
            ({"optimize_memory_usage": True}, "leave it False"),
            ({"policy_kwargs": {"n_critics": 0}}, "n_critics must be greater than 0"),
        ],
    )
    def test_what_cannot_work_is_refused_at_construction(
        self, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            build(**options)
