"""A circuit in sb3-contrib's RecurrentPPO: balance a pole from positions, at a varying rate.

pip install "liquid-control[contrib]"
python examples/recurrent_ppo.py
"""

from sb3_contrib import RecurrentPPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize, sync_envs_normalization

from liquid_control import LiquidRecurrentPolicy, envs

WIRING = {  # 32 neurons; a pool of motor neurons learns far faster than one for one action
    "kind": "ncp",
    "inter": 10,
    "command": 14,
    "motor": 8,
    "sensory_fanout": 5,
    "inter_fanout": 6,
    "recurrent_command_synapses": 100,
    "motor_fanin": 7,
}


def make_env(num_envs, seed, **options):
    """Return pendulums with normalised observations, except the elapsed time."""
    interval = envs.Uniform(0.02, 0.08)  # seconds; the nominal interval is 0.04
    venv = envs.make_vec(
        "InvertedPendulum-v5", num_envs, observe="positions", interval=interval, seed=seed
    )
    return VecNormalize(venv, norm_obs_keys=["observation"], **options)


def train(seed=0, timesteps=299_008):
    """Train RecurrentPPO to balance the pole."""
    env = make_env(16, seed)
    model = RecurrentPPO(
        LiquidRecurrentPolicy,
        env,
        learning_rate=LinearSchedule(1e-3, 0, 1),
        n_steps=128,
        batch_size=128,
        gamma=0.995,
        gae_lambda=0.98,
        policy_kwargs={
            "neurons": "cfc",
            "wiring": WIRING,
            "encoder": [32],
            "critic": "mlp",
            "critic_layers": [64, 64],
            "log_std_init": -1.0,
            "nominal_interval": env.get_attr("nominal_interval")[0],  # seconds
        },
        seed=seed,
        device="cpu",
    )
    return model.learn(timesteps)


def evaluate(model, seed=1000, episodes=20):
    """Return mean and standard deviation of the return, at most 1000, over unseen episodes."""
    env = make_env(episodes, seed, training=False, norm_reward=False)
    sync_envs_normalization(model.get_env(), env)
    return evaluate_policy(model, env, n_eval_episodes=episodes)


if __name__ == "__main__":
    mean, deviation = evaluate(train())
    print(f"mean return {mean:.0f} +- {deviation:.0f} of 1000")
