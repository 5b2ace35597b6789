"""How a model runs under each task's own weights. An engine maps the forward pass only; gradients are taken outside.

(vmap over torch.func.grad through nn.BatchNorm2d gives wrong second-order gradients without an error; this order is right, and faster.)
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from innerloop.engine.mixed_precision import MixedPrecision

Weights = dict[str, Tensor]

# Of torch's kernels for attention only the plain one has a second derivative, and goes under vmap. The choice is one of the process:
# torch's own context manager changes it for all threads, so that one that left early would take it from the others.
for choose in (torch.backends.cuda.enable_flash_sdp, torch.backends.cuda.enable_mem_efficient_sdp, torch.backends.cuda.enable_cudnn_sdp):
    choose(False)
torch.backends.mha.set_fastpath_enabled(False)  # nn.TransformerEncoder's in evaluation, which vmap refuses
torch._C._functorch._set_vmap_fallback_warning_enabled(False)  # type: ignore[attr-defined] # ops taken task by task


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
        return output_of(functional_call(model, task_weights, (task_x,)))

    with mixed:
        return torch.vmap(forward, randomness="different")(weights, x)


def loop(model: nn.Module, weights: Weights, x: Tensor) -> Tensor:
    """One task after the other: slower, and open to a debugger and to models that vmap refuses."""
    rows = zip(x.unbind(), *(weight.unbind() for weight in weights.values()), strict=True)  # unbind: one backward for all tasks
    return torch.stack([output_of(functional_call(model, dict(zip(weights, row, strict=True)), (task_x,))) for task_x, *row in rows])


def auto(model: nn.Module, weights: Weights, x: Tensor) -> Tensor:
    """All tasks at once on a GPU, one after the other on a CPU: for conv nets. A run takes one of the two when it is built."""
    return (vmap if x.is_cuda else loop)(model, weights, x)


def learn2learn(model: nn.Module, weights: Weights, x: Tensor) -> Tensor:
    """learn2learn's learners run the inner loop (algorithms/learn2learn.py); what is left to an engine is one task after the other."""
    return loop(model, weights, x)


def output_of(result: Any) -> Tensor:
    """The predictions among what a model returns: the first of a tuple, the `logits` of a dict or else its first."""
    if isinstance(result, Mapping):
        result = result["logits"] if "logits" in result else next(iter(result.values()))
    elif isinstance(result, Sequence):
        result = result[0]
    return result  # type: ignore[no-any-return]
