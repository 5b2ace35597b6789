"""Fully connected network."""

from collections.abc import Sequence
from math import prod
from typing import Literal

from torch import Tensor, nn

from innerloop.config import check_choice, check_count

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


class MLP(nn.Module):
    """body: linear layers of the widths `hidden`, each followed by the activation; head: linear to `outputs`.

    x (n, *input_shape) -> (n, outputs). The default, 40-40 ReLU, is the sinusoid network of MAML.
    """

    def __init__(self, input_shape: Sequence[int], outputs: int, hidden: Sequence[int], activation: Literal["relu", "tanh"]) -> None:
        super().__init__()
        check_choice("model.activation", activation, tuple(ACTIVATIONS))
        for width in hidden:
            check_count("model.hidden", width)
        widths = [prod(input_shape), *hidden]
        layers = [layer for i, o in zip(widths, widths[1:], strict=False) for layer in (nn.Linear(i, o), ACTIVATIONS[activation]())]
        self.body = nn.Sequential(nn.Flatten(), *layers)
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))
