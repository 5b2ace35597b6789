"""The four-block convolutional network of the few-shot literature."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from innerloop.config import InputError, check_choice, check_count, check_flag
from innerloop.models.first_block import first_block
from innerloop.models.mlp import with_warp
from innerloop.models.norm_relu_pool import norm_relu_pool

COLOURS = 3  # inputs of a first block, at most


def normalisation(norm: str, channels: int) -> nn.Module:
    """Batch statistics are those of the batch at hand, in training and in evaluation: running ones mix up tasks that have weights of
    their own (and make MAML guess at test time). Group norm sees one image at a time: 8 channels a group."""
    if norm == "batch":
        return nn.BatchNorm2d(channels, track_running_stats=False)
    return nn.GroupNorm(max(channels // 8, 1), channels) if norm == "group" else nn.Identity()


class ConvBlock(nn.Sequential):
    """3x3 convolution, norm, ReLU, max-pool or nothing: x (n, inputs, h, w) -> (n, outputs, h', w').

    With batch norm on a CPU, what follows the convolution is one pass over memory (norm_relu_pool.py), and the channels of a pixel lie
    side by side, which the convolution is quickest with: the same numbers, in half the time. Where it begins a network that trains, the
    convolution is in that pass too (first_block.py).
    """

    def __init__(self, inputs: int, outputs: int, norm: str, pool: str) -> None:
        # no bias under batch norm, which subtracts it again; Adam in an inner loop would turn the rounding of its gradient into steps
        convolution = nn.Conv2d(inputs, outputs, 3, stride=2 if pool == "stride" else 1, padding=1, bias=norm != "batch")
        super().__init__(convolution, normalisation(norm, outputs), nn.ReLU(), nn.MaxPool2d(2) if pool == "max" else nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        convolution, norm, _, pool = self
        plain = isinstance(norm, nn.BatchNorm2d) and not norm.track_running_stats and "forward" not in vars(norm)
        if not plain or not readable(x):
            return super().forward(x)
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        if self._begins(x):
            return first_block(x, convolution.weight, norm.weight, norm.bias, norm.eps)
        y = functional.conv2d(channels_last(x), convolution.weight, None, convolution.stride, convolution.padding)
        return norm_relu_pool(y, norm.weight, norm.bias, norm.eps, window=1 if isinstance(pool, nn.Identity) else 2)

    def _begins(self, x: Tensor) -> bool:
        """Whether first_block takes it: images, where a gradient is taken, but not theirs. Without one it is no quicker, nor without a
        pooling, which leaves the output its size."""
        convolution, _, _, pool = self
        assert isinstance(convolution, nn.Conv2d)
        images = x.ndim == 4 and x.shape[1] == convolution.in_channels <= COLOURS and x.dtype == convolution.weight.dtype
        return images and isinstance(pool, nn.MaxPool2d) and torch.is_grad_enabled() and not x.requires_grad


def readable(x: Tensor) -> bool:
    """Whether x holds float32 or float64 numbers of this machine's memory: not under vmap, autocast or tracing, nor on a GPU."""
    plain = type(x) in (Tensor, nn.Parameter) and not torch._C._functorch.is_functorch_wrapped_tensor(x)  # type: ignore[attr-defined]
    return plain and x.device.type == "cpu" and x.dtype.itemsize >= 4 and not torch.is_autocast_enabled("cpu")


def channels_last(x: Tensor) -> Tensor:
    """The images x (n, c, h, w) with the channels of a pixel side by side (torch's own conversion leaves a single channel as it is)."""
    if x.shape[1] > 1:
        return x.contiguous(memory_format=torch.channels_last)
    pixels = x.permute(0, 2, 3, 1).contiguous()
    n, h, w, c = pixels.shape
    return pixels.as_strided((n, c, h, w), (h * w * c, 1, w * c, c))


class FiLM(nn.Module):
    """Channels of x (n, channels, h, w) scaled and shifted as a linear layer says of the numbers `context` (Perez et al. 2018): what CAVIA
    adapts in place of weights (Zintgraf et al. 2019, arXiv 1810.03642)."""

    def __init__(self, channels: int, context: int) -> None:
        super().__init__()
        self.context = nn.Parameter(torch.zeros(context))
        self.linear = nn.Linear(context, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.linear(self.context).view(2, 1, -1, 1, 1)
        return x * (1 + scale) + shift


class Conv4(nn.Module):
    """body: 4 blocks of 3x3 convolution, norm, ReLU, each halving the image (Vinyals et al. 2016); head: linear to `outputs`.

    x (n, channels, height, width) -> (n, outputs). pool="max": stride 1 and 2x2 max-pooling, as most papers; pool="stride": convolutions
    of stride 2, as MAML and Reptile on Omniglot (3.7 times fewer operations). context: numbers that modulate the third block's channels.
    warp: a 1x1 convolution after each block, as model=mlp has. pool_head: what the head sees of the last block: flatten, each channel at
    each place; mean, each channel's mean over places, as MAML's published net has on Omniglot.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        filters: int,
        norm: Literal["batch", "group", "none"],
        pool: Literal["max", "stride"],
        context: int = 0,
        warp: bool = False,
        pool_head: Literal["flatten", "mean"] = "flatten",
    ) -> None:
        super().__init__()
        check_count("model.context", context, least=0)
        check_count("model.filters", filters)
        check_choice("model.norm", norm, ("batch", "group", "none"))
        check_choice("model.pool", pool, ("max", "stride"))
        check_choice("model.pool_head", pool_head, ("flatten", "mean"))
        check_flag("model.warp", warp)
        if len(input_shape) != 3:
            raise InputError(f"model=conv4 takes images (channels, height, width), this task has {tuple(input_shape)}; use model=mlp")
        if pool == "max" and min(input_shape[1:]) < 16:
            raise InputError(f"model.pool=max halves an image four times and {tuple(input_shape)} is too small; use model.pool=stride")
        channels = [input_shape[0], filters, filters, filters, filters]
        blocks: list[nn.Module] = [ConvBlock(i, o, norm, pool) for i, o in zip(channels, channels[1:], strict=False)]
        if warp:
            blocks = [with_warp(block, nn.Conv2d(filters, filters, 1, bias=False)) for block in blocks]
        films = [FiLM(filters, context)] if context else []
        self.body = nn.Sequential(*blocks[:3], *films, *blocks[3:], *[nn.AdaptiveAvgPool2d(1)] * (pool_head == "mean"), nn.Flatten())
        with torch.no_grad():
            features = self.body(torch.zeros(2, *input_shape)).shape[1]
        self.head = nn.Linear(features, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))
