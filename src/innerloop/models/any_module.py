"""What a module that somebody else wrote needs before each task can have weights of its own."""

import copy
import logging

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from innerloop.config import InputError, check_choice

log = logging.getLogger(__name__)
PARAMETRIZATIONS = "torch.nn.utils.parametrizations"


def make_ready(model: nn.Module, x: torch.Tensor, batch_norm: str) -> None:
    """Gives lazy layers their shapes, from a batch x of zeros, and takes running statistics out of norms.

    batch_norm: "episode", a batch is normalised by itself, in evaluation too, as conv4 does it; "running", by what all batches were like
    so far: their tasks have weights of their own, so that it is right for none. Raises InputError for layers that change their own state,
    or cannot be copied.
    """
    check_choice("model.batch_norm", batch_norm, ("episode", "running"))
    for name, layer in model.named_modules():
        refuse(model, name, layer)
    if any(is_lazy(parameter) for parameter in model.parameters()):
        with torch.no_grad():
            model(x)
    running = [layer for layer in model.modules() if isinstance(layer, _NormBase) and layer.track_running_stats]
    if not running or batch_norm == "running":
        return
    for layer in running:
        layer.track_running_stats = False
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    log.info(
        f"{len(running)} norm layers of {type(model).__name__} take the statistics of the batch at hand, in evaluation too; "
        "+model.batch_norm=running keeps the running ones"
    )


def without_head(model: nn.Module) -> nn.Module:
    """The same model, with the same weights, up to its head: x (n, ...) -> features."""
    twin = copy.copy(model)
    twin._modules = {**model._modules, "head": nn.Identity()}
    return twin


@torch.no_grad()
def ends_in_head(model: nn.Module, x: torch.Tensor) -> bool:
    """Whether it is its `head` after everything else, by a batch of zeros like x and one of other numbers."""
    if not isinstance(getattr(model, "head", None), nn.Linear):
        return False
    training = model.training
    batches = [x] if not x.is_floating_point() else [x, torch.linspace(0, 1, x.numel(), dtype=x.dtype).view_as(x)]
    model.eval()
    try:
        return all(torch.equal(model(batch), model.head(without_head(model)(batch))) for batch in batches)  # type: ignore[operator]
    except Exception:  # what returns something else than a tensor, or cannot take such a batch
        return False
    finally:
        model.train(training)


def refuse(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Raises InputError for a layer whose outer gradient would be wrong, or that threads cannot copy."""
    kinds = {type(hook).__name__ for hook in layer._forward_pre_hooks.values()} | {type(layer).__name__}
    where = f"{name.partition('.parametrizations')[0] or 'a layer'} of {type(model).__name__}"
    if kinds & {"SpectralNorm", "_SpectralNorm"}:
        raise InputError(
            f"{where} has spectral_norm, which changes its own state at each forward pass, so "
            f"that no gradient through the inner loop is right; use {PARAMETRIZATIONS}.weight_norm, or no norm"
        )
    if "WeightNorm" in kinds:
        raise InputError(f"{where} has the old weight_norm of torch.nn.utils, which cannot be copied; use {PARAMETRIZATIONS}.weight_norm")
