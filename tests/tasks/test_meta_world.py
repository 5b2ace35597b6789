"""Meta-World's benchmarks."""

import json

import numpy as np
import pytest
import torch

from innerloop.config import InputError
from innerloop.runs.experiment import run
from tests.conftest import TINY, compose_run

pytest.importorskip("metaworld")
from innerloop.tasks.worlds.meta_world import Arms, MetaWorld  # noqa: E402

COMMON = dict(shots=2, queries=2, surrogate="vpg", discount=0.99, trace=1.0, normalise=True, clip=0.3)


def towards(x):
    """Moves the hand by its own place, so that where it is matters."""
    return torch.cat([x[..., :3], torch.zeros(*x.shape[:2], 5)], -1)


def test_rollouts_are_a_function_of_policy_task_and_seed_and_the_goal_is_hidden():
    arms = Arms("ML1", "reach-v3", "v2", 20)
    tasks, seeds = torch.tensor([[0.0], [1.0], [50.0]]), torch.tensor([1, 2, 3])
    first = arms.roll_out(towards, tasks, seeds, 2, 0)
    arms.roll_out(towards, tasks.flip(0), seeds, 2, 0)  # the environments have done other tasks meanwhile
    again = arms.roll_out(towards, tasks, seeds, 2, 0)
    for one, other in zip(first, again, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert (first.observations[..., -3:] == 0).all()  # of the goal
    assert not torch.equal(first.rewards[0], first.rewards[1])
    other = Arms("ML1", "reach-v3", "v1", 20).roll_out(towards, tasks, seeds, 2, 0)
    torch.testing.assert_close(other.observations, first.observations)
    assert not torch.allclose(other.rewards, first.rewards)


@pytest.mark.slow
def test_a_benchmark_is_tested_on_kinds_that_training_has_not():
    tasks = MetaWorld("ML10", None, "v2", 5, **COMMON)
    kinds = {
        split: {tasks.arms.tasks[int(tasks.distribution(split).sample(np.random.default_rng(i)).support.x)].env_name for i in range(200)}
        for split in ("train", "val", "test")
    }
    assert len(kinds["train"]) == 10 and kinds["train"] == kinds["val"]
    assert len(kinds["test"]) == 5 and not kinds["test"] & kinds["train"]


def test_it_trains_and_says_how_often_it_succeeded(tmp_path):
    command = [*TINY, "task=meta_world", "task.env=reach-v3", "task.reward_version=v2", "task.horizon=5", "task.shots=1", "task.queries=1"]
    run(compose_run(*command, "model.hidden=[8]", "reuse=1"), tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["measures"]["success"]["value"] == 0.0  # five steps are not enough


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("ML2", None, "v2", 5), "benchmark must be one of"),
        (("ML1", "reach-v3", None, 5), "reward_version must be one of v1, v2"),
        (("ML1", None, "v2", 5), "task.env=NAME"),
        (("ML10", "reach-v3", "v2", 5), "the others have their own"),
        (("ML1", "reach", "v2", 5), "task.env=reach is not in Meta-World; it has .*reach-v3"),
        (("ML1", "reach-v3", "v2", 501), "above the 500 steps"),
        (("ML1", "reach-v3", "v2", 0), "task.horizon"),
    ],
)
def test_what_does_not_fit_is_said(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        Arms(*settings)
