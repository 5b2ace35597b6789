"""Fully connected network."""

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from innerloop.config import InputError, check_choice, check_count

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


class MLP(nn.Module):
    """body: linear layers of the widths `hidden`, each followed by the activation and dropout; head: linear to `outputs`.

    x (n, *input_shape) -> (n, outputs). The default, 40-40 ReLU, is the sinusoid network of MAML. context: how many numbers, `context`,
    stand beside each input: what CAVIA adapts in place of weights.
    """

    def __init__(
        self, input_shape: Sequence[int], outputs: int, hidden: Sequence[int], activation: Literal["relu", "tanh"], dropout: float = 0.0,
        context: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        check_choice("model.activation", activation, tuple(ACTIVATIONS))
        for width in hidden:
            check_count("model.hidden", width)
        if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
            raise InputError(f"model.dropout must be a number >= 0 and < 1, got {dropout!r}")
        check_count("model.context", context, least=0)
        widths, layers = [prod(input_shape) + context, *hidden], []
        for i, o in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(i, o), ACTIVATIONS[activation](), *([nn.Dropout(dropout)] if dropout else [])]
        self.body = nn.Sequential(nn.Flatten(), *layers)
        if context:
            self.context = nn.Parameter(torch.zeros(context))
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "context"):
            x = torch.cat([x.flatten(1), self.context.expand(len(x), -1)], 1)
        return self.head(self.body(x))
