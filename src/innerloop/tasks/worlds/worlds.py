"""Few-shot control: a task is an environment, an episode is a task and a seed."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from innerloop.config import InputError, check_flag, check_range
from innerloop.episode import Episode, Examples
from innerloop.tasks.base import Split, Tasks
from innerloop.tasks.worlds.returns import Settings, life_of, return_objective
from innerloop.tasks.worlds.world import Told, World

LISTED = 3  # of the seeds of published tasks


class WorldTasks(Tasks):
    """Environments of one family, whose parameters are drawn uniformly from their ranges.

    shots: rollouts that an inner step learns from. queries: rollouts that a policy is scored on, the same random numbers for every policy.
    told: policies are shown the parameters too, which is a bound for those that have to find them out. surrogate, discount, trace,
    normalise, clip, explore, inner_kl: as Settings has them (returns.py). The three splits are the same family, with different
    draws.
    """

    reader = None

    def __init__(
        self, world: World, parameters: Sequence[tuple[str, Sequence[float]]], shots: int, queries: int, surrogate: str, discount: float,
        trace: float, normalise: bool, clip: float, explore: bool = False, inner_kl: float = 0.0, told: bool = False,
    ) -> None:  # fmt: skip
        self.settings = Settings(surrogate, discount, trace, normalise, clip, explore, inner_kl)
        check_flag("task.told", told)
        self.world, self.shots, self.queries = Told(world, len(parameters)) if told else world, shots, queries
        low, high = np.array([check_range(f"task.{name}", given) for name, given in parameters], dtype=float).T
        self._low, self._width = low, high - low
        self.actions = world.actions
        self.input_shape, self.outputs = (self.world.observations,), world.actions.parameters
        self.objective = return_objective(self.world, self.settings, shots, queries)

    @property
    def life(self) -> Any:
        """What makes examples of the rollouts of lives: life_of, of this world."""
        return partial(life_of, self.world, self.settings)

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

    one_by_one = False

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
