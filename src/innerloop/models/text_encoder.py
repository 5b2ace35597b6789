"""A small transformer over tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from innerloop.config import InputError, check_count
from innerloop.episode import PADDING
from innerloop.models.attention import Block


class Encoder(nn.Module):
    """Tokens (n, length), 0 for padding -> the mean of what the others became, each by its learned weight (n, width).

    Begins as a bag of random vectors, in which texts with tokens in common are near each other already: the blocks add nothing yet.
    """

    def __init__(self, vocabulary: int, length: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Parameter(torch.zeros(length, width))
        self.importance = nn.Embedding(vocabulary, 1)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        nn.init.zeros_(self.importance.weight)

    def forward(self, x: Tensor) -> Tensor:
        seen = x != PADDING
        y = self.tokens(x) + self.places
        for block in self.blocks:
            y = block(y, seen[:, None, None, :])
        weights = self.importance(x).masked_fill(~seen.unsqueeze(-1), -1e9).softmax(1)
        return self.norm((weights * y).sum(1))


class TextEncoder(nn.Module):
    """body: an Encoder of `layers` blocks of `width` with `heads`; head: linear to `outputs`. x (n, length) int64 -> (n, outputs).

    vocabulary: how many tokens the task has.
    """

    def __init__(self, input_shape: Sequence[int], outputs: int, vocabulary: int | None, width: int, heads: int, layers: int) -> None:
        super().__init__()
        for name, value in (("width", width), ("heads", heads)):
            check_count(f"model.{name}", value)
        check_count("model.layers", layers, least=0)
        if width % heads:
            raise InputError(f"model.width={width} is no multiple of model.heads={heads}; change one of them")
        if not vocabulary:
            raise InputError(f"model=text_encoder takes tokens, this task has inputs {tuple(input_shape)}; use another model")
        self.body = Encoder(vocabulary, input_shape[0], width, heads, layers)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))
