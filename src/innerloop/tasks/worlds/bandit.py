"""Bandits."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from innerloop.config import check_count
from innerloop.tasks.worlds.actions import Discrete
from innerloop.tasks.worlds.world import NativeWorld
from innerloop.tasks.worlds.worlds import WorldTasks


class Arms(NativeWorld):
    """Arms that pay 1 with a chance of their own, else 0, one pull after the other. task: the chances. The observation is always 1."""

    observations, step_numbers = 1, 1

    def __init__(self, arms: int, horizon: int) -> None:
        self.actions, self.horizon = Discrete(arms), horizon

    def start(self, task: Tensor, numbers: Tensor) -> Tensor:
        return task.new_ones(*numbers.shape[:2], 1)

    def observe(self, task: Tensor, state: Tensor) -> Tensor:
        return state

    def step(self, task: Tensor, state: Tensor, action: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        chance = task.expand(*action.shape[:2], -1).gather(-1, action.long())
        reward = (torch.special.ndtr(numbers) < chance).to(task.dtype)[..., 0]
        return state, reward, torch.zeros_like(reward, dtype=torch.bool)


class Bandit(WorldTasks):
    """Bandits of `arms` arms, whose chances are uniform in the range `chance`; a rollout is `horizon` pulls."""

    def __init__(self, arms: int, chance: Sequence[float], horizon: int, **common: Any) -> None:
        check_count("task.arms", arms, least=2)
        check_count("task.horizon", horizon)
        super().__init__(Arms(arms, horizon), [("chance", chance)] * arms, **common)
