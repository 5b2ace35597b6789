"""The network that adaptation to one support set made, which knows nothing of episodes."""

from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm
from innerloop.engine.forward import output_of
from innerloop.episode import Examples
from innerloop.training.batch_statistics import batch_norms, noted


class AdaptedNetwork(nn.Module):
    """x (n, ...) -> predictions (n, outputs), none of which depends on another input. outputs: the first so many of the body's."""

    def __init__(self, body: nn.Module, outputs: int) -> None:
        super().__init__()
        self.body, self.outputs = body, outputs

    def forward(self, x: Tensor) -> Tensor:
        return output_of(self.body(x))[:, : self.outputs]


@torch.no_grad()
def adapted_network(algorithm: Algorithm[Any], support: Examples, steps: int, outputs: int) -> AdaptedNetwork:
    """Adapts to one support set: x (n, ...), y (n,) or (n, targets). Batch norm keeps the support set's statistics."""
    *_, adapted = algorithm.trajectory(Examples(support.x[None], support.y[None]), steps)
    body = algorithm.network(adapted).requires_grad_(False)
    keep_statistics(body, support.x)
    return AdaptedNetwork(body, outputs).eval()


def keep_statistics(network: nn.Module, x: Tensor) -> None:
    """Batch norms that take the statistics of the batch at hand take those of x from now on."""
    with noted(network) as statistics:
        network(x)
    for layer, known in zip(batch_norms(network), statistics, strict=True):
        if known:
            layer.running_mean, layer.running_var = known
            layer.track_running_stats = True  # type: ignore[assignment]
