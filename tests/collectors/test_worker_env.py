"""Environments on workers: what is collected depends on no worker, and on no loss of one.

Workers are hosts in this process here, so that these tests are fast; `test_ray_workers` has others.
"""

from __future__ import annotations

import csv
import pickle
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from liquid_control import LiquidPPO, LiquidSAC, WorkerVecEnv, envs
from liquid_control.checkpoints import CheckpointError
from liquid_control.checkpoints.checkpoint_callback import ResumeCallback
from liquid_control.checkpoints.logs import ResumableLogger
from liquid_control.collectors.acting import act
from liquid_control.collectors.blocks import Host, default_block, pack, unpack
from liquid_control.collectors.engines import ENGINES, LocalEngine, LocalWorker
from liquid_control.collectors.finite_checks import NotFinite
from liquid_control.collectors.ray_workers import Lost
from liquid_control.collectors.workers import MOST_LOSSES
from tests.agents.scripted import Stop

TASK = "InvertedPendulum-v5"
NUM_ENVS, BLOCK, SEED = 8, 2, 3
CLOCKS = {"time/fps", "time/time_elapsed", "time/waiting_for_workers"}
ELSEWHERE = {"workers/bytes_per_step", "workers/replaced"}  # of workers in other processes
POLICY = {
    "wiring": {"kind": "auto_ncp", "neurons": 8},
    "derivatives": [0.0],
    "critic_history": [1, 3],
}
TIMES = (".started", ".seconds", ".episode_times")
MAKE = partial(
    envs.make_vec,
    TASK,
    observe="positions",
    interval={"kind": "uniform", "low": 0.02, "high": 0.08},
    threads=1,
)


class InProcess(LocalEngine):
    """Workers that are separate hosts of this process, some of which die."""

    is_remote = True
    deaths: ClassVar[Counter[tuple[int, str]]] = Counter()

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.count = 0

    def start(self, make_host: Callable[[], Host]) -> LocalWorker:
        self.count += 1
        return Mortal(make_host, self.count - 1)


class Mortal(LocalWorker):
    """Dies in calls that `InProcess.deaths` counts; what it was asked is done before."""

    def __init__(self, make_host: Callable[[], Host], index: int) -> None:
        super().__init__(make_host())
        self.make_host, self.index = make_host, index

    def start(self, method: str, *arguments: Any) -> Callable[[], Any]:
        def call() -> Any:
            value = pickle.loads(pickle.dumps(getattr(self.host, method)(*arguments)))
            if InProcess.deaths[self.index, method] > 0:
                InProcess.deaths[self.index, method] -= 1
                del self.host
                raise Lost("killed by a test")
            return value

        return call

    def replace(self) -> None:
        self.host = self.make_host()


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "in_process", InProcess)  # type: ignore[arg-type]
    monkeypatch.setattr(InProcess, "deaths", Counter())


def robots(workers: int = 0, **options: Any) -> WorkerVecEnv:
    engine = "in_process" if workers else "ray"  # which is not used without workers
    given = {"block": BLOCK, "seed": SEED, "engine": engine, **options}
    return WorkerVecEnv(MAKE, NUM_ENVS, **{"workers": workers, **given})


def ppo(env: Any, **options: Any) -> LiquidPPO:
    rollout = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "seed": 1, "sequence_length": 8}
    return LiquidPPO("LiquidPolicy", env, policy_kwargs=POLICY, **{**rollout, **options})


def sac(env: Any, policy: Mapping[str, Any] = POLICY, **options: Any) -> LiquidSAC:
    replay = {"learning_starts": 200, "batch_size": 16, "sequence_length": 4, "burn_in": 2}
    rounds = {"train_freq": 8, "gradient_steps": 3, "buffer_size": 1000, "seed": 1}
    return LiquidSAC(
        "LiquidPolicy",
        env,
        policy_kwargs={**policy, "critic_layers": [8]},
        **{**replay, **rounds, **options},
    )


AGENTS: list[Callable[..., Any]] = [ppo, sac]
TOTAL = 4 * 128


