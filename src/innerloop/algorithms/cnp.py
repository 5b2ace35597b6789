"""Conditional neural processes."""

from math import prod, sqrt

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from innerloop.algorithms.base import Algorithm
from innerloop.config import InputError, check_count, check_flag
from innerloop.engine.forward import Engine
from innerloop.episode import Episode, Examples
from innerloop.objective import Objective, mean_squared_error

LEAST = 0.1  # of the spread, as in the authors' code: a likelihood without bound would be learned on exact functions


class CNP(Algorithm[tuple[Tensor, Tensor]]):
    """Conditional neural processes (Garnelo et al. 2018, arXiv 1807.01613): no inner loop; the support set becomes one vector r, and a
    decoder says of each query x what y is, and how far off it may be.

    r = mean over examples of encoder(x, y); mean, spread = decoder(x, r); trained on the likelihood of the queries. attention: each query
    has its own r, with more of the examples whose x is like its own (after Kim et al. 2019, arXiv 1901.05761). width, layers: of the
    networks, which are the algorithm's own; the model is not used. `nll` in the evidence: the queries' mean negative log-likelihood.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, input_shape: tuple[int, ...], outputs: int, width: int, layers: int,
        attention: bool,
    ) -> None:  # fmt: skip
        super().__init__(nn.Identity(), objective, engine)
        if objective.loss is not mean_squared_error:
            raise InputError(
                "algo=cnp predicts numbers, and this task's answers are none; choose functions, pictures or angles, or another algo"
            )
        check_count("algo.width", width)
        check_count("algo.layers", layers)
        check_flag("algo.attention", attention)
        inputs = prod(input_shape)
        self.encoder = perceptron(inputs + outputs, width, layers, width)
        self.decoder = perceptron(inputs + width, width, layers, 2 * outputs)
        self.key = perceptron(inputs, width, 1, width) if attention else None

    def adapt(self, support: Examples) -> tuple[Tensor, Tensor]:
        """The vector of each example (tasks, n, width), and its x (tasks, n, inputs)."""
        x = support.x.flatten(2)
        return self.encoder(torch.cat([x, support.y], -1)), x

    def distribution(self, adapted: tuple[Tensor, Tensor], x: Tensor) -> Normal:
        """Of y at x (tasks, n, inputs): (tasks, n, outputs)."""
        vectors, seen = adapted
        x = x.flatten(2)
        r = vectors.mean(1, keepdim=True).expand(-1, x.shape[1], -1)
        if self.key is not None:
            likeness = self.key(x) @ self.key(seen).mT / sqrt(vectors.shape[-1])
            r = likeness.softmax(-1) @ vectors
        mean, spread = self.decoder(torch.cat([x, r], -1)).chunk(2, -1)
        return Normal(mean, LEAST + (1 - LEAST) * nn.functional.softplus(spread), validate_args=False)

    def predict(self, adapted: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        return self.distribution(adapted, x).mean

    def more(self, adapted: tuple[Tensor, Tensor], query: Examples) -> dict[str, Tensor]:
        return {"nll": -self.distribution(adapted, query.x).log_prob(query.y).sum(-1).mean(-1)}

    def forward(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        adapted = self.adapt(episodes.support)
        return self.more(adapted, episodes.query)["nll"], self.predict(adapted, episodes.query.x)

    def network(self, adapted: tuple[Tensor, Tensor]) -> nn.Module:
        return Conditioned(self, *adapted)


class Conditioned(nn.Module):
    """`predict` for one support set."""

    def __init__(self, process: CNP, vectors: Tensor, seen: Tensor) -> None:
        super().__init__()
        self.process = process
        self.register_buffer("vectors", vectors.detach())
        self.register_buffer("seen", seen.detach())

    def forward(self, x: Tensor) -> Tensor:
        return self.process.predict((self.vectors, self.seen), x[None])[0]  # type: ignore[arg-type]


def perceptron(inputs: int, width: int, layers: int, outputs: int) -> nn.Sequential:
    widths = [inputs, *[width] * layers]
    hidden = [layer for i, o in zip(widths, widths[1:], strict=False) for layer in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], outputs))
