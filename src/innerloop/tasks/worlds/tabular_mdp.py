"""Random Markov decision processes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.config import check_count
from innerloop.episode import Episode
from innerloop.tasks.worlds.actions import Discrete
from innerloop.tasks.worlds.world import NativeWorld
from innerloop.tasks.worlds.worlds import WorldTasks


class Table(NativeWorld):
    """A few states and actions. task: chances of the next state (states * actions * states), then mean rewards (states * actions), to which
    a standard normal number is added. The first state is 0; observations are one-hot."""

    step_numbers = 2

    def __init__(self, states: int, actions: int, horizon: int) -> None:
        self.observations, self.actions, self.horizon = states, Discrete(actions), horizon

    def start(self, task: Tensor, numbers: Tensor) -> Tensor:
        return task.new_zeros(*numbers.shape[:2], 1)

    def observe(self, task: Tensor, state: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(state[..., 0].long(), self.observations).to(task.dtype)

    def step(self, task: Tensor, state: Tensor, action: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states, pairs = self.observations, self.observations * self.actions.parameters
        pair = (state * self.actions.parameters + action).long()  # (tasks, rollouts, 1)
        chances = task[..., : pairs * states].unflatten(-1, (pairs, states)).expand(*pair.shape[:2], -1, -1)
        row = chances.gather(2, pair.unsqueeze(-1).expand(-1, -1, -1, states)).squeeze(2)
        below = torch.special.ndtr(numbers[..., :1]) > row.cumsum(-1)
        after = below.sum(-1, keepdim=True).clamp(max=states - 1).to(task.dtype)
        mean = task[..., pairs * states :].expand(*pair.shape[:2], -1).gather(-1, pair)
        return after, (mean + numbers[..., 1:])[..., 0], torch.zeros_like(below[..., 0])


class TabularMDP(WorldTasks):
    """Markov decision processes as in RL² (Duan et al. 2016, arXiv 1611.02779): transitions from a flat Dirichlet distribution, mean
    rewards normal around 1 with deviation 1."""

    def __init__(self, states: int, actions: int, horizon: int, **common: Any) -> None:
        for name, value, least in (("states", states, 2), ("actions", actions, 2), ("horizon", horizon, 1)):
            check_count(f"task.{name}", value, least=least)
        self.states = states
        pairs = states * actions
        ranges = [("reward", (0, 1))] * (pairs * states + pairs)  # which `sample` does not use
        super().__init__(Table(states, actions, horizon), ranges, **common)

    def sample(self, rng: np.random.Generator) -> Episode:
        pairs = self.states * self.world.actions.parameters
        chances, rewards = rng.dirichlet(np.ones(self.states), pairs), rng.normal(1, 1, pairs)
        return self.episode(np.concatenate([chances.ravel(), rewards]), rng)