def trained(make: Callable[..., Any], env: Any, folder: Path, *callbacks: BaseCallback) -> Any:
    agent = make(env)
    agent.set_logger(ResumableLogger(folder, ["csv"]))
    return agent.learn(TOTAL, list(callbacks), log_interval=1)


def state_of(agent: Any) -> dict[str, torch.Tensor]:
    """All that training made of an agent: weights, generators, environments, replay."""
    contents = agent.state_dict(training=True)
    return {
        f"{part}.{name}": tensor
        for part, tensors in contents.tensors.items()
        for name, tensor in tensors.items()
        if (part, name) != ("training.statistics", "t")
        and part not in {"training.pending", "training.callbacks"}
        and not name.endswith(TIMES)
        and "space." not in name
    }


def assert_same(agent: Any, other: Any) -> None:
    ours, theirs = state_of(agent), state_of(other)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 50
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "progress.csv").open(newline="") as file:
        return [
            {name: value for name, value in row.items() if name not in CLOCKS | ELSEWHERE}
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module", params=AGENTS, ids=["ppo", "sac"])
def straight(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """How an agent is made, the agent trained without workers, and the folder of its log."""
    folder = tmp_path_factory.mktemp("straight")
    return request.param, trained(request.param, robots(0), folder), folder


@pytest.mark.parametrize(
    "workers", [2, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 4))]
)
def test_the_number_of_workers_changes_no_bit(straight: Any, workers: int, tmp_path: Path) -> None:
    make, agent, folder = straight
    again = trained(make, robots(workers), tmp_path)
    assert_same(agent, again)
    assert rows(tmp_path) == rows(folder)
    assert len(agent.ep_info_buffer) > 3  # episodes ended


@pytest.mark.parametrize("deaths", [{(1, "collect"): 2}, {(0, "collect"): 1, (3, "reset"): 1}])
def test_what_a_lost_worker_collected_is_collected_again(
    straight: Any, deaths: dict[tuple[int, str], int], tmp_path: Path
) -> None:
    make, agent, _ = straight
    InProcess.deaths.update(deaths)
    env = robots(4)
    again = trained(make, env, tmp_path)
    assert env.replaced == 2
    assert_same(agent, again)


def test_a_worker_may_be_lost_again_while_it_is_replaced(straight: Any, tmp_path: Path) -> None:
    make, agent, _ = straight
    InProcess.deaths.update({(1, "collect"): 1, (1, "load_state_dicts"): 1})
    env = robots(2)
    again = trained(make, env, tmp_path)
    assert env.replaced == 2
    assert_same(agent, again)


@pytest.mark.slow
def test_sixty_four_workers_are_as_good_as_none() -> None:
    make = _by_count(partial(make_vec_env, "CartPole-v1"))
    InProcess.deaths.update({(40, "collect"): 1, (63, "collect"): 2})
    agents = []
    for workers, engine in ((0, "ray"), (64, "in_process")):
        env = WorkerVecEnv(make, 64, workers=workers, block=1, seed=0, engine=engine)
        agents.append(ppo(env).learn(2 * 16 * 64))
    assert env.replaced == 3
    assert_same(*agents)


def test_environments_that_are_stepped_one_by_one_are_replaced_too() -> None:
    trainings = []
    for workers in (0, 4):
        InProcess.deaths[1, "collect"] = 1
        engine = "in_process" if workers else "ray"
        make = partial(make_vec_env, "CartPole-v1")
        env = WorkerVecEnv(_by_count(make), NUM_ENVS, workers=workers, block=BLOCK, engine=engine)
        trainings.append(ppo(env).learn(TOTAL))
    assert_same(*trainings)
    assert trainings[1].env.replaced == 1


