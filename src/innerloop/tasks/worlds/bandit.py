"""Bandits."""

from collections.abc import Sequence
from functools import cache
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


def bayes_optimum(arms: int, pulls: int) -> float:
    """The mean return of the best there can be in a life of so many pulls, of arms whose chances are uniform in [0, 1]: exact, by dynamic
    programming over what was seen of each arm. 6.660 of 5 arms and 10 pulls; no learner has more."""

    @cache
    def value(seen: tuple[tuple[int, int], ...], left: int) -> float:
        best = 0.0
        for index in range(len(seen)) if left else ():
            if index and seen[index] == seen[index - 1]:
                continue
            others, (wins, losses) = seen[:index] + seen[index + 1 :], seen[index]
            chance = (wins + 1) / (wins + losses + 2)
            after = [value(tuple(sorted([*others, arm])), left - 1) for arm in ((wins + 1, losses), (wins, losses + 1))]
            best = max(best, chance * (1 + after[0]) + (1 - chance) * after[1])
        return best

    return value(((0, 0),) * arms, pulls)


class Bandit(WorldTasks):
    """Bandits of `arms` arms, whose chances are uniform in the range `chance`; a rollout is `horizon` pulls."""

    def __init__(self, arms: int, chance: Sequence[float], horizon: int, **common: Any) -> None:
        check_count("task.arms", arms, least=2)
        check_count("task.horizon", horizon)
        super().__init__(Arms(arms, horizon), [("chance", chance)] * arms, **common)
