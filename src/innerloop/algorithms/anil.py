"""Almost no inner loop."""

from typing import Any

from torch import nn

from innerloop.algorithms.base import Patterns
from innerloop.algorithms.maml import MAML
from innerloop.config import InputError
from innerloop.engine.forward import Engine
from innerloop.objective import Objective


class ANIL(MAML):
    """ANIL (Raghu et al. 2020, arXiv 1909.09157): MAML that adapts the last layer only; the features are shared by all tasks.

    head <- head - inner_lr * grad_head L_support(body, head); the outer loop trains body and head through these steps.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, adaptation_steps: int,
        adapted: Patterns = "head.*", **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(model, objective, engine, inner_lr, adaptation_steps, adapted=adapted, **options)
        if len({name.startswith("head.") for name in self.slow_weights()}) > 1:
            raise InputError(f"ANIL adapts the head alone, and algo.adapted={adapted} fits more; set algo.adapted=head.*, or use algo=maml")
