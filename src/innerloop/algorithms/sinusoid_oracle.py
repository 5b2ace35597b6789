"""The bound on sinusoids."""

import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm
from innerloop.config import InputError
from innerloop.engine.forward import Engine
from innerloop.episode import Examples
from innerloop.objective import REGRESSION, Objective


class SinusoidOracle(Algorithm[Tensor]):
    """Knows that a task is y = a sin x + b cos x, which every amplitude and phase is, and fits a and b by least squares: two points without
    noise are enough. Nothing is learned, the model is not used."""

    learns = False

    def __init__(self, model: nn.Module, objective: Objective, engine: Engine) -> None:
        super().__init__(nn.Identity(), objective, engine)
        if objective is not REGRESSION:
            raise InputError("algo=sinusoid_oracle fits sinusoids, and this task is classification; use task=sinusoid or another algo")

    def adapt(self, support: Examples) -> Tensor:
        """(a, b) of each task: (tasks, 2, 1)."""
        return torch.linalg.lstsq(waves(support.x), support.y).solution

    def predict(self, adapted: Tensor, x: Tensor) -> Tensor:
        return waves(x) @ adapted

    def network(self, adapted: Tensor) -> nn.Module:
        line = nn.Linear(2, 1, bias=False)
        line.weight.data = adapted[0].T.detach().clone()
        return nn.Sequential(Waves(), line)


class Waves(nn.Module):
    """Sine and cosine of x (n, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return waves(x)


def waves(x: Tensor) -> Tensor:
    """x (tasks, n, 1) -> sine and cosine (tasks, n, 2)."""
    return torch.cat([x.sin(), x.cos()], -1)
