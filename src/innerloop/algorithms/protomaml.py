"""MAML from prototypes."""

from typing import Any

from torch import nn

from innerloop.algorithms.maml import MAML
from innerloop.config import InputError
from innerloop.engine.forward import Engine, Weights
from innerloop.episode import Examples
from innerloop.models.any_module import without_head
from innerloop.objective import CLASSIFICATION, Objective


class ProtoMAML(MAML):
    """Proto-MAML (Triantafillou et al. 2020, arXiv 1903.03096): MAML whose last layer begins, in each task, as a prototypical network's.

    w_k = 2 c_k and b_k = -|c_k|^2 for the mean feature c_k of class k, through which the outer gradient runs too; then MAML's steps on all
    weights. With no steps it is a prototypical network. Works at any number of ways.
    """

    any_ways = True

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, ways: int, train_ways: int, inner_lr: float, adaptation_steps: int,
        **options: Any,
    ) -> None:  # fmt: skip
        if objective is not CLASSIFICATION or not isinstance(getattr(model, "head", None), nn.Linear):
            raise InputError("algo=protomaml begins with the prototypes of classes in a linear layer called `head`; choose another algo")
        super().__init__(model, objective, engine, inner_lr, adaptation_steps, **options)
        self.ways, self.train_ways = ways, train_ways
        model.head.requires_grad_(False)  # each task has its own

    def only_trains(self, name: str) -> bool:
        return name.startswith("model.head.")

    def initial_weights(self, support: Examples) -> Weights:
        features = self.engine(without_head(self.model), {}, support.x)
        members = self.members(support.y, features)
        prototypes = (members / members.sum(1, keepdim=True)).mT @ features
        head = {"head.weight": 2 * prototypes, "head.bias": -prototypes.square().sum(-1)}
        return super().initial_weights(support) | head