def test_sac_learns_from_images_and_privileged_observations_on_workers() -> None:
    """Workers return features without states, which the learner computes again."""

    def make(num_envs: int, seed: int) -> Any:
        return make_vec_env(Camera, n_envs=num_envs, seed=seed)

    small = {"image_layers": [[4, 3, 2]], "image_features": 3}
    policy = {"wiring": POLICY["wiring"], **small}
    trainings = []
    for workers in (0, 4):
        engine = "in_process" if workers else "ray"
        env = WorkerVecEnv(make, NUM_ENVS, workers=workers, block=BLOCK, engine=engine)
        trainings.append(sac(env, policy).learn(TOTAL))
    assert_same(*trainings)
    assert trainings[0].replay_buffer._pixels.any()


class Camera(gym.Env[dict[str, np.ndarray], np.ndarray]):
    """Shows how many steps an episode has had."""

    observation_space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (8, 8, 1), np.uint8),
            "privileged": spaces.Box(-1.0, 1.0, (2,)),
        }
    )
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.age = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> Any:
        self.age += 1
        return self._observe(), float(action[0]), False, self.age == 10, {}

    def _observe(self) -> dict[str, np.ndarray]:
        image = np.full((8, 8, 1), 25 * self.age, np.uint8)
        return {"image": image, "privileged": np.float32([self.age / 10, 1.0])}

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"age": np.array(self.age)}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        self.age = int(state["age"])


def _by_count(make: Callable[..., Any]) -> Callable[..., Any]:
    """Rename an argument: SB3's make_vec_env takes n_envs."""
    return lambda num_envs, seed: make(n_envs=num_envs, seed=seed)


def test_a_worker_that_is_lost_again_and_again_ends_the_training() -> None:
    InProcess.deaths[1, "collect"] = MOST_LOSSES
    with pytest.raises(RuntimeError, match=r"worker 1 was lost 5 times.*killed by a test"):
        ppo(robots(2)).learn(TOTAL)


