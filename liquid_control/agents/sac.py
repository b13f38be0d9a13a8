"""LiquidSAC: a soft actor-critic of recurrent policies, at any control rate."""

from __future__ import annotations

import io
import operator
import warnings
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import open_path
from stable_baselines3.common.type_aliases import (
    GymEnv,
    MaybeCallback,
    RolloutReturn,
    Schedule,
    TrainFreq,
    TrainFrequencyUnit,
)
from stable_baselines3.common.utils import FloatSchedule, polyak_update
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.nn.utils import get_total_norm

from liquid_control.agents.options import SACOptions
from liquid_control.agents.soft_losses import SoftLosses, soft_losses
from liquid_control.agents.soft_updates import SoftUpdates
from liquid_control.agents.update_checks import check_update, check_weights, undone_on_error
from liquid_control.checkpoints import CheckpointError
from liquid_control.checkpoints.durable import replacing
from liquid_control.checkpoints.fields import check_known
from liquid_control.checkpoints.saved_agent import SavedAgent
from liquid_control.checkpoints.training_state import Groups
from liquid_control.collectors.acting import observe
from liquid_control.collectors.faults import report_faults
from liquid_control.collectors.finite_checks import check_step
from liquid_control.collectors.nominal_interval import (
    seconds_of_steps,
    with_intervals,
    with_kept_keys,
)
from liquid_control.collectors.transitions import (
    EpisodeEnd,
    Transitions,
    find_episode_ends,
    gather,
    with_history,
    with_next_history,
)
from liquid_control.collectors.worker_env import WorkerVecEnv
from liquid_control.kernels.soft_learner import SoftSettings
from liquid_control.kernels.torch_threads import one_torch_thread
from liquid_control.policies.device import choose_device
from liquid_control.policies.fused_soft import why_not_fused
from liquid_control.policies.observations import carries_time
from liquid_control.policies.options import check_lags, check_mapping, check_seconds
from liquid_control.policies.soft import SoftLiquidPolicy
from liquid_control.storage.replay import SequenceReplay, Sequences
from liquid_control.storage.sequences import check_batch

OWN_OPTIONS = {"sequence_length", "burn_in", "recurrent_learning_rate", "normalize_observations"}

SelfLiquidSAC = TypeVar("SelfLiquidSAC", bound="LiquidSAC")


