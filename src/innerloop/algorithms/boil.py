"""An inner loop for the features alone."""

from typing import Any

from torch import nn

from innerloop.algorithms.base import Patterns
from innerloop.algorithms.maml import MAML
from innerloop.config import InputError
from innerloop.engine.forward import Engine
from innerloop.objective import Objective


class BOIL(MAML):
    """BOIL (Oh et al. 2021, arXiv 2008.08882): MAML that adapts all but the last layer, so that features have to change.

    body <- body - inner_lr * grad_body L_support(body, head); the outer loop trains body and head through these steps.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, adaptation_steps: int,
        adapted: Patterns = "body.*", **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(model, objective, engine, inner_lr, adaptation_steps, adapted=adapted, **options)
        if len({name.startswith("head.") for name in self.slow_weights()}) > 1:
            raise InputError(f"BOIL adapts all but the head, and algo.adapted={adapted} fits it; set algo.adapted=body.*, or use algo=maml")
