"""What an environment is, and how policies act in many of them at once."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from innerloop.tasks.worlds.actions import Actions

# observations (tasks, n, o) -> parameters of the distribution of actions (tasks, n, p); one that remembers has a method `saw`, which is
# told of each action, its reward and whether the rollout goes on
Policy = Callable[[Tensor], Tensor]


class Rollouts(NamedTuple):
    """All (tasks, rollouts, horizon, ...); what comes after an end has `there` False."""

    observations: Tensor
    parameters: Tensor  # of the distribution that the action is from
    actions: Tensor
    rewards: Tensor
    there: Tensor
    success: Tensor  # whether the task is done at that step, where the world `succeeds`


class World(ABC):
    """A family of environments in which policies act. place: the first two numbers of an observation are a place, which reports draw; where
    they are not, `pose` may say what to draw."""

    observations: int  # length of an observation
    actions: Actions
    horizon: int  # the most steps of a rollout
    place = False
    succeeds = False  # it says when a task is done

    def pose(self, observation: list[float]) -> list[list[tuple[float, float]]]:
        """The lines that make a picture of an observation; none where there is no picture."""
        return []

    @abstractmethod
    def roll_out(self, policy: Policy, task: Tensor, seeds: Tensor, count: int, at: int) -> Rollouts:
        """`count` rollouts of a policy in each task (tasks, parameters), without gradients: a function of policy, task, its seed (tasks,)
        and `at` alone."""


class Told(World):
    """A world that shows the policy its task: what a learner is that need not find it out."""

    def __init__(self, world: World, parameters: int) -> None:
        self.world, self.actions, self.horizon, self.place = world, world.actions, world.horizon, world.place
        self.observations, self.succeeds = world.observations + parameters, world.succeeds

    def roll_out(self, policy: Policy, task: Tensor, seeds: Tensor, count: int, at: int) -> Rollouts:
        def told(observations: Tensor) -> Tensor:
            return policy(torch.cat([observations, task.unsqueeze(1).expand(-1, observations.shape[1], -1)], -1))

        if hasattr(policy, "saw"):
            told.saw = policy.saw  # type: ignore[attr-defined]
        found = self.world.roll_out(told, task, seeds, count, at)
        shown = task[:, None, None].expand(*found.observations.shape[:3], -1)
        return found._replace(observations=torch.cat([found.observations, shown], -1))


class NativeWorld(World):
    """Environments as pure functions of a task's parameters, states and random numbers, for all tasks and rollouts at once.

    Tensors are (tasks, rollouts, ...), `task` is (tasks, 1, parameters), `numbers` are standard normal: `start_numbers` of them for a
    start, `step_numbers` for a step.
    """

    start_numbers: int = 0
    step_numbers: int = 0

    @abstractmethod
    def start(self, task: Tensor, numbers: Tensor) -> Tensor:
        """First states."""

    @abstractmethod
    def observe(self, task: Tensor, state: Tensor) -> Tensor:
        """What the policy is shown."""

    @abstractmethod
    def step(self, task: Tensor, state: Tensor, action: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States, rewards and whether the rollout has ended."""

    @torch.no_grad()
    def roll_out(self, policy: Policy, task: Tensor, seeds: Tensor, count: int, at: int) -> Rollouts:
        task, steps, width = task.unsqueeze(1), self.horizon, self.actions.numbers + self.step_numbers
        drawn = normals(seeds, at, count * (self.start_numbers + steps * width)).to(task).view(len(task), count, -1)
        first, later = drawn.split([self.start_numbers, steps * width], -1)
        later = later.view(len(task), count, steps, width)
        state = self.start(task, first)
        there = torch.ones(len(task), count, dtype=torch.bool, device=task.device)
        found: list[tuple[Tensor, ...]] = []
        for step in range(steps):
            observation = self.observe(task, state)
            parameters = policy(observation)
            own, others = later[:, :, step].split([self.actions.numbers, self.step_numbers], -1)
            action = self.actions.sample(parameters, own)
            state, reward, ended = self.step(task, state, action, others)
            found.append((observation, parameters, action, reward, there, torch.zeros_like(there)))
            there = there & ~ended
            if hasattr(policy, "saw"):
                policy.saw(action, reward, there)
        return Rollouts(*(torch.stack(parts, 2) for parts in zip(*found, strict=True)))


def normals(seeds: Tensor, at: int, count: int) -> Tensor:
    """(len(seeds), count) standard normal numbers, each row from a stream of its own."""
    streams = (np.random.Generator(np.random.Philox(key=[seed, at])) for seed in seeds.tolist())
    return torch.from_numpy(np.stack([stream.standard_normal(count) for stream in streams]))
