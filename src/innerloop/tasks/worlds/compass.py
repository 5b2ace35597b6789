"""Compass."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop.config import check_count
from innerloop.tasks.worlds.actions import Continuous
from innerloop.tasks.worlds.world import NativeWorld
from innerloop.tasks.worlds.worlds import WorldTasks


class Turned(NativeWorld):
    """A point that starts at 0 and moves by at most 0.1 in each direction, but the world turns each action by an angle that is not shown.
    The goal is: at distance 0.5, another one in each rollout. task: the angle. The reward is minus the distance; within 0.05 of the goal
    the rollout ends.
    """

    observations, actions, place, start_numbers = 4, Continuous(2), True, 2

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def start(self, task: Tensor, numbers: Tensor) -> Tensor:
        goal = 0.5 * torch.nn.functional.normalize(numbers, dim=-1)
        return torch.cat([torch.zeros_like(goal), goal], -1)

    def observe(self, task: Tensor, state: Tensor) -> Tensor:
        return state

    def step(self, task: Tensor, state: Tensor, action: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        place, goal = state.chunk(2, -1)
        cos, sin = task.cos(), task.sin()
        x, y = (0.1 * action.clamp(-1, 1)).split(1, -1)
        place = place + torch.cat([cos * x - sin * y, sin * x + cos * y], -1)
        distance = (place - goal).norm(dim=-1)
        return torch.cat([place, goal], -1), -distance, distance < 0.05


class Compass(WorldTasks):
    """A family in which one policy for all tasks cannot do well: actions are turned by an unknown angle, uniform in its range."""

    def __init__(self, angle: Sequence[float], horizon: int, **common: Any) -> None:
        check_count("task.horizon", horizon)
        super().__init__(Turned(horizon), [("angle", angle)], **common)
