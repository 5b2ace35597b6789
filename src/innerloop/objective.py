"""What a task is trained on and scored by, one number for each task."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

PerTask = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(predictions: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of each task: logits (tasks, n, ways), labels (tasks, n) -> (tasks,)."""
    return F.cross_entropy(predictions.flatten(0, -2), y.flatten(), reduction="none").view(y.shape).mean(-1)


def accuracy(predictions: Tensor, y: Tensor) -> Tensor:
    """Fraction of right answers of each task: logits (tasks, n, ways), labels (tasks, n) -> (tasks,)."""
    return (predictions.argmax(-1) == y).float().mean(-1)  # counted in float32, whatever the precision of the run


def mean_squared_error(predictions: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of each task: both (tasks, n, outputs) -> (tasks,)."""
    return (predictions - y).square().mean((-2, -1))


@dataclass(frozen=True)
class Objective:
    """The loss that both loops descend, and the metric that is reported under its name."""

    metric: str
    loss: PerTask
    score: PerTask


CLASSIFICATION = Objective("accuracy", cross_entropy, accuracy)
REGRESSION = Objective("mse", mean_squared_error, mean_squared_error)
