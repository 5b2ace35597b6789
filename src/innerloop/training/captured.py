"""The whole outer gradient, inner loop and all, as one CUDA graph: the GPU runs its thousands of small operations one after the other, and
does not wait for Python to launch each."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from innerloop.algorithms.base import Algorithm
from innerloop.engine.forward import Weights
from innerloop.episode import Episode, Examples
from innerloop.training.outer_gradient import Compiled, OuterGradient, outer_gradient_at

log = logging.getLogger(__name__)
WARM_UP = 3  # runs before it, in which libraries choose their kernels and take memory


def capture_outer_gradient(algorithm: Algorithm[Any], episodes: Episode) -> Compiled | None:
    """outer_gradient, by the same operations, for meta-batches of exactly these shapes, while the parameters stay where they are in memory.

    It takes a second, and keeps the memory of one outer gradient. Where it is impossible, as with an operation that waits for the GPU, it
    says so and returns None.
    """
    held = Episode(*(Examples(*(v.clone() for v in part)) for part in episodes))
    graph, beside = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)  # it would keep weights of now, cast
    try:
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                outer_gradient_at(here(algorithm), algorithm, held)
            with refused_to_wait():
                outer_gradient_at(here(algorithm), algorithm, held)
        torch.cuda.current_stream().wait_stream(beside)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may go on
            made = outer_gradient_at(here(algorithm), algorithm, held)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        log.info(f"engine.compile: running uncompiled, since the CUDA graph could not be captured: {reason}")
        return None
    finally:
        torch.set_autocast_cache_enabled(cached)

    def run(episodes: Episode) -> OuterGradient:
        for mine, given in zip(held, episodes, strict=True):
            for tensor, value in zip(mine, given, strict=True):
                tensor.copy_(value)
        graph.replay()
        gradients = [None if gradient is None else gradient.clone() for gradient in made.gradients]  # the next replay writes over them
        return OuterGradient(made.losses.clone(), made.predictions.clone(), gradients)

    return run


@contextlib.contextmanager
def refused_to_wait() -> Iterator[None]:
    """What would wait for the GPU raises here, where it does no harm, and not in the middle of a capture."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it does not find all
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


def here(algorithm: Algorithm[Any]) -> Weights:
    """The parameters' own memory under new leaves: the old ones may still be part of a graph, whose stream a capture must not wait for."""
    return {name: weight.detach().requires_grad_(weight.requires_grad) for name, weight in algorithm.named_parameters()}
