"""How the work on a meta-batch is executed: at once, in shares, on several threads, compiled. The algorithms do not know."""

import copy
import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import Function

from innerloop.algorithms.base import Algorithm
from innerloop.compiled import Compiled, compile_outer_gradient
from innerloop.config import InputError, check_count, check_flag
from innerloop.engine import Engine, learn2learn
from innerloop.episode import Episode, Examples

log = logging.getLogger(__name__)
Result = TypeVar("Result")
UNKNOWN = "not looked for yet"


@dataclass(frozen=True)
class Execution:
    """What `engine=...` chooses.

    forward: runs the model under each task's own weights. chunk_size: tasks whose outer gradient is computed at once, all if None; fewer
    need less memory. compile: compile the whole outer gradient; pays for small networks, see docs/performance.md.
    """

    forward: Engine
    chunk_size: int | None
    compile: bool

    def __post_init__(self) -> None:
        check_flag("engine.compile", self.compile)
        if self.chunk_size is not None:
            check_count("engine.chunk_size", self.chunk_size)
        if self.compile and self.forward is learn2learn:
            raise InputError("engine.compile=true cannot compile learn2learn's learners; use engine=vmap or engine=loop")


class OuterGradient(NamedTuple):
    """losses (tasks,), predictions (tasks, n, outputs), and the gradient of the sum of the losses for each parameter (None: unused)."""

    losses: Tensor
    predictions: Tensor
    gradients: list[Tensor | None]


def outer_gradient(algorithm: Algorithm[Any], episodes: Episode) -> OuterGradient:
    """By autograd through the inner loop."""
    losses, predictions = algorithm(episodes)
    gradients = torch.autograd.grad(losses.sum(), list(algorithm.parameters()), allow_unused=True)
    return OuterGradient(losses.detach(), predictions.detach(), list(gradients))