class LiquidSAC(SavedAgent, SAC):
    """SB3's SAC (Haarnoja et al. 2018) for recurrent policies and tasks with a variable rate.

    The replay stores whole episodes and samples sequences of `sequence_length` steps. Each comes
    with a stored recurrent state and `burn_in` steps before it, over which the state is recomputed
    (R2D2, Kapturowski et al. 2019). An update unrolls the circuits of actor and critics once each,
    over the sequences and the step after them, and back-propagates through time.

    Gamma is per nominal control interval: a step of n intervals discounts by gamma ** n. The
    entropy of an action is weighted by its duration, or by that of the stored action where the
    policy chooses intervals; rewards are already integrated over time. A truncated episode is
    bootstrapped from its terminal observation, with the elapsed time of that observation.

    Constructor arguments are those of SB3's SAC and the ones below. The device "auto" is the CPU,
    where small circuits train fastest, unless observations have images. `batch_size` counts control
    steps and is a multiple of the sequence length. As in SB3, `gradient_steps=-1` makes as many
    updates as control steps were taken in all environments; large minibatches need fewer. Updates
    begin after `learning_starts`, once a sequence is complete.

    Args:
        sequence_length: control steps of truncated back-propagation; divides `batch_size`.
        burn_in: control steps before a sequence, unrolled for the state only; at most
            `sequence_length`.
        recurrent_learning_rate: learning rate of the circuits; None: `learning_rate`.
        normalize_observations: keep running moments of the observations in the policy.

    Raises:
        ValueError: a number is out of bounds, lengths do not fit each other, an option of SB3 is
            not supported, the device is missing, or VecNormalize normalises the elapsed time.
            `learn` raises it if observations, rewards, actions or weights are not finite, or an
            elapsed time is refused.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"LiquidPolicy": SoftLiquidPolicy}
    policy: SoftLiquidPolicy  # type: ignore[assignment]
    replay_buffer: SequenceReplay  # type: ignore[assignment]

    def __init__(
        self,
        policy: str | type[SoftLiquidPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = SACOptions.learning_rate,
        buffer_size: int = SACOptions.buffer_size,
        learning_starts: int = SACOptions.learning_starts,
        batch_size: int = SACOptions.batch_size,
        tau: float = SACOptions.tau,
        gamma: float = SACOptions.gamma,
        train_freq: int | tuple[int, str] = SACOptions.train_freq,
        gradient_steps: int = SACOptions.gradient_steps,
        action_noise: ActionNoise | None = None,
        replay_buffer_class: None = None,
        replay_buffer_kwargs: None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        ent_coef: str | float = SACOptions.ent_coef,
        target_update_interval: int = SACOptions.target_update_interval,
        target_entropy: str | float = SACOptions.target_entropy,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        use_sde_at_warmup: bool = False,
        stats_window_size: int = SACOptions.stats_window_size,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = SACOptions.device,
        _init_setup_model: bool = True,
        *,
        sequence_length: int = SACOptions.sequence_length,
        burn_in: int = SACOptions.burn_in,
        recurrent_learning_rate: float | Schedule | None = SACOptions.recurrent_learning_rate,
        normalize_observations: bool = SACOptions.normalize_observations,
    ) -> None:
        if use_sde or use_sde_at_warmup:
            raise ValueError("use_sde is not supported by LiquidSAC; leave it False")
        if n_steps != 1:
            raise ValueError(
                f"LiquidSAC learns from one step at a time; leave n_steps 1, not {n_steps}"
            )
        if replay_buffer_class is not None or replay_buffer_kwargs is not None:
            raise ValueError(
                "LiquidSAC stores sequences in its own replay; leave out replay_buffer_class "
                "and replay_buffer_kwargs, and set buffer_size, sequence_length and burn_in"
            )
        options = SACOptions.among(locals())
        check_mapping("policy_kwargs", policy_kwargs)
        made = maybe_make_env(env, verbose)
        space = getattr(made, "observation_space", None)
        options = replace(options, device=self.choose_device(device, space))
        super().__init__(
            policy,  # type: ignore[arg-type]
            made,
            **{name: value for name, value in vars(options).items() if name not in OWN_OPTIONS},
            action_noise=action_noise,
            replay_buffer_class=SequenceReplay,  # type: ignore[arg-type]
            replay_buffer_kwargs={
                "sequence_length": options.sequence_length,
                "burn_in": options.burn_in,
            },
            optimize_memory_usage=optimize_memory_usage,
            sde_sample_freq=sde_sample_freq,
            tensorboard_log=tensorboard_log,
            policy_kwargs=dict(policy_kwargs or {}),  # completed below
            verbose=verbose,
            seed=None if seed is None else operator.index(seed),
            _init_setup_model=False,
        )
        self.sequence_length, self.burn_in = options.sequence_length, options.burn_in
        self.recurrent_learning_rate = options.recurrent_learning_rate
        if self.env is not None:
            self.policy_kwargs = with_intervals(self.policy_kwargs, self.env)
        self.policy_kwargs.setdefault("normalize_observations", normalize_observations)
        if _init_setup_model:
            self._setup_model()

    choose_device = staticmethod(choose_device)

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        return with_kept_keys(SAC._wrap_env(env, verbose, monitor_wrapper))

    def _setup_model(self) -> None:
        self._check_policy_class()
        check_batch(self.batch_size, self.sequence_length)
        derivatives = check_seconds("derivatives", self.policy_kwargs.get("derivatives", ()))
        self.replay_buffer_kwargs["derivatives"] = len(derivatives)
        lags = check_lags("critic_history", self.policy_kwargs.get("critic_history", ()))
        self.replay_buffer_kwargs["critic_history"] = lags
        super()._setup_model()
        self._check_for_workers(self.env)
        self.policy_kwargs |= vars(self.policy.options)  # with the current defaults
        self._state: Tensor | None = None
        self._previous_step: Tensor | None = None
        self._past: Tensor | None = None  # rows of `policy.history`
        self._updates_behind = 0  # the age of the weights that acted in the last round
        self._in_kernels = SoftUpdates()

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Replace the environments, as in SB3.

        Raises:
            ValueError: an argument of the agent is not supported in a WorkerVecEnv.
        """
        self._check_for_workers(env)
        super().set_env(env, force_reset)

    def _check_for_workers(self, env: GymEnv | None) -> None:
        """Raise a ValueError for arguments that workers do not support."""
        if not isinstance(env, WorkerVecEnv):
            return
        if self.action_noise is not None:
            raise ValueError(
                "action_noise is not supported in a WorkerVecEnv, whose environments act on "
                "workers; leave it None, since the policy explores by itself"
            )
        if self.train_freq.unit is not TrainFrequencyUnit.STEP:  # type: ignore[union-attr]
            raise ValueError(
                "train_freq must be a number of steps in a WorkerVecEnv, which collects rounds of "
                f"equal length, got {self.train_freq.frequency} episodes"  # type: ignore[union-attr]
            )

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Act on the last observations, and advance the states of both circuits."""
        policy = self.policy
        self._ensure_states(n_envs)
        assert self._state is not None
        assert self._previous_step is not None
        assert self._past is not None
        starts = torch.as_tensor(self._last_episode_starts, device=self.device)
        before = policy.previous_of(self._previous_step, starts)
        features, elapsed_time = self._observe(self._last_obs, *before)
        previous = self._previous_step[:, : policy.action_size]
        self._seen = seen = with_next_history(policy, features, starts, self._past)
        with torch.no_grad():
            now = policy.signal(seen[None], elapsed_time[None], starts[None], previous[None])
            activity, _, state = policy.unroll(now, self._state)
            if self.num_timesteps < learning_starts:
                sampled = np.stack([self.action_space.sample() for _ in range(n_envs)])
                actions = policy.from_env(sampled)
            else:
                actions, _ = policy.actor(activity[0])
        if action_noise is not None:
            noise = torch.as_tensor(action_noise(), dtype=actions.dtype, device=self.device)
            whole = noise.numel() == actions.numel()  # or a number for all actions of a robot
            noise = noise.view_as(actions) if whole else noise.view(-1, 1)
            actions = (actions + noise).clamp(-1, 1)
        check_step("actions", actions, self.num_timesteps)
        self._acted = features, elapsed_time, starts, actions
        self._state_after = state
        return policy.for_env(actions), actions.cpu().numpy()

    def _store_transition(
        self,
        replay_buffer: SequenceReplay,  # type: ignore[override]
        buffer_action: NDArray[np.float32],
        new_obs: NDArray[Any] | dict[str, NDArray[Any]],
        reward: NDArray[np.float32],
        dones: NDArray[np.bool_],
        infos: list[dict[str, Any]],
    ) -> None:
        """Store the last step, terminal observations included."""
        assert self._state is not None
        assert self.env is not None
        rewards = torch.tensor(reward, dtype=torch.float32, device=self.device)
        check_step("rewards", rewards, self.num_timesteps)
        ended = torch.as_tensor(dones, dtype=torch.bool, device=self.device)
        timed = carries_time(self.env.observation_space)
        seconds = torch.from_numpy(seconds_of_steps(infos, carry_time=timed)).to(self.device)
        step = Transitions(*self._acted, rewards, ended, seconds)
        _, elapsed_time = self._observe(new_obs, step.features, ended)
        self._store(self._state, step, elapsed_time, find_episode_ends(0, dones, infos))
        self.policy.update_normalizer(self._seen)
        self._state, self._past = self._state_after, self._past_after(step)
        self._previous_step = self.policy.previous_step(step.actions, step.features)
        self._last_obs = new_obs
        self._last_episode_starts = dones

    def _ensure_states(self, count: int) -> None:
        """Let `count` environments start, unless there are states of as many."""
        if self._state is None or len(self._state) != count:
            self._state = self.policy.initial_actor_critic_state(count)
            self._previous_step = self.policy.initial_previous_step(count)
            self._past = self.policy.history.initial(self._state, count)

    def _past_after(self, step: Transitions) -> Tensor:
        """Return the rows of the policy's `history` after a step, fields (num_envs, ...)."""
        assert self._past is not None
        history = self.policy.history
        if not history.size:
            return self._past
        now = step.features[None], step.actions[None], step.episode_start[None]
        return torch.cat([self._past[1:], history.rows(*now)])

    def _store(
        self,
        state: Tensor,
        step: Transitions,
        elapsed_time: Tensor,
        ends: Sequence[EpisodeEnd],
    ) -> None:
        """Add one step of all environments to the replay, terminal observations included.

        Args:
            state: (num_envs, state_size) before the step.
            step: fields (num_envs, ...).
            elapsed_time: (num_envs,) seconds, of the observations that followed.
            ends: of the episodes that ended.
        """
        policy = self.policy
        terminated, final = torch.zeros_like(step.rewards), None
        if ends:
            (_, env), (features, at_end) = gather(policy, ends, step.features[None])
            truncated = torch.tensor([each.truncated for each in ends], device=self.device)
            # The last observation of a terminated episode is not bootstrapped from, and may not be
            # finite.
            features = torch.where(truncated[:, None], features, 0.0)
            terminated[env] = 1 - truncated.float()
            elapsed_time = elapsed_time.index_put((env,), at_end)
            final = features, at_end
            at_ends = torch.zeros_like(step.features).index_put((env,), features)
            check_step("terminal observation", at_ends, self.num_timesteps)
            check_step("elapsed_time", elapsed_time, self.num_timesteps)
            policy.check_elapsed_time(elapsed_time)
        lasted = step.lasted(elapsed_time)
        policy.check_elapsed_time(lasted)
        duration = lasted / policy.nominal_interval
        self.replay_buffer.add(state, step, duration, terminated, final)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: SequenceReplay,  # type: ignore[override]
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """Act for `train_freq` steps and store them, as SB3 does."""
        if isinstance(env, WorkerVecEnv):
            return self._collect_on_workers(env, callback, train_freq.frequency, log_interval)
        rollout = super().collect_rollouts(
            env,
            callback,
            train_freq,
            replay_buffer,  # type: ignore[arg-type]
            action_noise,
            learning_starts,
            log_interval,
        )
        if not rollout.continue_training:
            # SB3 does not store the step at which a callback stops, so the next `learn` resets.
            self._last_obs = None
        return rollout

    def _collect_on_workers(
        self, env: WorkerVecEnv, callback: BaseCallback, steps: int, log_interval: int | None
    ) -> RolloutReturn:
        """Store the current round of steps, and begin the next one, to run during the updates.

        The next round acts with the current weights, so its steps do not depend on whether acting
        or learning is faster.
        """
        self.policy.set_training_mode(False)
        callback.on_rollout_start()
        if not env.is_acting:
            self._begin_round(env, steps, self.num_timesteps)
        collected = env.finish()
        self._updates_behind = self._n_updates - collected.version
        transitions = collected.transitions.to(self.device)
        starts = torch.as_tensor(collected.starts, device=self.device)
        features, actions = transitions.features[-1], transitions.actions[-1]
        _, last_time = self._observe(collected.observation, features, starts)
        assert self._past is not None
        seen, rows = with_history(self.policy, transitions, self._past)
        states = self._states_of(seen)
        self._state, self._past = states[-1], rows[len(transitions.ended) :]
        self._previous_step = self.policy.previous_step(actions, features)
        self._last_obs, self._last_episode_starts = collected.observation, collected.starts
        self.policy.update_normalizer(seen.features)
        self._begin_round(env, steps, self.num_timesteps + steps * env.num_envs)

        elapsed_time = torch.cat([transitions.elapsed_time[1:], last_time[None]])
        ends = collected.ends_by_step()
        episodes, goes_on = 0, True
        for step, (rewards, dones, infos) in enumerate(collected.steps()):  # noqa: B007
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            goes_on = callback.on_step()
            if not goes_on:
                break
            self._update_info_buffer(infos, dones)
            taken = Transitions(*(column[step] for column in transitions))
            self._store(states[step], taken, elapsed_time[step], ends[step])
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self._on_step()
            for _ in range(int(dones.sum())):
                episodes += 1
                self._episode_num += 1
                if log_interval is not None and self._episode_num % log_interval == 0:
                    self.dump_logs()
        if goes_on:
            callback.on_rollout_end()
        else:
            self._last_obs = None  # the rest of the round is not stored, so the next `learn` resets
        return RolloutReturn((step + 1) * env.num_envs, episodes, goes_on)

    def _begin_round(self, env: WorkerVecEnv, steps: int, timesteps: int) -> None:
        """Begin a round of the workers, after `timesteps` control steps of the training."""
        policy, count = self.policy, env.num_envs
        self._ensure_states(count)
        assert self._state is not None
        assert self._previous_step is not None
        assert self._last_episode_starts is not None
        own = self._state[:, : policy.actor_circuit.state_size]
        env.begin(
            policy,
            self._last_obs,
            self._last_episode_starts,
            torch.cat([own, self._previous_step], dim=1),
            steps,
            timesteps=timesteps,
            random_steps=-(-max(self.learning_starts - timesteps, 0) // count),
            version=self._n_updates,
        )

    @torch.no_grad()
    def _states_of(self, transitions: Transitions) -> Tensor:
        """Return the states that the current weights reach, (steps + 1, num_envs, state_size).

        Workers do not return them: the states of both circuits are larger than the rest of a step.
        """
        assert self._state is not None
        assert self._previous_step is not None
        features, elapsed_time, episode_start, actions, *_ = transitions
        before = self._previous_step[None, :, : self.policy.action_size]
        previous = torch.cat([before, actions[:-1]])
        signal = self.policy.signal(features, elapsed_time, episode_start, previous)
        return self.policy.states(signal, self._state, 1)

    def train(self, gradient_steps: int, batch_size: int = SACOptions.batch_size) -> None:
        """Update from the replay once it holds a complete sequence, and log SB3's tags.

        Raises:
            ValueError: a loss, a gradient or the weights are not finite. No weight is changed then.
        """
        if len(self.replay_buffer) == 0:
            return
        self.policy.set_training_mode(True)
        self._set_learning_rates()
        statistics: dict[str, list[Tensor]] = defaultdict(list)
        in_kernels = self._has_own_updates() and self._in_kernels.begin(self.policy)
        undone = undone_on_error([*self.policy.parameters(), *self._variables().values()])
        alone = one_torch_thread() if in_kernels else nullcontext(0)
        with undone, alone as threads:
            for step in range(gradient_steps):
                sequences = self.replay_buffer.sample(batch_size // self.sequence_length)
                share = self.tau if step % self.target_update_interval == 0 else 0.0
                if in_kernels:
                    figures = self._update_in_kernels(sequences, share, threads)
                else:
                    figures = self._update(sequences)
                    if share:
                        online, target = self.critic, self.critic_target
                        polyak_update(online.parameters(), target.parameters(), share)
                for name, figure in figures.items():
                    statistics[name].append(figure.detach())
                self._n_updates += 1
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, series in statistics.items():
            self.logger.record(f"train/{name}", torch.stack(series).mean().item())

    def _update_in_kernels(
        self, sequences: Sequences, share: float, threads: int
    ) -> dict[str, Tensor]:
        """Do what `_update` does, and move the target by a share of the way to the critics."""
        ent_coef = self._ent_coef()
        settings = SoftSettings(self.gamma, ent_coef.item(), float(self.target_entropy), share)
        figures = self._in_kernels.update(sequences, settings, threads)
        loss = figures.actor_loss + figures.critic_loss
        check_update("loss", loss, self._n_updates, self.num_timesteps)
        check_update("gradient", figures.gradient, self._n_updates, self.num_timesteps)
        check_weights(figures.weights, self._n_updates, self.num_timesteps)
        losses = torch.tensor(figures.actor_loss), torch.tensor(figures.critic_loss)
        return self._figures(ent_coef, *losses, torch.tensor(figures.deficit))

    def _update(self, sequences: Sequences) -> dict[str, Tensor]:
        """Update actor, critics and entropy coefficient once. Returns what to log."""
        ent_coef = self._ent_coef()
        actor_loss, critic_loss, deficit = self._losses(sequences, ent_coef)
        # A single backward pass: no weight receives gradients from both losses.
        loss = actor_loss + critic_loss
        check_update("loss", loss.detach(), self._n_updates, self.num_timesteps)
        self.policy.optimizer.zero_grad()
        loss.backward()
        trained = list(self.policy.parameters())
        gradients = [weight.grad for weight in trained if weight.grad is not None]
        check_update("gradient", get_total_norm(gradients), self._n_updates, self.num_timesteps)
        self.policy.optimizer.step()
        check_weights(_norm(trained), self._n_updates, self.num_timesteps)
        return self._figures(ent_coef, actor_loss, critic_loss, deficit)

    def _figures(
        self, ent_coef: Tensor, actor_loss: Tensor, critic_loss: Tensor, deficit: Tensor
    ) -> dict[str, Tensor]:
        """Update the entropy coefficient after the policy. Returns what to log."""
        losses = {"actor_loss": actor_loss, "critic_loss": critic_loss}
        return self._update_ent_coef(deficit) | {"ent_coef": ent_coef.squeeze()} | losses

    def _ent_coef(self) -> Tensor:
        if self.log_ent_coef is None:
            return self.ent_coef_tensor
        return self.log_ent_coef.detach().exp()

    def _update_ent_coef(self, deficit: Tensor) -> dict[str, Tensor]:
        """Update the entropy coefficient if it is learned. Returns what to log."""
        log_ent_coef = self.log_ent_coef
        if log_ent_coef is None or self.ent_coef_optimizer is None:
            return {}
        loss = -(log_ent_coef.detach() * deficit).sum()
        if log_ent_coef.grad is None:
            log_ent_coef.grad = torch.empty_like(log_ent_coef)
        log_ent_coef.grad.fill_(-deficit)
        self._in_kernels.step_ent_coef(self.ent_coef_optimizer)
        check_weights(_norm([log_ent_coef]), self._n_updates, self.num_timesteps)
        return {"ent_coef_loss": loss}

    def _has_own_updates(self) -> bool:
        """Whether neither a subclass nor the instance replaces a method that makes updates."""
        own = LiquidSAC._update, LiquidSAC._losses
        used = self._update, self._losses
        return tuple(getattr(each, "__func__", None) for each in used) == own

    def _losses(self, sequences: Sequences, ent_coef: Tensor) -> SoftLosses:
        return soft_losses(
            self.policy,
            sequences,
            ent_coef,
            burn_in=self.burn_in,
            gamma=self.gamma,
            target_entropy=float(self.target_entropy),
        )

    def _set_learning_rates(self) -> None:
        optimizers = [self.policy.optimizer, self.ent_coef_optimizer]
        self._update_learning_rate([each for each in optimizers if each is not None])
        if self.recurrent_learning_rate is not None:
            rate = FloatSchedule(self.recurrent_learning_rate)(self._current_progress_remaining)
            self.policy.optimizer.param_groups[0]["lr"] = rate
            self.logger.record("train/recurrent_learning_rate", rate)

    def _observe(
        self, observation: Any, previous: Tensor | None, starts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return features and elapsed time of finite observations, see `StatefulPolicy.observe`."""
        return observe(self.policy, observation, previous, starts, None, self.num_timesteps)

    def learn(
        self: SelfLiquidSAC,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "LiquidSAC",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfLiquidSAC:
        """Train for `total_timesteps` control steps over all environments; arguments as in SB3."""
        if self._vec_normalize_env is not None:
            raise ValueError(
                "LiquidSAC normalises observations itself; take VecNormalize off the environment"
            )
        if self.verbose and (reason := why_not_fused(self.policy)):
            print(f"Updates run in PyTorch, not in the compiled kernels alone: {reason}")
        with report_faults(self):
            return super().learn(
                total_timesteps,
                callback,
                log_interval,
                tb_log_name,
                reset_num_timesteps,
                progress_bar,
            )

    def dump_logs(self) -> None:
        """Write the log, including metrics of the workers."""
        if isinstance(self.env, WorkerVecEnv):
            self.env.log(self.logger)
            self.logger.record("workers/updates_behind", self._updates_behind)
        super().dump_logs()

    def training_state_dict(self) -> Groups:
        """Return the replay, and states, last actions and steps of the current episodes."""
        parts = {"state": self._state, "actions": self._previous_step}
        if self.policy.history.size:
            parts["past"] = self._past
        episodes = {name: part for name, part in parts.items() if part is not None}
        return {"episodes": episodes, "replay": self.replay_buffer.state_dict()}

    def load_training_state_dict(self, state: Groups) -> None:
        """Load what `training_state_dict` returned.

        Raises:
            CheckpointError: it does not fit this agent; nothing is changed then.
        """
        own = self.policy.initial_actor_critic_state(self.n_envs)
        actions = self.policy.initial_previous_step(self.n_envs)
        past = self.policy.history.initial(own, self.n_envs)
        known = {"state": own, "actions": actions}
        if self.policy.history.size:
            known["past"] = past
        rest = {name: group for name, group in state.items() if name != "replay"}
        episodes = check_known(rest, {"episodes": known})
        if len({"state", "actions"} & episodes["episodes"].keys()) == 1:
            raise CheckpointError("it holds only the states or only the last actions")
        noise = getattr(self.action_noise, "base_noise", self.action_noise)
        if type(noise) not in {type(None), NormalActionNoise}:
            warnings.warn(
                f"the state of {type(noise).__name__} is unknown, so the noise restarts, and "
                "the training differs from an uninterrupted one",
                stacklevel=5,
            )
        self.replay_buffer.load_state_dict(state["replay"], own.shape[-1])
        self._state = episodes["episodes"].get("state")
        self._previous_step = episodes["episodes"].get("actions")
        self._past = episodes["episodes"].get("past", past)

    def save_replay_buffer(self, path: str | Path | io.BufferedIOBase) -> None:
        """Save the replay as NumPy arrays; `path` gets the suffix npz if it has none.

        Raises:
            OSError: it cannot be written; an existing file is unchanged.
        """
        if isinstance(path, str | Path):
            path = Path(path)
            path = path if path.suffix else path.with_name(f"{path.name}.npz")
            with replacing(path) as partial, partial.open("wb") as file:
                self.replay_buffer.save(file)
        else:
            self.replay_buffer.save(path)  # type: ignore[arg-type]

    def load_replay_buffer(
        self, path: str | Path | io.BufferedIOBase, truncate_last_traj: bool = True
    ) -> None:
        """Load a replay that an agent with the same arguments saved.

        Args:
            path: of a file that `save_replay_buffer` wrote.
            truncate_last_traj: ignored; an unfinished episode ends where the next one starts, and
                the next `learn` starts new ones.
        """
        with open_path(path, "r", verbose=self.verbose, suffix="npz") as file:
            self.replay_buffer.load(file, self.policy.initial_actor_critic_state(1).shape[-1])
        self._last_obs = None  # the next `learn` begins new episodes

    def _excluded_save_params(self) -> list[str]:
        ours = "_state _previous_step _past _acted _seen _state_after _in_kernels"
        return [*super()._excluded_save_params(), *ours.split()]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, tensors = super()._get_torch_save_params()
        theirs = {"actor.optimizer", "critic.optimizer"}
        return [*(name for name in modules if name not in theirs), "policy.optimizer"], tensors


def _norm(weights: Sequence[Tensor]) -> float:
    return get_total_norm([weight.detach() for weight in weights]).item()
