"""Run by test_two_processes.py in each of two processes: the averaged outer gradients of all algorithms beside those of one process."""

import json
import sys
import warnings

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from innerloop.algorithms.imaml import IMAML
from innerloop.algorithms.imaml_released import IMAMLReleased
from innerloop.algorithms.joint import Joint
from innerloop.algorithms.protonet import ProtoNet
from innerloop.algorithms.reptile import Reptile
from innerloop.engine import forward as engines
from innerloop.episode import Episode, Examples
from innerloop.objective import CLASSIFICATION
from innerloop.training.shares import Execution, TaskShares
from tests.algorithms.test_gradients import CASES, INNER_LR, KEPT, build
from tests.algorithms.test_zoo import ZOO, reads_examples, transductive_head
from tests.algorithms.test_zoo import build as build_zoo
from tests.conftest import classification_episodes, make_model

TASKS = 4
OTHERS = ["protonet", "joint"]
FEW = ["maml 3 steps", "reptile adam", "protonet"]  # in float32
READERS = {
    "in_context_examples": reads_examples,
    "transductive": lambda: transductive_head("tim"),
    "reptile kept": lambda: Reptile(make_model("mlp")[0], CLASSIFICATION, engines.vmap, INNER_LR, **KEPT),
    "imaml": lambda: IMAML(make_model("mlp")[0], CLASSIFICATION, engines.vmap, INNER_LR, 5, 1.0, 3),
    "imaml_released": lambda: IMAMLReleased(make_model("mlp")[0], CLASSIFICATION, engines.vmap, INNER_LR, 5, 1.0, 3),
}


class OuterLoss(nn.Module):
    """The outer loss as a module's forward, which is what DistributedDataParallel synchronises."""

    def __init__(self, algorithm, chunk_size):
        super().__init__()
        self.algorithm = algorithm
        self.shares = TaskShares(algorithm, Execution(algorithm.engine, chunk_size, False), threads=1)

    def forward(self, episodes):
        return self.shares.outer_loss(episodes)[0]


def algorithm_of(case, kind, engine):
    if case in ZOO:
        return build_zoo(case, kind, engine)[0]
    if case in READERS:
        return READERS[case]()
    if case not in OTHERS:
        return build(case, kind, engine)[0]
    model, _ = make_model(kind)
    forward = getattr(engines, engine)
    return ProtoNet(model, CLASSIFICATION, forward, 3, 3) if case == "protonet" else Joint(model, CLASSIFICATION, forward, 3, INNER_LR)


def gradient(module, algorithm, episodes):
    algorithm.zero_grad()
    module(episodes).backward()
    return [parameter.grad.clone() for parameter in algorithm.parameters() if parameter.requires_grad]


def worst(kind, case, engine, chunk_size, rank, sharded=False):
    """Largest difference between the two gradients, relative to the largest entry."""
    algorithm = algorithm_of(case, kind, engine)
    episodes = classification_episodes(TASKS, make_model(kind)[1])
    own = Episode(*(Examples(x[rank::2], y[rank::2]) for x, y in episodes))
    module = OuterLoss(algorithm, chunk_size)
    single = gradient(module, algorithm, episodes)
    if sharded:  # as MetaLearner.configure_model does
        fully_shard(algorithm, mesh=init_device_mesh("cpu", (1, 2), mesh_dim_names=("copies", "parts")))
        module.shares.take_whole()
        parallel = [part.full_tensor() for part in gradient(module, algorithm, own)]
    else:
        parallel = gradient(DistributedDataParallel(module), algorithm, own)
    return max((a - b).abs().max() for a, b in zip(parallel, single, strict=True)).item() / max(g.abs().max() for g in single).item()


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank, found = distributed.get_rank(), {}
    for dtype in (torch.float64, torch.float32):
        torch.set_default_dtype(dtype)
        for case in [*CASES, *OTHERS] if dtype is torch.float64 else FEW:
            for kind, engine, chunk_size in (("mlp", "vmap", None), ("conv4_max", "loop", None), ("mlp", "loop", 1)):
                found[f"{case}, {kind}, {engine}, {dtype}"] = worst(kind, case, engine, chunk_size, rank)
            found[f"{case}, fsdp, {dtype}"] = worst("mlp", case, "vmap", None, rank, sharded=True)
    torch.set_default_dtype(torch.float64)
    for case in [*ZOO, *READERS]:
        kind = "conv4_stride" if case == "mamlpp, norms" else "mlp"
        found[f"{case}, {kind}, float64"] = worst(kind, case, "vmap", None, rank)
    if rank == 0:
        print("FOUND", json.dumps(found))
    distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
