"""The contenders of benchmark.py, each run in a process of its own: python scripts/benchmark_contenders.py WORKLOAD CONTENDER FOLDER DEVICE

It first writes its outer gradient in float64 to FOLDER, then answers each line on standard input with the seconds of one block of steps.
All see the same weights and episodes; what is timed is the whole outer step, outer Adam included.
"""

import contextlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from innerloop.algorithms.maml import MAML
from innerloop.algorithms.reptile import Reptile
from innerloop.engine import forward as engines
from innerloop.episode import Episode, Examples
from innerloop.models.conv4 import Conv4
from innerloop.models.mlp import MLP
from innerloop.objective import CLASSIFICATION, REGRESSION
from innerloop.training.shares import Execution, TaskShares

ROOT = Path(__file__).parents[1]
REPTILE = {"inner_optimizer": "rmsprop", "inner_batch_size": 10, "eval_inner_batch_size": None}


class Workload(NamedTuple):
    """tasks in an outer step; inner steps and step size; ways, shots and queries of an episode (ways None: sinusoids)."""

    about: str
    tasks: int
    steps: int
    inner_lr: float
    ways: int | None
    shots: int
    queries: int
    first_order: bool = False
    reptile: bool = False


WORKLOADS = {
    "W1": Workload("sinusoid, MLP 40-40, 1 step, 2nd order", 25, 1, 0.01, None, 10, 10),
    "W1x5": Workload("sinusoid, MLP 40-40, 5 steps, 2nd order", 25, 5, 0.01, None, 10, 10),
    "W1fo": Workload("sinusoid, MLP 40-40, 1 step, 1st order", 25, 1, 0.01, None, 10, 10, first_order=True),
    "W2": Workload("conv4-64 max-pool, 5-way 1-shot, 5 queries, 1 step, 2nd order", 8, 1, 0.4, 5, 1, 5),
    "W2fo": Workload("conv4-64 max-pool, 5-way 1-shot, 5 queries, 1 step, 1st order", 8, 1, 0.4, 5, 1, 5, first_order=True),
    "W3": Workload("conv4-64 max-pool, 20-way 1-shot, 5 queries, 5 steps, 2nd order", 4, 5, 0.1, 20, 1, 5),
    "W4": Workload("Reptile, conv4-64 max-pool, 5-way, 5 inner Adam steps of batch 10", 8, 5, 0.001, 5, 5, 5, reptile=True),
}


def model_of(workload: Workload) -> nn.Module:
    """innerloop's network, at the weights that all contenders start from, whatever the device."""
    torch.manual_seed(0)
    with torch.device("cpu"):  # a GPU draws other numbers
        model = MLP((1,), 1, [40, 40], "relu") if workload.ways is None else Conv4((1, 28, 28), workload.ways, 64, "batch", "max")
    return model.to(torch.get_default_device())


def plain_model_of(workload: Workload) -> nn.Module:
    """The same network as anyone would write it, for the other libraries."""
    ours = model_of(workload)
    if workload.ways is None:
        return ours

    plain = PlainConv4(workload.ways)
    plain.load_state_dict(ours.state_dict())
    return plain


