"""Sine waves."""

from collections.abc import Sequence

import numpy as np

from innerloop.config import check_range
from innerloop.tasks.functions.functions import FunctionTasks


class Sinusoid(FunctionTasks):
    """y = amplitude * sin(x - phase); a task is one amplitude and phase, drawn uniformly from their ranges (Finn et al. 2017, section 5.1).

    amplitude, phase, x: (low, high). Finn et al.: amplitude 0.1..5, phase 0..pi, x -5..5; Nichol et al. (Reptile): phase 0..2 pi.
    shots, queries: points in the support and query set.
    """

    def __init__(
        self, amplitude: Sequence[float], phase: Sequence[float], x: Sequence[float], shots: int | Sequence[int], queries: int
    ) -> None:
        parameters = [check_range("task.amplitude", amplitude), check_range("task.phase", phase)]
        super().__init__(parameters, check_range("task.x", x), shots, queries)

    def value(self, x: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
        amplitude, phase = parameters
        return amplitude * np.sin(x - phase)
