"""How the work on a meta-batch is executed: at once, in shares, on several threads, compiled. The algorithms do not know."""

import contextlib
import copy
import logging
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from innerloop.algorithms.base import Algorithm
from innerloop.config import InputError, check_count, check_flag
from innerloop.engine.forward import Engine, learn2learn
from innerloop.episode import Episode, Examples
from innerloop.training.captured import capture_outer_gradient
from innerloop.training.compiled import compile_outer_gradient
from innerloop.training.outer_gradient import Compiled, OuterGradient, WithGradients, agrees, combined, outer_gradient, scaled, summed

log = logging.getLogger(__name__)
Result = TypeVar("Result")
Item = TypeVar("Item")
UNKNOWN = "not looked for yet"


@dataclass(frozen=True)
class Execution:
    """What `engine=...` chooses.

    forward: runs the model under each task's own weights. chunk_size: tasks whose outer gradient a thread computes at once, all of
    its share if None; fewer need less memory. compile: compile the whole outer gradient, see docs/performance.md;
    None, not yet decided, is as false.
    """

    forward: Engine
    chunk_size: int | None
    compile: bool | None

    def __post_init__(self) -> None:
        if self.compile is not None:
            check_flag("engine.compile", self.compile)
        if self.chunk_size is not None:
            check_count("engine.chunk_size", self.chunk_size)
        if self.compile and self.forward is learn2learn:
            raise InputError("engine.compile=true cannot compile learn2learn's learners; use engine=vmap or engine=loop")


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
        self._parameters = algorithm.trained()
        self.obstacle: str | None = UNKNOWN
        self.whole = False
        self._compiled: dict[Any, Compiled | None] = {}
        self._places: list[int] = []
        self._pool: ThreadPoolExecutor | None = None
        self._copies: list[Algorithm[Any]] = []

    def __getstate__(self) -> dict[str, Any]:
        """Without threads, their copies and what was compiled, which a copy of a learner makes anew."""
        return {**vars(self), "_pool": None, "_copies": [], "_compiled": {}}

    def outer_loss(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        """The mean outer loss, ready for backward, and the query predictions (tasks, n, outputs)."""
        self.algorithm.told(episodes)
        with self._watched():
            size = self._share_size(len(episodes.support.x))
            if size is None:
                losses, predictions = self.algorithm(episodes)
                return losses.mean(), predictions
            known = self._in_shares(episodes, size)
            return WithGradients.apply(known.losses.mean(), len(known.losses), known.gradients, *self._parameters), known.predictions

    def take_gradients(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        """`outer_loss` and its backward: leaves the outer gradient in the parameters' .grad. One device only; quicker for small nets."""
        for parameter in self._parameters:
            parameter.grad = None
        size = self._share_size(len(episodes.support.x))
        if size is None:
            loss, predictions = self.outer_loss(episodes)
            loss.backward()
            return loss.detach(), predictions.detach()
        self.algorithm.told(episodes)
        with self._watched():
            known = self._in_shares(episodes, size)
        loss = known.losses.mean()
        for parameter, gradient in zip(
            self._parameters, scaled(known.gradients, 1 / torch.full_like(loss, len(known.losses))), strict=True
        ):
            parameter.grad = gradient
            if gradient is not None and gradient.stride() != parameter.stride():  # fused optimizers take it for granted, as autograd does
                parameter.grad = torch.empty_like(parameter).copy_(gradient)
        return loss, known.predictions

    def take_whole(self) -> None:
        """From now on autograd takes each meta-batch as it is, through forward. Raises InputError where `engine` asks for more."""
        for name, value in (("chunk_size", self.execution.chunk_size), ("compile", self.execution.compile or None)):
            if value is not None:
                raise InputError(
                    f"engine.{name}={value} does not go with trainer=fsdp, which shares the weights out; leave one of them out"
                )
        self.whole = True

    def _share_size(self, tasks: int) -> int | None:
        """Tasks in a share; None where autograd takes the whole meta-batch as it is."""
        size = min(-(-tasks // self._threads(tasks)), self.execution.chunk_size or tasks)
        return None if size == tasks and not self._compiles() else size

    def _in_shares(self, episodes: Episode, size: int) -> OuterGradient:
        device = episodes.support.x.device.type
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) is torch.float16:
            given = "engine.compile=true" if self.execution.chunk_size is None else f"engine.chunk_size={self.execution.chunk_size}"
            raise InputError(f"{given} does not go with trainer.precision=16-mixed, which scales the loss; use bf16-mixed")
        shares = cut(episodes, size)
        if self._compiles():
            for share in shares:  # here, since tracing changes torch for all threads
                self._compile(share)
        threads, count = self._threads(len(shares)), len(shares)
        of_threads = [shares[count * thread // threads : count * (thread + 1) // threads] for thread in range(threads)]
        return combined(self._side_by_side(self._sum, of_threads))

    def _sum(self, algorithm: Algorithm[Any], shares: list[Episode]) -> OuterGradient:
        """Of one share after the other: their gradients are not all there at once."""
        parts: list[OuterGradient] = []
        gradients: list[Tensor | None] = []
        for share in shares:
            part = self._outer_gradient(algorithm, share)
            gradients = [summed(pair) for pair in zip(gradients, part.gradients, strict=True)] if parts else part.gradients
            parts.append(part._replace(gradients=[]))
            del part  # or its gradients would be there beside the next share's
        return combined(parts)._replace(gradients=gradients)

    def map(self, function: Callable[[Algorithm[Any], Episode], Result], episodes: Episode) -> list[Result]:
        """function(algorithm, share) of a share of the tasks for each thread, in order."""
        tasks = len(episodes.support.x)
        self.algorithm.told(episodes)
        return self._side_by_side(function, cut(episodes, -(-tasks // self._threads(tasks))))

    def _side_by_side(self, function: Callable[[Algorithm[Any], Item], Result], items: list[Item]) -> list[Result]:
        """One for each thread."""
        if len(items) == 1:
            return [function(self.algorithm, items[0])]
        workers = self._workers()
        at_work = [workers.submit(function, twin, item) for twin, item in zip(self._copies, items, strict=False)]
        return [done.result() for done in at_work]

    def _threads(self, tasks: int) -> int:
        """How many threads share so many tasks (or shares): one where more would change the result, or gain nothing."""
        parallel = self.execution.forward is not learn2learn and self.obstacle is None and self.threads <= tasks and not self.whole
        on_cpu = all(parameter.device.type == "cpu" for parameter in self._parameters[:1])
        return self.threads if parallel and on_cpu and not torch.is_autocast_enabled("cpu") else 1

    def _workers(self) -> ThreadPoolExecutor:
        """Each thread has a copy of the algorithm, with the same parameters: functional_call swaps weights inside the module as it runs."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))
            shared = {id(p): p for p in self.algorithm.parameters()}  # not copied
            self._copies = [copy.deepcopy(self.algorithm, dict(shared)) for _ in range(self.threads)]
        for twin in self._copies:
            twin.ways, twin.train_ways = self.algorithm.ways, self.algorithm.train_ways
            for module, original in zip(twin.modules(), self.algorithm.modules(), strict=True):
                module.training = original.training
        return self._pool

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """The first meta-batch is taken on one thread and not compiled, and watched for what both would change: random numbers drawn, and
        state changed, inside the model."""
        if self.obstacle != UNKNOWN:
            yield
            return
        drawn, buffers = self._random_states(), list(self.algorithm.buffers())
        versions = [buffer._version for buffer in buffers]
        yield
        self.obstacle = None
        after = list(self.algorithm.buffers())
        if drawn != self._random_states():
            self.obstacle = "the model draws random numbers"
        elif versions != [b._version for b in after] or any(a is not b for a, b in zip(buffers, after, strict=True)):
            self.obstacle = "the model changes its own state as it runs"
        if self.obstacle and (self.execution.compile or self.threads > 1):
            log.info(f"{self.obstacle}: one share at a time, not compiled")

    def _random_states(self) -> list[Any]:
        """Of every generator that a model may draw from."""
        device = self._parameters[0].device
        torchs = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
        _, keys, *rest = np.random.get_state()
        return [*(state.numpy().tobytes() for state in torchs), random.getstate(), np.asarray(keys).tobytes(), rest]

    def _compiles(self) -> bool:
        return bool(self.execution.compile) and self.obstacle is None

    def _outer_gradient(self, algorithm: Algorithm[Any], share: Episode) -> OuterGradient:
        compiled = self._compiled.get(shapes_of(share)) if self._compiles() else None
        return compiled(share) if compiled else outer_gradient(algorithm, share)

    def _compile(self, share: Episode) -> None:
        """Where that was not done for these shapes or, of a CUDA graph, for where the weights lie: they may leave the GPU and be back."""
        on_gpu = share.support.x.is_cuda
        places = [v.data_ptr() for v in (*self.algorithm.parameters(), *self.algorithm.buffers())] if on_gpu else []
        if places != self._places:
            self._compiled.clear()
            self._places = places
        if shapes_of(share) in self._compiled:
            return
        compiled = (capture_outer_gradient if on_gpu else compile_outer_gradient)(self.algorithm, share)
        if compiled and not agrees(compiled(share), outer_gradient(self.algorithm, share)):
            log.info("engine.compile: running uncompiled, since compiled the gradients are others: the model may hold a weight twice")
            compiled = None
        self._compiled[shapes_of(share)] = compiled

    def forget_compiled(self) -> None:
        """A graph holds the memory of an outer gradient."""
        self._compiled.clear()


def cut(episodes: Episode, size: int) -> list[Episode]:
    """Shares of at most `size` tasks, in order."""
    tasks = len(episodes.support.x)
    if size >= tasks:
        return [episodes]
    return [Episode(*(Examples(*(v[start : start + size] for v in part)) for part in episodes)) for start in range(0, tasks, size)]


def shapes_of(episodes: Episode) -> Any:
    """What a compiled function was compiled for."""
    return tuple((v.shape, v.stride(), v.dtype, v.device) for part in episodes for v in part)
