"""The four-block convolutional network of the few-shot literature."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from innerloop.config import InputError, check_choice, check_count


def normalisation(norm: str, channels: int) -> nn.Module:
    """Batch statistics are those of the batch at hand, in training and in evaluation: running ones mix up tasks that have weights of
    their own (and make MAML guess at test time). Group norm sees one image at a time: 8 channels a group."""
    if norm == "batch":
        return nn.BatchNorm2d(channels, track_running_stats=False)
    return nn.GroupNorm(max(channels // 8, 1), channels) if norm == "group" else nn.Identity()


class Conv4(nn.Module):
    """body: 4 blocks of 3x3 convolution, norm, ReLU, each halving the image (Vinyals et al. 2016); head: linear to `outputs`.

    x (n, channels, height, width) -> (n, outputs). pool="max": stride 1 and 2x2 max-pooling, as most papers; pool="stride": convolutions
    of stride 2, as MAML and Reptile on Omniglot (3.7 times fewer operations).
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        filters: int,
        norm: Literal["batch", "group", "none"],
        pool: Literal["max", "stride"],
    ) -> None:
        super().__init__()
        check_count("model.filters", filters)
        check_choice("model.norm", norm, ("batch", "group", "none"))
        check_choice("model.pool", pool, ("max", "stride"))
        if len(input_shape) != 3:
            raise InputError(f"model=conv4 takes images (channels, height, width), this task has {tuple(input_shape)}; use model=mlp")
        if pool == "max" and min(input_shape[1:]) < 16:
            raise InputError(f"model.pool=max halves an image four times and {tuple(input_shape)} is too small; use model.pool=stride")
        channels = [input_shape[0], filters, filters, filters, filters]
        blocks = [self._block(i, o, norm, pool) for i, o in zip(channels, channels[1:], strict=False)]
        self.body = nn.Sequential(*blocks, nn.Flatten())
        with torch.no_grad():
            features = self.body(torch.zeros(2, *input_shape)).shape[1]
        self.head = nn.Linear(features, outputs)

    @staticmethod
    def _block(inputs: int, outputs: int, norm: str, pool: str) -> nn.Sequential:
        # no bias under batch norm, which subtracts it again; Adam in an inner loop would turn the rounding of its gradient into steps
        convolution = nn.Conv2d(inputs, outputs, 3, stride=2 if pool == "stride" else 1, padding=1, bias=norm != "batch")
        return nn.Sequential(convolution, normalisation(norm, outputs), nn.ReLU(), nn.MaxPool2d(2) if pool == "max" else nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))
