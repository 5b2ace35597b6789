"""The baseline that learns all tasks as one."""

import torch
from torch import Tensor

from innerloop.algorithms.maml import MAML
from innerloop.episode import Episode


class Joint(MAML):
    """Joint training: one network on the examples of all tasks pooled, then fine-tuned on the support set by the same inner loop.

    Training minimises the plain mean loss over support and query examples, without any inner step ("pretrained" in Finn et al. 2017).
    In classification episodes the labels are redrawn each time, so the pooled problem cannot be learned beyond its class frequencies:
    there it is a lower bound, not a strong pretraining baseline.
    """

    def forward(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        (support_x, support_y), (query_x, query_y) = episodes
        x, y = torch.cat([support_x, query_x], 1), torch.cat([support_y, query_y], 1)
        predictions = self.model(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.objective.loss(predictions, y), predictions[:, support_x.shape[1] :]
