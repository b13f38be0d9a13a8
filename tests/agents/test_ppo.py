"""LiquidPPO: its mathematics on scripted episodes, and its habits, which are those of SB3's PPO."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from torch.testing import assert_close

from liquid_control import LiquidPPO, LiquidSAC, envs
from liquid_control.storage.sequences import Minibatch
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

pytestmark = [  # the sizes are chosen to be small and odd
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),
    pytest.mark.filterwarnings("ignore:rich is experimental"),
]

STEPS, LENGTH = 12, 4
WIRING = {"kind": "auto_ncp", "neurons": 10}
SCRIPTS = [WITHIN, ALIGNED, LONG]


def build(env: Any = None, **options: Any) -> LiquidPPO:
    """An agent whose actions and values differ clearly from one state to another."""
    policy_kwargs = {"wiring": WIRING, "log_std_init": -1.0} | options.pop("policy_kwargs", {})
    options = {
        "n_steps": STEPS,
        "batch_size": 3 * STEPS,
        "sequence_length": LENGTH,
        "n_epochs": 2,
        "seed": 0,
        "device": "cpu",
    } | options
    model = LiquidPPO(
        "LiquidPolicy",
        Scripted.playing(SCRIPTS) if env is None else env,
        policy_kwargs=policy_kwargs,
        **options,
    )
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100)
    return model


def roll(model: LiquidPPO) -> LiquidPPO:
    """Collect one rollout and leave the weights as they are."""
    model.train = lambda: None  # type: ignore[method-assign]
    assert model.env is not None
    return model.learn(model.n_steps * model.env.num_envs)


def updates(model: LiquidPPO) -> int:
    """How many steps the optimizer has made."""
    return int(model.policy.optimizer.state[next(model.policy.actor.parameters())]["step"])


def episode_values(model: LiquidPPO, episode: Episode) -> torch.Tensor:
    """The value of each observation of an episode, unrolled from its start."""
    stacked = {key: np.stack([each[key] for each in episode.observations]) for key in SPACE}
    features, elapsed = model.policy.observe(model.policy.obs_to_tensor(stacked)[0])
    with torch.no_grad():
        values, *_ = model.policy.evaluate_actions(
            features[:, None],
            elapsed[:, None],
            model.policy.initial_actor_critic_state(1),
            torch.zeros(len(features), 1),
            torch.zeros(len(features), 1, 2),
        )
    return values[:, 0]


class TestRollout:
    @pytest.mark.parametrize("gamma", [0.9, 1.0])
    @pytest.mark.parametrize("critic", ["twin", "shared", "mlp"])
    def test_returns_are_discounted_sums_by_time_bootstrapped_where_cut(
        self, gamma: float, critic: str
    ) -> None:
        model = build(
            gamma=gamma,
            gae_lambda=1.0,
            normalize_returns=False,
            policy_kwargs={"critic": critic},
        )
        roll(model)
        for env in range(len(SCRIPTS)):
            expected = []
            for episode in model.env.envs[env].episodes:  # type: ignore[union-attr]
                if not episode.steps:  # it began as the rollout ended
                    continue
                values = episode_values(model, episode)
                reached = 0.0 if episode.steps[-1].ending == "terminated" else values[-1].item()
                sums = []
                for past in reversed(episode.steps):
                    reached = past.reward + gamma**past.ratio * reached
                    sums.append(reached)
                expected += reversed(sums)
            assert_close(
                model.rollout_buffer.rollout.returns[:, env],
                torch.tensor(expected),
                rtol=1e-4,
                atol=1e-4,
            )

    @pytest.mark.parametrize("critic", ["twin", "mlp"])
    def test_sequences_start_from_the_state_that_their_episode_led_to(self, critic: str) -> None:
        model = roll(build(policy_kwargs={"critic": critic}))
        found = 0
        for minibatch in model.rollout_buffer.minibatches(1):
            if minibatch.episode_start[0, 0]:
                continue  # the state resets before it is used
            assert not minibatch.state.requires_grad
            label = minibatch.features[0, 0]
            (episode,) = (
                episode
                for env in model.env.envs  # type: ignore[union-attr]
                for episode in env.episodes
                if np.allclose(minibatch.values[0], self.value_of(model, episode, label), atol=1e-5)
            )
            state = model.policy.initial_actor_critic_state(1)
            for past in episode.observations:
                features, elapsed = model.policy.observe(model.policy.obs_to_tensor(past)[0])
                if torch.equal(features[0], label):
                    break
                with torch.no_grad():
                    *_, state = model.policy.evaluate_actions(
                        features[None],
                        elapsed[None],
                        state,
                        torch.zeros(1, 1),
                        torch.zeros(1, 1, 2),
                    )
            assert state.abs().max() > 1e-3
            assert_close(minibatch.state, state, rtol=1e-5, atol=1e-6)
            found += 1
        assert found == 4  # of nine; the others start with their episodes

    @staticmethod
    def value_of(model: LiquidPPO, episode: Episode, label: torch.Tensor) -> float:
        """Value at the observation equal to `label`, or NaN if the episode has none."""
        here = [np.array_equal(each["observation"], label.numpy()) for each in episode.observations]
        return episode_values(model, episode)[here.index(True)].item() if any(here) else np.nan

    def test_the_first_epoch_starts_at_ratios_of_one(self) -> None:
        """Also through episode starts within sequences; not so from another state."""
        model = roll(build())
        (minibatch,) = model.rollout_buffer.minibatches(9)
        inside = minibatch.episode_start[1:]
        assert inside.any()
        assert not inside.all(dim=1).any()
        assert_close(self.log_ratio(model, minibatch, minibatch.state), torch.zeros(4, 9))
        elsewhere = self.log_ratio(model, minibatch, torch.zeros_like(minibatch.state))
        assert elsewhere.abs().max() > 1e-2

    @staticmethod
    def log_ratio(model: LiquidPPO, minibatch: Minibatch, state: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            _, log_prob, *_ = model.policy.evaluate_actions(
                minibatch.features,
                minibatch.elapsed_time,
                state,
                minibatch.episode_start,
                minibatch.actions,
            )
        return torch.where((log_prob - minibatch.log_prob).abs() < 1e-4, 0.0, log_prob)

    def test_gradients_go_back_to_the_episodes_or_the_sequences_start_and_no_further(self) -> None:
        model = roll(build())
        for minibatch in model.rollout_buffer.minibatches(1):
            features = minibatch.features.clone().requires_grad_()
            values, log_prob, *_ = model.policy.evaluate_actions(
                features,
                minibatch.elapsed_time,
                minibatch.state,
                minibatch.episode_start,
                minibatch.actions,
            )
            (gradient,) = torch.autograd.grad(values[-1, 0] + log_prob[-1, 0], features)
            starts = torch.nonzero(minibatch.episode_start[:, 0]).flatten().tolist()
            first = starts[-1] if starts else 0
            assert (gradient[:first] == 0).all()
            assert (gradient[first:].abs().sum(dim=(1, 2)) > 0).all()

    def test_observations_seen_make_the_moments_but_for_elapsed_time(self) -> None:
        model = build(n_epochs=1)
        seen = (
            roll(model)
            .rollout_buffer.rollout.transitions.features.flatten(0, 1)
            .numpy()
            .astype(np.float64)
        )
        assert seen.shape == (3 * STEPS, 2)
        del model.train
        model.train()
        assert model.policy.normalizer is not None
        np.testing.assert_allclose(model.policy.normalizer.mean, seen.mean(axis=0))
        np.testing.assert_allclose(model.policy.normalizer.variance, seen.var(axis=0))

    def test_terminal_observations_in_another_order_of_keys_mean_the_same(self) -> None:
        """Scripted episodes name elapsed_time first, the space names it last."""

        class Reordered(gym.ObservationWrapper):  # type: ignore[type-arg]
            observation_space = spaces.Dict({**SPACE.spaces, "extra": spaces.Box(-9, 9, (1,))})
            reverse = False

            def observation(self, observation: Any) -> Any:
                full = {**observation, "extra": np.array([3.0], np.float32)}
                return dict(reversed(full.items())) if self.reverse else full

        class Reversed(Reordered):
            reverse = True

        def returns(wrapper: type[Reordered]) -> torch.Tensor:
            vec = DummyVecEnv([lambda s=s: wrapper(Scripted(s)) for s in SCRIPTS])
            return roll(build(vec)).rollout_buffer.rollout.returns

        assert_close(returns(Reversed), returns(Reordered), rtol=0, atol=0)

    @pytest.mark.parametrize("error", [False, True])
    def test_after_a_stop_the_next_step_is_an_episodes_first(self, error: bool) -> None:
        class Interrupt(Stop):
            def _on_step(self) -> bool:
                if error and not super()._on_step():
                    raise KeyboardInterrupt
                return super()._on_step()

        model = build(Scripted.playing([LONG]), batch_size=STEPS)
        with pytest.raises(KeyboardInterrupt) if error else nullcontext():
            model.learn(100, callback=Interrupt(7))
        model.learn(STEPS, reset_num_timesteps=False)
        (env,) = model.env.envs  # type: ignore[union-attr]
        before, after = env.unwrapped.episodes[:2]
        assert (len(before.steps), len(after.steps)) == (7, STEPS)
        seen = model.rollout_buffer.rollout.transitions
        labels = [each["observation"][0] for each in after.observations[:STEPS]]
        np.testing.assert_allclose(seen.features[:, 0, 0], labels, rtol=1e-6)
        assert seen.episode_start.flatten().tolist() == [1] + [0] * (STEPS - 1)

    def test_discounted_returns_start_anew_with_a_training(self) -> None:
        model = roll(build(Scripted.playing([LONG]), batch_size=STEPS))
        first = model.return_normalizer.discounted
        assert_close(roll(model).return_normalizer.discounted, first)


class TestNotFinite:
    @pytest.mark.parametrize(
        ("broken", "quantity"),
        [
            (Step(1.0, np.nan), "rewards"),
            (Step(1.0, np.inf), "rewards"),
            (Step(np.nan, 1.0), "elapsed_time"),
            (Step(np.nan, 1.0, "truncated"), "duration"),
            (Step(1.0, 1.0, broken=True), "observation"),
            (Step(1.0, 1.0, "truncated", broken=True), "next_values"),
        ],
    )
    def test_it_raises_before_any_weight_changes(self, broken: Step, quantity: str) -> None:
        script = [Step(1.0, 1.0) for _ in range(STEPS)]
        script[3] = broken
        model = build(Scripted.playing([WITHIN, script]))
        before = weights(model)
        with pytest.raises(ValueError, match=f"{quantity} of environment 1 not finite at step 3"):
            model.learn(2 * STEPS)
        assert_close(weights(model), before, rtol=0, atol=0)
        assert model.return_normalizer.count == 0

    def test_terminal_observations_of_terminated_episodes_are_ignored(self) -> None:
        """Beside a truncated one, so that a value is asked for."""
        falls = [Step(1.0, 1.0, "terminated", broken=True)] * STEPS
        runs = [Step(1.0, 1.0, "truncated")] * STEPS
        model = build(Scripted.playing([falls, runs])).learn(2 * STEPS)
        assert all(torch.isfinite(weight).all() for weight in model.policy.parameters())


class TestUpdate:
    def test_seeded_runs_agree_bit_for_bit(self) -> None:
        def run(seed: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
            model = build(seed=seed).learn(6 * STEPS)
            return weights(model), dict(model.logger.name_to_value)

        one, same, other = run(1), run(1), run(2)
        assert_close(one[0], same[0], rtol=0, atol=0)
        assert one[1] == same[1]
        assert one[1]["train/loss"] != other[1]["train/loss"]

    def test_first_minibatch_has_moved_nowhere(self) -> None:
        model = build(n_epochs=1).learn(3 * STEPS)
        assert abs(model.logger.name_to_value["train/approx_kl"]) < 1e-6
        assert model.logger.name_to_value["train/clip_fraction"] == 0
        assert updates(model) == 1

    @pytest.mark.parametrize(("target_kl", "expected"), [(None, 40), (1e9, 40), (1e-4, 39)])
    def test_target_kl_stops_updating(self, target_kl: float | None, expected: int) -> None:
        """Nine sequences by twos make five minibatches; with 8 epochs, 40 steps."""
        options = {"batch_size": 2 * LENGTH, "n_epochs": 8, "learning_rate": 1e-2}
        model = build(target_kl=target_kl, **options).learn(3 * STEPS)
        assert updates(model) <= expected
        assert (updates(model) == 40) == (expected == 40)

    def test_values_past_their_clip_range_learn_no_more(self) -> None:
        """With next to no range, every epoch's error is that of the values in the rollout."""
        model = build(clip_range_vf=1e-6, n_epochs=5, learning_rate=1e-2, vf_coef=10.0)
        model.learn(3 * STEPS)
        rollout = model.rollout_buffer.rollout
        error = (rollout.returns - rollout.values).square().mean().item()
        assert model.logger.name_to_value["train/value_loss"] == pytest.approx(error, rel=1e-4)
        free = build(n_epochs=5, learning_rate=1e-2, vf_coef=10.0).learn(3 * STEPS)
        assert free.logger.name_to_value["train/value_loss"] < 0.95 * error

    def test_entropy_is_worth_its_coefficient(self) -> None:
        before = build().policy.log_std.detach()  # type: ignore[union-attr]
        model = build(ent_coef=100.0).learn(3 * STEPS)
        assert (model.policy.log_std > before).all()  # type: ignore[operator]

    def test_schedules_follow_the_progress(self) -> None:
        model = build(
            learning_rate=LinearSchedule(1e-3, 0.0, 1.0), clip_range=LinearSchedule(0.4, 0.2, 1.0)
        )
        model.learn(6 * STEPS)
        assert model.logger.name_to_value["train/learning_rate"] == pytest.approx(0.0)
        assert model.logger.name_to_value["train/clip_range"] == pytest.approx(0.2)

    def test_a_minibatch_of_one_step_leaves_the_weights_finite(self) -> None:
        model = build(
            Scripted.playing([WITHIN]), n_steps=5, batch_size=2, sequence_length=1, n_epochs=1
        ).learn(5)
        assert updates(model) == 3
        assert all(torch.isfinite(weight).all() for weight in model.policy.parameters())

    def test_returns_scale_out_of_the_update(self) -> None:
        """With normalised returns the unit of the reward is of no importance."""

        def run(scale: float) -> dict[str, torch.Tensor]:
            scripts = [
                [Step(s.ratio, scale * s.reward, s.ending) for s in each] for each in SCRIPTS
            ]
            return weights(build(Scripted.playing(scripts)).learn(6 * STEPS))

        assert_close(run(4.0), run(256.0), rtol=1e-4, atol=1e-5)


