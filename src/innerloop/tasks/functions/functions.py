"""Regression of a function of one variable."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch

from innerloop.config import check_count
from innerloop.episode import Episode, Examples
from innerloop.objective import REGRESSION
from innerloop.tasks.base import Tasks


class FunctionTasks(Tasks):
    """A task is one function y = value(x, *parameters), whose parameters are drawn uniformly from their ranges, as its points are.

    parameters: (low, high) of each. x: (low, high) of the points. shots, queries: points in the support and query set.
    The three splits are the same family, with different draws. An episode takes a fixed count of random `numbers`, so that a whole
    meta-batch can be drawn at once.
    """

    objective = REGRESSION
    input_shape = (1,)
    outputs = 1

    def __init__(self, parameters: Sequence[tuple[float, float]], x: tuple[float, float], shots: int, queries: int) -> None:
        check_count("task.shots", shots)
        check_count("task.queries", queries)
        self.shots, self.queries = shots, queries
        low, high = np.array([*parameters, *[x] * (shots + queries)], dtype=float).T
        self._low, self._width, self._parameters = low, high - low, len(parameters)
        self.numbers = len(low)

    @abstractmethod
    def value(self, x: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
        """y of the points x (tasks, n) under the parameters of each task, (tasks, 1) each."""

    def distribution(self, split: str) -> "FunctionTasks":
        return self

    def draw(self, uniform: np.ndarray) -> Episode:
        """uniform (tasks, numbers) in [0, 1) -> a meta-batch: x and y (tasks, n, 1) float32."""
        drawn = self._low + self._width * uniform
        parameters = [drawn[:, [i]] for i in range(self._parameters)]
        x = drawn[:, self._parameters :]
        y = self.value(x, *parameters)
        support, query = slice(self.shots), slice(self.shots, None)
        return Episode(*(Examples(_column(x[:, part]), _column(y[:, part])) for part in (support, query)))

    def sample(self, rng: np.random.Generator) -> Episode:
        """One episode; for a numbered list of them see training/data.py, which draws many at once."""
        return Episode(*(Examples(x[0], y[0]) for x, y in self.draw(rng.random((1, self.numbers)))))


def _column(values: np.ndarray) -> torch.Tensor:
    """(tasks, n) -> (tasks, n, 1) float32."""
    return torch.from_numpy(values.astype(np.float32, order="C")).unsqueeze(-1)
