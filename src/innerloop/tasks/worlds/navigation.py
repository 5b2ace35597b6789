"""2D navigation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from innerloop.config import check_count, check_flag
from innerloop.tasks.base import Split
from innerloop.tasks.worlds.actions import Continuous
from innerloop.tasks.worlds.world import NativeWorld
from innerloop.tasks.worlds.worlds import ListedEpisodes, WorldTasks


class Plane(NativeWorld):
    """A point that starts at 0 and moves by at most 0.1 in each direction, to a goal that it is not shown. The reward is minus the
    distance; within 0.01 of the goal in both coordinates the rollout ends. task: the goal. Actions are in parts of 0.1, and cut off at 1.
    """

    observations, actions, place = 2, Continuous(2), True

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def start(self, task: Tensor, numbers: Tensor) -> Tensor:
        return task.new_zeros(*numbers.shape[:2], 2)

    def observe(self, task: Tensor, state: Tensor) -> Tensor:
        return state

    def step(self, task: Tensor, state: Tensor, action: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        state = state + 0.1 * action.clamp(-1, 1)
        away = state - task
        return state, -away.norm(dim=-1), (away.abs() < 0.01).all(-1)


class Navigation2D(WorldTasks):
    """2D navigation (Finn et al. 2017, section 5.3): goals uniform in a square, range `goal` in each coordinate. article: the test tasks
    are the authors' 40 goals."""

    def __init__(self, goal: Sequence[float], article: bool, horizon: int, **common: Any) -> None:
        check_count("task.horizon", horizon)
        check_flag("task.article", article)
        self.article = article
        super().__init__(Plane(horizon), [("goal", goal), ("goal", goal)], **common)

    def distribution(self, split: Split) -> Any:
        if split != "test" or not self.article:
            return self
        return ListedEpisodes(self, np.random.RandomState(1).uniform(-0.5, 0.5, (40, 2)))  # as in their code