@pytest.mark.parametrize(
    ("before", "after"),
    [(0, 2), (4, 0), *(pytest.param(*both, marks=pytest.mark.slow) for both in ((0, 0), (4, 2)))],
)
def test_a_training_resumes_exactly_on_another_number_of_workers(
    straight: Any, before: int, after: int, tmp_path: Path
) -> None:
    make, agent, folder = straight

    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps > TOTAL // 2 + 20:
                raise KeyboardInterrupt
            return True

    checkpoints = ResumeCallback(tmp_path / "checkpoints", every=128)
    with pytest.raises(KeyboardInterrupt):
        trained(make, robots(before), tmp_path, checkpoints, Stop())
    torch.manual_seed(99)
    env = robots(after)
    logger = ResumableLogger(tmp_path, ["csv"])
    again = type(agent).resume(tmp_path / "checkpoints", env, logger=logger)
    assert again.num_timesteps == TOTAL // 2
    again.learn(TOTAL // 2, log_interval=1, reset_num_timesteps=False)
    assert_same(agent, again)
    assert rows(tmp_path) == rows(folder)


def test_other_blocks_are_other_environments(straight: Any, tmp_path: Path) -> None:
    make, agent, _ = straight
    again = trained(make, robots(block=4), tmp_path)
    assert not torch.equal(agent.policy.actor.circuit.bias, again.policy.actor.circuit.bias)
    with pytest.raises(ValueError, match="blocks of 2; make them with the arguments"):
        robots().load_state_dict(again.env.state_dict())


def test_a_block_collects_what_its_environments_alone_would() -> None:
    env = robots(4)
    agent = ppo(env)
    agent._setup_learn(1)
    first = 2 * BLOCK
    alone = MAKE(num_envs=BLOCK, seed=agent.seed + first)
    observation, starts = alone.reset(), np.ones(BLOCK, bool)
    state = torch.randn(NUM_ENVS, agent.policy.actor_circuit.state_size)
    seen = agent._last_obs, np.ones(NUM_ENVS, bool)
    env.begin(agent.policy, *seen, state, 40, timesteps=0)
    assert env.is_acting
    collected = env.finish()
    assert not env.is_acting

    noise = torch.from_numpy(unpack(env._workers.states[2])["noise"])  # type: ignore[index]
    (started,) = Host(MAKE, [first], BLOCK, None).reset([(agent.seed + first, [{}, {}])])
    torch.set_rng_state(torch.from_numpy(unpack(started.state)["noise"]))
    own = state[first : first + BLOCK]
    steps = list(islice(act(agent.policy, alone, observation, starts, own, 0), 40))
    assert torch.equal(torch.get_rng_state(), noise)
    for name, column in collected.transitions._asdict().items():
        expected = torch.stack([getattr(step.transitions, name) for step in steps])
        assert torch.equal(column[:, first : first + BLOCK], expected), name
    assert len(collected.ends) > 0
    places = torch.nonzero(collected.transitions.ended).tolist()
    assert [[end.step, end.env] for end in collected.ends] == places
    last = collected.observation["observation"][first : first + BLOCK]
    assert np.array_equal(last, steps[-1].observation["observation"])
    mine = [each for each in collected.ends if first <= each.env < first + BLOCK]
    for end in mine:
        info = steps[end.step].infos[end.env - first]
        theirs = info["terminal_observation"]["observation"]
        assert np.array_equal(end.observation["observation"], theirs)
    reported = [(rewards, dones, infos) for rewards, dones, infos in collected.steps()]
    assert [len(infos) for *_, infos in reported] == [NUM_ENVS] * 40
    for end, info in zip(collected.ends, collected.infos, strict=True):
        assert reported[end.step][2][end.env] is info
        assert info["episode"]["l"] > 0


def test_blocks_have_noise_of_their_own(straight: Any) -> None:
    noise = [unpack(packed)["noise"] for packed in straight[1].env._workers.states]
    assert len({each.tobytes() for each in noise}) == NUM_ENVS // BLOCK


def test_collecting_draws_nothing_from_the_learners_generator() -> None:
    agent = ppo(robots(0))
    agent._setup_learn(1)
    before = torch.get_rng_state()
    state = agent.policy.initial_actor_state(NUM_ENVS)
    agent.env.begin(agent.policy, agent._last_obs, np.ones(NUM_ENVS, bool), state, 4, timesteps=0)
    agent.env.finish()
    robots(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_first_actions_of_sac_are_uniform_and_the_next_ones_are_not() -> None:
    agent = sac(robots(2), learning_starts=100, gradient_steps=0, train_freq=32)
    with torch.no_grad():
        for weight in agent.actor.head.parameters():
            weight.mul_(0)
        agent.actor.head[-1].bias[:] = torch.tensor([5.0, -5.0])  # nearly always the same action
    agent.learn(32 * NUM_ENVS)
    actions = agent.replay_buffer._slots[..., agent.replay_buffer._columns["actions"]]
    acted = actions[actions != 0]  # slots of terminal observations have no action
    uniform = acted[acted < 0.99]
    steps = -(-100 // NUM_ENVS)
    assert steps * NUM_ENVS * 0.9 < len(uniform) <= steps * NUM_ENVS
    assert -1 < uniform.min() < -0.9
    assert abs(uniform.mean()) < 0.2


def test_sac_acts_beside_the_updates_and_logs_how_many_its_weights_are_behind(
    tmp_path: Path,
) -> None:
    agent = trained(sac, robots(2), tmp_path)
    assert agent.env.is_acting
    behind = [row["workers/updates_behind"] for row in rows(tmp_path)]
    assert "0" in behind  # the first rounds, before there are updates
    assert set(behind) == {"0", "3"}
    assert behind[-1] == "3"


def test_a_worker_has_the_actors_weights_alone() -> None:
    for agent in (ppo(robots()), sac(robots())):
        policy = agent.policy
        acting = policy.acting_state_dict()
        names = policy.state_dict().keys()
        assert acting.keys() < names
        with torch.no_grad():
            for weight in policy.parameters():
                weight.add_(torch.randn_like(weight))
        other = type(policy)(**policy._get_constructor_parameters())
        other.load_state_dict(policy.acting_state_dict(), strict=False)
        now = torch.randn(3, policy.observed), torch.full((3,), 0.04), policy.initial_actor_state(3)
        (ours, after), (theirs, following) = (
            each(*now, torch.zeros(3), deterministic=True) for each in (policy, other)
        )
        assert torch.equal(ours, theirs)
        assert torch.equal(after, following)


def test_a_callback_may_stop_and_training_goes_on() -> None:
    for make in AGENTS:
        agent = make(robots(2))
        agent.learn(10**6, StopTrainingOnMaxEpisodes(1))
        assert 0 < agent.num_timesteps < 10**4
        before = agent.num_timesteps
        agent.learn(128, reset_num_timesteps=False)
        assert agent.num_timesteps >= before + 128


def test_after_a_stop_in_mid_round_the_next_step_of_sac_is_an_episodes_first() -> None:
    env = WorkerVecEnv(partial(envs.make_vec, "HalfCheetah-v5", threads=1), 2)  # it never falls
    agent = sac(env, {"wiring": {"kind": "dense", "neurons": 16}}, learning_starts=1000)
    agent.learn(10**6, Stop(13))  # in the second round of 8 steps, and the 13th is not stored
    agent.learn(8 * agent.n_envs, reset_num_timesteps=False)
    stored, column = agent.replay_buffer._slots, agent.replay_buffer._columns["episode_start"]
    assert stored[:20, 0, column].flatten().nonzero().flatten().tolist() == [0, 12]


def test_a_new_training_takes_back_the_round_under_way() -> None:
    agent, again = (sac(robots(workers)).learn(256).learn(256) for workers in (0, 4))
    torch.manual_seed(0)  # the generator is the process's, and no part of an agent
    assert_same(agent, again)


class Broken(gym.Wrapper[Any, Any, Any, Any]):
    """Returns a reward that is no number at its third step."""

    played = 0

    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        self.played += 1
        return observation, np.nan if self.played == 3 else reward, *rest

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"played": np.array(self.played)}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        self.played = int(state["played"])


def broken(num_envs: int, seed: int) -> DummyVecEnv:
    wrapped = [seed + index == 1 + 5 for index in range(num_envs)]  # the agent's seed is 1
    make = [partial(gym.make, "CartPole-v1") for _ in wrapped]
    return DummyVecEnv(
        [lambda make=each, bad=bad: Broken(make()) if bad else make()
         for each, bad in zip(make, wrapped, strict=True)]
    )  # fmt: skip


@pytest.mark.parametrize("workers", [0, 4])
def test_a_fault_names_the_environment_among_all(workers: int) -> None:
    env = WorkerVecEnv(broken, NUM_ENVS, workers=workers, block=BLOCK, seed=1, engine="in_process")
    with pytest.raises(NotFinite, match=r"rewards of environment 5 .* step 2 .* 24 timesteps"):
        ppo(env).learn(TOTAL)


def test_a_fault_survives_the_way_to_another_process() -> None:
    fault = NotFinite("rewards", 5, 2, 24)
    again = pickle.loads(pickle.dumps(fault))
    assert str(again) == str(fault)
    assert vars(again) == vars(fault)
    assert again.shifted(8).environment == 13


def test_a_fault_can_be_reproduced() -> None:
    env = robots(2)
    agent = ppo(env)
    agent.learn(128)
    for index in range(NUM_ENVS):
        assert env.reproduction(index)["seed"] == SEED + index
        assert env.reproduction(index)["substeps"] > 0


class TestVecEnv:
    def test_attributes_and_methods_are_those_of_the_chosen_environments(self) -> None:
        env = robots(4)
        env.reset()
        chosen = [7, 0, 2]
        env.set_attr("mark", "x", indices=[2])
        env.set_attr("mark", "y", indices=[0, 7])
        assert env.get_attr("mark", indices=chosen) == ["y", "y", "x"]
        assert env.get_attr("nominal_interval") == [0.04] * NUM_ENVS
        assert not env.has_attr("no_such")
        whole = MAKE(num_envs=NUM_ENVS, seed=SEED)
        whole.reset()
        ours, theirs = (
            each.env_method("get_wrapper_attr", "np_random", indices=chosen)
            for each in (env, whole)
        )
        assert [each.bit_generator.state for each in ours] == [
            each.bit_generator.state for each in theirs
        ]

    def test_a_change_survives_the_loss_of_a_worker(self) -> None:
        env = robots(4)
        env.reset()
        env.set_attr("mark", "x", indices=5)
        InProcess.deaths[2, "ask"] = 1
        assert env.get_attr("mark", indices=5) == ["x"]
        assert env.replaced == 1

    def test_environments_are_seeded_by_their_numbers(self) -> None:
        env, whole = robots(2), MAKE(num_envs=NUM_ENVS, seed=0)
        for each in (env, whole):
            each.seed(40)
        ours, theirs = env.reset(), whole.reset()
        assert np.array_equal(ours["observation"], theirs["observation"])
        assert env.reset_infos == whole.reset_infos

    def test_it_cannot_be_stepped_or_wrapped(self) -> None:
        with pytest.raises(NotImplementedError, match=r"envs\.make_vec"):
            ppo(VecMonitor(robots())).learn(TOTAL)

    def test_it_has_no_state_before_a_reset(self) -> None:
        with pytest.raises(ResetNeeded):
            robots().state_dict()

    def test_weights_of_another_policy_are_refused(self) -> None:
        env = robots()
        agent = sac(env).learn(128)
        state = env.state_dict()
        state["acting.weights.actor.head.1.bias"] = np.zeros(9, np.float32)
        env.load_state_dict(state)
        with pytest.raises(ValueError, match="not of this policy"):
            agent.learn(128, reset_num_timesteps=False)

    def test_noise_of_another_kind_is_refused(self) -> None:
        env = robots()
        env.reset()
        state = env.state_dict() | {"4.noise": np.zeros(3, np.uint8)}
        with pytest.raises(CheckpointError, match="noise of the block has shape"):
            env.load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 3}, "4 blocks of 2 environments .* 3 workers; use 1, 2, 4, or 0"),
        ({"workers": -1}, "workers must be at least 0, got -1"),
        ({"workers": 2.0}, "workers must be an integer, got 2.0"),
        ({"block": 3}, "8 environments cannot be divided into blocks of 3"),
        ({"block": 0}, "block must be at least 1, got 0"),
        ({"engine": "dask"}, "engine must be one of ray, in_process, got 'dask'"),
    ],
)
def test_invalid_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        robots(**options)


