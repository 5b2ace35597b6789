"""Few-shot control: a task is an environment, an episode is a task and a seed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from innerloop.config import InputError, check_range
from innerloop.episode import Episode, Examples
from innerloop.tasks.base import Split, Tasks
from innerloop.tasks.worlds.returns import Settings, return_objective
from innerloop.tasks.worlds.world import World

LISTED = 3  # of the seeds of published tasks


class WorldTasks(Tasks):
    """Environments of one family, whose parameters are drawn uniformly from their ranges.

    shots: rollouts that an inner step learns from. queries: rollouts that a policy is scored on, the same random numbers for every policy.
    surrogate, discount, trace, normalise, clip: as Settings has them (returns.py). The three splits are the same family, with different
    draws.
    """

    reader = None

    def __init__(
        self, world: World, parameters: Sequence[tuple[str, Sequence[float]]], shots: int, queries: int, surrogate: str, discount: float,
        trace: float, normalise: bool, clip: float,
    ) -> None:  # fmt: skip
        self.settings = Settings(surrogate, discount, trace, normalise, clip)
        self.world, self.shots, self.queries = world, shots, queries
        low, high = np.array([check_range(f"task.{name}", given) for name, given in parameters], dtype=float).T
        self._low, self._width = low, high - low
        self.actions = world.actions
        self.input_shape, self.outputs = (world.observations,), world.actions.parameters
        self.objective = return_objective(world, self.settings, shots, queries)

    @property
    def support_size(self) -> dict[str, int]:
        return {"rollouts": self.shots, "environment steps": self.shots * self.world.horizon}

    def distribution(self, split: Split) -> Any:
        return self

    def episode(self, task: np.ndarray, rng: np.random.Generator) -> Episode:
        """Of given parameters; the seeds of its support and query rollouts are drawn."""
        parameters, seeds = torch.from_numpy(task.astype(np.float32)), torch.from_numpy(rng.integers(2**62, size=2))
        return Episode(Examples(parameters, seeds[:1]), Examples(parameters, seeds[1:]))

    def sample(self, rng: np.random.Generator) -> Episode:
        return self.episode(self._low + self._width * rng.random(len(self._low)), rng)


class ListedEpisodes:
    """Tasks of given parameters (count, parameters), in order."""

    def __init__(self, tasks: WorldTasks, parameters: np.ndarray) -> None:
        self.tasks, self.parameters = tasks, parameters

    def first(self, count: int) -> "ListedEpisodes":
        if count > len(self.parameters):
            raise InputError(f"test_episodes={count} asks for more than the {len(self.parameters)} published tasks; lower it")
        return ListedEpisodes(self.tasks, self.parameters[:count])

    def __len__(self) -> int:
        return len(self.parameters)

    def meta_batch(self, indices: range) -> Episode:
        return default_collate([self.tasks.episode(self.parameters[i], np.random.default_rng([LISTED, i])) for i in indices])
