"""Coordinate networks."""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor, nn

from innerloop.config import check_count, check_positive


class Sine(nn.Linear):
    """sin(omega * (x A + b)), with weights that keep the size of what goes through (Sitzmann et al. 2020, section 3.2)."""

    def __init__(self, inputs: int, outputs: int, omega: float, first: bool) -> None:
        super().__init__(inputs, outputs)
        self.omega = omega
        bound = 1 / inputs if first else sqrt(6 / inputs) / omega
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * super().forward(x))


class Siren(nn.Module):
    """SIREN (Sitzmann et al. 2020, arXiv 2006.09661): places x (n, d) in [-1, 1] -> what is there (n, outputs), which starts around 0.5.

    hidden: widths of the sine layers. omega: how fine the patterns are that it begins with.
    """

    def __init__(self, input_shape: Sequence[int], outputs: int, hidden: Sequence[int], omega: float) -> None:
        super().__init__()
        check_positive("model.omega", omega)
        for width in hidden:
            check_count("model.hidden", width)
        widths = [input_shape[0], *hidden]
        self.body = nn.Sequential(*(Sine(i, o, omega, first=not n) for n, (i, o) in enumerate(zip(widths, hidden, strict=False))))
        self.head = nn.Linear(widths[-1], outputs)
        nn.init.uniform_(self.head.weight, -sqrt(6 / widths[-1]) / omega, sqrt(6 / widths[-1]) / omega)
        nn.init.constant_(self.head.bias, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(x))
        return found
