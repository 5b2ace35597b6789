"""The baseline of frozen features."""

import torch
from torch import Tensor, nn

from innerloop.algorithms.base import class_head
from innerloop.algorithms.protonet import ProtoNet
from innerloop.config import InputError
from innerloop.engine.forward import Engine
from innerloop.episode import Episode
from innerloop.objective import Objective


class Centroid(ProtoNet):
    """A classifier of all `train_classes` of the training split, whose features then serve unchanged: nearest class mean among the support
    set, all features scaled to length 1 (Wang et al. 2019, arXiv 1911.04623; "Classifier-Baseline" of Chen et al. 2021, arXiv 2003.04390).
    """

    baseline = True
    by_class = True

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, ways: int, train_ways: int, train_classes: int | None
    ) -> None:
        if not train_classes:
            raise InputError("algo=centroid learns the classes of the training split, and this task has none; use algo=joint")
        classifier = class_head(model, train_classes)  # before the head is dropped
        super().__init__(model, objective, engine, ways, train_ways, metric="cosine")
        self.classifier = classifier

    def only_trains(self, name: str) -> bool:
        return name.startswith("classifier.")

    def forward(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        (support_x, support_y), (query_x, query_y) = episodes
        x, y = torch.cat([support_x, query_x], 1), torch.cat([support_y, query_y], 1)
        predictions = self.classifier(self.features(x))
        return self.objective.loss(predictions, y), predictions[:, support_x.shape[1] :]
