"""Reptile."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Patterns
from innerloop.algorithms.inner_optimizer import BETA2, FIXED, Adam, State
from innerloop.algorithms.maml import MAML
from innerloop.config import check_count
from innerloop.engine.forward import Engine, Weights
from innerloop.episode import Episode, Examples
from innerloop.objective import Objective

KEPT = "kept_rmsprop"


class Reptile(MAML):
    """Reptile (Nichol, Achiam, Schulman 2018, arXiv 1803.02999): move the initialisation towards where plain training on a task ends.

    slow <- slow + outer_lr * mean(fast - slow), fast being slow after `adaptation_steps` minibatch steps on the task. Training needs no
    query set, so these steps use all examples of a training episode; evaluation adapts on the support set alone, as everywhere.
    Written as the outer loss 1/2 |slow - constant(fast)|^2, whose gradient is slow - fast: under SGD that *is* the update above (the
    paper anneals its outer_lr from 1 to 0), and several devices and, but for kept_rmsprop, other outer optimizers work unchanged.
    meta_batch_size=1 is serial.

    inner_optimizer: kept_rmsprop is the authors' Adam with beta1 = 0, whose mean squares go on from task to task (KeptSquares); those of
    rmsprop and adam begin anew in each.
    inner_batch_size: support examples in one inner step, all of them if None; the examples are shuffled anew for each pass over them.
    adapted: pattern of the weights that the inner loop changes, which are those that the outer loop moves; the others are frozen.
    eval_inner_batch_size: the same outside training, where support sets are often smaller.
    """

    of_each_row = True
    inner_optimizers = (*FIXED, KEPT)

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, adaptation_steps: int,
        inner_optimizer: str, inner_batch_size: int | None, eval_inner_batch_size: int | None, adapted: Patterns = "*",
    ) -> None:  # fmt: skip
        super().__init__(
            model, objective, engine, inner_lr, adaptation_steps, first_order=True, adapted=adapted, meta_learned=adapted,
            inner_optimizer="rmsprop" if inner_optimizer == KEPT else inner_optimizer,
        )  # fmt: skip
        for name, size in (("inner_batch_size", inner_batch_size), ("eval_inner_batch_size", eval_inner_batch_size)):
            if size is not None:
                check_count(f"algo.{name}", size)
        if inner_optimizer == KEPT:
            self.inner_optimizer = KeptSquares(self.slow_weights().values())
        elif isinstance(self.inner_optimizer, Adam):
            self.inner_optimizer = TorchAdam(self.inner_optimizer.beta1)
        self.inner_batch_size, self.eval_inner_batch_size = inner_batch_size, eval_inner_batch_size

    @torch.no_grad()
    def inner_loop(self, support: Examples, steps: int) -> Iterator[tuple[Weights, State]]:
        yield from super().inner_loop(support, steps)

    def batches(self, support: Examples, steps: int) -> Iterator[Examples]:
        """`steps` minibatches of all tasks at once; a pass may begin in the middle of one.

        Episodes hold their examples in random order, so one fixed schedule of positions shuffles every task in its own way, and
        adaptation stays a pure function of the episode.
        """
        if self.objective.look:  # a policy steps along all its rollouts
            yield from super().batches(support, steps)
            return
        size = self.inner_batch_size if self.training else self.eval_inner_batch_size
        examples = support.x.shape[1]
        size = min(size or examples, examples)
        schedule = np.random.default_rng(0)
        order = np.concatenate([schedule.permutation(examples) for _ in range(steps * size // examples + 1)])
        columns = [part.unbind(1) for part in support]  # put together by position: a GPU would wait for a tensor of positions
        for step in range(steps):
            rows = order[step * size : (step + 1) * size]
            yield Examples(*(torch.stack([of[row] for row in rows], 1) for of in columns))

    def forward(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        """The outer loss of each task, and predictions on its query set, which the inner loop has just been trained on too."""
        (support_x, support_y), (query_x, query_y) = episodes
        whole = (
            Examples(torch.cat([support_x, query_x], 1), torch.cat([support_y, query_y], 1))
            if not self.objective.look
            else episodes.support
        )
        *_, (fast, state) = self.inner_loop(whole, self.adaptation_steps)
        pairs: list[tuple[Tensor, Tensor]] = [(weight, fast[name]) for name, weight in self.slow_weights().items()]
        if isinstance(self.inner_optimizer, KeptSquares):
            pairs += self.inner_optimizer.pairs(state, self.adaptation_steps)
        distances = torch.stack([(begin - end).square().reshape(len(support_x), -1).sum(1) for begin, end in pairs]).sum(0) / 2
        with torch.no_grad():
            predictions = self.predict(fast, query_x)
        return distances, predictions


class TorchAdam(Adam):
    """As torch.optim has it: no outer gradient runs through this root."""

    def direction(self, gradient: Tensor, mean: Tensor, square: Tensor, at: int) -> Tensor:
        return mean / (square.sqrt() + self.epsilon)


class KeptSquares(TorchAdam):
    """Adam with beta1 = 0 whose mean squares go on from task to task, as the authors' do (one optimizer trains on all of their tasks).

    They are parameters, which the outer loop moves as it moves the weights: to where tasks leave them, on average. So does `seen`, the part
    of them that is not the zero they began at, by which they are corrected. With meta_batch_size=1 and an outer rate of 1 this is one Adam
    over all inner steps. Evaluation begins each task from them and leaves them as they are.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__(beta1=0.0)
        self.squares = nn.ParameterList(torch.zeros_like(weight, requires_grad=True) for weight in weights)  # in their order
        self.seen = nn.Parameter(torch.zeros(1))

    def begin(self, weights: Weights) -> State:
        kept = [square.clamp(min=0).expand_as(weight) for square, weight in zip(self.squares, weights.values(), strict=True)]
        return {name: [square, square] for name, square in zip(weights, kept, strict=True)}  # the first is a mean, which nothing reads

    def weight(self, at: int) -> Tensor:
        return 1 - BETA2 ** (at + 1) * (1 - self.seen.clamp(min=0))

    def pairs(self, state: State, steps: int) -> list[tuple[Tensor, Tensor]]:
        """What tasks begin with, and what each (tasks, ...) ends with after so many steps: all squares, and `seen`."""
        ends = [square for _, square in state.values()]
        return [*zip(self.squares, ends, strict=True), (self.seen, self.weight(steps - 1).detach().expand(len(ends[0]), 1))]