class TestRecurrentLearningRate:
    @pytest.mark.parametrize(
        ("options", "share"),
        [
            ({}, 0.01),
            ({"recurrent_learning_rate": 5e-3}, 0.5),
            ({"recurrent_learning_rate": lambda progress: 1e-2 * progress}, 1.0),
        ],
    )
    def test_is_a_hundredth_or_what_is_asked_for(
        self, options: dict[str, Any], share: float
    ) -> None:
        model = build(learning_rate=1e-2, **options)
        model.set_logger(configure(format_strings=[]))
        model._set_learning_rates()
        assert model.policy.optimizer.recurrent_share == pytest.approx(share)

    def test_the_rate_that_is_logged_has_an_effect(self) -> None:
        model = build(learning_rate=0.0, recurrent_learning_rate=1e-2)
        model.set_logger(configure(format_strings=[]))
        model._set_learning_rates()
        assert model.logger.name_to_value["train/recurrent_learning_rate"] == 0.0

    def test_memory_synapses_move_less_than_the_others(self) -> None:
        model = build(learning_rate=1e-3)
        synapses = model.policy.actor_circuit.recurrent
        before = synapses.weight.detach().clone()
        model.learn(3 * STEPS)
        ((weight, past),) = model.policy.actor_circuit.memory_synapses()
        assert weight is synapses.weight
        moved = (weight.detach() - before).abs().mean(0)
        others = torch.ones(len(synapses), dtype=torch.bool)
        others[past] = False
        assert 0 < moved[past].mean() < 0.03 * moved[others].mean()


