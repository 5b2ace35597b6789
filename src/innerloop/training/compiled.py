"""The whole outer gradient, inner loop and all, as one compiled function."""

import logging
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from innerloop.algorithms.base import Algorithm
from innerloop.console import announced
from innerloop.episode import Episode, Examples
from innerloop.training.outer_gradient import Compiled, OuterGradient, outer_gradient_at

log = logging.getLogger(__name__)


def compile_outer_gradient(algorithm: Algorithm[Any], episodes: Episode) -> Compiled | None:
    """outer_gradient for meta-batches of exactly these shapes.

    torch.compile does not look through torch.autograd.grad, so autograd is traced first, into a plain graph of operations, and that is
    compiled (torch's cache on disk makes the second run start in seconds). Where that is impossible it says so and returns None.
    """
    parameters = dict(algorithm.named_parameters())
    slow = list(parameters.values())
    used: list[bool] = []

    def step(*tensors: Tensor) -> list[Tensor]:
        weights, (sx, sy, qx, qy) = tensors[: len(parameters)], tensors[len(parameters) :]
        episodes = Episode(Examples(sx, sy), Examples(qx, qy))
        losses, predictions, gradients = outer_gradient_at(dict(zip(parameters, weights, strict=True)), algorithm, episodes)
        used[:] = [gradient is not None for gradient in gradients]
        return [losses, predictions, *(gradient for gradient in gradients if gradient is not None)]

    def flat(episodes: Episode) -> list[Tensor]:
        return [v for part in episodes for v in part]

    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a CUDA folder where there is no GPU
    try:
        weights = [p.detach().clone().requires_grad_(p.requires_grad) for p in slow]
        graph = make_fx(step, decomposition_table={torch.ops.aten.bmm.default: bmm}, tracing_mode="fake")(*weights, *flat(episodes))
        # no guards: whoever calls this keeps to the shapes
        compiled = torch.compile(graph, fullgraph=True, dynamic=False, options={"guard_filter_fn": torch.compiler.skip_all_guards_unsafe})
        with torch.no_grad(), warnings.catch_warnings(), announced("compiling the outer gradient: half a minute, or seconds another time"):
            warnings.simplefilter("ignore")  # torch's, of its own parts
            compiled(*(p.detach() for p in slow), *flat(episodes))
    except Exception as error:  # no C++ compiler, an operation that cannot be traced, ...
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        log.info(f"engine.compile: running uncompiled, since compiling failed: {reason}")
        return None

    def run(episodes: Episode) -> OuterGradient:
        with torch.no_grad():
            losses, predictions, *rest = compiled(*(p.detach() for p in slow), *flat(episodes))
        gradients = iter(rest)
        return OuterGradient(losses, predictions, [next(gradients) if there else None for there in used])

    return run


def bmm(a: Tensor, b: Tensor) -> Tensor:
    """A product of many small matrices with the short side last, as its transpose: MKL is 6 times faster at that (40x40 @ 40x10)."""
    if 1 < a.shape[2] and b.shape[2] < a.shape[1]:
        return torch.ops.aten.bmm.default(b.transpose(1, 2), a.transpose(1, 2)).transpose(1, 2)
    return NotImplemented
