"""The baseline that learns all tasks as one."""

from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms.base import class_head
from innerloop.algorithms.inner_optimizer import FIXED
from innerloop.algorithms.maml import MAML
from innerloop.engine.forward import Engine
from innerloop.episode import Episode
from innerloop.models.any_module import without_head
from innerloop.objective import Objective


class Joint(MAML):
    """Joint training: one network on the examples of all tasks pooled, then fine-tuned on the support set by MAML's inner loop.

    Training minimises the plain mean loss over support and query examples, without any inner step ("pretrained" in Finn et al. 2017).
    Where tasks have classes it is a classifier of all `train_classes` of the training split, and the head that an episode is fitted with
    starts at zero (the transfer baseline of Chen et al. 2019, arXiv 1904.04232, with all weights fine-tuned).
    """

    baseline = True
    by_class = True
    inner_optimizers = FIXED

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, train_classes: int | None, inner_lr: float, **options: Any
    ) -> None:  # fmt: skip
        classifier = class_head(model, train_classes) if train_classes else None
        head = "zero" if train_classes else "own"
        super().__init__(model, objective, engine, inner_lr, adaptation_steps=0, first_order=True, head=head, **options)
        self.classifier = classifier

    def only_trains(self, name: str) -> bool:
        return self.classifier is not None and name.startswith(("classifier.", "model.head."))

    def forward(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        (support_x, support_y), (query_x, query_y) = episodes
        if self.objective.look:  # a policy's rollouts without any inner step are those of the query set
            predictions = self.engine(self.model, {}, query_x)
            return self.outer_loss(predictions, query_y), predictions
        x, y = torch.cat([support_x, query_x], 1), torch.cat([support_y, query_y], 1)
        # a batch for each task: what batch norm sees must not depend on the other tasks
        if self.classifier:
            predictions = self.classifier(self.engine(without_head(self.model), {}, x))
        else:
            predictions = self.engine(self.model, {}, x)
        return self.objective.loss(predictions, y), predictions[:, support_x.shape[1] :]
