"""A little on top of features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from innerloop.config import InputError, check_count


class Adapter(nn.Module):
    """On features: body, x + a bottleneck that starts at zero, so that training begins with the features as they are; head, linear.

    x (n, width) -> (n, outputs). rank: width of the bottleneck.
    """

    def __init__(self, input_shape: Sequence[int], outputs: int, rank: int) -> None:
        super().__init__()
        if len(input_shape) != 1:
            raise InputError(f"model=adapter takes features, and inputs here are {tuple(input_shape)}; set backbone=timm or another")
        check_count("model.rank", rank)
        self.body = Residual(input_shape[0], rank)
        self.head = nn.Linear(input_shape[0], outputs)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(x))
        return found


class Residual(nn.Module):
    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, rank), nn.Linear(rank, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.up(torch.relu(self.down(x)))
        return x + change
