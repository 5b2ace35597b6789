"""First-order MAML."""

from typing import Any

from torch import nn

from innerloop.algorithms.maml import MAML
from innerloop.engine.forward import Engine
from innerloop.objective import Objective


class FOMAML(MAML):
    """First-order MAML (Finn et al. 2017, section 5.2; Nichol et al. 2018, arXiv 1803.02999).

    The gradient of the query loss at the fast weights is applied to the slow ones:     slow <- slow - outer_lr * mean grad L_query(fast)
    No second derivatives: less memory and time, and a biased outer gradient.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, adaptation_steps: int, **options: Any
    ) -> None:  # fmt: skip
        super().__init__(model, objective, engine, inner_lr, adaptation_steps, first_order=True, **options)
