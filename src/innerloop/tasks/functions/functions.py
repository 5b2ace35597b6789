"""Regression of a function of one variable."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch

from innerloop.config import check_count, check_span
from innerloop.episode import Episode, Examples
from innerloop.objective import REGRESSION
from innerloop.tasks.base import Tasks


class FunctionTasks(Tasks):
    """A task is one function y = value(x, *parameters), whose parameters are drawn uniformly from their ranges, as its points are.

    parameters: (low, high) of each. x: (low, high) of the points. shots, queries: points in the support and query set; a range [low, high]
    of shots: each evaluation episode has a number of its own then, and so has each meta-batch of training.
    The three splits are the same family, with different draws. An episode takes a fixed count of random `numbers`, so that a whole
    meta-batch can be drawn at once.
    """

    objective = REGRESSION
    input_shape = (1,)
    outputs = 1

    def __init__(self, parameters: Sequence[tuple[float, float]], x: tuple[float, float], shots: int | Sequence[int], queries: int) -> None:
        self._fewest, self.shots = check_span("task.shots", shots)
        check_count("task.queries", queries)
        self.queries, self.varies = queries, self._fewest < self.shots
        self.varied = {"shots": [self._fewest, self.shots]} if self.varies else {}
        low, high = np.array([*parameters, *[x] * (self.shots + queries)], dtype=float).T
        self._low, self._width, self._parameters = low, high - low, len(parameters)
        self.numbers = len(low)

    @abstractmethod
    def value(self, x: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
        """y of the points x (tasks, n) under the parameters of each task, (tasks, 1) each."""

    def distribution(self, split: str) -> "FunctionTasks":
        return self

    def shape(self, rng: np.random.Generator) -> int:
        """The number of support points."""
        return int(rng.integers(self._fewest, self.shots + 1)) if self.varies else self.shots

    def draw(self, uniform: np.ndarray, shots: int | None = None) -> Episode:
        """uniform (tasks, numbers) in [0, 1) -> a meta-batch: x and y (tasks, n, 1) float32."""
        drawn = self._low + self._width * uniform
        parameters = [drawn[:, [i]] for i in range(self._parameters)]
        x = drawn[:, self._parameters :]
        y = self.value(x, *parameters)
        support, query = slice(shots or self.shots), slice(self.shots, None)
        return Episode(*(Examples(_column(x[:, part]), _column(y[:, part])) for part in (support, query)))

    def sample(self, rng: np.random.Generator) -> Episode:
        """One episode; for a numbered list of them see training/data.py, which draws many at once."""
        return Episode(*(Examples(x[0], y[0]) for x, y in self.draw(rng.random((1, self.numbers)), self.shape(rng))))


def _column(values: np.ndarray) -> torch.Tensor:
    """(tasks, n) -> (tasks, n, 1) float32."""
    return torch.from_numpy(values.astype(np.float32, order="C")).unsqueeze(-1)
