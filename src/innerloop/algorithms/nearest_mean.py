"""The baseline without a network."""

from torch import nn

from innerloop.algorithms.protonet import ProtoNet
from innerloop.engine.forward import Engine
from innerloop.objective import Objective


class NearestMean(ProtoNet):
    """Nearest class mean on the inputs as they are: what a learned embedding has to beat. Nothing is learned, the model is not used."""

    baseline = True
    learns = False

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, ways: int, train_ways: int, as_vectors: nn.Module,
        metric: str = "euclidean",
    ) -> None:  # fmt: skip
        super().__init__(model, objective, engine, ways, train_ways, metric)
        self.model = as_vectors
