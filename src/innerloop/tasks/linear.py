"""Straight lines."""

from collections.abc import Sequence

import numpy as np

from innerloop.config import check_count, check_range
from innerloop.episode import Episode
from innerloop.objective import REGRESSION
from innerloop.tasks.base import Split, TaskDistribution, Tasks
from innerloop.tasks.functions import curve_examples


class Linear(Tasks):
    """y = slope * x + intercept; a task is one slope and intercept, drawn uniformly from their ranges.

    slope, intercept, x: (low, high); equal ends fix a value. y = 2x and y = 3x are two tasks of slope 0..5, intercept 0..0.
    shots, queries: points in the support and query set. The three splits are the same family, with different draws.
    """

    objective = REGRESSION
    input_shape = (1,)
    outputs = 1

    def __init__(self, slope: Sequence[float], intercept: Sequence[float], x: Sequence[float], shots: int, queries: int) -> None:
        check_count("task.shots", shots)
        check_count("task.queries", queries)
        self.slope = check_range("task.slope", slope)
        self.intercept = check_range("task.intercept", intercept)
        self.x = check_range("task.x", x)
        self.shots, self.queries = shots, queries

    def distribution(self, split: Split) -> TaskDistribution:
        return self

    def sample(self, rng: np.random.Generator) -> Episode:
        slope, intercept = rng.uniform(*self.slope), rng.uniform(*self.intercept)

        def line(x: np.ndarray) -> np.ndarray:
            return slope * x + intercept

        return Episode(*(curve_examples(line, rng.uniform(*self.x, size=(n, 1))) for n in (self.shots, self.queries)))
