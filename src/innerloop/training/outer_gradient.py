"""The outer gradient of a meta-batch: taken, put together from shares, and handed to whatever trains."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call

from innerloop.algorithms.base import Algorithm
from innerloop.engine.forward import Weights
from innerloop.episode import Episode

FAR, TINY = 0.1, 1e-6  # of a norm; a first inner step of Adam makes much of a rounding


class OuterGradient(NamedTuple):
    """losses (tasks,), predictions (tasks, n, outputs), and the summed losses' gradient for each trained parameter, of its shape (None:
    unused)."""

    losses: Tensor
    predictions: Tensor
    gradients: list[Tensor | None]


Compiled = Callable[[Episode], OuterGradient]


def outer_gradient(algorithm: Algorithm[Any], episodes: Episode) -> OuterGradient:
    """By autograd through the inner loop."""
    losses, predictions = algorithm(episodes)
    gradients = torch.autograd.grad(losses.sum(), algorithm.trained(), allow_unused=True)
    return OuterGradient(losses.detach(), predictions.detach(), list(gradients))


def outer_gradient_at(weights: Weights, algorithm: Algorithm[Any], episodes: Episode) -> OuterGradient:
    """The same at other weights, by the names of all the algorithm's parameters: of those that require a gradient."""
    losses, predictions = functional_call(algorithm, weights, (episodes,))
    trained = [weight for weight in weights.values() if weight.requires_grad]
    gradients = torch.autograd.grad(losses.sum(), trained, allow_unused=True)
    return OuterGradient(losses.detach(), predictions.detach(), list(gradients))


def agrees(made: OuterGradient, wanted: OuterGradient) -> bool:
    """Whether gradients are there for the same parameters, and are the same but for how they are summed."""
    return all(
        (a is None) is (b is None) and (a is None or b is None or bool((a - b).norm() <= FAR * b.norm() + TINY))
        for a, b in zip(made.gradients, wanted.gradients, strict=True)
    )


class WithGradients(Function):
    """A mean loss whose summed gradients are known already: backward hands them on, so that any trainer and strategy works as usual."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, tasks: int, gradients: list[Tensor | None], *parameters: nn.Parameter) -> Tensor:
        ctx.tasks, ctx.gradients = tasks, gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> Any:
        return None, None, None, *scaled(ctx.gradients, scale / ctx.tasks)


def scaled(gradients: list[Tensor | None], factor: Tensor) -> list[Tensor | None]:
    """All at once: for a small network a multiplication takes as long as its Python."""
    products = iter(torch._foreach_mul([gradient for gradient in gradients if gradient is not None], factor))
    return [None if gradient is None else next(products) for gradient in gradients]


def combined(parts: list[OuterGradient]) -> OuterGradient:
    """Of the tasks of all parts, in order; their gradients summed."""
    gradients = [summed(part) for part in zip(*(part.gradients for part in parts), strict=True)]
    return OuterGradient(concatenated([part.losses for part in parts]), concatenated([part.predictions for part in parts]), gradients)


def concatenated(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def summed(parts: tuple[Tensor | None, ...]) -> Tensor | None:
    """The sum, in order, of those that are there: some tasks may not use a parameter. None where none does."""
    present = [part for part in parts if part is not None]
    return functools.reduce(torch.add, present) if present else None
