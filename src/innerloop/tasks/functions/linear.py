"""Straight lines."""

from collections.abc import Sequence

import numpy as np

from innerloop.config import check_range
from innerloop.tasks.functions.functions import FunctionTasks


class Linear(FunctionTasks):
    """y = slope * x + intercept; a task is one slope and intercept, drawn uniformly from their ranges.

    slope, intercept, x: (low, high); equal ends fix a value. y = 2x and y = 3x are two tasks of slope 0..5, intercept 0..0.
    shots, queries: points in the support and query set.
    """

    def __init__(
        self, slope: Sequence[float], intercept: Sequence[float], x: Sequence[float], shots: int | Sequence[int], queries: int
    ) -> None:
        parameters = [check_range("task.slope", slope), check_range("task.intercept", intercept)]
        super().__init__(parameters, check_range("task.x", x), shots, queries)

    def value(self, x: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
        slope, intercept = parameters
        return slope * x + intercept
