"""The baseline that learns nothing beforehand."""

from typing import Any

from torch import nn

from innerloop.algorithms.inner_optimizer import FIXED
from innerloop.algorithms.maml import MAML
from innerloop.engine.forward import Engine
from innerloop.objective import Objective


class Scratch(MAML):
    """A random initialisation, adapted on the support set by MAML's inner loop. There is no outer loop."""

    baseline = True
    learns = False
    inner_optimizers = FIXED

    def __init__(self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, **options: Any) -> None:
        super().__init__(model, objective, engine, inner_lr, adaptation_steps=0, first_order=True, **options)
