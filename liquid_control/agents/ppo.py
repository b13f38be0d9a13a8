"""LiquidPPO: proximal policy optimisation of recurrent policies, at any control rate."""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import FloatSchedule, explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.optim import Optimizer

from liquid_control.agents.options import PPOOptions
from liquid_control.agents.returns import ReturnNormalizer
from liquid_control.agents.rollout import finish_rollout, states_of, unroll_sequences
from liquid_control.agents.surrogate import Losses, surrogate
from liquid_control.agents.update_checks import check_update, check_weights, undone_on_error
from liquid_control.checkpoints import callback_state
from liquid_control.checkpoints.fields import check_known
from liquid_control.checkpoints.saved_agent import SavedAgent
from liquid_control.checkpoints.training_state import Groups
from liquid_control.collectors.acting import act, observe
from liquid_control.collectors.action_masks import VecActionMasks, with_action_masks
from liquid_control.collectors.faults import report_faults
from liquid_control.collectors.finite_checks import NotFinite
from liquid_control.collectors.nominal_interval import with_intervals, with_kept_keys
from liquid_control.collectors.transitions import (
    EpisodeEnd,
    Transitions,
    find_episode_ends,
    with_history,
    with_next_history,
)
from liquid_control.collectors.worker_env import WorkerVecEnv
from liquid_control.kernels.learner import Learner, Seen, Targets
from liquid_control.kernels.learning import AdamMemory, Norms, SurrogateOptions
from liquid_control.policies import LiquidPolicy
from liquid_control.policies.device import choose_device
from liquid_control.policies.fused import FusedPolicy, why_not_fused
from liquid_control.policies.optimizer import RecurrentAdam, clipped_step
from liquid_control.policies.options import check_mapping
from liquid_control.storage.sequences import (
    Minibatch,
    SequenceBuffer,
    check_batch,
    default_batch,
    default_length,
)

OWN_OPTIONS = {  # not SB3's
    "sequence_length",
    "recurrent_learning_rate",
    "normalize_observations",
    "normalize_returns",
}
RECURRENT_SHARE = 0.01  # of the learning rate, for synapses that carry the past

SelfLiquidPPO = TypeVar("SelfLiquidPPO", bound="LiquidPPO")


