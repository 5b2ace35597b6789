"""On a GPU: the outer gradients of the CPU, runs from the command line, and what they leave behind. Skipped where there is none."""

import copy
import logging
import math

import pytest
import torch
from torch import nn

from innerloop.algorithms.maml import MAML
from innerloop.engine.forward import loop
from innerloop.episode import Episode, Examples
from innerloop.objective import CLASSIFICATION
from innerloop.runs.experiment import load_run, run
from innerloop.training.shares import Execution, TaskShares
from tests.algorithms.test_gradients import CASES
from tests.algorithms.test_zoo import ZOO
from tests.conftest import TINY, classification_episodes, compose_run, make_model
from tests.training.two_processes import OTHERS, READERS, algorithm_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
GPU = [*TINY, "trainer=gpu"]
TASKS = {
    "sinusoid": ["task=sinusoid"],
    "glyphs": ["task=glyphs", "task.shots=1", "task.queries=2", "model.filters=8"],
    "grammars": ["task=grammars", "model.width=16", "model.heads=2", "model.layers=1", "task.length=8"],
    "compass": ["task=compass", "task.shots=2", "task.queries=2", "task.horizon=5"],
}


def moved(episodes, device):
    return Episode(*(Examples(x.to(device), y.to(device)) for x, y in episodes))


def gradient(algorithm, episodes, **execution):
    algorithm.zero_grad()
    shares = TaskShares(algorithm, Execution(algorithm.engine, **({"chunk_size": None, "compile": False} | execution)), threads=1)
    shares.outer_loss(episodes)[0].backward()
    return [parameter.grad.cpu() for parameter in algorithm.parameters() if parameter.requires_grad]


def difference(case, kind, engine):
    """Largest, relative to the largest entry."""
    algorithm = algorithm_of(case, kind, engine)
    episodes = classification_episodes(4, make_model(kind)[1])
    there = copy.deepcopy(algorithm).cuda()
    wanted, got = gradient(algorithm, episodes), gradient(there, moved(episodes, "cuda"))
    return max((a - b).abs().max() for a, b in zip(got, wanted, strict=True)) / max(g.abs().max() for g in wanted)


@pytest.mark.parametrize("kind, engine", [("mlp", "vmap"), ("conv4_max", "vmap"), ("conv4_stride", "loop")])
@pytest.mark.parametrize("case", [*CASES, *OTHERS, *ZOO, *READERS])
def test_the_outer_gradient_is_that_of_the_cpu(case, kind, engine, float64):
    if (case in READERS and kind != "mlp") or (case == "mamlpp, norms" and kind == "mlp"):
        pytest.skip("made for the other network")
    assert difference(case, kind, engine) < 1e-9


@pytest.mark.parametrize("algo", ["maml", "reptile", "metasgd", "joint", "learned_rates"])
@pytest.mark.parametrize("task", TASKS)
def test_a_run(task, algo, tmp_path):
    """Trains, tests, and is read where there is no GPU."""
    slower = ["algo.inner_lr=0.01"] if (task, algo) == ("compass", "reptile") else []
    results = run(compose_run(*GPU, *TASKS[task], f"algo={algo}", *slower), tmp_path)
    assert all(math.isfinite(point["value"]) for point in results["curve"])
    assert {parameter.device.type for parameter in load_run(tmp_path).learner.parameters()} == {"cpu"}


def captured(algorithm, shape):
    """Its shares, after the first meta-batch, which is never taken by a graph; and what that left behind, autograd's graph and all."""
    shares = TaskShares(algorithm, Execution(algorithm.engine, None, True), threads=1)
    loss, predictions = shares.outer_loss(moved(classification_episodes(4, shape), "cuda"))
    loss.backward()
    return shares, predictions


def gradients_of(algorithm, take, episodes):
    algorithm.zero_grad()
    take(episodes)[0].backward()
    return [parameter.grad.clone() for parameter in algorithm.trained()]


