"""Meta-SGD."""

from typing import Any

import torch
from torch import nn

from innerloop.algorithms.base import GradientBased
from innerloop.config import check_positive
from innerloop.engine.forward import Engine, Weights
from innerloop.objective import Objective


class MetaSGD(GradientBased):
    """Meta-SGD (Li et al. 2017, arXiv 1707.09835): MAML that also learns a step size for every single weight, which may turn negative.

    fast <- fast - step_size * grad L_support(fast), elementwise; the outer loop trains slow weights and step sizes together.
    inner_lr: where all step sizes start. The other arguments are GradientBased's.
    """

    of_each_row = True

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, adaptation_steps: int, **options: Any
    ) -> None:  # fmt: skip
        check_positive("algo.inner_lr", inner_lr)
        super().__init__(model, objective, engine, inner_lr, adaptation_steps, **options)
        # a list, in the order of slow_weights(): ParameterDict refuses the dots in their names
        self.step_sizes = nn.ParameterList(torch.full_like(weight, self.inner_lr) for weight in self.slow_weights().values())

    def step(self, weights: Weights, directions: Weights, at: int) -> Weights:
        sizes = dict(zip(weights, self.step_sizes, strict=True))
        return {name: weight - sizes[name] * directions[name] for name, weight in weights.items()}
