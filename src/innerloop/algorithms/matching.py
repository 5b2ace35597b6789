"""Matching networks."""

import copy
from math import log

import torch
from torch import Tensor, nn

from innerloop.algorithms.protonet import ProtoNet
from innerloop.config import check_positive
from innerloop.engine.forward import Engine
from innerloop.episode import Examples
from innerloop.objective import Objective


class Matching(ProtoNet):
    """Matching networks (Vinyals et al. 2016, arXiv 1606.04080), without full context embeddings: the class of a query is that of the
    support examples which it is like. p(class) = sum over the class's examples of softmax(scale * cosine(query, example)).

    scale: of the cosines, learned by its logarithm; without one such logits are all but equal. The model's head is dropped.
    """

    def __init__(self, model: nn.Module, objective: Objective, engine: Engine, ways: int, train_ways: int, scale: float) -> None:
        super().__init__(model, objective, engine, ways, train_ways)
        check_positive("algo.scale", scale)
        self.log_scale = nn.Parameter(torch.tensor(log(scale)))

    def adapt(self, support: Examples) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The embedded examples (tasks, n, features), of length 1, and which class each is of (tasks, n, ways)."""
        embedded = nn.functional.normalize(self.embed(support.x), dim=-1)
        return embedded, self.members(support.y, embedded) > 0

    def predict(self, adapted: tuple[Tensor, Tensor], x: Tensor) -> Tensor:  # type: ignore[override]
        return log_sums(self.log_scale.exp(), *adapted, self.embed(x))

    def network(self, adapted: tuple[Tensor, Tensor]) -> nn.Sequential:  # type: ignore[override]
        examples, of_class = (part[0].detach() for part in adapted)
        return nn.Sequential(copy.deepcopy(self.model), Match(self.log_scale.detach().exp(), examples, of_class))


def log_sums(scale: Tensor, examples: Tensor, of_class: Tensor, queries: Tensor) -> Tensor:
    """Logits (..., queries, ways) of embedded queries (..., queries, features): the log of each class's sum, up to a common constant."""
    likeness = scale * nn.functional.normalize(queries, dim=-1) @ examples.mT
    return likeness.unsqueeze(-1).masked_fill(~of_class.unsqueeze(-3), -torch.inf).logsumexp(-2)


class Match(nn.Module):
    """`predict` for one support set."""

    def __init__(self, scale: Tensor, examples: Tensor, of_class: Tensor) -> None:
        super().__init__()
        for name, value in (("scale", scale), ("examples", examples), ("of_class", of_class)):
            self.register_buffer(name, value)

    def forward(self, queries: Tensor) -> Tensor:
        return log_sums(self.scale, self.examples, self.of_class, queries)  # type: ignore[arg-type]
