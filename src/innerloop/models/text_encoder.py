"""A small transformer over tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from innerloop.config import InputError, check_count


def adding_nothing(layer: nn.Linear) -> nn.Linear:
    """The layer with weights of zero, to begin with."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Multi-head attention of each token to all that are not padding: x (n, length, width), seen (n, length) -> (n, length, width).

    Written out, since torch's fused kernels have no second derivative.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mix, self.out = nn.Linear(width, 3 * width), adding_nothing(nn.Linear(width, width))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        n, length, width = x.shape
        query, key, value = self.mix(x).view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / (width // self.heads) ** 0.5
        weights = scores.masked_fill(~seen[:, None, None, :], -1e9).softmax(-1)  # not -inf: a text of padding alone would be NaN
        return self.out((weights @ value).transpose(1, 2).reshape(n, length, width))


class Block(nn.Module):
    """Attention, then two linear layers, each added to what it was given and normalised before (Xiong et al. 2020, arXiv 2002.04745)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.before_attention, self.before_layers = Attention(width, heads), nn.LayerNorm(width), nn.LayerNorm(width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), adding_nothing(nn.Linear(4 * width, width)))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        x = x + self.attention(self.before_attention(x), seen)
        return x + self.layers(self.before_layers(x))


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
        seen = x != 0
        y = self.tokens(x) + self.places
        for block in self.blocks:
            y = block(y, seen)
        weights = self.importance(x).masked_fill(~seen.unsqueeze(-1), -1e9).softmax(1)
        return self.norm((weights * y).sum(1))


class TextEncoder(nn.Module):
    """body: an Encoder of `layers` blocks of `width` with `heads`; head: linear to `outputs`. x (n, length) int64 -> (n, outputs)."""

    def __init__(self, input_shape: Sequence[int], outputs: int, vocabulary: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        for name, value in (("vocabulary", vocabulary), ("width", width), ("heads", heads)):
            check_count(f"model.{name}", value)
        check_count("model.layers", layers, least=0)
        if width % heads:
            raise InputError(f"model.width={width} is no multiple of model.heads={heads}; change one of them")
        if len(input_shape) != 1:
            raise InputError(f"model=text_encoder takes tokens (length,), this task has {tuple(input_shape)}; use another model")
        self.body = Encoder(vocabulary, input_shape[0], width, heads, layers)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))