class TaskShares:
    """Runs an algorithm on meta-batches, share by share.

    threads: how many shares run side by side, each operation then on one thread: on a CPU this uses the cores far better than torch's own
    threads inside each operation, which serve where there are fewer tasks than threads.
    """

    def __init__(self, algorithm: Algorithm[Any], execution: Execution, threads: int) -> None:
        if getattr(algorithm, "checkpoint_inner", False) and (execution.compile or execution.forward is learn2learn):
            other = "engine.compile=true" if execution.compile else "engine=learn2learn"
            raise InputError(f"algo.checkpoint_inner=true does not go with {other}; leave one of them out")
        self.algorithm, self.execution, self.threads = algorithm, execution, threads
        self._parameters = list(algorithm.parameters())
        self._obstacle: str | None = UNKNOWN
        self._compiled: dict[Any, Compiled | None] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._copies: list[Algorithm[Any]] = []

    def outer_loss(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        """The mean outer loss, ready for backward, and the query predictions (tasks, n, outputs)."""
        if self._obstacle == UNKNOWN:
            return self._first_outer_loss(episodes)
        size = self._share_size(len(episodes.support.x))
        if size is None:
            losses, predictions = self.algorithm(episodes)
            return losses.mean(), predictions
        known = self._in_shares(episodes, size)
        return WithGradients.apply(known.losses.mean(), len(known.losses), known.gradients, *self._parameters), known.predictions

    def take_gradients(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        """`outer_loss` and its backward: leaves the outer gradient in the parameters' .grad. One device only; quicker for small nets."""
        size = None if self._obstacle == UNKNOWN else self._share_size(len(episodes.support.x))
        for parameter in self._parameters:
            parameter.grad = None
        if size is None:
            loss, predictions = self.outer_loss(episodes)
            loss.backward()
            return loss.detach(), predictions
        known = self._in_shares(episodes, size)
        loss = known.losses.mean()
        for parameter, gradient in zip(
            self._parameters, scaled(known.gradients, 1 / torch.full_like(loss, len(known.losses))), strict=True
        ):
            parameter.grad = gradient
        return loss, known.predictions

    def _share_size(self, tasks: int) -> int | None:
        """Tasks in a share; None where autograd takes the whole meta-batch as it is."""
        size = min(-(-tasks // self._threads(tasks)), self.execution.chunk_size or tasks)
        return None if size == tasks and not self._compiles() else size

    def _in_shares(self, episodes: Episode, size: int) -> OuterGradient:
        parts = self.map(self._outer_gradient, episodes, size)
        gradients = [added(part) for part in zip(*(part.gradients for part in parts), strict=True)]
        return OuterGradient(joined([part.losses for part in parts]), joined([part.predictions for part in parts]), gradients)

    def map(self, function: Callable[[Algorithm[Any], Episode], Result], episodes: Episode, size: int | None = None) -> list[Result]:
        """function(algorithm, share) of each share of at most `size` tasks (one share for each thread if None), in order."""
        tasks = len(episodes.support.x)
        threads = self._threads(tasks)
        size = size or -(-tasks // threads)
        if size >= tasks:
            return [function(self.algorithm, episodes)]
        shares = [Episode(*(Examples(*(v[start : start + size] for v in part)) for part in episodes)) for start in range(0, tasks, size)]
        if threads == 1:
            return [function(self.algorithm, share) for share in shares]
        results: list[Any] = [None] * len(shares)

        def work(thread: int) -> None:
            for index in range(thread, len(shares), threads):
                results[index] = function(self._copies[thread], shares[index])

        for done in [self._workers().submit(work, thread) for thread in range(threads)]:
            done.result()
        return results

    def _threads(self, tasks: int) -> int:
        """How many shares run side by side: one where that would change the result, or gain nothing."""
        parallel = self.execution.forward is not learn2learn and self._obstacle is None and self.threads <= tasks
        device = self._parameters[0].device.type
        return self.threads if parallel and device == "cpu" and not torch.is_autocast_enabled("cpu") else 1

    def _workers(self) -> ThreadPoolExecutor:
        """Each thread has a copy of the algorithm, with the same parameters: functional_call swaps weights inside the module as it runs."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))
            shared = {id(p): p for p in self.algorithm.parameters()}
            self._copies = [copy.deepcopy(self.algorithm, dict(shared)) for _ in range(self.threads)]
        for twin in self._copies:
            twin.train(self.algorithm.training)
        return self._pool

    def _first_outer_loss(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        """Plain, watching for what shares on threads, or a compiled step, would change: random numbers, and state inside the model."""
        before, versions = torch.get_rng_state(), [b._version for b in self.algorithm.buffers()]
        losses, predictions = self.algorithm(episodes)
        self._obstacle = None
        if not torch.equal(before, torch.get_rng_state()):
            self._obstacle = "the model draws random numbers"
        elif versions != [b._version for b in self.algorithm.buffers()]:
            self._obstacle = "the model changes its own state as it runs"
        if self._obstacle and (self.execution.compile or self.threads > 1):
            log.info(f"{self._obstacle}: one share at a time, not compiled")
        return losses.mean(), predictions

    def _compiles(self) -> bool:
        return self.execution.compile and self._obstacle is None

    def _outer_gradient(self, algorithm: Algorithm[Any], share: Episode) -> OuterGradient:
        if not self._compiles():
            return outer_gradient(algorithm, share)
        shapes = tuple((v.shape, v.stride(), v.dtype, v.device) for part in share for v in part)
        if shapes not in self._compiled:
            self._compiled[shapes] = compile_outer_gradient(self.algorithm, share)
        compiled = self._compiled[shapes]
        return outer_gradient(algorithm, share) if compiled is None else OuterGradient(*compiled(share))


class WithGradients(Function):
    """A mean loss whose summed gradients are known already: backward hands them on, so that any trainer and strategy works as usual."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, tasks: int, gradients: list[Tensor | None], *parameters: nn.Parameter) -> Tensor:
        ctx.tasks, ctx.gradients = tasks, gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> Any:
        return None, None, None, *scaled(ctx.gradients, scale / ctx.tasks)


def scaled(gradients: list[Tensor | None], factor: Tensor) -> list[Tensor | None]:
    """All at once: for a small network a multiplication takes as long as its Python."""
    products = iter(torch._foreach_mul([gradient for gradient in gradients if gradient is not None], factor))
    return [None if gradient is None else next(products) for gradient in gradients]


def joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def added(parts: tuple[Tensor | None, ...]) -> Tensor | None:
    """The sum, in order; None where the parts are (a parameter that the loss does not use)."""
    return None if parts[0] is None else functools.reduce(torch.add, parts)  # type: ignore[arg-type]
