"""MAML whose step sizes are generated."""

from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms.learned_rates import LearnedRates
from innerloop.engine.forward import Engine, Weights
from innerloop.objective import Objective


class ALFA(LearnedRates):
    """ALFA (Baik et al. 2020, arXiv 2011.00209): a small network looks at the weights and gradients of all layers, and says at every step
    how far each layer goes and how much of its weights is kept.

    fast <- (1 - decay * b) fast - rate * a * direction, with (a, b) of each layer = network(means of all layers' weights and directions).
    rate and decay are learned too, for each layer and step; they start at inner_lr and `decay`. At first a and b are one: the steps are
    those of MAML with weight decay. The outer gradient runs through what the network looks at.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, adaptation_steps: int, decay: float, **options: Any
    ) -> None:  # fmt: skip
        super().__init__(model, objective, engine, inner_lr, adaptation_steps, per="layer", per_step=True, **options)
        self.decays = nn.ParameterList(torch.full_like(rate, decay) for rate in self.rates)
        layers = len(self.rates)
        last = nn.Linear(2 * layers, 2 * layers)
        nn.init.zeros_(last.weight)
        nn.init.ones_(last.bias)
        self.network_of_rates = nn.Sequential(nn.Linear(2 * layers, 2 * layers), nn.ReLU(), last)

    def step(self, weights: Weights, directions: Weights, at: int) -> Weights:
        means = torch.stack([mean(values[name]) for values in (weights, directions) for name in weights], -1)
        factors = self.network_of_rates(means).unbind(-1)  # a of each layer, then b
        row, count = min(at, self.steps_learned - 1), len(weights)
        stepped = {}
        for index, (name, weight) in enumerate(weights.items()):
            a, b = (factor.view(-1, *[1] * (weight.dim() - 1)) for factor in (factors[index], factors[count + index]))
            stepped[name] = (1 - self.decays[index][row] * b) * weight - self.rate(index, at) * a * directions[name]
        return stepped


def mean(values: Tensor) -> Tensor:
    """Of each task: (tasks,)."""
    return values.reshape(len(values), -1).mean(1)
