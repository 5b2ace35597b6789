"""A network's first block in one pass, for CPUs: convolution, batch norm, ReLU and max-pool of images that need no gradient.

The convolution's output is the largest tensor of the network, and the cheapest to compute: what costs is its trips to memory. Here it is
never whole. With X the 3x3 patches of the images (a row for each pixel of the output), mu their mean and C their covariance, the output's
batch statistics are those of X w: mean mu w and variance w C w. So batch norm is a scale and a shift of the convolution's weights

    scale = gamma / sqrt(w C w + eps),  W = scale w,  b = beta - scale mu w

which autograd differentiates, since they are small, and what is left is linear in W and b but for the choice of a winner:

    z = max over each 2x2 window of  max(0, X W + b)

Its gradient is the sum of the winners' patches, weighted by the gradient of z; the gradient of that is X U at the winners, for U in the
place of W; and so on, each the other's. These three are a loop each (compiled by numba at first use, and cached on disk).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from innerloop.models.norm_relu_pool import NONE_WON, arrays, compiled

TOGETHER = 4  # pixels of a row whose gradients are summed at once; to the right of the images there is room for them


def first_block(x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """x (n, inputs, h, w), weight (channels, inputs, 3, 3), gamma and beta (channels,) -> (n, channels, h // 2, w // 2), channels last.

    The convolution pads by 1. float32 or float64 on a CPU; differentiable, but not in x.
    """
    n, inputs, h, w = x.shape
    padded = functional.pad(x, (1, 1 + TOGETHER, 1, 1))
    sums, products = padded.new_zeros(9 * inputs, dtype=torch.float64), padded.new_zeros(9 * inputs, 9 * inputs, dtype=torch.float64)
    offset = padded[:1, :, 1, 1].sum(0)  # a value that occurs: sums of differences from it lose no digits
    patch_sums(*arrays(padded, offset, sums, products))
    mean, second = sums / max(n * h * w, 1), products / max(n * h * w, 1)
    flat = weight.flatten(1).double()
    scale = gamma / ((flat @ (second - mean.outer(mean)) * flat).sum(1) + eps).sqrt()
    folded = scale[:, None] * flat
    shift = beta - folded @ (mean + offset.repeat_interleave(9))
    return ConvReluPool.apply(padded, folded.T.to(x.dtype), shift.to(x.dtype), h // 2, w // 2).permute(0, 3, 1, 2)


class ConvReluPool(Function):
    """The largest of each window: padded images, weight (9 inputs, channels), shift (channels,) -> (n, height, width, channels)."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, weight: Tensor, shift: Tensor, height: int, width: int) -> Tensor:
        z = padded.new_empty(len(padded), height, width, len(shift))
        winner = torch.empty(z.shape, dtype=torch.uint8)
        forward(*arrays(padded, weight, shift, z, winner))
        ctx.save_for_backward(padded, winner)
        return z

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> Any:
        return None, *SumOfWinners.apply(grad_z.contiguous(), *ctx.saved_tensors), None, None


class SumOfWinners(Function):
    """Its gradient in weight and shift."""

    @staticmethod
    def forward(ctx: Any, grad_z: Tensor, padded: Tensor, winner: Tensor) -> Any:
        size, channels = 9 * padded.shape[1], grad_z.shape[-1]
        grad_weight, grad_shift = (grad_z.new_zeros(shape, dtype=torch.float64) for shape in ((size, channels), (channels,)))
        sum_of_winners(*arrays(grad_z, padded, winner, grad_weight, grad_shift))
        ctx.save_for_backward(padded, winner)
        return grad_weight.to(grad_z.dtype), grad_shift.to(grad_z.dtype)

    @staticmethod
    def backward(ctx: Any, weight: Tensor, shift: Tensor) -> Any:
        return AtWinners.apply(weight, shift, *ctx.saved_tensors), None, None


class AtWinners(Function):
    """The gradient of that in grad_z."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, shift: Tensor, padded: Tensor, winner: Tensor) -> Tensor:
        z = weight.new_empty(winner.shape)
        at_winners(*arrays(padded, weight, shift, winner, z))
        ctx.save_for_backward(padded, winner)
        return z

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> Any:
        return *SumOfWinners.apply(grad_z.contiguous(), *ctx.saved_tensors), None, None


@compiled
def patch_sums(padded, offset, sums, products):  # type: ignore[no-untyped-def]
    """Over all pixels, of the patches less `offset` (inputs,) and of the products of any two of their values, in float64."""
    n, _, height, width = padded.shape
    height, width, size = height - 2, width - 2 - TOGETHER, len(sums)
    patches = np.empty((size, width))  # of a row of pixels
    for i in range(n):
        for row in range(height):
            for k in range(size):
                own, pixels, less = patches[k], padded[i, k // 9, row + k % 9 // 3], np.float64(offset[k // 9])
                for column in range(width):
                    own[column] = pixels[k % 3 + column] - less
            for j in range(size):
                one, total = patches[j], 0.0
                for column in range(width):
                    total += one[column]
                sums[j] += total
                for k in range(j, size):
                    other, total = patches[k], 0.0
                    for column in range(width):
                        total += one[column] * other[column]
                    products[j, k] += total
    for j in range(size):
        for k in range(j):
            products[j, k] = products[k, j]


@compiled
def responses(padded, i, top, weight, shift, out):  # type: ignore[no-untyped-def]
    """out (width, channels) = the patches of image i of the row of pixels from `top` on, times weight (9 inputs, channels), + shift. Nine
    products at once stay in registers."""
    width, channels = out.shape
    for column in range(width):
        pixel = out[column]
        for c in range(channels):
            pixel[c] = shift[c]
    for a in range(padded.shape[1]):
        w0, w1, w2, w3, w4 = weight[9 * a], weight[9 * a + 1], weight[9 * a + 2], weight[9 * a + 3], weight[9 * a + 4]
        w5, w6, w7, w8 = weight[9 * a + 5], weight[9 * a + 6], weight[9 * a + 7], weight[9 * a + 8]
        above, level, below = padded[i, a, top], padded[i, a, top + 1], padded[i, a, top + 2]
        for column in range(width):
            pixel = out[column]
            x0, x1, x2 = above[column], above[column + 1], above[column + 2]
            x3, x4, x5 = level[column], level[column + 1], level[column + 2]
            x6, x7, x8 = below[column], below[column + 1], below[column + 2]
            for c in range(channels):
                first = x0 * w0[c] + x1 * w1[c] + x2 * w2[c]
                second = x3 * w3[c] + x4 * w4[c] + x5 * w5[c]
                pixel[c] += first + second + x6 * w6[c] + x7 * w7[c] + x8 * w8[c]


@compiled
def forward(padded, weight, shift, z, winner):  # type: ignore[no-untyped-def]
    n, height, width, channels = z.shape
    values = np.empty((2, 2 * width, channels), z.dtype)  # of the two rows of pixels below a row of windows
    for i in range(n):
        for row in range(height):
            for line in range(2):
                responses(padded, i, 2 * row + line, weight, shift, values[line])
            for column in range(width):
                out, won = z[i, row, column], winner[i, row, column]
                for c in range(channels):
                    out[c] = 0
                    won[c] = NONE_WON
                for place in range(4):
                    value, here = values[place // 2, 2 * column + place % 2], np.uint8(place)
                    for c in range(channels):
                        loses = value[c] <= out[c]  # a NaN does not; where there is one the whole channel is
                        out[c] = out[c] if loses else value[c]
                        won[c] = won[c] if loses else here


@compiled
def add_products(padded, i, top, shares, sums):  # type: ignore[no-untyped-def]
    """sums (9 inputs, channels) += the patches of image i of the row of pixels from `top` on, times their shares (width, channels): what
    `responses` does, the other way round."""
    channels = shares.shape[1]
    for column in range(0, len(shares), TOGETHER):
        g0, g1, g2, g3 = shares[column], shares[column + 1], shares[column + 2], shares[column + 3]
        for k in range(len(sums)):
            pixels, at, own = padded[i, k // 9, top + k % 9 // 3], column + k % 3, sums[k]
            x0, x1, x2, x3 = pixels[at], pixels[at + 1], pixels[at + 2], pixels[at + 3]
            for c in range(channels):
                own[c] += g0[c] * x0 + g1[c] * x1 + g2[c] * x2 + g3[c] * x3


@compiled
def sum_of_winners(grad_z, padded, winner, grad_weight, grad_shift):  # type: ignore[no-untyped-def]
    """grad_weight and grad_shift are float64 and begin at zero: a sum over many images loses no digits."""
    n, height, width, channels = grad_z.shape
    size, zero = len(grad_weight), grad_z.dtype.type(0)
    pixels = -(-2 * width // TOGETHER) * TOGETHER  # beyond the edge the share is nothing
    shares, sums = np.zeros((2, pixels, channels), grad_z.dtype), np.empty((size, channels), grad_z.dtype)
    shift_sums = np.empty(channels, grad_z.dtype)
    for i in range(n):
        for c in range(channels):
            shift_sums[c] = zero
            for k in range(size):
                sums[k, c] = zero
        for row in range(height):
            for column in range(width):
                g, won = grad_z[i, row, column], winner[i, row, column]
                for place in range(4):
                    share, here = shares[place // 2, 2 * column + place % 2], np.uint8(place)
                    for c in range(channels):
                        share[c] = g[c] if won[c] == here else zero
                        shift_sums[c] += share[c]
            for line in range(2):
                add_products(padded, i, 2 * row + line, shares[line], sums)
        for c in range(channels):
            grad_shift[c] += shift_sums[c]
            for k in range(size):
                grad_weight[k, c] += sums[k, c]


@compiled
def at_winners(padded, weight, shift, winner, z):  # type: ignore[no-untyped-def]
    n, height, width, channels = z.shape
    zero = z.dtype.type(0)
    values = np.empty((2, 2 * width, channels), z.dtype)
    for i in range(n):
        for row in range(height):
            for line in range(2):
                responses(padded, i, 2 * row + line, weight, shift, values[line])
            for column in range(width):
                out, won = z[i, row, column], winner[i, row, column]
                for c in range(channels):
                    out[c] = zero
                for place in range(4):
                    value, here = values[place // 2, 2 * column + place % 2], np.uint8(place)
                    for c in range(channels):
                        out[c] += value[c] if won[c] == here else zero
