"""A network for things that are met by several senses."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from innerloop.config import InputError, check_count
from innerloop.models.conv4 import ConvBlock

FILTERS = 32


class Senses(nn.Module):
    """body: a tower for each sense, whose outputs are averaged over the senses that are there; head: linear to `outputs`.

    x (n, senses + all their numbers): a 1 for each sense that is there, then the numbers of each -> (n, outputs). senses: their shapes by
    name, as the task has them. An image or a spectrogram goes through four convolutional blocks with group norm, since what is missing
    must not count in the statistics of a batch; a vector through a hidden layer. width: of what the towers have in common.
    """

    def __init__(self, input_shape: Sequence[int], outputs: int, senses: dict[str, tuple[int, ...]] | None, width: int) -> None:
        super().__init__()
        check_count("model.width", width)
        if senses is None:
            raise InputError("model=senses is for tasks of several senses, and this one has none; use task=heard_and_seen or another model")
        self.body = Towers(senses, width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(x))
        return found


class Towers(nn.Module):
    def __init__(self, senses: dict[str, tuple[int, ...]], width: int) -> None:
        super().__init__()
        self.shapes = [*senses.values()]
        self.of = nn.ModuleDict({name: tower(shape, width) for name, shape in senses.items()})

    def forward(self, x: Tensor) -> Tensor:
        there, *parts = x.split([len(self.shapes), *map(math.prod, self.shapes)], 1)
        found = [of(part.unflatten(1, shape)) for of, part, shape in zip(self.of.values(), parts, self.shapes, strict=True)]
        return (torch.stack(found, 1) * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1)


def tower(shape: tuple[int, ...], width: int) -> nn.Module:
    """From what a sense has of a thing to `width` numbers."""
    if len(shape) != 3 or min(shape[1:]) < 16:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width), nn.ReLU(), nn.Linear(width, width))
    channels = [shape[0], *[FILTERS] * 4]
    blocks = [ConvBlock(i, o, "group", "max") for i, o in zip(channels, channels[1:], strict=False)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(FILTERS * math.prod(side // 16 for side in shape[1:]), width))
