"""The blocks that transformers are made of."""

import torch
from torch import Tensor, nn


def adding_nothing(layer: nn.Linear) -> nn.Linear:
    """The layer with weights of zero, to begin with."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Multi-head attention: x (n, length, width), sees, which broadcasts to (n, heads, length, length), true where the first token sees
    the second -> (n, length, width).

    rotary: positions enter as rotations of queries and keys (Su et al. 2021, arXiv 2104.09864), and no length is the longest.
    Written out, since torch's fused kernels have no second derivative.
    """

    def __init__(self, width: int, heads: int, rotary: bool) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.mix, self.out = nn.Linear(width, 3 * width), adding_nothing(nn.Linear(width, width))

    def forward(self, x: Tensor, sees: Tensor) -> Tensor:
        n, length, width = x.shape
        query, key, value = self.mix(x).view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if self.rotary:
            query, key = rotated(query), rotated(key)
        scores = query @ key.transpose(-1, -2) / (width // self.heads) ** 0.5
        weights = scores.masked_fill(~sees, -1e9).softmax(-1)  # not -inf: a text of padding alone would be NaN
        return self.out((weights @ value).transpose(1, 2).reshape(n, length, width))


def rotated(x: Tensor) -> Tensor:
    """Each pair of features turned by its place times a frequency of its own: (..., length, features), features even."""
    length, half = x.shape[-2], x.shape[-1] // 2
    dtype = torch.promote_types(x.dtype, torch.float32)  # 16 bits cannot tell place 257 from 256
    frequencies = 10_000 ** (-torch.arange(half, device=x.device, dtype=dtype) / half)
    angles = torch.arange(length, device=x.device, dtype=dtype)[:, None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class Block(nn.Module):
    """Attention, then two linear layers, each added to what it was given and normalised before (Xiong et al. 2020, arXiv 2002.04745).

    Adds nothing to begin with.
    """

    def __init__(self, width: int, heads: int, rotary: bool = False) -> None:
        super().__init__()
        self.attention, self.before_attention, self.before_layers = (
            Attention(width, heads, rotary),
            nn.LayerNorm(width),
            nn.LayerNorm(width),
        )
        self.up, self.down = nn.Linear(width, 4 * width), adding_nothing(nn.Linear(4 * width, width))

    def forward(self, x: Tensor, sees: Tensor) -> Tensor:
        x = x + self.attention(self.before_attention(x), sees)
        return x + self.down(nn.functional.gelu(self.up(self.before_layers(x))))
