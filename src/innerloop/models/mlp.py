"""Fully connected network."""

from collections import OrderedDict
from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from innerloop.config import InputError, check_choice, check_count, check_flag

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def with_warp(layer: nn.Module, warp: nn.Linear | nn.Conv2d) -> nn.Sequential:
    """The layer, then `warp`, which starts as the identity. Names: layer.weight, warp.weight."""
    nn.init.dirac_(warp.weight) if warp.weight.dim() > 2 else nn.init.eye_(warp.weight)
    return nn.Sequential(OrderedDict(layer=layer, warp=warp))


class MLP(nn.Module):
    """body: linear layers of the widths `hidden`, each followed by the activation and dropout; head: linear to `outputs`.

    x (n, *input_shape) -> (n, outputs). The default, 40-40 ReLU, is the sinusoid network of MAML. context: how many numbers, `context`,
    stand beside each input: what CAVIA adapts in place of weights. warp: a linear layer after each hidden one, from the identity, which is
    learned and not adapted (T-Net, Lee and Choi 2018, arXiv 1801.05558); its weights' names have warp in them.
    """

    def __init__(
        self, input_shape: Sequence[int], outputs: int, hidden: Sequence[int], activation: Literal["relu", "tanh"], dropout: float = 0.0,
        context: int = 0, warp: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        check_choice("model.activation", activation, tuple(ACTIVATIONS))
        for width in hidden:
            check_count("model.hidden", width)
        if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
            raise InputError(f"model.dropout must be a number >= 0 and < 1, got {dropout!r}")
        check_count("model.context", context, least=0)
        check_flag("model.warp", warp)
        widths, layers = [prod(input_shape) + context, *hidden], []
        for i, o in zip(widths, widths[1:], strict=False):
            linear = with_warp(nn.Linear(i, o), nn.Linear(o, o, bias=False)) if warp else nn.Linear(i, o)
            layers += [linear, ACTIVATIONS[activation](), *([nn.Dropout(dropout)] if dropout else [])]
        self.body = nn.Sequential(nn.Flatten(), *layers)
        if context:
            self.context = nn.Parameter(torch.zeros(context))
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "context"):
            x = torch.cat([x.flatten(1), self.context.expand(len(x), -1)], 1)
        return self.head(self.body(x))
