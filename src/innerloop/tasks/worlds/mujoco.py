"""Rewards of the MuJoCo families of Finn et al. 2017: a speed, or a direction, that a body is not told. For task.reward."""

from collections.abc import Mapping
from typing import Any


def velocity(env: Any, task: Mapping[str, float], reward: float, info: Mapping[str, float]) -> float:
    """Minus how far its speed is from reward.velocity, less the price of its actions; a body that can fall gets gymnasium's reward for
    every step that it stands, or it would learn to end the rollout."""
    return -abs(info["x_velocity"] - task["reward.velocity"]) + info["reward_ctrl"] + info.get("reward_survive", 0.0)


def direction(env: Any, task: Mapping[str, float], reward: float, info: Mapping[str, float]) -> float:
    """Its speed forward, or backward where reward.direction is negative, less the price of its actions."""
    sign = 1 if task["reward.direction"] >= 0 else -1
    return sign * info["x_velocity"] + info["reward_ctrl"]
