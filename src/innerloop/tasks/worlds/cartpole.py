"""A pole on a cart."""

from collections.abc import Sequence
from math import cos, sin
from typing import Any

import torch
from torch import Tensor

from innerloop.config import check_count
from innerloop.tasks.worlds.actions import Discrete
from innerloop.tasks.worlds.world import NativeWorld
from innerloop.tasks.worlds.worlds import WorldTasks

CART, STEP = 1.0, 0.02  # kilograms, seconds


class Cart(NativeWorld):
    """Push a cart left or right so that its pole stays up (Barto, Sutton, Anderson 1983; the equations of gymnasium's CartPole-v1). task:
    gravity, half the pole's length, its mass, and the force, whose sign turns the actions around. Reward 1 a step; it ends where the cart
    is 2.4 away, or the pole 12 degrees."""

    observations, actions, start_numbers = 4, Discrete(2), 4

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def start(self, task: Tensor, numbers: Tensor) -> Tensor:
        return 0.1 * torch.special.ndtr(numbers) - 0.05

    def observe(self, task: Tensor, state: Tensor) -> Tensor:
        return state

    def step(self, task: Tensor, state: Tensor, action: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gravity, half, mass, strength = task.unbind(-1)
        x, speed, angle, turning = state.unbind(-1)
        force = strength * (2 * action[..., 0] - 1)
        along, across, whole = angle.cos(), angle.sin(), CART + mass
        push = (force + mass * half * turning.square() * across) / whole
        twist = (gravity * across - along * push) / (half * (4 / 3 - mass * along.square() / whole))
        pull = push - mass * half * twist * along / whole
        state = torch.stack([x + STEP * speed, speed + STEP * pull, angle + STEP * turning, turning + STEP * twist], -1)
        ended = (state[..., 0].abs() > 2.4) | (state[..., 2].abs() > torch.pi / 15)
        return state, torch.ones_like(x), ended

    def pose(self, observation: list[float]) -> list[list[tuple[float, float]]]:
        """The cart, and the pole upon it; the angle is drawn three times as large."""
        x, _, angle, _ = observation[:4]
        cart = [(x - 0.4, 0.0), (x + 0.4, 0.0), (x + 0.4, -0.3), (x - 0.4, -0.3), (x - 0.4, 0.0)]
        return [cart, [(x, 0.0), (x + 1.5 * sin(3 * angle), 1.5 * cos(3 * angle))]]


class CartPole(WorldTasks):
    """Carts whose physics are drawn from the ranges gravity (m/s²), half_length (m), pole_mass (kg) and force (N)."""

    def __init__(
        self, gravity: Sequence[float], half_length: Sequence[float], pole_mass: Sequence[float], force: Sequence[float], horizon: int,
        **common: Any,
    ) -> None:  # fmt: skip
        check_count("task.horizon", horizon)
        ranges = [("gravity", gravity), ("half_length", half_length), ("pole_mass", pole_mass), ("force", force)]
        super().__init__(Cart(horizon), ranges, **common)
