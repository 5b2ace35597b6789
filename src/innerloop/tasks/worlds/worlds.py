"""Few-shot control: a task is an environment, an episode is a task and a seed."""

from collections.abc import Sequence

import numpy as np
import torch

from innerloop.config import check_range
from innerloop.episode import Episode, Examples
from innerloop.tasks.base import Split, Tasks
from innerloop.tasks.worlds.returns import Settings, return_objective
from innerloop.tasks.worlds.world import World


class WorldTasks(Tasks):
    """Environments of one family, whose parameters are drawn uniformly from their ranges.

    shots: rollouts that an inner step learns from. queries: rollouts that a policy is scored on, the same random numbers for every policy.
    The three splits are the same family, with different draws.
    """

    reader = None

    def __init__(
        self, world: World, parameters: Sequence[tuple[str, Sequence[float]]], shots: int, queries: int, settings: Settings
    ) -> None:
        self.world, self.shots, self.queries = world, shots, queries
        low, high = np.array([check_range(f"task.{name}", given) for name, given in parameters], dtype=float).T
        self._low, self._width = low, high - low
        self.actions = world.actions
        self.input_shape, self.outputs = (world.observations,), world.actions.parameters
        self.objective = return_objective(world, settings, shots, queries)

    @property
    def support_size(self) -> dict[str, int]:
        return {"rollouts": self.shots, "environment steps": self.shots * self.world.horizon}

    def distribution(self, split: Split) -> "WorldTasks":
        return self

    def sample(self, rng: np.random.Generator) -> Episode:
        task = torch.from_numpy((self._low + self._width * rng.random(len(self._low))).astype(np.float32))
        seeds = torch.from_numpy(rng.integers(2**62, size=2))
        return Episode(Examples(task, seeds[:1]), Examples(task, seeds[1:]))
