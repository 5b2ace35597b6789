"""Sine waves."""

from collections.abc import Sequence

import numpy as np

from innerloop.config import check_count, check_range
from innerloop.episode import Episode
from innerloop.objective import REGRESSION
from innerloop.tasks.base import Split, TaskDistribution, Tasks
from innerloop.tasks.functions import curve_examples


class Sinusoid(Tasks):
    """y = amplitude * sin(x - phase); a task is one amplitude and phase, drawn uniformly from their ranges (Finn et al. 2017, section 5.1).

    amplitude, phase, x: (low, high). Finn et al.: amplitude 0.1..5, phase 0..pi, x -5..5; Nichol et al. (Reptile): phase 0..2 pi.
    shots, queries: points in the support and query set. The three splits are the same family, with different draws.
    """

    objective = REGRESSION
    input_shape = (1,)
    outputs = 1

    def __init__(self, amplitude: Sequence[float], phase: Sequence[float], x: Sequence[float], shots: int, queries: int) -> None:
        check_count("task.shots", shots)
        check_count("task.queries", queries)
        self.amplitude = check_range("task.amplitude", amplitude)
        self.phase = check_range("task.phase", phase)
        self.x = check_range("task.x", x)
        self.shots, self.queries = shots, queries

    def distribution(self, split: Split) -> TaskDistribution:
        return self

    def sample(self, rng: np.random.Generator) -> Episode:
        amplitude, phase = rng.uniform(*self.amplitude), rng.uniform(*self.phase)

        def wave(x: np.ndarray) -> np.ndarray:
            return amplitude * np.sin(x - phase)

        return Episode(*(curve_examples(wave, rng.uniform(*self.x, size=(n, 1))) for n in (self.shots, self.queries)))
