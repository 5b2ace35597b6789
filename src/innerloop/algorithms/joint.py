"""The baseline that learns all tasks as one."""

import torch
from torch import Tensor, nn

from innerloop.algorithms.maml import MAML
from innerloop.engine import Engine
from innerloop.episode import Episode
from innerloop.objective import Objective


class Joint(MAML):
    """Joint training: one network on the examples of all tasks pooled, then fine-tuned on the support set by MAML's inner loop.

    Training minimises the plain mean loss over support and query examples, without any inner step ("pretrained" in Finn et al. 2017).
    In classification episodes the labels are redrawn each time, so the pooled problem cannot be learned beyond its class frequencies:
    there it is a lower bound, not a strong pretraining baseline.
    """

    def __init__(self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float) -> None:
        super().__init__(model, objective, engine, inner_lr, adaptation_steps=0, first_order=True)

    def forward(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        (support_x, support_y), (query_x, query_y) = episodes
        x, y = torch.cat([support_x, query_x], 1), torch.cat([support_y, query_y], 1)
        predictions = self.engine(self.model, {}, x)  # a batch for each task: what batch norm sees must not depend on the other tasks
        return self.objective.loss(predictions, y), predictions[:, support_x.shape[1] :]