@pytest.mark.parametrize("kind, engine", [("mlp", "vmap"), ("conv4_max", "vmap"), ("conv4_stride", "loop")])
@pytest.mark.parametrize("case", [*CASES, *OTHERS, *ZOO, *READERS])
def test_a_graph_gives_the_same_gradients(case, kind, engine, float64):
    """Of meta-batches that it was not captured from, and of other weights."""
    if (case in READERS and kind != "mlp") or (case == "mamlpp, norms" and kind == "mlp"):
        pytest.skip("made for the other network")
    algorithm = algorithm_of(case, kind, engine).cuda()
    shape = make_model(kind)[1]
    shares, left = captured(algorithm, shape)
    for seed in (1, 2):
        episodes = moved(classification_episodes(4, shape, seed=seed), "cuda")
        plain = TaskShares(algorithm, Execution(algorithm.engine, None, False), threads=1)
        wanted = gradients_of(algorithm, plain.outer_loss, episodes)
        torch.testing.assert_close(gradients_of(algorithm, shares.outer_loss, episodes), wanted, rtol=1e-9, atol=1e-9)
        with torch.no_grad():
            for parameter in algorithm.trained():
                parameter.mul_(0.9)
    waits = case.startswith("ridge")  # torch.linalg.solve asks the GPU whether there is a solution
    assert (None in shares._compiled.values()) is waits


def test_a_learner_that_was_elsewhere_is_captured_anew():
    algorithm = algorithm_of("maml 1 step", "mlp", "vmap").cuda()
    shares, left = captured(algorithm, (4,))
    episodes = moved(classification_episodes(4, (4,)), "cuda")
    before = gradients_of(algorithm, shares.outer_loss, episodes)
    algorithm.cpu()
    there = torch.zeros(1000, device="cuda")  # where its weights were
    algorithm.cuda()
    assert torch.equal(there, torch.zeros_like(there))
    for got, wanted in zip(gradients_of(algorithm, shares.outer_loss, episodes), before, strict=True):
        torch.testing.assert_close(got, wanted)


def test_what_cannot_be_captured_runs_without(caplog):
    """A model that waits for the GPU."""

    class Waits(nn.Linear):
        def forward(self, x):
            return super().forward(x) * (2 if self.weight.isfinite().all().item() else 1)

    caplog.set_level(logging.INFO, "innerloop")
    algorithm = MAML(Waits(4, 5), CLASSIFICATION, loop, 0.1, 1).cuda()
    shares, left = captured(algorithm, (4,))
    episodes = moved(classification_episodes(4, (4,)), "cuda")
    plain = TaskShares(algorithm, Execution(algorithm.engine, None, False), threads=1)
    wanted = gradients_of(algorithm, plain.outer_loss, episodes)
    torch.testing.assert_close(gradients_of(algorithm, shares.outer_loss, episodes), wanted)
    assert "running uncompiled, since the CUDA graph could not be captured" in caplog.text


@pytest.mark.parametrize("algo", ["maml", "reptile", "protonet", "joint"])
def test_a_run_is_captured_unasked_and_goes_on(algo, tmp_path, caplog):
    caplog.set_level(logging.INFO, "innerloop")
    settings = [*GPU, *TASKS["glyphs"], "engine=vmap", f"algo={algo}", "outer_steps=200", "val_every=100"]
    run(compose_run(*settings), tmp_path)
    assert "engine.compile=true, since it pays" in caplog.text and "could not" not in caplog.text
    results = run(compose_run(*settings, "outer_steps=300", "resume=force"), tmp_path)
    assert results["outer_steps"] == 300 and all(math.isfinite(point["value"]) for point in results["curve"])


def test_engines_agree_in_float32(monkeypatch):
    """vmap's grouped convolutions beside one task after another, without the 10 bits of TF32 that cuDNN takes where it may."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    episodes = moved(classification_episodes(4, (1, 16, 16)), "cuda")
    vmap, loop = (gradient(algorithm_of("maml 1 step", "conv4_max", engine).cuda(), episodes) for engine in ("vmap", "loop"))
    for got, wanted in zip(vmap, loop, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)