class PlainConv4(nn.Module):
    def __init__(self, ways: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(self.block(inputs) for inputs in (1, 64, 64, 64)), nn.Flatten())
        self.head = nn.Linear(64, ways)

    @staticmethod
    def block(inputs: int) -> nn.Module:
        norm = nn.BatchNorm2d(64, track_running_stats=False)
        return nn.Sequential(nn.Conv2d(inputs, 64, 3, padding=1, bias=False), norm, nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def episodes_of(workload: Workload, seed: int) -> Episode:
    """Random inputs of the workload's shapes."""
    generator = torch.Generator().manual_seed(seed)

    def examples(per_class: int) -> Examples:
        if workload.ways is None:
            x = 10 * torch.rand(workload.tasks, per_class, 1, generator=generator) - 5
            return Examples(x, torch.sin(x + torch.arange(workload.tasks).view(-1, 1, 1)))
        x = torch.rand(workload.tasks, workload.ways * per_class, 1, 28, 28, generator=generator)
        return Examples(x, torch.arange(workload.ways).repeat(per_class).expand(workload.tasks, -1).contiguous())

    return Episode(examples(workload.shots), examples(workload.queries))


def moved(episodes: Episode, device: str) -> Episode:
    return Episode(*(Examples(x.to(device), y.to(device)) for x, y in episodes))


def task_loss(workload: Workload, predictions: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(predictions, y) if workload.ways is None else functional.cross_entropy(predictions, y)


def tasks_of(episodes: Episode) -> Any:
    return zip(*episodes.support, *episodes.query, strict=True)


def learn2learn(workload: Workload) -> tuple[nn.Module, Callable[[Episode], None]]:
    """learn2learn's loop as its examples write it."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        import learn2learn as l2l
    if workload.reptile:
        return reptile_with(workload, l2l.clone_module, l2l.detach_module)
    maml = l2l.algorithms.MAML(plain_model_of(workload), lr=workload.inner_lr, first_order=workload.first_order)

    def backward(episodes: Episode) -> None:
        for support_x, support_y, query_x, query_y in tasks_of(episodes):
            learner = maml.clone()
            for _ in range(workload.steps):
                learner.adapt(task_loss(workload, learner(support_x), support_y))
            (task_loss(workload, learner(query_x), query_y) / workload.tasks).backward()

    return maml.module, backward


def reptile_with(workload: Workload, clone: Any, detach: Any) -> tuple[nn.Module, Callable[[Episode], None]]:
    """Reptile on clones with torch.optim.Adam, on the minibatches that innerloop draws."""
    model = plain_model_of(workload)
    schedule = Reptile(model_of(workload), CLASSIFICATION, engines.loop, workload.inner_lr, workload.steps, **REPTILE)

    def backward(episodes: Episode) -> None:
        pooled = Examples(torch.cat([episodes.support.x, episodes.query.x], 1), torch.cat([episodes.support.y, episodes.query.y], 1))
        batches = list(schedule.batches(pooled, workload.steps))
        for task in range(workload.tasks):
            learner = clone(model)
            detach(learner, keep_requires_grad=True)
            optimizer = torch.optim.Adam(learner.parameters(), lr=workload.inner_lr, betas=(0.0, 0.999))
            for batch in batches:
                optimizer.zero_grad()
                task_loss(workload, learner(batch.x[task]), batch.y[task]).backward()
                optimizer.step()
            for slow, fast in zip(model.parameters(), learner.parameters(), strict=True):
                change = (slow.detach() - fast.detach()) / workload.tasks
                slow.grad = change if slow.grad is None else slow.grad + change

    return model, backward


def higher(workload: Workload) -> tuple[nn.Module, Callable[[Episode], None]]:
    import higher as library

    model = plain_model_of(workload)
    inner = torch.optim.SGD(model.parameters(), lr=workload.inner_lr)

    def backward(episodes: Episode) -> None:
        for support_x, support_y, query_x, query_y in tasks_of(episodes):
            track = not workload.first_order
            with library.innerloop_ctx(model, inner, copy_initial_weights=False, track_higher_grads=track) as (learner, steps):
                for _ in range(workload.steps):
                    steps.step(task_loss(workload, learner(support_x), support_y))
                loss = task_loss(workload, learner(query_x), query_y) / workload.tasks
                if track:
                    loss.backward()
                else:  # the gradient at the fast weights is the first-order gradient
                    for slow, gradient in zip(model.parameters(), torch.autograd.grad(loss, learner.parameters()), strict=True):
                        slow.grad = gradient if slow.grad is None else slow.grad + gradient

    return model, backward


def torchopt(workload: Workload) -> tuple[nn.Module, Callable[[Episode], None]]:
    import torchopt as library

    model = plain_model_of(workload)
    inner = library.MetaSGD(model, lr=workload.inner_lr)

    def backward(episodes: Episode) -> None:
        start, inner_start = library.extract_state_dict(model, by="reference"), library.extract_state_dict(inner, by="reference")
        for support_x, support_y, query_x, query_y in tasks_of(episodes):
            for _ in range(workload.steps):
                inner.step(task_loss(workload, model(support_x), support_y))
            (task_loss(workload, model(query_x), query_y) / workload.tasks).backward()
            library.recover_state_dict(model, start)
            library.recover_state_dict(inner, inner_start)

    return model, backward


def ours(
    workload: Workload, engine: str, threads: int = 1, compile: bool = False, chunk_size: int | None = None
) -> tuple[nn.Module, Callable[[Episode], None]]:
    """innerloop's engines, without Lightning."""
    forward, objective = getattr(engines, engine), REGRESSION if workload.ways is None else CLASSIFICATION
    if workload.reptile:
        algorithm: Any = Reptile(model_of(workload), objective, forward, workload.inner_lr, workload.steps, **REPTILE)
    else:
        algorithm = MAML(model_of(workload), objective, forward, workload.inner_lr, workload.steps, workload.first_order)
    shares = TaskShares(algorithm, Execution(forward, chunk_size, compile), threads)
    return algorithm.model, lambda episodes: shares.take_gradients(episodes) and None


class JaxMLP:
    """The strongest peer on small networks: the whole step, outer Adam included, as one jitted, vmapped JAX function."""

    def __init__(self, workload: Workload, double: bool) -> None:
        import jax
        from jax import numpy as jnp

        jax.config.update("jax_enable_x64", double)
        names = [name for name, _ in model_of(workload).named_parameters()]
        weights = [jnp.asarray(p.detach().numpy(), jnp.float64 if double else jnp.float32) for p in model_of(workload).parameters()]

        def loss(weights: Any, x: Any, y: Any) -> Any:
            for i in range(0, len(names) - 2, 2):
                x = jax.nn.relu(x @ weights[i].T + weights[i + 1])
            return ((x @ weights[-2].T + weights[-1] - y) ** 2).mean()

        def outer(weights: Any, sx: Any, sy: Any, qx: Any, qy: Any) -> Any:
            def task(sx: Any, sy: Any, qx: Any, qy: Any) -> Any:
                fast = weights
                for _ in range(workload.steps):
                    gradients = jax.grad(loss)(fast, sx, sy)
                    if workload.first_order:
                        gradients = jax.lax.stop_gradient(gradients)
                    fast = [w - workload.inner_lr * g for w, g in zip(fast, gradients, strict=True)]
                return loss(fast, qx, qy)

            return jax.vmap(task)(sx, sy, qx, qy).mean()

        def step(state: Any, *episodes: Any) -> Any:
            count, weights, first, second = state
            gradients = jax.grad(outer)(weights, *episodes)
            first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
            second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
            count = count + 1
            scaled = [m / (1 - 0.9**count) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8) for m, v in zip(first, second, strict=True)]
            return count, [w - 0.001 * s for w, s in zip(weights, scaled, strict=True)], first, second

        self.gradient, self._step = jax.jit(jax.grad(outer)), jax.jit(step)
        self.weights, self._wait = weights, jax.block_until_ready
        self._state = (jnp.zeros(()), weights, [0 * w for w in weights], [0 * w for w in weights])

    def run(self, episodes: tuple[np.ndarray, ...]) -> None:
        self._state = self._wait(self._step(self._state, *episodes))


# name: how it is built, torch's threads within an operation, fused outer Adam
CONTENDERS: dict[str, tuple[Any, int, bool]] = {
    "learn2learn": (learn2learn, 1, False),
    "learn2learn, 2 threads": (learn2learn, 2, False),
    "higher": (higher, 1, False),
    "TorchOpt": (torchopt, 1, False),
    "loop": (lambda w: ours(w, "loop"), 1, False),
    "vmap": (lambda w: ours(w, "vmap"), 1, False),
    "vmap, compiled": (lambda w: ours(w, "vmap", compile=True), 1, False),
    "vmap, compiled, fused Adam": (lambda w: ours(w, "vmap", compile=True), 1, True),
    "loop, 2 threads in each operation": (lambda w: ours(w, "loop"), 2, False),
    "loop, one task at a time": (lambda w: ours(w, "loop", chunk_size=1), 1, False),
    "loop, 2 threads over tasks": (lambda w: ours(w, "loop", threads=2), 2, False),
}
LIBRARIES = {"higher": "higher", "TorchOpt": "torchopt", "JAX": "jax"}


def contenders(name: str, peers: bool, device: str) -> list[str]:
    """Who runs a workload: learn2learn first. `peers`: the other libraries too, where they are installed."""
    workload = WORKLOADS[name]
    small = workload.ways is None
    found = [peer for peer in LIBRARIES if peers and not workload.reptile and importlib.util.find_spec(LIBRARIES[peer])]
    if not small and "JAX" in found:
        found.remove("JAX")  # no convolutions in its network below
    if workload.first_order and "TorchOpt" in found:
        found.remove("TorchOpt")  # its MetaSGD differentiates through the step
    if small or device != "cpu":
        return ["learn2learn", *found, "loop", "vmap", "vmap, compiled", "vmap, compiled, fused Adam"]
    ours_too = ["loop", "loop, one task at a time", "vmap", "loop, 2 threads in each operation", "loop, 2 threads over tasks"]
    return ["learn2learn, 2 threads", "learn2learn", *found, *ours_too]


def float64_gradient(model: nn.Module, backward: Callable[[Episode], None], workload: Workload, device: str) -> list[np.ndarray]:
    """At the starting weights. Twice, because innerloop's first outer step is always plain."""
    double = (Examples(x.double(), y.double() if workload.ways is None else y) for x, y in episodes_of(workload, 0))
    episodes = moved(Episode(*double), device)
    model.double()
    for _ in range(2):
        model.zero_grad()
        backward(episodes)
    gradients = [p.grad.cpu().numpy().copy() for p in model.parameters()]
    model.float().zero_grad()
    return gradients


def flops(workload: Workload) -> int:
    """Of the convolutions and matrix products of one outer step, as learn2learn's loop takes them."""
    from torch.utils.flop_counter import FlopCounterMode

    _, backward = learn2learn(workload)
    with FlopCounterMode(display=False) as counter:
        backward(episodes_of(workload, 0))
    return counter.get_total_flops()


def peak_mb(device: str) -> int:
    """Megabytes at most since the last reset: of the GPU, else of this process, the libraries among them."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() // 2**20
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")) // 1024


def answer(steps: Callable[[int], None], about: dict[str, Any], device: str) -> None:
    """Warms up, then one block of steps for each line read."""

    def run(count: int) -> None:
        steps(count)
        if device != "cpu":
            torch.cuda.synchronize()

    run(2)
    started = time.perf_counter()
    run(2)
    block = max(1, int(0.7 / ((time.perf_counter() - started) / 2)))
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, so that the peak is that of the timed steps
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    print(json.dumps(about | {"block": block}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        run(block)
        seconds = (time.perf_counter() - started) / block
        print(json.dumps({"seconds": seconds, "peak_mb": peak_mb(device)}), flush=True)


def main(name: str, contender: str, folder: Path, device: str) -> None:
    workload = WORKLOADS[name]
    batches = [episodes_of(workload, seed) for seed in range(8)]
    if contender == "JAX":
        double = JaxMLP(workload, double=True)
        arrays = [v.double().numpy() for part in batches[0] for v in part]
        np.savez(folder / f"{contender}.npz", *(np.asarray(g) for g in double.gradient(double.weights, *arrays)))
        single = JaxMLP(workload, double=False)
        inputs = [tuple(v.numpy() for part in batch for v in part) for batch in batches]
        answer(lambda steps: [single.run(inputs[i % 8]) for i in range(steps)] and None, {}, "cpu")  # it waits for its own device
        return
    build, threads, fused = CONTENDERS[contender]
    torch.set_num_threads(threads)
    with torch.device(device):  # networks that a contender makes are made there
        model, backward = build(workload)
    np.savez(folder / f"{contender}.npz", *float64_gradient(model, backward, workload, device))
    with torch.device(device):
        model, backward = build(workload)
    batches = [moved(batch, device) for batch in batches]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=fused)

    def run(steps: int) -> None:
        for i in range(steps):
            optimizer.zero_grad()
            backward(batches[i % 8])
            optimizer.step()

    answer(run, {"flops": flops(workload)} if contender.startswith("learn2learn") else {}, device)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4])
