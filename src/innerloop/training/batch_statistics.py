"""What batch norm normalises by at test: what is at hand, the support set alone, or what training episodes are like."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from innerloop.algorithms.base import Algorithm
from innerloop.engine.forward import loop
from innerloop.episode import Episode

# of each batch norm: mean and biased variance (channels,); None of one that was not run
Statistics = list[tuple[Tensor, Tensor] | None]


def batch_norms(module: nn.Module) -> list[nn.Module]:
    """The layers that normalise by what else is in the batch."""
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and not m.track_running_stats]


def statistics_of_first(module: nn.Module, count: int) -> contextlib.AbstractContextManager[None]:
    """Batch norms take the statistics of the first `count` inputs of a batch, for all of it."""
    return replaced([(layer, partial(normalise_by_first, layer, count)) for layer in batch_norms(module)])


def statistics_known(module: nn.Module, statistics: Statistics | None) -> contextlib.AbstractContextManager[None]:
    """Batch norms normalise by `statistics`, in the order of the layers; as they are, if None."""
    pairs = zip(batch_norms(module), statistics or [], strict=statistics is not None)
    return replaced([(layer, partial(normalise, layer, *known)) for layer, known in pairs if known])


@contextlib.contextmanager
def noted(module: nn.Module) -> Iterator[Statistics]:
    """Batch norms do as ever; afterwards the list has the averages over the batches that they were given."""
    layers, found = batch_norms(module), Statistics()
    seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in layers]
    with replaced([(layer, partial(normalise_and_note, layer, of_layer)) for layer, of_layer in zip(layers, seen, strict=True)]):
        yield found
    for of_layer in seen:
        means, variances = ([pair[i] for pair in of_layer] for i in (0, 1))
        found.append((torch.stack(means).mean(0), torch.stack(variances).mean(0)) if of_layer else None)


def statistics_of_training(algorithm: Algorithm[Any], meta_batches: Iterable[Episode]) -> Statistics:
    """Averages over the batches of training, at the weights that the algorithm has now: what running statistics are after training,
    without their lag (Wu and Johnson 2021, arXiv 2105.07576, "precise" batch norm)."""
    engine, training = algorithm.engine, algorithm.training
    algorithm.engine = loop  # vmap's tensors cannot be kept
    algorithm.train()
    try:
        with noted(algorithm) as statistics, torch.enable_grad(), torch.random.fork_rng():
            for episodes in meta_batches:
                algorithm.told(episodes)
                algorithm(episodes)
    finally:
        algorithm.engine = engine
        algorithm.train(training)
    return statistics


@contextlib.contextmanager
def replaced(pairs: Sequence[tuple[nn.Module, Any]]) -> Iterator[None]:
    """The layers have these forwards; afterwards their own again."""
    for layer, forward in pairs:
        layer.forward = forward
    try:
        yield
    finally:
        for layer, _ in pairs:
            del layer.forward


def normalise(layer: Any, mean: Tensor, variance: Tensor, x: Tensor) -> Tensor:
    """x (n, channels, ...) by a mean and a variance (channels,)."""
    return activated(layer, functional.batch_norm(x, mean, variance, layer.weight, layer.bias, False, 0.0, layer.eps))


def activated(layer: Any, x: Tensor) -> Tensor:
    """What timm's norms do after normalising."""
    return layer.act(layer.drop(x)) if hasattr(layer, "act") and hasattr(layer, "drop") else x  # type: ignore[no-any-return]


def normalise_by_first(layer: Any, count: int, x: Tensor) -> Tensor:
    over = [dim for dim in range(x.dim()) if dim != 1]
    mean, variance = x[:count].mean(over, keepdim=True), x[:count].var(over, keepdim=True, correction=0)
    weight, bias = (parameter.view(mean.shape) for parameter in (layer.weight, layer.bias))
    return activated(layer, (x - mean) / (variance + layer.eps).sqrt() * weight + bias)


def normalise_and_note(layer: Any, seen: list[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """As the layer does it, by its batch."""
    over = [dim for dim in range(x.dim()) if dim != 1]
    seen.append((x.detach().mean(over), x.detach().var(over, correction=0)))
    return normalise(layer, *seen[-1], x)
