"""What SB3's own tests ask of PPO and SAC, asked of LiquidPPO and LiquidSAC; see docs/sb3.md."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation, RepeatAction
from stable_baselines3 import PPO, HerReplayBuffer
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import (
    BitFlippingEnv,
    IdentityEnvMultiBinary,
    IdentityEnvMultiDiscrete,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import (
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
    VectorizedActionNoise,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecFrameStack,
    VecNormalize,
    is_vecenv_wrapped,
)

from liquid_control import (
    LiquidPolicy,
    LiquidPPO,
    LiquidRecurrentPolicy,
    LiquidSAC,
    SoftLiquidPolicy,
)
from liquid_control.policies.stateful import StatefulPolicy
from tests.agents.tasks import GradedClock

WIRING = {"kind": "auto_ncp", "neurons": 12}


def ppo(env: Any = "CartPole-v1", **options: Any) -> LiquidPPO:
    small: dict[str, Any] = {"n_steps": 16, "n_epochs": 1, "policy_kwargs": {"wiring": WIRING}}
    return LiquidPPO("LiquidPolicy", env, **{**small, "seed": 0, **options})


def sac(env: Any = "Pendulum-v1", **options: Any) -> LiquidSAC:
    replay = {"learning_starts": 16, "batch_size": 8, "sequence_length": 4, "burn_in": 2}
    rest: dict[str, Any] = {"buffer_size": 500, "gradient_steps": 1, "train_freq": 8}
    policy = {"wiring": WIRING, "critic_layers": [8], **options.pop("policy_kwargs", {})}
    return LiquidSAC(
        "LiquidPolicy", env, **{**replay, **rest, "seed": 0, **options}, policy_kwargs=policy
    )


AGENTS: list[Callable[..., Any]] = [ppo, sac]
both = pytest.mark.parametrize("make", AGENTS)


class Random(gym.Env[Any, Any]):
    """Any spaces, with episodes of ten steps that may be a success."""

    def __init__(self, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.played = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.played += 1
        done = self.played == 10
        return self.observation_space.sample(), 1.0, done, False, {"is_success": done}


BOX = spaces.Box(-1.0, 1.0, (3,))
CONTINUOUS = spaces.Box(-2.0, 3.0, (2,))
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "box": BOX,
    "box of two axes": spaces.Box(-1.0, 1.0, (2, 3)),
    "float64": spaces.Box(-1.0, 1.0, (3,), np.float64),
    "discrete": spaces.Discrete(4),
    "multi-discrete": spaces.MultiDiscrete([4, 3]),
    "multi-binary": spaces.MultiBinary(4),
    "multi-binary of two axes": spaces.MultiBinary((2, 3)),
    "dict": spaces.Dict({"a": BOX, "b": spaces.Discrete(3)}),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "box": CONTINUOUS,
    "box of two axes": spaces.Box(-2.0, 3.0, (2, 2)),
    "float64": spaces.Box(-2.0, 3.0, (2,), np.float64),
    "discrete": spaces.Discrete(4),
    "multi-discrete": spaces.MultiDiscrete([4, 3]),
    "multi-binary": spaces.MultiBinary(4),
}


class TestSpaces:
    @both
    @pytest.mark.parametrize("name", OBSERVATIONS)
    def test_observations(self, make: Any, name: str) -> None:
        make(Random(OBSERVATIONS[name], CONTINUOUS)).learn(32)

    @pytest.mark.parametrize("name", ACTIONS)
    def test_actions(self, name: str) -> None:
        for make in AGENTS if isinstance(ACTIONS[name], spaces.Box) else [ppo]:
            model = make(Random(BOX, ACTIONS[name])).learn(32)
            single, _ = model.predict(BOX.sample())
            every = np.ones(3, bool)
            batch, _ = model.predict(np.stack([BOX.sample()] * 3), None, every, deterministic=True)
            assert isinstance(single, np.ndarray)
            assert ACTIONS[name].contains(single)
            assert batch.shape == (3, *(ACTIONS[name].shape or ()))

    @pytest.mark.parametrize("env", [IdentityEnvMultiDiscrete, IdentityEnvMultiBinary])
    def test_identity_environments_of_sb3(self, env: Any) -> None:
        ppo(env(2)).learn(16)

    @pytest.mark.parametrize(
        ("make", "actions", "error"),
        [
            (sac, spaces.Discrete(2), AssertionError),
            (sac, spaces.Box(-np.inf, np.inf, (1,)), AssertionError),
            (ppo, spaces.MultiBinary((2, 3)), AssertionError),
            (ppo, spaces.Dict({"a": BOX}), AssertionError),
        ],
    )
    def test_actions_that_sb3_refuses_are_refused_with_its_error(
        self, make: Any, actions: spaces.Space[Any], error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            make(Random(BOX, actions))

    def test_goals_are_features_of_ppo(self) -> None:
        ppo(BitFlippingEnv(3)).learn(16)

    def test_a_wrong_shape_is_refused(self) -> None:
        with pytest.raises(ValueError, match="Unexpected observation shape"):
            ppo().predict(np.zeros(3, np.float32))

    def test_an_observation_without_numbers_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'space' has no numbers"):
            ppo(Random(spaces.Box(-1, 1, (0,)), CONTINUOUS))

    @both
    def test_infinity_in_half_precision_is_found(self, make: Any) -> None:
        half = spaces.Box(-np.inf, np.inf, (3,), np.float16)
        env = Random(half, CONTINUOUS)
        env.reset = lambda **_: (np.full(3, np.inf, np.float16), {})  # type: ignore[method-assign]
        model = make(env)
        with pytest.raises(ValueError, match="observation of environment 0 not finite"):
            model.learn(32)
        assert model.policy.normalizer.mean.isfinite().all()

    def test_flattened_time_is_reported(self) -> None:
        with pytest.warns(UserWarning, match="FlattenObservation makes elapsed_time a feature"):
            ppo(FlattenObservation(GradedClock()))
        with pytest.warns(UserWarning, match="RepeatAction makes several steps of one"):
            ppo(RepeatAction(GradedClock(), 2))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ppo(FlattenObservation(Random(spaces.Dict({"a": BOX, "b": BOX}), CONTINUOUS)))

    @pytest.mark.parametrize("value", [None, "1h", 0, -1.0, np.nan, [1, 2]])
    def test_a_dt_that_is_no_interval_is_ignored(self, value: Any) -> None:
        env = Random(BOX, CONTINUOUS)
        env.dt = value  # type: ignore[attr-defined]
        assert ppo(env).policy.nominal_interval == 1.0


class TestOptions:
    @both
    def test_numbers_of_numpy_train_and_are_saved(self, make: Any, tmp_path: Path) -> None:
        options = {"encoder": [np.int64(8)], "optimizer_kwargs": {"eps": np.float32(1e-5)}}
        env = Random(BOX, CONTINUOUS)
        rate = np.float32(1e-3)
        policy = {"wiring": WIRING, **options}
        model = make(env, recurrent_learning_rate=rate, policy_kwargs=policy).learn(32)
        model.save(tmp_path / "agent")
        assert type(model).load(tmp_path / "agent").policy.options.encoder == [8]

    @pytest.mark.parametrize(
        ("agent", "policy", "text"),
        [
            (LiquidPPO, SoftLiquidPolicy, "LiquidPPO trains a LiquidPolicy, got a SoftLiquidPoli"),
            (LiquidPPO, ActorCriticPolicy, "use 'LiquidPolicy', or ActorCriticPolicy in its own"),
            (LiquidSAC, LiquidPolicy, "LiquidSAC trains a SoftLiquidPolicy, got a LiquidPolicy"),
        ],
    )
    def test_policies_of_other_algorithms_are_refused(
        self, agent: Any, policy: Any, text: str
    ) -> None:
        with pytest.raises(ValueError, match=text):
            agent(policy, "Pendulum-v1")

    def test_agents_that_know_no_circuits_are_told_what_to_use(self) -> None:
        with pytest.raises(TypeError, match="use LiquidPPO, or LiquidExtractor"):
            PPO(LiquidPolicy, "Pendulum-v1", n_steps=16).learn(16)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="use sb3_contrib's RecurrentPPO, or LiquidPPO"):
            PPO(LiquidRecurrentPolicy, "Pendulum-v1", n_steps=16).learn(16)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "options",
        [
            {"clip_range_vf": 0.2},
            {"clip_range_vf": lambda progress: 0.1 * progress, "clip_range": 0.1},
            {"normalize_advantage": False},
            {"target_kl": 1e-9, "n_epochs": 3, "learning_rate": 0.1},
            {"ent_coef": 0.01, "vf_coef": 0.2, "max_grad_norm": 1.0},
            {"policy_kwargs": {"wiring": WIRING, "optimizer_kwargs": {"weight_decay": 0.01}}},
        ],
    )
    def test_of_ppo(self, options: dict[str, Any]) -> None:
        ppo(**options).learn(32)

    def test_target_kl_ends_the_epochs(self, capsys: pytest.CaptureFixture[str]) -> None:
        model = ppo(target_kl=1e-9, n_epochs=5, learning_rate=0.1, verbose=1).learn(16)
        assert model._n_updates < 5
        assert "Early stopping at step" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "options",
        [
            {"ent_coef": "auto_0.01"},
            {"ent_coef": 0.01, "target_update_interval": 2, "gradient_steps": -1},
            {"policy_kwargs": {"n_critics": 1}},
            {"policy_kwargs": {"n_critics": 3}},
            {"train_freq": (4, "step"), "action_noise": NormalActionNoise(np.zeros(1), np.ones(1))},
            {"train_freq": (1, "episode")},
            {"action_noise": OrnsteinUhlenbeckActionNoise(np.zeros(1), np.ones(1))},
        ],
    )
    def test_of_sac(self, options: dict[str, Any]) -> None:
        sac(Random(BOX, spaces.Box(-1.0, 1.0, (1,))), **options).learn(48)

    @pytest.mark.parametrize("freq", ["4", ("1", "episode"), "non_sense", (1, "close")])
    def test_impossible_frequencies_are_refused(self, freq: Any) -> None:
        with pytest.raises(ValueError, match=r"must be|is not|[Tt]he (frequency|unit)"):
            sac(train_freq=freq)

    def test_several_environments_learn_at_once(self) -> None:
        noise = NormalActionNoise(np.zeros(1), np.ones(1))
        model = sac(make_vec_env("Pendulum-v1", 3), action_noise=noise).learn(60)
        assert isinstance(model.action_noise, VectorizedActionNoise)
        assert model.num_timesteps == 72  # 3 environments, 8 steps at a time, as in SB3

    @pytest.mark.parametrize(
        ("make", "arguments", "error", "text"),
        [
            (ppo, {"use_sde": True}, ValueError, "use_sde is not supported by LiquidPPO"),
            (sac, {"use_sde": True}, ValueError, "use_sde is not supported by LiquidSAC"),
            (ppo, {"rollout_buffer_class": RolloutBuffer}, ValueError, "in its own buffer"),
            (sac, {"replay_buffer_class": HerReplayBuffer}, ValueError, "in its own replay"),
            (sac, {"optimize_memory_usage": True}, ValueError, "stores each observation once"),
            (sac, {"n_steps": 3}, ValueError, "learns from one step at a time"),
            (ppo, {"policy_kwargs": {"net_arch": [8]}}, TypeError, "net_arch"),
            (sac, {"policy_kwargs": {"activation_fn": torch.nn.Tanh}}, TypeError, "activation_fn"),
        ],
    )
    def test_what_differs_by_intention_is_refused_in_words(
        self, make: Any, arguments: dict[str, Any], error: type[Exception], text: str
    ) -> None:
        with pytest.raises(error, match=text):
            make(**arguments)


class TestSaving:
    @both
    def test_parameters_are_got_and_set(self, make: Any) -> None:
        model = make().learn(32)
        before = deepcopy(model.get_parameters())
        for exact in (True, False):
            with pytest.raises(ValueError, match="nothing"):
                model.set_parameters({**before, "nothing": {}}, exact_match=exact)
        with pytest.raises(ValueError, match="parameters"):
            model.set_parameters(dict(list(before.items())[:-1]))
        name, kept = "policy", list(before["policy"])[-1]
        less = {key: value for key, value in before[name].items() if key != kept}
        with pytest.raises(RuntimeError):
            model.set_parameters({**before, name: less})
        zeros = {key: torch.zeros_like(value) for key, value in less.items()}
        model.set_parameters({name: zeros}, exact_match=False)
        after = model.get_parameters()[name]
        assert not any(after[key].any() for key in zeros)
        assert after[kept].equal(before[name][kept])

    @both
    def test_a_loaded_agent_acts_learns_and_knows_its_device(
        self, make: Any, tmp_path: Path
    ) -> None:
        model = make().learn(32)
        observations = np.stack([model.observation_space.sample() for _ in range(4)])
        acted, _ = model.predict(observations, deterministic=True)
        model.save(tmp_path / "agent.zip")
        again = type(model).load(str(tmp_path / "agent"), device="cpu", print_system_info=True)
        assert again.get_env() is None
        assert again.device.type == again.policy.device.type == "cpu"
        np.testing.assert_array_equal(again.predict(observations, deterministic=True)[0], acted)
        again.set_env(model.get_env())
        again.learn(32)
        with pytest.raises(ValueError, match="spaces do not match"):
            type(model).load(tmp_path / "agent", env=gym.make("MountainCarContinuous-v0"))

    @both
    def test_the_environment_may_be_another(self, make: Any, tmp_path: Path) -> None:
        model = make()
        name = model.env.envs[0].spec.id
        model.learn(32)
        model.set_env(make_vec_env(name, 1), force_reset=True)
        assert model._last_obs is None
        assert model.learn(32).num_timesteps == 32
        model.set_env(gym.make(name))
        with pytest.raises(AssertionError, match="number of environments"):
            model.set_env(make_vec_env(name, 2))
        model.learn(32)
        model.set_env(model.get_env(), force_reset=False)
        assert model._last_obs is not None
        assert model.learn(32, reset_num_timesteps=False).num_timesteps == 64
        model.save(tmp_path / "agent")
        again = type(model).load(tmp_path / "agent", env=gym.make(name))
        assert again._last_obs is None
        assert again.learn(32, reset_num_timesteps=False).num_timesteps == 96
        again = type(model).load(tmp_path / "agent", env=make_vec_env(name, 2))
        again.learn(64)

    @both
    def test_the_policy_alone_is_saved(self, make: Any, tmp_path: Path) -> None:
        model = make().learn(32)
        model.policy.save(tmp_path / "policy.pkl")
        policy = type(model.policy).load(tmp_path / "policy.pkl")
        observation = model.observation_space.sample()
        for one, other in zip(
            policy.predict(observation, deterministic=True),
            model.predict(observation, deterministic=True),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize("pathtype", [str, Path])
    def test_the_replay_is_saved_apart(self, pathtype: Any, tmp_path: Path) -> None:
        model = sac().learn(48)
        path = pathtype(tmp_path / "logs" / "replay")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the folder is created, as in SB3
            model.save_replay_buffer(path)
        size = len(model.replay_buffer)
        other = sac()
        other.load_replay_buffer(path)
        assert len(other.replay_buffer) == size > 0
        other.learn(16, reset_num_timesteps=False)

    @both
    def test_only_a_path_is_saved_to(self, make: Any, tmp_path: Path) -> None:
        """And a file holds always the same; docs/sb3.md names both."""
        model = make(verbose=2)
        for arguments in ((io.BytesIO(),), (tmp_path / "agent", ["verbose"]), ("a", None, ["env"])):
            with pytest.raises(TypeError, match="save takes a path, and no exclude or include"):
                model.save(*arguments)
        model.save(tmp_path / "agent")
        assert type(model).load(tmp_path / "agent").verbose == 0
        assert type(model).load(tmp_path / "agent", verbose=2).verbose == 2

    @both
    @pytest.mark.parametrize("timesteps", [32.0, 31.5, np.int64(32), np.float32(32), -5])
    def test_any_number_of_timesteps_is_saved(
        self, make: Any, timesteps: Any, tmp_path: Path
    ) -> None:
        model = make().learn(timesteps)
        model.save(tmp_path / "agent")
        again = type(model).load(tmp_path / "agent")
        assert again._total_timesteps == model._total_timesteps == max(0, round(timesteps))
        assert again.num_timesteps == model.num_timesteps

    @both
    def test_timesteps_without_an_end_are_saved(self, make: Any, tmp_path: Path) -> None:
        model = make().learn(math.inf, callback=lambda names, _: names["self"].num_timesteps < 20)
        model.save(tmp_path / "agent")
        assert type(model).load(tmp_path / "agent").num_timesteps == 20

    @pytest.mark.parametrize(("timesteps", "error"), [(math.nan, ValueError), ("5", TypeError)])
    def test_timesteps_that_are_no_number_are_refused(
        self, timesteps: Any, error: type[Exception]
    ) -> None:
        with pytest.raises(error, match="total_timesteps must be a number"):
            ppo().learn(timesteps)

    @pytest.mark.parametrize("name", ACTIONS)
    @pytest.mark.parametrize("neurons", [{}, {"backend": "pytorch"}])
    def test_a_policy_that_learned_is_copied(self, name: str, neurons: dict[str, Any]) -> None:
        options = {"wiring": WIRING, "neuron_kwargs": neurons}
        model = ppo(Random(BOX, ACTIONS[name]), policy_kwargs=options).learn(32)
        policy = deepcopy(model.policy)
        observation = BOX.sample()
        acted = [each.predict(observation, deterministic=True)[0] for each in (policy, model)]
        np.testing.assert_array_equal(*acted)


class TestPredicting:
    def test_no_observations_have_no_actions(self) -> None:
        actions, _ = ppo(Random(BOX, CONTINUOUS)).predict(np.zeros((0, *BOX.shape), np.float32))
        assert actions.shape == (0, *CONTINUOUS.shape)

    @both
    def test_vectors_and_batches(self, make: Any) -> None:
        model = make()
        env = model.get_env()
        observation = env.reset()
        for given, shape in ((observation, (1,)), (observation[0], ())):
            action, state = model.predict(given)
            assert action.shape == (*shape, *env.action_space.shape)
            assert model.predict(given, state)[1].shape == state.shape
        with pytest.raises(ValueError, match="a Gymnasium env's reset"):
            model.predict(gym.make("CartPole-v1").reset())
        env.step(np.stack([env.action_space.sample()]))

    @both
    @pytest.mark.filterwarnings("error", "ignore:unclosed:ResourceWarning")
    def test_evaluate_policy_passes_the_state(self, make: Any) -> None:
        """So it warns of nothing, for the agent and for its policy."""
        name = "CartPole-v1" if make is ppo else "Pendulum-v1"
        env = make_vec_env(name, 3, seed=1)
        model = make(name)
        returns, lengths = evaluate_policy(model, env, 5, return_episode_rewards=True)
        assert len(returns) == len(lengths) == 5
        assert isinstance(model.policy, StatefulPolicy)
        evaluate_policy(model.policy, env, 3)


class TestTraining:
    @both
    def test_the_same_seed_is_the_same_training(self, make: Any) -> None:
        def rewards(seed: int) -> list[float]:
            model = make(seed=seed).learn(48)
            env = model.get_env()
            observation, state, collected = env.reset(), None, []
            for _ in range(20):
                action, state = model.predict(observation, state, deterministic=False)
                observation, reward, _, _ = env.step(action)
                collected += [*reward.tolist(), *observation.ravel().tolist()]
            return collected

        first = rewards(1)
        assert rewards(1) == first
        assert rewards(2) != first

    @both
    def test_learning_twice(self, make: Any) -> None:
        model = make(verbose=0)
        assert model.learn(32).num_timesteps == 32
        assert model.learn(32).num_timesteps == 32
        assert model.learn(32, reset_num_timesteps=False).num_timesteps == 64

    @both
    def test_an_environment_is_monitored_and_logged(self, make: Any, tmp_path: Path) -> None:
        model = make(Random(BOX, CONTINUOUS), stats_window_size=3)
        assert model.get_env().env_is_wrapped(Monitor) == [True]
        model.set_logger(configure(str(tmp_path), ["csv", "json", "log"]))
        model.learn(64, log_interval=1)
        assert len(model.ep_info_buffer) == 3
        header = (tmp_path / "progress.csv").read_text().splitlines()[0]
        assert "rollout/ep_rew_mean" in header
        assert "rollout/success_rate" in header
        assert "train/learning_rate" in header

    @both
    def test_tensorboard_folders_are_numbered(self, make: Any, tmp_path: Path) -> None:
        model = make(tensorboard_log=str(tmp_path))
        name = type(model).__name__
        model.learn(16)
        model.learn(16, tb_log_name="mine")
        model.learn(16, tb_log_name="mine")
        model.learn(16, tb_log_name="mine", reset_num_timesteps=False)
        folders = sorted(folder.name for folder in tmp_path.iterdir())
        assert folders == sorted([f"{name}_1", "mine_1", "mine_2"])

    def test_a_progress_bar(self) -> None:
        ppo().learn(32, progress_bar=True)

    def test_vec_normalize_leaves_the_time_and_is_found(self, tmp_path: Path) -> None:
        env = VecNormalize(make_vec_env(GradedClock, 2), norm_obs_keys=["observation"])
        model = ppo(env).learn(64)
        assert model.get_vec_normalize_env() is env
        assert is_vecenv_wrapped(model.get_env(), VecNormalize)
        env.save(str(tmp_path / "vecnormalize.pkl"))
        model.save(tmp_path / "agent")
        again = VecNormalize.load(str(tmp_path / "vecnormalize.pkl"), make_vec_env(GradedClock, 2))
        LiquidPPO.load(tmp_path / "agent", env=again).learn(32)

    def test_sac_refuses_vec_normalize(self) -> None:
        env = VecNormalize(make_vec_env("Pendulum-v1", 1))
        with pytest.raises(ValueError, match="take VecNormalize off"):
            sac(env).learn(16)

    @both
    def test_stacked_frames(self, make: Any) -> None:
        env = DummyVecEnv([lambda: Random(BOX, CONTINUOUS)])
        make(VecFrameStack(env, 3)).learn(32)


class Counter(BaseCallback):
    def __init__(self) -> None:
        super().__init__()
        self.calls = dict.fromkeys(("start", "step", "rollout", "end"), 0)

    def _on_training_start(self) -> None:
        self.calls["start"] += 1

    def _on_rollout_end(self) -> None:
        self.calls["rollout"] += 1

    def _on_step(self) -> bool:
        self.calls["step"] += 1
        assert {"infos", "rewards", "dones"} <= self.locals.keys()
        return True

    def _on_training_end(self) -> None:
        self.calls["end"] += 1


class TestCallbacks:
    def test_rewards_may_be_changed_in_place(self) -> None:
        def reward(names: dict[str, Any], _: Any) -> bool:
            names["rewards"][:] = 5
            return True

        model = ppo(normalize_returns=False).learn(16, reward)
        assert (model.rollout_buffer.rollout.transitions.rewards == 5).all()

    @both
    def test_of_every_kind(self, make: Any, tmp_path: Path) -> None:
        name = "CartPole-v1" if make is ppo else "Pendulum-v1"
        counter, model, called = Counter(), make(name), []
        evaluation = EvalCallback(
            gym.make(name),
            callback_on_new_best=StopTrainingOnRewardThreshold(1e9),
            callback_after_eval=StopTrainingOnNoModelImprovement(10),
            eval_freq=24,
            n_eval_episodes=1,
            best_model_save_path=str(tmp_path),
            log_path=str(tmp_path),
            warn=False,
        )
        every = EveryNTimesteps(16, CheckpointCallback(1, str(tmp_path / "every")))
        saving = CheckpointCallback(24, str(tmp_path), "agent", save_replay_buffer=make is sac)
        callbacks = CallbackList([counter, evaluation, every, saving])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message="Training and eval env")
            model.learn(48, callbacks, log_interval=1)
        assert counter.calls["start"] == counter.calls["end"] == 1
        assert counter.calls["step"] == 48
        assert counter.calls["rollout"] >= 3
        assert {each.name for each in tmp_path.iterdir()} >= {
            "best_model.zip",
            "evaluations.npz",
            "agent_24_steps.zip",
        }
        if make is sac:
            (buffer,) = tmp_path.glob("agent_replay_buffer_24*")
            make().load_replay_buffer(buffer)
        type(model).load(tmp_path / "best_model", env=gym.make(name)).learn(16)
        model.learn(16, [Counter(), Counter()])
        model.learn(16, lambda locals_, globals_: called.append(1) or True)
        assert len(called) == 16
        model.learn(16, None)

    @both
    @pytest.mark.parametrize("no", [False, np.bool_(False), torch.tensor(False)])
    def test_a_callback_ends_a_training(self, make: Any, no: Any) -> None:
        model = make().learn(64, lambda *_: no)
        assert model.num_timesteps == 1

    @both
    def test_a_training_ends_after_so_many_episodes(self, make: Any) -> None:
        env = DummyVecEnv([lambda: Monitor(Random(BOX, CONTINUOUS))])
        model = make(env).learn(1000, StopTrainingOnMaxEpisodes(3))
        assert model.num_timesteps == 30

    def test_a_training_ends_with_the_reward_or_without_progress(self) -> None:
        env = Monitor(Random(BOX, CONTINUOUS))  # whose return is always 10
        for options in (
            {"callback_on_new_best": StopTrainingOnRewardThreshold(9)},
            {"callback_after_eval": StopTrainingOnNoModelImprovement(1)},
        ):
            model = ppo(Random(BOX, CONTINUOUS))
            model.learn(1000, EvalCallback(env, eval_freq=16, verbose=0, **options))
            assert model.num_timesteps < 100

    def test_evaluations_are_logged_at_their_step_with_successes(self, tmp_path: Path) -> None:
        model = ppo(Random(BOX, CONTINUOUS))
        model.set_logger(configure(str(tmp_path), ["csv"]))
        evaluation = EvalCallback(Random(BOX, CONTINUOUS), eval_freq=10, verbose=0, warn=False)
        model.learn(32, evaluation)
        lines = [line.split(",") for line in (tmp_path / "progress.csv").read_text().splitlines()]
        rows = [dict(zip(lines[0], line, strict=False)) for line in lines[1:]]
        logged = [row for row in rows if row.get("eval/mean_reward")]
        assert [int(row["time/total_timesteps"]) for row in logged] == [10, 20, 30]
        assert {float(row["eval/success_rate"]) for row in logged} == {1.0}
