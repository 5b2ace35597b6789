"""Episodes are a pure function of their key and index."""

import numpy as np
import pytest
import torch

from innerloop.config import InputError
from innerloop.tasks.functions.linear import Linear
from innerloop.tasks.functions.sinusoid import Sinusoid
from innerloop.tasks.images.glyphs import Glyphs
from innerloop.training.data import EpisodeDataset, EpisodicDataModule

SINUSOID = Sinusoid((0.1, 5.0), (0.0, np.pi), (-5.0, 5.0), shots=3, queries=4)


def data_module(tasks=SINUSOID, **changes):
    arguments = {
        "seed": 0, "outer_steps": 4, "meta_batch_size": 3, "val_episodes": 5, "test_episodes": 6, "eval_batch_size": 4, "num_workers": 0
    }  # fmt: skip
    return EpisodicDataModule(tasks, **(arguments | changes))


def all_x(loader):
    """The support inputs of every episode, in order."""
    return torch.cat([episodes.support.x for episodes in loader])


@pytest.mark.parametrize("tasks", [SINUSOID, Glyphs(5, 1, 2, 5, 1, 2)], ids=["sinusoid", "glyphs"])
def test_episodes_do_not_depend_on_workers_or_meta_batch_size(tasks):
    expected = all_x(data_module(tasks).train_dataloader())
    assert len(expected) == 12
    for changes in ({"num_workers": 2}, {"meta_batch_size": 6, "outer_steps": 2}, {"meta_batch_size": 1, "outer_steps": 12}):
        assert torch.equal(expected, all_x(data_module(tasks, **changes).train_dataloader()))


def test_training_episodes_follow_the_seed_and_evaluation_episodes_do_not():
    first, second = data_module(seed=0), data_module(seed=1)
    assert not torch.equal(all_x(first.train_dataloader()), all_x(second.train_dataloader()))
    assert torch.equal(all_x(first.val_dataloader()), all_x(second.val_dataloader()))
    assert torch.equal(all_x(first.test_dataloader()), all_x(second.test_dataloader()))


def test_no_episode_comes_twice_in_a_run_or_in_two_splits():
    module = data_module(outer_steps=50)
    x = torch.cat([all_x(module.train_dataloader()), all_x(module.val_dataloader()), all_x(module.test_dataloader())])
    assert len(x) == 161 == len({tuple(row.flatten().tolist()) for row in x})


def test_streams_of_different_splits_and_seeds_never_meet():
    """numpy pads short keys with zeros and splits large numbers into words; neither may make two streams one."""
    keys = [(split, seed) for split in range(3) for seed in (0, 1, 2, 2**32 - 1)]
    drawn = [EpisodeDataset(SINUSOID, 4, key)[index].support.x for key in keys for index in range(4)]
    assert len({tuple(x.flatten().tolist()) for x in drawn}) == len(keys) * 4


def test_ranks_share_the_meta_batch(monkeypatch):
    class TrainerOfRank:
        world_size, global_step, accumulate_grad_batches = 3, 0, 1

        def __init__(self, rank):
            self.global_rank = rank

    whole = all_x(data_module().train_dataloader())
    val = all_x(data_module().val_dataloader())
    for rank in range(3):
        module = data_module()
        module.trainer = TrainerOfRank(rank)
        assert torch.equal(all_x(module.train_dataloader()), whole[rank::3])
        assert torch.equal(all_x(module.val_dataloader()), val[rank::3])
    module = data_module(meta_batch_size=4)
    module.trainer = TrainerOfRank(0)
    with pytest.raises(InputError, match="meta_batch_size=4 does not divide by 3 devices"):
        module.train_dataloader()


def test_sinusoids_are_the_family_they_claim():
    episodes = [SINUSOID.sample(np.random.default_rng(i)) for i in range(300)]
    assert episodes[0].support.x.shape == (3, 1) and episodes[0].query.y.shape == (4, 1)
    x = torch.cat([e.query.x for e in episodes])
    assert x.min() >= -5 and x.max() <= 5 and x.std() == pytest.approx(10 / 12**0.5, rel=0.05)
    # each query is on the wave that the support points determine: A sin(x - p) = a sin x + b cos x
    for support, query in episodes[:20]:
        basis = torch.cat([support.x.sin(), support.x.cos()], 1).double()
        coefficients = torch.linalg.lstsq(basis, support.y.double()).solution
        assert 0.09 <= coefficients.norm() <= 5.01
        prediction = torch.cat([query.x.sin(), query.x.cos()], 1).double() @ coefficients
        assert torch.allclose(prediction, query.y.double(), atol=1e-2)


def test_two_lines_are_two_tasks():
    lines = Linear((2.0, 3.0), (0.0, 0.0), (-1.0, 1.0), shots=2, queries=2)
    slopes = [(e.support.y / e.support.x).mean().item() for e in (lines.sample(np.random.default_rng(i)) for i in range(50))]
    assert 2 <= min(slopes) < 2.2 and 2.8 < max(slopes) <= 3
    fixed = Linear((2.0, 2.0), (0.0, 0.0), (-1.0, 1.0), shots=2, queries=2).sample(np.random.default_rng(0))
    assert torch.allclose(fixed.query.y, 2 * fixed.query.x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta_batch_size": 0}, "meta_batch_size must be a whole number >= 1, got 0"),
        ({"outer_steps": -1}, "outer_steps must be a whole number >= 0, got -1"),
        ({"seed": -1}, "seed must be a whole number >= 0 and <= 4294967295, got -1"),
        ({"test_episodes": 1}, "test_episodes must be a whole number >= 2, got 1"),
    ],
)
def test_impossible_budgets_are_refused(changes, message):
    with pytest.raises(InputError) as refused:
        data_module(**changes)
    assert str(refused.value) == message


@pytest.mark.parametrize("bad", [(5.0, 1.0), (1.0,), "ab", (None, 1.0)])
def test_impossible_ranges_are_refused(bad):
    with pytest.raises(InputError, match=r"task.amplitude must be \[low, high\] with low <= high, got"):
        Sinusoid(bad, (0.0, 1.0), (0.0, 1.0), shots=1, queries=1)


@pytest.mark.parametrize("tasks", [SINUSOID, Glyphs(5, 1, 2, 5, 1, 2).distribution("test")], ids=["drawn together", "one by one"])
def test_a_numbered_list_of_episodes_has_an_end(tasks):
    episodes = EpisodeDataset(tasks, 3, (0, 0))
    assert len(list(episodes)) == 3
    for index in (3, -1, 10_000):
        with pytest.raises(IndexError, match=f"there is no episode {index} of 3"):
            episodes[index]
    for indices in (range(0), range(2, 4), range(-1, 1)):
        with pytest.raises(IndexError, match="there are no episodes range"):
            episodes.meta_batch(indices)
