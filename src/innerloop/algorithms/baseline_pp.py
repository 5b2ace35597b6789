"""The baseline with a cosine classifier."""

from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms.joint import Joint
from innerloop.config import InputError, check_positive
from innerloop.engine.forward import Engine
from innerloop.objective import Objective


class BaselinePP(Joint):
    """Baseline++ (Chen et al. 2019, arXiv 1904.04232): a classifier of all `train_classes` by the cosine between features and a vector for
    each class; then, in each episode, new vectors fitted on frozen features by the inner loop. scale: of the cosines.

    The vectors have no length: nothing but the angle can grow. Those of an episode all begin at the same random one, in every run.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, train_classes: int | None, inner_lr: float, scale: float,
        **options: Any,
    ) -> None:  # fmt: skip
        check_positive("algo.scale", scale)
        if not train_classes:
            raise InputError("algo=baseline_pp learns the classes of the training split, and this task has none; use algo=joint")
        if isinstance(getattr(model, "head", None), nn.Linear):
            model.head = Cosine(model.head.in_features, model.head.out_features, scale)  # type: ignore[union-attr, arg-type]
        super().__init__(model, objective, engine, train_classes, inner_lr, **options)
        # not at zero, which has no angle
        nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr, arg-type]
        self.classifier = Cosine(model.head.in_features, train_classes, scale)  # type: ignore[union-attr, arg-type]


class Cosine(nn.Linear):
    """scale * cosine(x, weight of each output): x (n, inputs) -> (n, outputs)."""

    def __init__(self, inputs: int, outputs: int, scale: float) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / self.weight.norm(dim=1, keepdim=True)
        return self.scale * torch.nn.functional.linear(torch.nn.functional.normalize(x, dim=-1), weight)
