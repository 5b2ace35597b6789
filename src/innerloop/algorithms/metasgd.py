"""Meta-SGD."""

import torch
from torch import nn

from innerloop.algorithms.base import GradientBased, Patterns
from innerloop.config import check_flag
from innerloop.engine.forward import Engine, Weights
from innerloop.episode import Examples
from innerloop.objective import Objective


class MetaSGD(GradientBased):
    """Meta-SGD (Li et al. 2017, arXiv 1707.09835): MAML that also learns a step size for every single weight, which may turn negative.

    fast <- fast - step_size * grad L_support(fast), elementwise; the outer loop trains slow weights and step sizes together.
    inner_lr: where all step sizes start. checkpoint_inner, adapted, meta_learned: as in MAML.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, adaptation_steps: int, first_order: bool,
        checkpoint_inner: bool = False, adapted: Patterns = "*", meta_learned: Patterns = "*", head: str = "own",
    ) -> None:  # fmt: skip
        super().__init__(model, objective, engine, inner_lr, adaptation_steps, adapted, meta_learned, head)
        check_flag("algo.first_order", first_order)
        check_flag("algo.checkpoint_inner", checkpoint_inner)
        self.first_order, self.checkpoint_inner = first_order, checkpoint_inner
        # a list, in the order of slow_weights(): ParameterDict refuses the dots in their names
        self.step_sizes = nn.ParameterList(torch.full_like(weight, inner_lr) for weight in self.slow_weights().values())

    def step(self, weights: Weights, support: Examples, at: int) -> Weights:
        step_sizes = dict(zip(weights, self.step_sizes, strict=True))
        gradients = self.support_gradients(weights, support, create_graph=not self.first_order)
        return {name: weight - step_sizes[name] * gradients[name] for name, weight in weights.items()}
