"""Prototypical networks."""

import copy

from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm, drop_head
from innerloop.config import InputError, check_choice
from innerloop.engine.forward import Engine
from innerloop.episode import Examples
from innerloop.objective import CLASSIFICATION, Objective


class ProtoNet(Algorithm[Tensor]):
    """Prototypical networks (Snell, Swersky, Zemel 2017, arXiv 1703.05175): no inner loop; an embedding in which classes are round.

    A class's prototype is the mean embedding of its support examples; the logit of a query is minus its squared distance to it.
    Its model's head is dropped: the features before it are the embedding. Works at any number of ways, whatever it was trained on.
    metric: euclidean, the article's; cosine, of embeddings scaled to length 1, logits then 10 times as large, since all would be equally
    unsure without (Chen et al. 2021, arXiv 2003.04390).
    """

    any_ways = True

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, ways: int, train_ways: int, metric: str = "euclidean"
    ) -> None:
        super().__init__(model, objective, engine)
        check_choice("algo.metric", metric, ("euclidean", "cosine"))
        self.cosine, self.scale = metric == "cosine", 10.0 if metric == "cosine" else 1.0
        self.ways, self.train_ways = ways, train_ways
        if objective is not CLASSIFICATION:
            raise InputError("algo=protonet classifies, and this task is regression; choose a task of classes or another algo")
        drop_head(model, "protonet")

    def features(self, x: Tensor) -> Tensor:
        """x (tasks, n, ...) -> (tasks, n, features). No fast weights; the engine keeps the batch statistics of tasks apart."""
        return self.engine(self.model, {}, x)

    def embed(self, x: Tensor) -> Tensor:
        """The features, of length 1 where the cosine counts."""
        return nn.functional.normalize(self.features(x), dim=-1) if self.cosine else self.features(x)

    def adapt(self, support: Examples) -> Tensor:
        """Prototypes (tasks, ways, features)."""
        embedded = self.embed(support.x)
        members = self.members(support.y, embedded)
        return (members / members.sum(1, keepdim=True)).transpose(1, 2) @ embedded

    def predict(self, adapted: Tensor, x: Tensor) -> Tensor:
        # -|z - p|^2; its |z|^2 changes neither loss nor answer, but what is far from all classes is to have no large logit
        z = self.embed(x)
        return self.scale * (2 * z @ adapted.transpose(1, 2) - adapted.square().sum(-1).unsqueeze(1) - z.square().sum(-1, keepdim=True))

    def network(self, adapted: Tensor) -> nn.Sequential:
        """The embedding, and a linear layer whose weights are the prototypes."""
        length = [UnitLength()] if self.cosine else []
        return nn.Sequential(copy.deepcopy(self.model), *length, self.nearest(adapted[0].detach()))

    def nearest(self, prototypes: Tensor) -> nn.Linear:
        """`predict` of embedded queries without their |z|^2, for prototypes (ways, features)."""
        head = nn.Linear(prototypes.shape[1], len(prototypes))
        head.weight.data, head.bias.data = self.scale * 2 * prototypes, -self.scale * prototypes.square().sum(-1)
        return head


class UnitLength(nn.Module):
    """Features (n, d) scaled to length 1."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(x, dim=-1)
