"""What an outer step costs, from shapes alone: nothing is computed, and no memory taken."""

import copy
import weakref
from typing import Any, NamedTuple

import torch
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from innerloop.config import InputError
from innerloop.engine.forward import learn2learn
from innerloop.episode import Episode, Examples
from innerloop.runs.build import Run
from innerloop.training.lightning_settings import on_gpu
from innerloop.training.shares import Execution, TaskShares

DTYPES = {"64": torch.float64, "bf16": torch.bfloat16, "16": torch.float16}


class Cost(NamedTuple):
    """Of one outer step: bytes of all weights, of what the optimizer keeps, and of all tensors at the highest; operations of matrix
    products and convolutions, a multiplication and an addition being two."""

    weights: int
    optimizer: int
    peak: int
    flops: int


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that exist, and the most there were; and operations, as Cost has them.

    (torch's FlopCounterMode keeps tensors that would be gone without it.)
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = self.flops = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.count(result)
        if formula := flop_registry.get(function._overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result

    def count(self, tensors: Any) -> None:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self._sizes:
                storage = tensor.untyped_storage()
                self._sizes[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self._forget, storage._cdata)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)


def estimate(run: Run) -> Cost:
    """Of a run as it is configured, its precision included, on one device. Raises InputError for engine=learn2learn, whose clones cannot be
    followed, and where nothing is trained."""
    if not run.learner.algorithm.learns or not run.learner.algorithm.trained():
        raise InputError("estimate=true is of an outer step, and this algorithm has none; choose one that learns")
    if run.learner.shares.execution.forward is learn2learn:
        raise InputError("estimate=true cannot follow learn2learn's clones; use engine=vmap or engine=loop")
    tasks = run.cfg.meta_batch_size
    precision, _, how = str(run.cfg.trainer.precision).partition("-")
    threads = 1 if how == "mixed" or on_gpu(run.cfg) else torch.get_num_threads()
    at_once = min(tasks, (run.learner.shares.execution.chunk_size or tasks) * threads)
    taken = min(tasks, 2 * at_once)  # the third share takes no more than the second
    if run.data.tasks.objective.look:
        raise InputError("estimate=true follows no rollouts, which it would have to take; run one outer step, outer_steps=1 val_every=1")
    episodes = run.data.train_episodes.meta_batch(range(taken))
    run.learner.algorithm.told(episodes)
    mode = FakeTensorMode()
    dtype = DTYPES.get(precision, torch.float32)
    if how != "mixed":
        run.learner.algorithm.to(dtype)  # as Lightning would; fake weights do not change their type
    with FakeCopyMode(mode):
        algorithm = copy.deepcopy(run.learner.algorithm).train()
    algorithm.varied = False  # tensors without numbers say nothing of their labels
    with mode, LiveBytes() as live:
        episodes = Episode(*(Examples(*(in_type(mode.from_tensor(t), algorithm) for t in part)) for part in episodes))
        live.count(list(algorithm.parameters()))
        weights = live.now
        optimizer = run.learner.optimizer(params=algorithm.trained())
        shares = TaskShares(algorithm, Execution(run.learner.shares.execution.forward, at_once, False), threads=1)
        shares.obstacle = None  # it is no use to watch tensors that hold no numbers
        with torch.autocast("cpu", dtype, enabled=how == "mixed"):
            loss, predictions = shares.outer_loss(episodes)
        loss.backward()
        del loss, predictions
        before = live.now
        optimizer.step()
        kept = live.now - before
    return Cost(weights, kept, live.most, live.flops * tasks // taken)


def in_type(tensor: Tensor, algorithm: nn.Module) -> Tensor:
    """Inputs come in the precision of the weights, tokens and labels as they are."""
    return tensor.to(next(algorithm.parameters()).dtype) if tensor.is_floating_point() else tensor


def cost_table(cost: Cost) -> Table:
    """To be read."""
    table = Table("", "", title="an outer step, from its shapes", title_justify="left", show_header=False)
    for name, size in (("weights", cost.weights), ("optimizer state", cost.optimizer), ("peak of all tensors", cost.peak)):
        table.add_row(name, f"{size / 1e6:,.1f} MB")
    table.add_row("matrix products and convolutions", f"{cost.flops / 1e9:,.2f} GFLOP")
    return table
