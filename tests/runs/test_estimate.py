"""What an outer step takes, said beforehand, is what it takes."""

import pytest
import torch

from innerloop.config import InputError
from innerloop.runs.build import build_run
from innerloop.runs.estimate import LiveBytes, estimate
from tests.command_line import call
from tests.conftest import compose_run

SMALL = ["task=grammars", "task.length=32", "model.width=32", "model.layers=2", "meta_batch_size=4"]
RUNS = {
    "maml on a transformer": [*SMALL, "algo.adaptation_steps=2"],
    "fomaml of low-rank weights": [*SMALL, "algo=fomaml", "model.lora_rank=2", "algo.adapted=*.lora_*", "algo.meta_learned=*.lora_*"],
    "maml in mixed precision": [*SMALL, "trainer.precision=bf16-mixed"],
    "fomaml in shares of a model whose weights are most": [*SMALL, "algo=fomaml", "task.length=4", "model.width=64", "engine.chunk_size=1"],
    "reptile on a convolution": ["task=glyphs", "algo=reptile", "meta_batch_size=2", "task.queries=3"],
    "in shares, steps taken again": [
        "task=glyphs",
        "engine=loop",
        "engine.chunk_size=1",
        "algo.checkpoint_inner=true",
        "meta_batch_size=3",
    ],
}


@pytest.mark.parametrize(
    "overrides",
    [pytest.param(overrides, id=name, marks=[pytest.mark.slow] * (name == "reptile on a convolution")) for name, overrides in RUNS.items()],
)
def test_it_is_what_the_tensors_of_a_real_step_take(overrides):
    """Within 10 %, of the most bytes that the tensors of a second step occupy: the first one looks whether it may be taken in shares."""
    torch.manual_seed(0)
    run = build_run(compose_run(*overrides, "threads=1", "task.ways=3" if "task=glyphs" in overrides else "seed=0"))
    cost = estimate(run)
    learner, episodes = run.learner, run.data.train_episodes.meta_batch(range(run.cfg.meta_batch_size))
    optimizer = learner.optimizer(params=learner.algorithm.trained())
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=run.cfg.trainer.precision == "bf16-mixed")
    with mixed:
        learner.shares.outer_loss(episodes)
    learner.train()
    with LiveBytes() as live:
        live.count([list(learner.algorithm.parameters()), list(episodes.support), list(episodes.query)])
        with mixed:
            loss, _ = learner.shares.outer_loss(episodes)
        loss.backward()
        del loss
        before = live.now
        optimizer.step()
        assert live.now - before == pytest.approx(cost.optimizer, abs=1000)
    assert cost.peak == pytest.approx(live.most, rel=0.1)
    assert cost.weights == sum(weight.nbytes for weight in learner.algorithm.parameters())


def test_operations_of_a_network_by_hand():
    """Linear layers 1-40, 40-40, 40-1: forward 2 mnk, backward twice that, less the gradient of the inputs. Joint training takes support
    and query examples at once, FOMAML one after the other."""
    flops = {algo: estimate(build_run(compose_run(f"algo={algo}", "meta_batch_size=3", "threads=1"))).flops for algo in ("joint", "fomaml")}
    forward = 2 * 3 * 20 * (1 * 40 + 40 * 40 + 40 * 1)  # of three tasks with 10 + 10 points
    backward = 2 * forward - 2 * 3 * 20 * 40
    assert flops["joint"] == forward + backward == flops["fomaml"]


def test_rollouts_are_not_followed():
    with pytest.raises(InputError, match="estimate=true follows no rollouts"):
        estimate(build_run(compose_run("task=compass", "task.horizon=3")))


def test_on_the_command_line(tmp_path):
    stdout, stderr = call("train.py", "estimate=true", *SMALL, f"hydra.run.dir={tmp_path}")
    assert stderr == "" and "peak of all tensors" in stdout and "GFLOP" in stdout and not (tmp_path / "results.json").exists()
    with pytest.raises(InputError, match="cannot follow learn2learn's clones"):
        estimate(build_run(compose_run("engine=learn2learn")))
    for algo in ("nearest_mean", "scratch"):
        with pytest.raises(InputError, match="estimate=true is of an outer step, and this algorithm has none"):
            estimate(build_run(compose_run("task=glyphs", f"algo={algo}")))