class LiquidPPO(SavedAgent, PPO):
    """SB3's PPO (Schulman et al. 2017) for recurrent policies and tasks with a variable rate.

    A rollout is cut into sequences of `sequence_length` steps. Each sequence is unrolled from the
    recurrent state of the rollout at its start, across episode starts, and back-propagated as a
    whole. Gamma and lambda are per nominal control interval: a step of n intervals discounts by
    gamma ** n, so that gamma looks nominal / (1 - gamma) seconds ahead. A truncated episode is
    bootstrapped from its terminal observation, with the elapsed time of that observation and the
    state before it.

    States are recomputed with the current weights before each epoch and before the next rollout.

    Constructor arguments are those of SB3's PPO and the ones below. The device "auto" is the CPU,
    where small circuits train fastest, unless observations have images. `batch_size` counts control
    steps and is a multiple of the sequence length; None: the largest number from 64 to 32 that
    divides the rollout, or 64.

    Args:
        sequence_length: control steps of truncated back-propagation; divides `n_steps` and
            `batch_size`. None: their greatest common divisor, halved until at most 16 or odd.
            Longer memories need longer sequences.
        recurrent_learning_rate: of the synapses that carry the past, from a neuron's own layer or
            a later one. None: a hundredth of `learning_rate`; tasks of memory rather than reaction
            are learned faster with `learning_rate` itself. Without effect while that is zero.
        normalize_observations: keep running moments of the observations in the policy.
        normalize_returns: scale rewards by the running deviation of the discounted return.

    Raises:
        ValueError: a number is out of bounds, lengths do not divide each other, gSDE is on, the
            device is missing, or VecNormalize normalises the elapsed time. `learn` raises it if a
            rollout or the weights are not finite, or an elapsed time is refused.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"LiquidPolicy": LiquidPolicy}
    policy: LiquidPolicy  # type: ignore[assignment]
    rollout_buffer: SequenceBuffer  # type: ignore[assignment]

    def __init__(
        self,
        policy: str | type[LiquidPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = PPOOptions.learning_rate,
        n_steps: int = PPOOptions.n_steps,
        batch_size: int | None = PPOOptions.batch_size,
        n_epochs: int = PPOOptions.n_epochs,
        gamma: float = PPOOptions.gamma,
        gae_lambda: float = PPOOptions.gae_lambda,
        clip_range: float | Schedule = PPOOptions.clip_range,
        clip_range_vf: float | Schedule | None = PPOOptions.clip_range_vf,
        normalize_advantage: bool = PPOOptions.normalize_advantage,
        ent_coef: float = PPOOptions.ent_coef,
        vf_coef: float = PPOOptions.vf_coef,
        max_grad_norm: float = PPOOptions.max_grad_norm,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: None = None,
        rollout_buffer_kwargs: None = None,
        target_kl: float | None = PPOOptions.target_kl,
        stats_window_size: int = PPOOptions.stats_window_size,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = PPOOptions.device,
        _init_setup_model: bool = True,
        *,
        sequence_length: int | None = PPOOptions.sequence_length,
        recurrent_learning_rate: float | Schedule | None = PPOOptions.recurrent_learning_rate,
        normalize_observations: bool = PPOOptions.normalize_observations,
        normalize_returns: bool = PPOOptions.normalize_returns,
    ) -> None:
        if use_sde:
            raise ValueError("use_sde is not supported by LiquidPPO; leave it False")
        if rollout_buffer_class is not None or rollout_buffer_kwargs is not None:
            raise ValueError(
                "LiquidPPO stores rollouts as sequences in its own buffer; leave out "
                "rollout_buffer_class and rollout_buffer_kwargs"
            )
        options = PPOOptions.among(locals())
        check_mapping("policy_kwargs", policy_kwargs)
        made = maybe_make_env(env, verbose)
        if batch_size is None:
            batch_size = default_batch(n_steps * getattr(made, "num_envs", 1), sequence_length)
            options = replace(options, batch_size=batch_size)
        space = getattr(made, "observation_space", None)
        options = replace(options, device=self.choose_device(device, space))
        super().__init__(
            policy,  # type: ignore[arg-type]
            made,
            **{name: value for name, value in vars(options).items() if name not in OWN_OPTIONS},
            sde_sample_freq=sde_sample_freq,
            tensorboard_log=tensorboard_log,
            policy_kwargs=dict(policy_kwargs or {}),  # completed below
            verbose=verbose,
            seed=None if seed is None else operator.index(seed),
            _init_setup_model=False,
        )
        length = options.sequence_length
        self.sequence_length = length or default_length(self.n_steps, self.batch_size)
        self.recurrent_learning_rate = options.recurrent_learning_rate
        self.normalize_returns = normalize_returns
        if self.env is not None:
            self.policy_kwargs = with_intervals(self.policy_kwargs, self.env)
        self.policy_kwargs.setdefault("normalize_observations", normalize_observations)
        if _init_setup_model:
            self._setup_model()

    choose_device = staticmethod(choose_device)

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        wrapped = with_kept_keys(PPO._wrap_env(env, verbose, monitor_wrapper))
        return with_action_masks(wrapped)

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        if isinstance(self.env, VecActionMasks):
            for given in callback if isinstance(callback, list) else [callback]:
                for each in callback_state.walk(given):
                    if isinstance(each, EvalCallback):
                        each.eval_env = with_action_masks(each.eval_env)
        return super()._init_callback(callback, progress_bar)

    def predict(  # type: ignore[override]  # as in sb3-contrib's MaskablePPO
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: NDArray[np.float32] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Act on observations; arguments and results as in `LiquidPolicy.predict`."""
        if action_masks is None:  # custom policies may not accept masks
            return self.policy.predict(observation, state, episode_start, deterministic)
        return self.policy.predict(observation, state, episode_start, deterministic, action_masks)

    def set_plasticity(self, plasticity: str) -> None:
        """Select which parameters are trained, and reset the optimizer; see `LiquidPolicy`.

        "readout" keeps what was learned, and adapts few weights to a changed robot. The choice is
        saved with the agent.

            model = LiquidPPO.load("agent", env=changed_robot)
            model.set_plasticity("readout")
            model.learn(100_000)

        Raises:
            ValueError: it is neither "full" nor "readout".
        """
        self.policy.set_plasticity(plasticity)
        self.policy_kwargs["neuron_kwargs"] = self.policy.options.neuron_kwargs

    def _setup_model(self) -> None:
        self._check_policy_class()
        rollout_buffer = SequenceBuffer(self.n_steps, self.sequence_length)
        check_batch(self.batch_size, self.sequence_length)
        super()._setup_model()
        self.policy_kwargs |= vars(self.policy.options)  # with the current defaults
        self.rollout_buffer = rollout_buffer
        self.return_normalizer = ReturnNormalizer().to(self.device)
        self._state: Tensor | None = None
        self._past: Tensor | None = None  # rows of `policy.history`

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: SequenceBuffer,  # type: ignore[override]
        n_rollout_steps: int,
    ) -> bool:
        """Fill the buffer with a finished rollout. Returns False if a callback stopped it."""
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        if self._state is None or len(self._state) != env.num_envs:
            self._state = self.policy.initial_actor_critic_state(env.num_envs)
            self._past = self.policy.history.initial(self._state, env.num_envs)
        if isinstance(env, WorkerVecEnv):
            transitions, ends, goes_on = self._collect_on_workers(env, callback, n_rollout_steps)
        else:
            ends, goes_on = self._collect(env, callback, rollout_buffer, n_rollout_steps)
            if not goes_on:
                return False
            transitions = rollout_buffer.stack(self.device)
        assert self._past is not None
        transitions, rows = with_history(self.policy, transitions, self._past)
        self._past = rows[len(transitions.ended) :]
        states = states_of(self.policy, transitions, self._state, self.sequence_length)
        self._state = states[-1]
        if not goes_on:
            return False
        unrolled = unroll_sequences(self.policy, transitions, states)
        assert self._last_episode_starts is not None
        starts = torch.as_tensor(self._last_episode_starts, device=self.device)
        place = n_rollout_steps - 1, self.num_timesteps
        features, elapsed_time = observe(
            self.policy, self._last_obs, transitions.features[-1], starts, *place
        )
        features = with_next_history(self.policy, features, starts, self._past)
        rollout_buffer.states = states[:-1]
        rollout_buffer.rollout = finish_rollout(
            self.policy,
            transitions,
            unrolled,
            features,
            elapsed_time,
            ends,
            length=self.sequence_length,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            return_normalizer=self.return_normalizer if self.normalize_returns else None,
            timesteps=self.num_timesteps,
            rows=rows,
        )
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _collect(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: SequenceBuffer, steps: int
    ) -> tuple[list[EpisodeEnd], bool]:
        """Fill the buffer with control steps, until a callback stops.

        Returns:
            the episode ends, and false if a callback stopped.
        """
        assert self._state is not None
        assert self._last_episode_starts is not None
        ends: list[EpisodeEnd] = []
        seen = self._last_obs, self._last_episode_starts
        state = self.policy.actor_part(self._state)
        taken = act(self.policy, env, *seen, state, self.num_timesteps)
        goes_on = False
        try:
            for step, each in enumerate(islice(taken, steps)):
                transitions, new_obs, rewards, dones, infos = each
                self.num_timesteps += env.num_envs
                callback.update_locals({**locals(), "actions": transitions.actions})
                if not callback.on_step():
                    return ends, False
                self._update_info_buffer(infos, dones)
                rollout_buffer.add(
                    transitions._replace(rewards=torch.from_numpy(rewards.astype(np.float32)))
                )
                ends += find_episode_ends(step, dones, infos)
                self._last_obs, self._last_episode_starts = new_obs, dones
            goes_on = True
        except NotFinite as fault:
            fault.observation = self._last_obs
            raise
        finally:
            if not goes_on:
                self._last_obs = None  # the next `learn` resets: it knows no state of this step
        return ends, True

    def _collect_on_workers(
        self, env: WorkerVecEnv, callback: BaseCallback, steps: int
    ) -> tuple[Transitions, list[EpisodeEnd], bool]:
        """Collect control steps on the workers, and call the callbacks afterwards.

        Returns:
            the steps, their episode ends, and false if a callback stopped.
        """
        assert self._state is not None
        assert self._last_episode_starts is not None
        seen = self._last_obs, self._last_episode_starts
        state = self.policy.actor_part(self._state)
        env.begin(self.policy, *seen, state, steps, timesteps=self.num_timesteps)
        collected = env.finish()
        self._last_obs, self._last_episode_starts = collected.observation, collected.starts
        transitions = collected.transitions.to(self.device)
        goes_on = True
        for rewards, dones, infos in collected.steps():  # noqa: B007  # for callbacks
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            goes_on = callback.on_step()
            if not goes_on:
                break
            self._update_info_buffer(infos, dones)
        return transitions, collected.ends, goes_on

    def train(self) -> None:
        """Update the policy from the rollout in the buffer, and log SB3's tags.

        Raises:
            ValueError: a loss, a gradient or the weights are not finite. No weight is changed then.
        """
        self.policy.set_training_mode(True)
        self._set_learning_rates()
        statistics: dict[str, list[Tensor]] = defaultdict(list)
        fused = FusedPolicy.of(self.policy)
        seen = self._seen(fused)
        with undone_on_error(list(self.policy.parameters())):
            for epoch in range(self.n_epochs):
                if epoch > 0:
                    self._recompute_states(fused, seen)
                if not self._epoch(statistics, fused, seen):
                    if self.verbose >= 1:
                        kl = statistics["approx_kl"][-1][-1]
                        print(f"Early stopping at step {epoch} due to reaching max kl: {kl:.2f}")
                    break
        # Only between iterations, so that the first epoch starts at ratios of exactly one.
        self.policy.update_normalizer(self.rollout_buffer.rollout.transitions.features)
        self._recompute_states(fused, self._seen(fused))
        self._log_training(statistics)

    def _seen(self, fused: FusedPolicy | None) -> Seen | None:
        """Return what the fused passes, if there are any, see in the rollout."""
        seen = self.rollout_buffer.rollout.transitions
        if fused is None:
            return None
        return fused.seen(seen.features, seen.elapsed_time, seen.episode_start)

    def _recompute_states(self, fused: FusedPolicy | None, seen: Seen | None) -> None:
        """Unroll the rollout with the current weights, and replace its states and the last one.

        With the states of older weights, the ratio of a sequence would not include the effect of an
        update before the sequence starts, and the next rollout would start from a state that the
        current policy does not reach.
        """
        buffer = self.rollout_buffer
        transitions, state = buffer.rollout.transitions, buffer.states[0]
        states = None
        if fused is not None and seen is not None:
            states = fused.states(seen, transitions.features, state, self.sequence_length)
        if states is None:
            states = states_of(self.policy, transitions, state, self.sequence_length)
        buffer.states, self._state = states[:-1], states[-1]

    def _set_learning_rates(self) -> None:
        optimizer = self.policy.optimizer
        self._update_learning_rate(optimizer)
        optimizer.recurrent_share = RECURRENT_SHARE
        if self.recurrent_learning_rate is not None:
            rate = FloatSchedule(self.recurrent_learning_rate)(self._current_progress_remaining)
            overall = optimizer.param_groups[0]["lr"]
            share = rate / overall if overall else 0.0  # of Adam's steps, which are zero then
            optimizer.recurrent_share = share
            self.logger.record("train/recurrent_learning_rate", rate if share else 0.0)

    def _epoch(
        self, statistics: dict[str, list[Tensor]], fused: FusedPolicy | None, seen: Seen | None
    ) -> bool:
        """Train on every sequence once. Returns False if `target_kl` was exceeded."""
        self._n_updates += 1
        statistics["approx_kl"].clear()  # as in SB3, the mean over the last epoch alone
        learner, memory = self._learner(fused)
        if seen is not None and learner is not None and memory is not None:
            return self._learn(statistics, seen, learner, memory)
        sequences = self.batch_size // self.sequence_length
        extra = [] if seen is None else [each.flatten(0, 1) for each in (seen.features, seen.clock)]
        for minibatch in self.rollout_buffer.minibatches(sequences, extra):
            loss, losses, backward = self._loss(minibatch, fused)
            for name, figure in losses._asdict().items():
                statistics[name].append(figure.reshape(1))
            if losses.approx_kl > self._largest_divergence():
                return False
            check_update("loss", loss, self._n_updates, self.num_timesteps)
            backward()
            self._check(self._step())
        return True

    def _largest_divergence(self) -> float:
        return math.inf if self.target_kl is None else 1.5 * self.target_kl

    def _check(self, norms: Norms) -> None:
        check_update("gradient", norms.gradient, self._n_updates, self.num_timesteps)
        check_weights(norms.weights, self._n_updates, self.num_timesteps)

    def _learner(self, fused: FusedPolicy | None) -> tuple[Learner | None, AdamMemory | None]:
        """Return what learns in the kernels; None if updates are made one by one."""
        optimizer: Optimizer = self.policy.optimizer
        learner = None if fused is None else fused.learner()
        if learner is None or type(optimizer) is not RecurrentAdam or not self._has_own_updates():
            return None, None
        return learner, optimizer.memory()

    def _has_own_updates(self) -> bool:
        """Whether neither a subclass nor the instance replaces a method that makes updates."""
        own = LiquidPPO._loss, LiquidPPO._step
        return (getattr(self._loss, "__func__", None), getattr(self._step, "__func__", None)) == own

    def _learn(
        self,
        statistics: dict[str, list[Tensor]],
        seen: Seen,
        learner: Learner,
        memory: AdamMemory,
    ) -> bool:
        """Do what `_epoch` does in one call of the kernels."""
        sequences, most = self.batch_size // self.sequence_length, self._largest_divergence()
        buffer, rollout = self.rollout_buffer, self.rollout_buffer.rollout
        targets = Targets(
            rollout.transitions.actions,
            rollout.log_prob,
            rollout.values,
            rollout.advantages,
            rollout.returns,
        )
        losses, norms = learner.learn(
            seen,
            buffer.states,
            targets,
            buffer.draw_order(),
            sequences,
            self._surrogate_options(),
            memory,
            self.policy.optimizer.rates(self.max_grad_norm),
            most,
        )
        for name, figures in zip(Losses._fields, losses.unbind(1), strict=True):
            statistics[name].append(figures)
        last = Losses._make(losses[-1])
        if last.approx_kl > most:
            return False
        check_update("loss", last.loss, self._n_updates, self.num_timesteps)
        self._check(Norms(*norms[-1].tolist()))
        return True

    def _step(self) -> Norms:
        """Make one step of the policy's optimizer, which a user may have replaced."""
        optimizer: Optimizer = self.policy.optimizer
        if isinstance(optimizer, RecurrentAdam):
            return optimizer.clipped_step(self.max_grad_norm)
        return clipped_step(optimizer, self.max_grad_norm)

    def _loss(
        self, minibatch: Minibatch, fused: FusedPolicy | None
    ) -> tuple[Tensor, Losses, Callable[[], None]]:
        """Return the loss, what to log, and a function that sets the gradients."""
        losses, backward = surrogate(self.policy, fused, minibatch, self._surrogate_options())
        return losses.loss, losses, backward

    def _surrogate_options(self) -> SurrogateOptions:
        return SurrogateOptions(
            self._now(self.clip_range),
            None if self.clip_range_vf is None else self._now(self.clip_range_vf),
            self.ent_coef,
            self.vf_coef,
            self.normalize_advantage,
        )

    def _log_training(self, statistics: dict[str, list[Tensor]]) -> None:
        figures = {name: torch.cat(series).mean().item() for name, series in statistics.items()}
        figures["loss"] = statistics["loss"][-1][-1].item()  # as in SB3, of the last minibatch
        rollout = self.rollout_buffer.rollout
        figures["explained_variance"] = explained_variance(
            rollout.values.flatten().cpu().numpy(),
            rollout.returns.flatten().cpu().numpy(),
        )
        if self.policy.log_std is not None:
            figures["std"] = self.policy.log_std.exp().mean().item()
        figures["clip_range"] = self._now(self.clip_range)
        if self.clip_range_vf is not None:
            figures["clip_range_vf"] = self._now(self.clip_range_vf)
        for name, figure in figures.items():
            self.logger.record(f"train/{name}", figure)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _now(self, schedule: float | Schedule) -> float:
        """Return the value of a schedule at the current progress."""
        assert callable(schedule)  # SB3 has wrapped numbers in functions
        return schedule(self._current_progress_remaining)

    def learn(
        self: SelfLiquidPPO,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "LiquidPPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfLiquidPPO:
        """Train for `total_timesteps` control steps over all environments; arguments as in SB3."""
        if self.verbose and (reason := why_not_fused(self.policy)):
            print(f"Updates run in PyTorch, not in the compiled kernels: {reason}")
        with report_faults(self):
            return super().learn(
                total_timesteps,
                callback,
                log_interval,
                tb_log_name,
                reset_num_timesteps,
                progress_bar,
            )

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log. Iterations count from the start of training, across resumed runs."""
        if isinstance(self.env, WorkerVecEnv):
            self.env.log(self.logger)
        super().dump_logs(self.num_timesteps // (self.n_steps * self.n_envs))

    def training_state_dict(self) -> Groups:
        """Return the states, discounted returns and latest steps of the current episodes."""
        parts = {"state": self._state, "discounted": self.return_normalizer.discounted}
        if self.policy.history.size:
            parts["past"] = self._past
        return {"episodes": {name: part for name, part in parts.items() if part is not None}}

    def load_training_state_dict(self, state: Groups) -> None:
        """Load what `training_state_dict` returned.

        Raises:
            CheckpointError: it does not fit this agent; nothing is changed then.
        """
        own = self.policy.initial_actor_critic_state(self.n_envs)
        past = self.policy.history.initial(own, self.n_envs)
        known = {"state": own, "discounted": own[:, 0]}
        if self.policy.history.size:
            known["past"] = past
        episodes = check_known(state, {"episodes": known})
        self._state = episodes["episodes"].get("state")
        self._past = episodes["episodes"].get("past", past)
        self.return_normalizer.discounted = episodes["episodes"].get("discounted")

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_state", "_past"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, tensors = super()._get_torch_save_params()
        return [*modules, "return_normalizer"], tensors
