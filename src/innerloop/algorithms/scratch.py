"""The baseline that learns nothing beforehand."""

from torch import nn

from innerloop.algorithms.base import Patterns
from innerloop.algorithms.maml import MAML
from innerloop.engine.forward import Engine
from innerloop.objective import Objective


class Scratch(MAML):
    """A random initialisation, adapted on the support set by MAML's inner loop. There is no outer loop."""

    baseline = True
    learns = False

    def __init__(self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, adapted: Patterns = "*") -> None:
        super().__init__(model, objective, engine, inner_lr, adaptation_steps=0, first_order=True, adapted=adapted)
