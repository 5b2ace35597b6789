"""How a model runs under each task's own weights. An engine maps the forward pass only; gradients are taken outside.

(vmap over torch.func.grad through nn.BatchNorm2d gives wrong second-order gradients without an error; this order is right, and faster.)
"""

import contextlib
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from innerloop.engine.mixed_precision import MixedPrecision

Weights = dict[str, Tensor]


class Engine(Protocol):
    """Each task's inputs through the model under that task's weights.

    weights: name -> (tasks, *shape) for the fast weights; the model's own serve for the names left out.
    x: (tasks, n, ...) -> predictions (tasks, n, outputs).
    """

    def __call__(self, model: nn.Module, weights: Weights, x: Tensor) -> Tensor: ...


def vmap(model: nn.Module, weights: Weights, x: Tensor) -> Tensor:
    """All tasks at once."""
    device = x.device.type
    mixed = MixedPrecision(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else contextlib.nullcontext()

    def forward(task_weights: Weights, task_x: Tensor) -> Tensor:
        return functional_call(model, task_weights, (task_x,))

    with mixed:
        return torch.vmap(forward, randomness="different")(weights, x)


def loop(model: nn.Module, weights: Weights, x: Tensor) -> Tensor:
    """One task after the other: slower, and open to a debugger and to models that vmap refuses."""
    rows = zip(x.unbind(), *(weight.unbind() for weight in weights.values()), strict=True)  # unbind: one backward for all tasks
    return torch.stack([functional_call(model, dict(zip(weights, row, strict=True)), (task_x,)) for task_x, *row in rows])


def learn2learn(model: nn.Module, weights: Weights, x: Tensor) -> Tensor:
    """learn2learn's learners run the inner loop (algorithms/learn2learn.py); what is left to an engine is one task after the other."""
    return loop(model, weights, x)
