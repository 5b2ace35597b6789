"""On a GPU: the outer gradients of the CPU, runs from the command line, and what they leave behind. Skipped where there is none."""

import copy
import math

import pytest
import torch

from innerloop.episode import Episode, Examples
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


def test_compiled_steps_are_the_same(float64):
    algorithm = algorithm_of("maml 1 step", "mlp", "vmap").cuda()
    episodes = moved(classification_episodes(4, (4,)), "cuda")
    plain = gradient(algorithm, episodes)
    for got, wanted in zip(gradient(algorithm, episodes, compile=True), plain, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def test_engines_agree_in_float32(monkeypatch):
    """vmap's grouped convolutions beside one task after another, without the 10 bits of TF32 that cuDNN takes where it may."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    episodes = moved(classification_episodes(4, (1, 16, 16)), "cuda")
    vmap, loop = (gradient(algorithm_of("maml 1 step", "conv4_max", engine).cuda(), episodes) for engine in ("vmap", "loop"))
    for got, wanted in zip(vmap, loop, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)
