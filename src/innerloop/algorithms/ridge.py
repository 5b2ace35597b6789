"""A last layer in closed form."""

import copy
from math import log

import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm, drop_head
from innerloop.config import check_flag, check_positive
from innerloop.engine.forward import Engine
from innerloop.episode import Examples
from innerloop.objective import CLASSIFICATION, Objective, precise


class Ridge(Algorithm[Tensor]):
    """Ridge regression on learned features (R2-D2, Bertinetto et al. 2019, arXiv 1805.08136): no inner loop, and the outer gradient runs
    through the solution of each task.

    W = X' (X X' + strength * n * I)^-1 Y for the n support features X, with a column of ones where `intercept`, and targets Y, one-hot for
    classes, whose logits are then multiplied by `scale`. learned: strength and scale are learned too, by their logarithms. The model's head
    is dropped. MetaOptNet's ridge head (Lee et al. 2019, arXiv 1904.03758) is strength=50/n, intercept=false, learned=false.
    """

    any_ways = True

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, ways: int | None, train_ways: int | None,
        strength: float, scale: float, intercept: bool, learned: bool,
    ) -> None:  # fmt: skip
        super().__init__(model, objective, engine)
        check_positive("algo.strength", strength)
        check_positive("algo.scale", scale)
        check_flag("algo.intercept", intercept)
        check_flag("algo.learned", learned)
        drop_head(model, "ridge")
        self.ways, self.train_ways, self.intercept = ways, train_ways, intercept
        self.log_strength = nn.Parameter(torch.tensor(log(strength)), requires_grad=learned)
        if objective is CLASSIFICATION:  # a regression has no use for it
            self.log_scale = nn.Parameter(torch.tensor(log(scale)), requires_grad=learned)

    def features(self, x: Tensor) -> Tensor:
        """x (tasks, n, ...) -> (tasks, n, d)."""
        found = self.engine(self.model, {}, x).flatten(2)
        return torch.cat([found, torch.ones_like(found[..., :1])], -1) if self.intercept else found

    def targets(self, y: Tensor, like: Tensor) -> Tensor:
        if self.objective is not CLASSIFICATION:
            return y
        return self.members(y, like)

    def adapt(self, support: Examples) -> Tensor:
        """The last layer of each task (tasks, d, outputs)."""
        x = precise(self.features(support.x))
        with torch.autocast(x.device.type, enabled=False):  # 16 bits are too few, and have no solve
            ridge = self.log_strength.exp() * x.shape[1] * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
            return x.mT @ torch.linalg.solve(x @ x.mT + ridge, self.targets(support.y, x))

    def predict(self, adapted: Tensor, x: Tensor) -> Tensor:
        return self.scaled(self.features(x) @ adapted)

    def scaled(self, predictions: Tensor) -> Tensor:
        return self.log_scale.exp() * predictions if self.objective is CLASSIFICATION else predictions

    def network(self, adapted: Tensor) -> nn.Module:
        layer = self.scaled(adapted[0].detach().T)  # (outputs, d)
        features = layer.shape[1] - self.intercept
        head = nn.Linear(features, len(layer), bias=self.intercept)
        head.weight.data = layer[:, :features].clone()
        if self.intercept:
            head.bias.data = layer[:, features].clone()
        return nn.Sequential(copy.deepcopy(self.model), nn.Flatten(), head)
