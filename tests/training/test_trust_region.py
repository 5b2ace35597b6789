"""TRPO's step against its definition."""

import pytest
import torch
from torch import nn

from innerloop.config import InputError
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
from innerloop.training.trust_region import TrustRegion, solve
from tests.conftest import TINY, compose_run

WORLD = [*TINY, "task=compass", "task.horizon=5", "task.shots=4", "task.queries=4", "optimizer=trust_region", "model.hidden=[8]"]


def policy(radius, tries=10):
    """A table of logits; what it did, and what each action was worth."""
    torch.manual_seed(0)
    logits = nn.Parameter(torch.randn(4, 3))
    old, advantage = logits.detach().log_softmax(-1), torch.randn(4, 3)

    def closure():
        new = logits.log_softmax(-1)
        ratio = (new - old).exp()
        return -(old.exp() * ratio * advantage).sum(-1).mean(), (old.exp() * (old - new)).sum(-1).mean()

    return logits, closure, TrustRegion([logits], lr=radius, cg_steps=20, damping=1e-5, tries=tries)


def test_a_step_is_along_the_natural_gradient(float64):
    logits, closure, optimizer = policy(1e-8)
    before = logits.detach().clone()
    loss, divergence = closure()
    (gradient,) = torch.autograd.grad(loss, [logits], retain_graph=True)
    (slopes,) = torch.autograd.grad(divergence, [logits], create_graph=True)
    rows = [torch.autograd.grad(slope, [logits], retain_graph=True)[0].flatten() for slope in slopes.flatten()]
    natural = torch.linalg.solve(torch.stack(rows) + 1e-5 * torch.eye(12), gradient.flatten())
    optimizer.step(closure)
    step = (logits.detach() - before).flatten()
    torch.testing.assert_close(step / step.norm(), -natural / natural.norm(), rtol=1e-5, atol=1e-5)
    assert closure()[1].item() == pytest.approx(1e-8, rel=1e-2)


@pytest.mark.parametrize("radius", [0.001, 0.01, 0.3])
def test_it_stays_within_the_region_and_gains(radius):
    logits, closure, optimizer = policy(radius)
    before = closure()[0].item()
    assert optimizer.step(closure).item() == pytest.approx(before)
    loss, divergence = closure()
    assert loss < before and 0 < divergence <= radius


def test_where_no_length_helps_it_stays():
    logits, closure, optimizer = policy(0.01, tries=3)
    before, losses = logits.detach().clone(), iter([0.0, 1.0, 2.0, 3.0])
    optimizer.step(lambda: (0 * closure()[0] + next(losses), closure()[1]))
    assert torch.equal(logits, before) and not list(losses)


def test_conjugate_gradients(float64):
    matrix = torch.randn(6, 6)
    matrix = matrix @ matrix.T + torch.eye(6)
    torch.testing.assert_close(solve(lambda v: matrix @ v, torch.ones(6), 6), torch.linalg.solve(matrix, torch.ones(6)))


@pytest.mark.parametrize("algo", ["maml", "joint", "metasgd"])
def test_it_trains_policies_and_goes_on_to_the_same_numbers(algo, tmp_path):
    cfg = compose_run(*WORLD, f"algo={algo}", "outer_steps=4", "val_every=2")
    whole = run(cfg, tmp_path)
    for name in ("results.json", "checkpoints/step-00000004.ckpt"):
        (tmp_path / name).unlink()
    assert run(cfg, tmp_path)["curve"] == whole["curve"]
    rows = (tmp_path / "csv" / "metrics.csv").read_text().splitlines()
    assert len(rows) > 1


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        ([*TINY, "optimizer=trust_region"], "optimizer=trust_region is for policies; use optimizer=adam"),
        ([*WORLD, "trainer=ddp"], "optimizer=trust_region runs on one device; use optimizer=adam reuse=1 on several"),
        ([*WORLD, "optimizer.lr=0"], "optimizer.lr must be a number > 0"),
        ([*WORLD, "algo=reptile", "optimizer=trust_region"], "follows returns, and the outer loss of Reptile is a distance"),
        ([*WORLD, "engine.chunk_size=1"], "optimizer=trust_region takes meta-batches whole; leave out engine.chunk_size=1"),
    ],
)
def test_what_does_not_fit_is_said(overrides, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        run(compose_run(*overrides), tmp_path)


def test_it_is_built_from_its_settings():
    assert build_run(compose_run(*WORLD)).learner.trust_region
