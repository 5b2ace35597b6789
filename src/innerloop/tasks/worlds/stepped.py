"""Environments with gymnasium's interface, one for each rollout."""

import hashlib
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.config import InputError
from innerloop.tasks.worlds.actions import Actions, Continuous, Discrete
from innerloop.tasks.worlds.world import Policy, Rollouts, World, normals


class SteppedWorld(World):
    """Environments that are stepped one after the other (reset and step as gymnasium has them, https://gymnasium.farama.org).

    Continuous actions are in parts of the environment's range, and cut off at -1 and 1. A rollout that has ended is stepped no more.
    """

    name: str
    low: Any  # of continuous actions; None of discrete ones
    high: Any

    @abstractmethod
    def environments(self, task: Tensor, count: int) -> list[tuple[Any, list[float], dict[str, float]]]:
        """One for each of `count` rollouts in each task, set to its task, with the task's values and options of reset."""

    def reward_of(self, env: Any, values: list[float], reward: float, info: dict[str, Any]) -> float:
        """Of a step in a task of these values, where the environment gave `reward`."""
        return reward

    @torch.no_grad()
    def roll_out(self, policy: Policy, task: Tensor, seeds: Tensor, count: int, at: int) -> Rollouts:
        tasks, envs = len(task), self.environments(task, count)
        numbers = normals(seeds, at, count * self.horizon * self.actions.numbers).to(task).view(tasks, count, self.horizon, -1)
        starts = [seed_of(seed, at, number) for seed in seeds.tolist() for number in range(count)]
        observation = np.stack([self.first(env, seed, options) for (env, _, options), seed in zip(envs, starts, strict=True)])
        there = np.ones(len(envs), bool)
        found: list[tuple[Tensor, ...]] = []
        for step in range(self.horizon):
            shown = torch.from_numpy(observation).to(task).view(tasks, count, -1)
            parameters = policy(shown)
            action = self.actions.sample(parameters, numbers[:, :, step])
            given = self.in_range(action.flatten(0, 1).cpu().numpy())
            rewards, done = np.zeros(len(envs)), np.zeros(len(envs), bool)
            now = torch.from_numpy(there.copy()).view(tasks, count)
            observation = observation.copy()
            for index in np.flatnonzero(there):
                env, values, _ = envs[index]
                seen, own, terminated, truncated, info = env.step(given[index])
                rewards[index] = self.reward_of(env, values, own, info)
                if (says := info.get("success", info.get("is_success"))) is not None:
                    self.succeeds, done[index] = True, says
                observation[index], there[index] = seen, not (terminated or truncated)
            if not np.isfinite(rewards).all():
                raise InputError(f"{self.name} gave a reward that is no number at step {step}; the environment or task.reward is at fault")
            reward = torch.from_numpy(rewards).to(task).view(tasks, count)
            success = torch.from_numpy(done).view(tasks, count).to(task.device)
            found.append((shown, parameters, action, reward, now.to(task.device), success))
            if hasattr(policy, "saw"):
                policy.saw(action, reward, torch.from_numpy(there.copy()).view(tasks, count).to(task.device))
        return Rollouts(*(torch.stack(parts, 2) for parts in zip(*found, strict=True)))

    def first(self, env: Any, seed: int, options: dict[str, float]) -> np.ndarray:
        observation, _ = env.reset(seed=seed, options=options or None)
        return np.asarray(observation, np.float32)

    def in_range(self, actions: np.ndarray) -> Any:
        """As the environment takes them (rollouts, ...)."""
        if self.low is None:
            return actions[:, 0].astype(int)
        return (self.low + (np.clip(actions, -1, 1) + 1) / 2 * (self.high - self.low)).astype(np.float32)


def actions_of(name: str, space: Any) -> tuple[Actions, Any, Any]:
    """With the lowest and highest continuous ones; None and None of discrete ones."""
    if hasattr(space, "n") and getattr(space, "start", 0) == 0 and space.shape == ():
        return Discrete(int(space.n)), None, None
    if hasattr(space, "low") and len(space.shape) == 1:
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise InputError(f"{name} (task.env) takes actions without bounds, {space}; wrap it with some")
        return Continuous(space.shape[0]), space.low, space.high
    raise InputError(f"{name} (task.env) takes actions of {space}; a policy gives a vector of numbers, or one of some choices")


def seed_of(seed: int, at: int, number: int) -> int:
    """Of the rollout's own random numbers."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {at} {number}".encode(), digest_size=4).digest(), "little")
