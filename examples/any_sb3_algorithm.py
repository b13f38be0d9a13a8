"""A circuit of liquid neurons in an algorithm of Stable-Baselines3 without recurrence.

    python examples/any_sb3_algorithm.py

The env shows its last observations together, and the features extractor runs the circuit over them
from rest. Here it is PPO; A2C, SAC, TD3, DDPG and DQN take the same `policy_kwargs`, and so do TQC,
TRPO and CrossQ of sb3-contrib. Those that replay also want
`replay_buffer_class=WindowReplayBuffer`, which stores each observation once; CrossQ takes the class
`sb3_contrib.crossq.MlpPolicy` in place of a name.
"""

from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize, sync_envs_normalization

from liquid_control import LiquidExtractor, envs


def pendulum(num_envs, seed):
    """Return pendulums with positions only, intervals of 20 to 80 ms and windows of four."""
    task = {"observe": "positions", "interval": envs.Uniform(0.02, 0.08), "seed": seed}
    venv = envs.VecWindow(envs.make_vec("InvertedPendulum-v5", num_envs, **task), length=4)
    return VecNormalize(venv, norm_obs_keys=["observation"], gamma=0.998)  # and not the time


def train(timesteps=300_000, seed=0):
    """Train PPO to balance the pendulum."""
    model = PPO(
        "MultiInputPolicy",
        pendulum(16, seed),
        learning_rate=lambda remaining: 1e-3 * remaining,
        n_steps=128,
        batch_size=256,
        gamma=0.998,
        gae_lambda=0.98,
        policy_kwargs={
            "features_extractor_class": LiquidExtractor,
            "features_extractor_kwargs": {
                "neurons": "cfc",
                "wiring": {"kind": "auto_ncp", "neurons": 32, "motor": 16},
                "nominal_interval": 0.04,  # seconds: the circuit's unit of time
            },
            "log_std_init": -1.0,
        },
        seed=seed,
        device="cpu",
    )
    return model.learn(timesteps)


def score(model, seed=1000, episodes=20):
    """Return the mean return over unseen episodes, at most 1000."""
    unseen = pendulum(episodes, seed)
    sync_envs_normalization(model.get_env(), unseen)
    unseen.training = unseen.norm_reward = False
    return evaluate_policy(model, unseen, n_eval_episodes=episodes)[0]


if __name__ == "__main__":
    print(f"mean return {score(train()):.0f}")