class TestRecomputedStates:
    @pytest.mark.parametrize("neurons", ["cfc", "ltc", "lstm"])
    def test_acting_goes_on_from_the_state_of_the_new_weights(self, neurons: str) -> None:
        model = build(learning_rate=0.1, policy_kwargs={"neurons": neurons})
        before = model.policy.initial_actor_critic_state(len(SCRIPTS))
        roll(model)  # which leaves the weights as they are
        old = model._state.clone()
        del model.train
        model.train()
        seen = model.rollout_buffer.rollout.transitions
        with torch.no_grad():
            *_, after = model.policy.unroll(
                seen.features, seen.elapsed_time, before, seen.episode_start
            )
        torch.testing.assert_close(model._state, after)
        assert not torch.allclose(model._state, old)

    def test_each_epoch_starts_its_sequences_from_states_of_its_weights(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = roll(build(learning_rate=0.1, n_epochs=3, batch_size=3 * STEPS))
        del model.train
        states = []
        epoch = model._epoch
        monkeypatch.setattr(
            model,
            "_epoch",
            lambda *arguments: (
                states.append(model.rollout_buffer.states.clone()) or epoch(*arguments)
            ),
        )
        model.train()
        first, second, third = states
        for states_ in (second, third):
            assert torch.equal(states_[0], first[0])  # where the rollout began
            assert not torch.allclose(states_[1:], first[1:])
        assert not torch.allclose(second[1:], third[1:])


class TestHabits:
    """What users of SB3's PPO rely on."""

    @pytest.mark.parametrize(
        ("num_envs", "n_steps", "sequence_length", "batch_size"),
        [
            (1, 2048, None, 64),
            (1, 16, None, 16),
            (1, 100, None, 50),
            (3, 96, 16, 48),
            (1, 96, 32, 32),
            (2, 128, 128, 128),
        ],
    )
    @pytest.mark.filterwarnings("error:You have specified a mini-batch size")
    @pytest.mark.filterwarnings("ignore:sequences are")
    def test_the_default_minibatch_divides_the_rollout(
        self, num_envs: int, n_steps: int, sequence_length: int | None, batch_size: int
    ) -> None:
        env = make_vec_env("CartPole-v1", num_envs)
        model = LiquidPPO("LiquidPolicy", env, n_steps=n_steps, sequence_length=sequence_length)
        assert model.batch_size == batch_size

    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            ({"policy": "MlpPolicy"}, ValueError, "no policy 'MlpPolicy'; use 'LiquidPolicy'"),
            ({"device": "gpu"}, ValueError, "device must be 'auto', 'cpu', .* got 'gpu'$"),
            ({"policy_kwargs": {"wiring": "auto_ncp"}}, TypeError, "a wiring is a dict"),
            ({"policy_kwargs": {"neuron_kwargs": [1]}}, TypeError, "neuron_kwargs must be a dict"),
        ],
    )
    def test_errors_name_what_to_write(
        self, arguments: dict[str, Any], error: type[Exception], text: str
    ) -> None:
        with pytest.raises(error, match=text):
            LiquidPPO(**{"policy": "LiquidPolicy", "env": "CartPole-v1", **arguments})
        with pytest.raises(error, match=text):
            LiquidSAC(**{"policy": "LiquidPolicy", "env": "Pendulum-v1", **arguments})

    def test_arguments_of_ppo_come_first_and_ours_by_name(self) -> None:
        theirs = list(inspect.signature(PPO.__init__).parameters.values())
        ours = list(inspect.signature(LiquidPPO.__init__).parameters.values())
        assert [(p.name, p.kind) for p in ours[: len(theirs)]] == [(p.name, p.kind) for p in theirs]
        assert {p.kind for p in ours[len(theirs) :]} == {inspect.Parameter.KEYWORD_ONLY}
        different = {p.name for p, q in zip(theirs, ours, strict=False) if p.default != q.default}
        assert different == {"batch_size"}  # ours fits the rollout
        assert inspect.signature(LiquidPPO.learn).replace().parameters.keys() == (
            inspect.signature(PPO.learn).parameters.keys()
        )

    @pytest.mark.parametrize(
        "space",
        [
            spaces.Box(-0.5, 0.5, (2, 3)),
            spaces.Discrete(3),
            spaces.MultiDiscrete([2, 3]),
            spaces.MultiBinary(4),
        ],
    )
    def test_every_action_space_of_ppo(self, space: spaces.Space[Any]) -> None:
        env = Tick()
        env.action_space = space
        model = build(env, n_steps=16, batch_size=16, policy_kwargs={"log_std_init": 1.0}).learn(16)
        action, _ = model.predict(env.reset()[0])
        assert space.contains(np.asarray(action).astype(space.dtype))

    @pytest.mark.parametrize(
        ("task", "interval"),
        [("CartPole-v1", 1.0), ("Pendulum-v1", 0.05), ("InvertedPendulum-v5", 0.04)],
    )
    def test_tasks_by_their_gymnasium_names(self, task: str, interval: float) -> None:
        model = LiquidPPO("LiquidPolicy", task, n_steps=32, batch_size=32, n_epochs=1, seed=0)
        model.learn(32)
        assert model.num_timesteps == 32
        assert model.policy.nominal_interval == pytest.approx(interval)
        assert model.policy.actor_circuit.time_scale == pytest.approx(interval)

    def test_tasks_with_a_variable_rate_have_a_nominal_interval(self) -> None:
        env = envs.make("InvertedPendulum-v5", interval=envs.Uniform(0.02, 0.08), seed=0)
        model = build(env, n_steps=32, batch_size=32).learn(32)
        assert model.policy.nominal_interval == pytest.approx(0.04)
        durations = model.rollout_buffer.rollout.duration
        assert durations.std() > 0.1
        assert 0.5 <= durations.min() < durations.max() <= 2.0

    def test_elapsed_time_without_a_nominal_interval_warns(self) -> None:
        class Unscaled(Scripted):
            def __init__(self) -> None:
                super().__init__(WITHIN)

            def __getattribute__(self, name: str) -> Any:
                if name == "nominal_interval":
                    raise AttributeError(name)
                return super().__getattribute__(name)

        with pytest.warns(UserWarning, match="has no nominal_interval"):
            assert build(Unscaled()).policy.nominal_interval == 1.0

    def test_subprocesses_that_know_no_interval_survive_the_question(self) -> None:
        env = SubprocVecEnv([Tick], start_method="fork")
        try:
            assert build(env).learn(STEPS).policy.nominal_interval == 1.0
        finally:
            env.close()

    def test_the_callers_policy_kwargs_stay_as_they_are(self) -> None:
        policy_kwargs = {"wiring": WIRING}
        LiquidPPO(
            "LiquidPolicy",
            Scripted.playing(SCRIPTS),
            n_steps=4,
            batch_size=4,
            policy_kwargs=policy_kwargs,
        )
        assert policy_kwargs == {"wiring": WIRING}

    def test_saved_and_loaded_it_acts_the_same_and_goes_on(self, tmp_path: Path) -> None:
        model = build(n_epochs=1).learn(6 * STEPS)
        model.save(tmp_path / "model")
        loaded = LiquidPPO.load(tmp_path / "model", env=Scripted.playing(SCRIPTS))
        assert_close(weights(loaded), weights(model), rtol=0, atol=0)
        assert loaded.policy.optimizer.state_dict()["state"].keys()
        assert_close(
            loaded.policy.optimizer.state_dict()["state"],
            model.policy.optimizer.state_dict()["state"],
        )
        assert_close(loaded.return_normalizer.state_dict(), model.return_normalizer.state_dict())
        assert loaded.return_normalizer.count == 6 * STEPS
        assert (loaded.sequence_length, loaded.normalize_returns) == (LENGTH, True)

        ours, theirs = (acts(each, Scripted.playing(SCRIPTS)) for each in (loaded, model))
        np.testing.assert_array_equal(ours, theirs)

        loaded.learn(3 * STEPS, reset_num_timesteps=False)
        assert loaded.num_timesteps == 9 * STEPS
        assert updates(loaded) == updates(model) + 1

    def test_another_environment_with_another_number_of_copies(self) -> None:
        model = build(make_vec_env(Tick, n_envs=2)).learn(2 * STEPS)
        model.set_env(make_vec_env(Tick, n_envs=2))
        model.learn(2 * STEPS, reset_num_timesteps=False)
        loaded = build(make_vec_env(Tick, n_envs=2))
        loaded.set_parameters(model.get_parameters())
        assert_close(weights(loaded), weights(model), rtol=0, atol=0)

    def test_evaluation_keeps_the_state_of_each_environment(self) -> None:
        model = build(Tick(), n_steps=16, batch_size=16).learn(16)
        total = total_reward(model, Tick())
        for copies in (1, 3):
            mean, deviation = evaluate_policy(
                model, make_vec_env(Tick, n_envs=copies), n_eval_episodes=6
            )
            assert mean == pytest.approx(total, rel=1e-4)
            assert deviation == pytest.approx(0.0, abs=1e-4)

    def test_callbacks_see_what_sb3_shows_them(self) -> None:
        class Witness(BaseCallback):
            def __init__(self) -> None:
                super().__init__()
                self.events: list[str] = []

            def _on_rollout_start(self) -> None:
                self.events.append("start")

            def _on_step(self) -> bool:
                assert {"infos", "dones", "rewards", "new_obs", "actions", "env"} <= set(
                    self.locals
                )
                assert self.locals["rewards"].shape == self.locals["dones"].shape == (3,)
                if self.locals["dones"].any():
                    self.events.append("done")
                return True

            def _on_rollout_end(self) -> None:
                assert self.model.rollout_buffer.rollout.returns.shape == (STEPS, 3)
                self.events.append("end")

        witness = Witness()
        build().learn(3 * STEPS, callback=witness)
        assert witness.events == ["start", *["done"] * 5, "end"]

    def test_a_callback_that_says_no_stops(self) -> None:
        model = build()
        before = weights(model)
        model.learn(3 * STEPS, callback=Stop(5))
        assert model.num_timesteps == 15
        assert_close(weights(model), before, rtol=0, atol=0)

    def test_callbacks_of_sb3(self, tmp_path: Path) -> None:
        model = build(make_vec_env(Tick, n_envs=2))
        evaluation = learn_three_episodes(model, Tick, tmp_path)
        assert model.num_timesteps == 6 * 8  # three episodes of each environment
        assert evaluation.best_mean_reward > -np.inf
        best = LiquidPPO.load(tmp_path / "best_model")
        assert best.policy.state_size == model.policy.state_size

    def test_progress_bar(self, capfd: pytest.CaptureFixture[str]) -> None:
        build().learn(3 * STEPS, progress_bar=True)
        captured = capfd.readouterr()
        assert "36/36" in captured.out + captured.err

    def test_tensorboard_shows_what_sb3_shows(self, tmp_path: Path) -> None:
        def tags(name: str, algorithm: Callable[..., Any]) -> set[str]:
            env = make_vec_env(Tick, n_envs=2)
            model = algorithm(env, tensorboard_log=str(tmp_path), clip_range_vf=0.2)
            model.learn(4 * STEPS)
            return scalars(tmp_path / f"{name}_1")

        ours = tags("LiquidPPO", build)
        theirs = tags(
            "PPO",
            lambda env, **options: PPO(
                "MlpPolicy", env, n_steps=STEPS, batch_size=STEPS, **options
            ),
        )
        assert ours == theirs
        assert {"rollout/ep_rew_mean", "train/std", "train/explained_variance"} <= ours

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"batch_size": 10}, "batch_size must be a multiple of sequence_length = 4.* got 10"),
            ({"batch_size": 2}, "batch_size must be a multiple of sequence_length = 4.* got 2"),
            ({"sequence_length": 5}, "sequence_length must divide n_steps = 12, got 5"),
            ({"sequence_length": 0}, "sequence_length must be greater than 0, got 0"),
            ({"sequence_length": -4}, "sequence_length must be greater than 0, got -4"),
            ({"sequence_length": 24}, "sequence_length must divide n_steps = 12, got 24"),
            ({"n_epochs": 0}, "n_epochs must be greater than 0, got 0"),
            ({"gae_lambda": float("nan")}, "gae_lambda must be at least 0, got nan"),
            ({"learning_rate": float("inf")}, "learning_rate must be finite, got inf"),
            ({"recurrent_learning_rate": float("inf")}, "recurrent_learning_rate must be finite"),
            ({"ent_coef": float("nan")}, "ent_coef must be finite, got nan"),
            ({"vf_coef": -0.5}, "vf_coef must be at least 0, got -0.5"),
            ({"clip_range_vf": 0.0}, "clip_range_vf must be greater than 0, got 0.0"),
            ({"use_sde": True}, "use_sde is not supported"),
            ({"rollout_buffer_class": RolloutBuffer}, "leave out rollout_buffer_class"),
            ({"rollout_buffer_kwargs": {}}, "leave out rollout_buffer_class"),
            ({"policy_kwargs": {"critic": "big"}}, "critic must be one of"),
        ],
    )
    def test_what_cannot_work_is_refused_at_construction(
        self, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            build(**options)

    @pytest.mark.parametrize(
        ("n_steps", "batch_size", "length"),
        [(2048, 64, 16), (128, 512, 16), (96, 48, 12), (48, 32, 16)],
    )
    def test_default_sequences_fit_rollout_and_minibatch(
        self, n_steps: int, batch_size: int, length: int
    ) -> None:
        model = build(n_steps=n_steps, batch_size=batch_size, sequence_length=None)
        assert model.sequence_length == length
