"""A pendulum that a motor swings up."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop.config import check_count
from innerloop.tasks.worlds.actions import Continuous
from innerloop.tasks.worlds.world import NativeWorld
from innerloop.tasks.worlds.worlds import WorldTasks

STEP = 0.05  # seconds


class Swing(NativeWorld):
    """Swing a pendulum up and hold it there (the equations of gymnasium's Pendulum-v1). task: gravity, length, mass, and the motor's torque
    for an action of 1, whose sign turns the actions around. The reward is minus a sum of squares: of angle, speed and torque."""

    observations, actions, start_numbers = 3, Continuous(1), 2

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def start(self, task: Tensor, numbers: Tensor) -> Tensor:
        return (2 * torch.special.ndtr(numbers) - 1) * torch.tensor([torch.pi, 1.0], dtype=numbers.dtype, device=numbers.device)

    def observe(self, task: Tensor, state: Tensor) -> Tensor:
        angle, speed = state.unbind(-1)
        return torch.stack([angle.cos(), angle.sin(), speed], -1)

    def step(self, task: Tensor, state: Tensor, action: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gravity, length, mass, strength = task.unbind(-1)
        angle, speed = state.unbind(-1)
        torque = strength * action[..., 0].clamp(-1, 1)
        off = torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi
        reward = -(off.square() + 0.1 * speed.square() + 0.001 * torque.square())
        turning = 3 * gravity / (2 * length) * angle.sin() + 3 * torque / (mass * length.square())
        speed = (speed + STEP * turning).clamp(-8, 8)
        return torch.stack([angle + STEP * speed, speed], -1), reward, torch.zeros_like(off, dtype=torch.bool)

    def pose(self, observation: list[float]) -> list[list[tuple[float, float]]]:
        """The rod; upright is up."""
        cos, sin, _ = observation[:3]
        return [[(0.0, 0.0), (-sin, cos)]]


class Pendulum(WorldTasks):
    """Pendulums whose physics are drawn from the ranges gravity (m/s²), length (m), mass (kg) and torque (Nm)."""

    def __init__(
        self, gravity: Sequence[float], length: Sequence[float], mass: Sequence[float], torque: Sequence[float], horizon: int,
        **common: Any,
    ) -> None:  # fmt: skip
        check_count("task.horizon", horizon)
        ranges = [("gravity", gravity), ("length", length), ("mass", mass), ("torque", torque)]
        super().__init__(Swing(horizon), ranges, **common)
