"""A policy: from observations to the distribution of actions."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from innerloop.config import InputError
from innerloop.models.mlp import MLP


class Policy(MLP):
    """The MLP, with a head for the means of continuous actions and a parameter `log_std`, the same in all states, or for the logits of
    discrete ones: x (n, *input_shape) -> (n, outputs), means beside log_std, or logits.

    actions: of the task. log_std: where the logarithms of the deviations start. Weights start as Glorot and Bengio 2010 have it.
    """

    def __init__(
        self, input_shape: Sequence[int], outputs: int, actions: Any, hidden: Sequence[int], activation: Literal["relu", "tanh"],
        log_std: float,
    ) -> None:  # fmt: skip
        if actions is None:
            raise InputError("model=policy acts, and this task has no actions; use model=mlp, or a task such as task=navigation2d")
        continuous = outputs == 2 * actions.encoded  # a discrete one is encoded as one of its outputs
        super().__init__(input_shape, actions.size if continuous else outputs, hidden, activation)
        for layer in [layer for layer in self.modules() if isinstance(layer, nn.Linear)]:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        if continuous:
            self.log_std = nn.Parameter(torch.full((actions.size,), float(log_std)))

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        return torch.cat([found, self.log_std.expand_as(found)], -1) if hasattr(self, "log_std") else found
