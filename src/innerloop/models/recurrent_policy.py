"""A policy that remembers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.config import InputError, check_count


class RecurrentPolicy(nn.Module):
    """A GRU over the steps of a life, and a linear layer to the distribution of actions.

    A step is what is observed, the action before, its reward, and whether a rollout begins: x (n, steps, inputs), hidden (n, width) or None
    at birth -> (n, steps, outputs), hidden. Of continuous actions the logarithms of the deviations are a parameter, the same in all states.
    """

    def __init__(self, input_shape: Sequence[int], outputs: int, actions: Any, width: int, log_std: float) -> None:
        super().__init__()
        if actions is None:
            raise InputError("model=recurrent_policy acts, and this task has no actions; use a task such as task=bandit")
        check_count("model.width", width)
        self.encoded = actions.encoded
        self.memory = nn.GRU(input_shape[0] + actions.encoded + 2, width, batch_first=True)
        continuous = outputs == 2 * actions.encoded  # a discrete one is encoded as one of its outputs
        self.head = nn.Linear(width, actions.size if continuous else outputs)
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.head.weight, std=0.01)  # near a policy that favours nothing
        self.log_std = nn.Parameter(torch.full((actions.size,), float(log_std))) if continuous else None

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        states, last = self.memory(x, None if hidden is None else hidden.unsqueeze(0))
        found = self.head(states)
        if self.log_std is not None:
            found = torch.cat([found, self.log_std.expand_as(found)], -1)
        return found, last[0]
