"""Examples of a function of one variable."""

from collections.abc import Callable

import numpy as np
import torch

from innerloop.episode import Examples


def curve_examples(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> Examples:
    """x (n, 1) -> Examples of x and function(x), both (n, 1) float32."""
    return Examples(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(function(x).astype(np.float32)))