def test_the_default_block_is_the_most_up_to_four_that_divide() -> None:
    assert [default_block(count) for count in (1, 2, 6, 7, 8, 16)] == [1, 2, 3, 1, 4, 4]


def test_environments_of_unknown_state_are_refused() -> None:
    def make(num_envs: int, seed: int) -> Any:
        wrapper = type("Strange", (gym.Wrapper,), {})
        return make_vec_env("CartPole-v1", num_envs, seed=seed, wrapper_class=wrapper)

    with pytest.raises(ValueError, match=r"the state of .*Strange is unknown"):
        WorkerVecEnv(make, 4)


def test_sac_refuses_what_would_act_in_this_process() -> None:
    noise = NormalActionNoise(np.zeros(1), np.ones(1))
    with pytest.raises(ValueError, match="action_noise is not supported"):
        sac(robots(), action_noise=noise)
    with pytest.raises(ValueError, match=r"number of steps .* got 2 episodes"):
        sac(robots(), train_freq=(2, "episode"))


def test_arrays_are_packed_without_loss() -> None:
    arrays = {
        "zeros": np.zeros((3, 4), np.int32),
        "flag": np.array(True),
        "numbers": np.random.default_rng(0).normal(size=(2, 5)),
        "empty": np.empty((0, 2), np.float32),
    }
    again = unpack(pack(arrays))
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(again[name], array)
        assert (again[name].dtype, again[name].shape) == (array.dtype, array.shape)
        assert again[name].flags.writeable
