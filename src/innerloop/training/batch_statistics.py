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

Statistics = list[tuple[Tensor, Tensor]]  # of each batch norm: mean and biased variance (channels,)


def batch_norms(module: nn.Module) -> list[nn.Module]:
    """The layers that normalise by what else is in the batch."""
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and not m.track_running_stats]


def statistics_of_first(module: nn.Module, count: int) -> contextlib.AbstractContextManager[None]:
    """Batch norms take the statistics of the first `count` inputs of a batch, for all of it."""
    return replaced(module, [partial(normalise_by_first, layer, count) for layer in batch_norms(module)])


def statistics_known(module: nn.Module, statistics: Statistics | None) -> contextlib.AbstractContextManager[None]:
    """Batch norms normalise by `statistics`, in the order of the layers; as they are, if None."""
    pairs = zip(batch_norms(module), statistics or [], strict=statistics is not None)
    return replaced(module, [partial(normalise, layer, *known) for layer, known in pairs])


def statistics_of_training(algorithm: Algorithm[Any], meta_batches: Iterable[Episode]) -> Statistics:
    """Averages over the batches of training, at the weights that the algorithm has now: what running statistics are after training,
    without their lag (Wu and Johnson 2021, arXiv 2105.07576, "precise" batch norm)."""
    layers = batch_norms(algorithm)
    seen: list[Statistics] = [[] for _ in layers]
    engine, training = algorithm.engine, algorithm.training
    algorithm.engine = loop  # vmap's tensors cannot be kept
    algorithm.train()
    try:
        with (
            replaced(algorithm, [partial(normalise_and_note, *pair) for pair in zip(layers, seen, strict=True)]),
            torch.enable_grad(),
            torch.random.fork_rng(),
        ):
            for episodes in meta_batches:
                algorithm.told(episodes)
                algorithm(episodes)
    finally:
        algorithm.engine = engine
        algorithm.train(training)
    return [tuple(torch.stack(values).mean(0) for values in zip(*of_layer, strict=True)) for of_layer in seen]  # type: ignore[misc]


@contextlib.contextmanager
def replaced(module: nn.Module, forwards: Sequence[Any]) -> Iterator[None]:
    """The forwards of its first batch norms are these; afterwards their own again."""
    layers = batch_norms(module)[: len(forwards)]
    for layer, forward in zip(layers, forwards, strict=True):
        layer.forward = forward
    try:
        yield
    finally:
        for layer in layers:
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


def normalise_and_note(layer: Any, seen: Statistics, x: Tensor) -> Tensor:
    """As the layer does it, by its batch."""
    over = [dim for dim in range(x.dim()) if dim != 1]
    seen.append((x.detach().mean(over), x.detach().var(over, correction=0)))
    return normalise(layer, *seen[-1], x)
