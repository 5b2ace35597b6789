"""Batch norm, ReLU and max-pool in one pass over memory, for CPUs, with a backward and a double backward of its own.

A second-order step runs these three forwards, backwards and twice backwards, and on a CPU each of their many small operations costs as
much as its trip to memory. Here it is one loop each (compiled by numba at first use, and cached on disk).

Per channel, over the N pixels y of a batch, with mean m and biased variance v, and r = 1 / sqrt(v + eps):

    z = max over each window of  max(0, gamma r (y - m) + beta)

The gradient G of a window's z goes to the pixel that won it, if any was above 0. With s = sum G, t = sum G (y_won - m):

    d gamma = r t,  d beta = s,  d y = gamma r (G at the winners - s/N - r^2 t/N (y - m))

and `twice_backward` is the derivative of those three lines, the winners held fixed.
"""

import logging
from typing import Any

import numpy as np
import torch
from numba import njit
from numba.core import event
from torch import Tensor
from torch.autograd import Function

log = logging.getLogger(__name__)
NONE_WON = 255  # all of a window below 0
# Sums may be taken in any order, so that they vectorise; not "fast": a NaN must stay one.
OPTIONS: Any = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"}


class Announce(event.Listener):
    """Says once that numba compiles, and does not load what it compiled before."""

    def __init__(self) -> None:
        self.said = False

    def on_start(self, event: Any) -> None:
        if not self.said:
            log.info("compiling batch norm for this CPU, once: some seconds")
        self.said = True

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", Announce())


def compiled(function: Any) -> Any:
    """At its first call; kept on disk, where there is a place for it."""
    try:
        return njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # neither the package nor the home folder can be written to
        return njit(**OPTIONS)(function)


def norm_relu_pool(y: Tensor, gamma: Tensor, beta: Tensor, eps: float, window: int) -> Tensor:
    """y (n, channels, h, w), gamma and beta (channels,) -> (n, channels, h // window, w // window), channels last in memory.

    float32 or float64 on a CPU; differentiable twice, as torch's batch norm is. window 1 is no pooling.
    """
    return NormReluPool.apply(y.permute(0, 2, 3, 1).contiguous(), gamma, beta, eps, window).permute(0, 3, 1, 2)


