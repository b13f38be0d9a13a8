"""Policies acting in environments, in this process or on workers, and what they collect."""

from liquid_control.collectors.worker_env import WorkerVecEnv

__all__ = ["WorkerVecEnv"]
