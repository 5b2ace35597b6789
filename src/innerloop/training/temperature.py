"""How sure a classifier may be of its answers."""

from collections.abc import Iterable
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

from innerloop.algorithms.base import Algorithm
from innerloop.episode import Episode
from innerloop.training.evaluation import mean_ci95, predict_queries

LEAST, MOST = -6.0, 6.0  # of its logarithm


@torch.no_grad()
def answers_to(algorithm: Algorithm[Any], episodes: Episode, steps: int) -> Tensor:
    """Predictions on the query sets (tasks, queries, outputs) after `steps` inner steps, none of which depends on another query."""
    *_, adapted = algorithm.trajectory(episodes.support, steps)
    return predict_queries(algorithm, adapted, episodes, "support")


def fit_temperature(logits: Iterable[Tensor], labels: Iterable[Tensor]) -> float:
    """What to divide the logits (n, ways) of each task by, so that their softmax is as sure as it is right (Guo et al. 2017,
    arXiv:1706.04599): the number under which the cross-entropy with the labels (n,) is least. 1 where what it gains is within its 95 %
    interval over tasks: a hundred episodes are few, and a fit to their chance would make a network that is calibrated already less so."""
    tasks = [(of.double(), y) for of, y in zip(logits, labels, strict=True) if of.isfinite().all()]  # what diverged has no temperature
    if len(tasks) < 2:
        return 1.0

    def losses(log: float) -> Tensor:
        return torch.stack([cross_entropy(of / torch.tensor(log).exp(), y) for of, y in tasks])

    log = float(minimize_scalar(lambda log: losses(log).mean().item(), bounds=(LEAST, MOST), method="bounded").x)
    gain, half = mean_ci95(losses(0.0) - losses(log))
    return float(torch.tensor(log).exp()) if gain > half else 1.0