class NormReluPool(Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, gamma: Tensor, beta: Tensor, eps: float, window: int) -> Tensor:
        n, h, w, channels = y.shape
        z = y.new_empty(n, h // window, w // window, channels)
        winner = torch.empty(z.shape, dtype=torch.uint8)
        m, r = y.new_empty(channels), y.new_empty(channels)
        forward(*arrays(y, gamma, beta), eps, window, *arrays(z, winner, m, r))
        ctx.save_for_backward(y, gamma, winner, m, r)
        ctx.window = window
        return z

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> Any:
        return *NormReluPoolBackward.apply(grad_z.contiguous(), *ctx.saved_tensors, ctx.window), None, None


class NormReluPoolBackward(Function):
    @staticmethod
    def forward(ctx: Any, grad_z: Tensor, y: Tensor, gamma: Tensor, winner: Tensor, m: Tensor, r: Tensor, window: int) -> Any:
        grad_y, s, t = torch.empty_like(y), torch.empty_like(m), torch.empty_like(m)
        backward(*arrays(grad_z, y, gamma, winner, m, r), window, *arrays(grad_y, s, t))
        ctx.save_for_backward(grad_z, y, gamma, winner, m, r, s, t)
        ctx.window = window
        return grad_y, r * t, s.clone()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        return *NormReluPoolTwiceBackward.apply(*cotangents, *ctx.saved_tensors, ctx.window), None, None, None, None


class NormReluPoolTwiceBackward(Function):
    @staticmethod
    def forward(ctx: Any, *tensors_and_window: Any) -> Any:
        *tensors, window = tensors_and_window
        results = tuple(torch.empty_like(tensor) for tensor in tensors[3:6])  # of grad_z, y and gamma
        twice_backward(*arrays(*tensors), window, *arrays(*results))
        return results

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        """Not once_differentiable: that leaves the third derivative out, without a word, where only the weights' is asked for."""
        raise RuntimeError("batch norm does not support 3rd+ order derivatives")


def arrays(*tensors: Tensor) -> list[np.ndarray]:
    """The tensors' own memory, where it is contiguous."""
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


@compiled
def forward(y, gamma, beta, eps, window, z, winner, m, r):  # type: ignore[no-untyped-def]
    n, h, w, channels = y.shape
    pixels = n * h * w
    total, squares = np.zeros(channels), np.zeros(channels)
    guess = y[0, 0, 0].copy()  # sums of differences from a value that occurs lose no digits
    for i in range(n):
        for row in range(h):
            for column in range(w):
                pixel = y[i, row, column]
                for c in range(channels):
                    difference = pixel[c] - guess[c]
                    total[c] += difference
                    squares[c] += difference * difference
    scale, shift = np.empty_like(m), np.empty_like(m)
    for c in range(channels):
        mean = total[c] / pixels
        m[c] = guess[c] + mean
        r[c] = 1 / np.sqrt(squares[c] / pixels - mean * mean + eps)
        scale[c] = gamma[c] * r[c]
        shift[c] = beta[c] - m[c] * scale[c]
    for i in range(n):
        for row in range(h // window):
            for column in range(w // window):
                out, won = z[i, row, column], winner[i, row, column]
                for c in range(channels):
                    out[c] = 0
                    won[c] = NONE_WON
                for place in range(window * window):
                    pixel = y[i, row * window + place // window, column * window + place % window]
                    for c in range(channels):
                        value = pixel[c] * scale[c] + shift[c]
                        loses = value <= out[c]  # a NaN does not
                        out[c] = out[c] if loses else value
                        won[c] = won[c] if loses else np.uint8(place)


@compiled
def backward(grad_z, y, gamma, winner, m, r, window, grad_y, s, t):  # type: ignore[no-untyped-def]
    n, h, w, channels = y.shape
    pixels = n * h * w
    zero = y.dtype.type(0)
    sums, products = np.zeros(channels), np.zeros(channels)
    for i in range(n):
        for row in range(h // window):
            for column in range(w // window):
                g, won = grad_z[i, row, column], winner[i, row, column]
                for place in range(window * window):
                    pixel = y[i, row * window + place // window, column * window + place % window]
                    for c in range(channels):
                        here = g[c] if won[c] == place else zero
                        sums[c] += here
                        products[c] += here * (pixel[c] - m[c])
    scale, slope, level = np.empty_like(m), np.empty_like(m), np.empty_like(m)
    for c in range(channels):
        s[c], t[c] = sums[c], products[c]
        scale[c] = gamma[c] * r[c]
        slope[c] = -scale[c] * r[c] * r[c] * products[c] / pixels
        level[c] = -scale[c] * sums[c] / pixels - slope[c] * m[c]
    for i in range(n):
        for row in range(h):
            for column in range(w):
                pixel, out = y[i, row, column], grad_y[i, row, column]
                for c in range(channels):
                    out[c] = slope[c] * pixel[c] + level[c]
        for row in range(h // window):
            for column in range(w // window):
                g, won = grad_z[i, row, column], winner[i, row, column]
                for place in range(window * window):
                    out = grad_y[i, row * window + place // window, column * window + place % window]
                    for c in range(channels):
                        out[c] += scale[c] * g[c] if won[c] == place else zero


@compiled
def twice_backward(  # type: ignore[no-untyped-def]
    u, u_gamma, u_beta, grad_z, y, gamma, winner, m, r, s, t, window, grad_grad_z, grad_y, grad_gamma
):
    """u, u_gamma, u_beta: the gradients of backward's three results."""
    n, h, w, channels = y.shape
    pixels = n * h * w
    zero = y.dtype.type(0)
    u_sum, u_product, u_won = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    for i in range(n):
        for row in range(h):
            for column in range(w):
                pixel, v = y[i, row, column], u[i, row, column]
                for c in range(channels):
                    u_sum[c] += v[c]
                    u_product[c] += v[c] * (pixel[c] - m[c])
        for row in range(h // window):
            for column in range(w // window):
                g, won = grad_z[i, row, column], winner[i, row, column]
                for place in range(window * window):
                    v = u[i, row * window + place // window, column * window + place % window]
                    for c in range(channels):
                        u_won[c] += v[c] * g[c] if won[c] == place else zero
    # In the words of the formula above, d y = scale (G - s/N) + slope (y - m) with scale = gamma r and slope = -gamma r^3 t/N.
    scale, slope, to_s, to_t = np.empty_like(m), np.empty_like(m), np.empty_like(m), np.empty_like(m)
    y_slope, y_level = np.empty_like(m), np.empty_like(m)
    for c in range(channels):
        scale[c] = gamma[c] * r[c]
        slope[c] = -scale[c] * r[c] * r[c] * t[c] / pixels
        to_scale = u_won[c] - s[c] * u_sum[c] / pixels
        to_slope = u_product[c]
        to_s[c] = u_beta[c] - scale[c] * u_sum[c] / pixels
        to_t[c] = r[c] * u_gamma[c] - gamma[c] * r[c] ** 3 / pixels * to_slope
        to_r = t[c] * u_gamma[c] + gamma[c] * to_scale - 3 * gamma[c] * r[c] * r[c] * t[c] / pixels * to_slope
        grad_gamma[c] = r[c] * to_scale - r[c] ** 3 * t[c] / pixels * to_slope
        to_m = -slope[c] * u_sum[c] - to_t[c] * s[c]
        y_slope[c] = -(r[c] ** 3) * to_r / pixels  # of v = mean (y - m)^2, by r = (v + eps)^(-1/2)
        y_level[c] = to_m / pixels - y_slope[c] * m[c]
    for i in range(n):
        for row in range(h):
            for column in range(w):
                pixel, v, out = y[i, row, column], u[i, row, column], grad_y[i, row, column]
                for c in range(channels):
                    out[c] = slope[c] * v[c] + y_slope[c] * pixel[c] + y_level[c]
        for row in range(h // window):
            for column in range(w // window):
                g, won, grad_g = grad_z[i, row, column], winner[i, row, column], grad_grad_z[i, row, column]
                for c in range(channels):
                    grad_g[c] = 0
                for place in range(window * window):
                    at = row * window + place // window, column * window + place % window
                    pixel, v, out = y[i, at[0], at[1]], u[i, at[0], at[1]], grad_y[i, at[0], at[1]]
                    for c in range(channels):
                        here = won[c] == place
                        out[c] += to_t[c] * g[c] if here else zero
                        grad_g[c] += scale[c] * v[c] + to_t[c] * (pixel[c] - m[c]) + to_s[c] if here else zero
