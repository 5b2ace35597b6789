"""Reptile."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Patterns
from innerloop.algorithms.inner_optimizer import FIXED, Adam
from innerloop.algorithms.maml import MAML
from innerloop.config import check_count
from innerloop.engine.forward import Engine, Weights
from innerloop.episode import Episode, Examples
from innerloop.objective import Objective


class Reptile(MAML):
    """Reptile (Nichol, Achiam, Schulman 2018, arXiv 1803.02999): move the initialisation towards where plain training on a task ends.

    slow <- slow + outer_lr * mean(fast - slow), fast being slow after `adaptation_steps` minibatch steps on the task. Training needs no
    query set, so these steps use all examples of a training episode; evaluation adapts on the support set alone, as everywhere.
    Written as the outer loss 1/2 |slow - constant(fast)|^2, whose gradient is slow - fast: under SGD that *is* the update above (the
    paper anneals its outer_lr from 1 to 0), and other outer optimizers and several devices work unchanged. meta_batch_size=1 is serial.

    inner_optimizer: rmsprop is the authors' Adam with beta1 = 0 (here its second moments start anew in each episode).
    inner_batch_size: support examples in one inner step, all of them if None; the examples are shuffled anew for each pass over them.
    adapted: pattern of the weights that the inner loop changes, which are those that the outer loop moves; the others are frozen.
    eval_inner_batch_size: the same outside training, where support sets are often smaller.
    """

    of_each_row = True
    inner_optimizers = FIXED

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, adaptation_steps: int,
        inner_optimizer: str, inner_batch_size: int | None, eval_inner_batch_size: int | None, adapted: Patterns = "*",
    ) -> None:  # fmt: skip
        super().__init__(
            model, objective, engine, inner_lr, adaptation_steps, first_order=True, adapted=adapted, meta_learned=adapted,
            inner_optimizer=inner_optimizer,
        )  # fmt: skip
        for name, size in (("inner_batch_size", inner_batch_size), ("eval_inner_batch_size", eval_inner_batch_size)):
            if size is not None:
                check_count(f"algo.{name}", size)
        if isinstance(self.inner_optimizer, Adam):
            self.inner_optimizer = TorchAdam(self.inner_optimizer.beta1)
        self.inner_batch_size, self.eval_inner_batch_size = inner_batch_size, eval_inner_batch_size

    @torch.no_grad()
    def trajectory(self, support: Examples, steps: int) -> Iterator[Weights]:
        yield from super().trajectory(support, steps)

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
        fast = self.adapt(whole)
        slow = self.slow_weights()
        distances = (
            torch.stack([(weight - fast[name]).square().reshape(len(support_x), -1).sum(1) for name, weight in slow.items()]).sum(0) / 2
        )
        with torch.no_grad():
            predictions = self.predict(fast, query_x)
        return distances, predictions


class TorchAdam(Adam):
    """As torch.optim and the authors have it: no outer gradient runs through this root."""

    def direction(self, gradient: Tensor, mean: Tensor, square: Tensor, at: int) -> Tensor:
        return mean / (square.sqrt() + self.epsilon)
