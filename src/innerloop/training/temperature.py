"""How sure a classifier may be of its answers."""

from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from innerloop.algorithms.base import Algorithm
from innerloop.episode import Episode
from innerloop.training.evaluation import predict_queries

LEAST, MOST = -6.0, 6.0  # of its logarithm


@torch.no_grad()
def answers_to(algorithm: Algorithm[Any], episodes: Episode, steps: int) -> Tensor:
    """Predictions on the query sets (tasks, queries, outputs) after `steps` inner steps, none of which depends on another query."""
    *_, adapted = algorithm.trajectory(episodes.support, steps)
    return predict_queries(algorithm, adapted, episodes, "support")


def fit_temperature(logits: Tensor, y: Tensor) -> float:
    """What to divide logits (n, ways) by, so that their softmax is as sure as it is right (Guo et al. 2017, arXiv:1706.04599): the number
    under which the cross-entropy with the labels y (n,) is least."""
    logits = logits.double()
    kept = logits.isfinite().all(1)  # what diverged has no temperature
    logits, y = logits[kept], y[kept]
    if not len(y):
        return 1.0

    def loss(log: float) -> float:
        return functional.cross_entropy(logits / torch.tensor(log).exp(), y).item()

    return float(torch.tensor(minimize_scalar(loss, bounds=(LEAST, MOST), method="bounded").x).exp())
