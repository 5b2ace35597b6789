"""Meta-Curvature."""

from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms.maml import MAML
from innerloop.engine.forward import Engine, Weights
from innerloop.objective import Objective


class MetaCurvature(MAML):
    """Meta-Curvature (Park and Oliva 2019, arXiv 1902.03356): MAML whose inner gradients are turned by learned matrices.

    fast <- fast - inner_lr * M_out G M_in, and M_window on the pixels of a convolution's window; a matrix for each side of each weight,
    from the identity; of biases and norms a factor for each number. The outer loop trains slow weights and matrices together.
    """

    of_each_row = True

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, adaptation_steps: int, **options: Any
    ) -> None:  # fmt: skip
        super().__init__(model, objective, engine, inner_lr, adaptation_steps, **options)
        # in the order of slow_weights(): ParameterDict refuses the dots in their names
        self.curvature = nn.ModuleList(nn.ParameterList(identities(weight)) for weight in self.slow_weights().values())

    def step(self, weights: Weights, directions: Weights, at: int) -> Weights:
        turned = {name: turn(directions[name], [*m]) for name, m in zip(weights, self.curvature, strict=True)}  # type: ignore[misc]
        return {name: weight - self.inner_lr_at(at) * turned[name] for name, weight in weights.items()}


def identities(weight: Tensor) -> list[Tensor]:
    """Ones for a vector or a number; for a matrix, or a convolution, an identity for each of its sides and for its window."""
    if weight.dim() < 2:
        return [torch.ones_like(weight)]
    sides = [*weight.shape[:2], *([weight[0, 0].numel()] if weight.dim() > 2 else [])]
    return [torch.eye(side, dtype=weight.dtype) for side in sides]


def turn(gradient: Tensor, matrices: list[Tensor]) -> Tensor:
    """gradient (tasks, out, in, *window) of each task."""
    if len(matrices) == 1:
        return matrices[0] * gradient
    if len(matrices) == 2:
        return matrices[0] @ gradient @ matrices[1]
    flat = gradient.flatten(3)
    return torch.einsum("ao,toik,ib,kc->tabc", matrices[0], flat, matrices[1], matrices[2]).view_as(gradient)
