"""Episodes without replacement: no image twice, and an interval that holds for images that were not collected."""

import numpy as np
import pytest
import torch

from innerloop.config import InputError
from innerloop.runs.build import build_run
from innerloop.runs.disjoint_episodes import DisjointEpisodes
from innerloop.runs.experiment import run
from innerloop.tasks.class_episodes import ClassEpisodes, Classes
from tests.conftest import TINY, compose_run


def pool(classes=6, each=10, turned=False, groups=None, **shape):
    """Every image is filled with its own number; turned: each class stands there twice, as an omniglot character under two turns."""
    images = np.repeat(np.arange(classes * each, dtype=np.uint8), 4).reshape(-1, 1, 2, 2)
    members = list(np.arange(classes * each).reshape(classes, each)) * (2 if turned else 1)
    turns = [0] * classes + [1] * classes if turned else None
    counts = {"ways": 2, "shots": 1, "queries": 2} | shape
    return ClassEpisodes(Classes(images, members, [str(i) for i in range(len(members))], turns, groups), **counts)


def images_of(episodes):
    whole = episodes.meta_batch(range(len(episodes)))
    return torch.cat([part.x.flatten(2)[..., 0].mul(255).round().long() for part in whole], 1)


@pytest.mark.parametrize("turned", [False, True])
def test_no_image_is_used_twice_and_most_are_used(turned):
    episodes = DisjointEpisodes(pool(turned=turned), most=600)
    used = images_of(episodes).flatten().tolist()
    assert len(set(used)) == len(used) and len(used) >= 48  # of 60, six an episode
    shorter = DisjointEpisodes(pool(turned=turned), most=3)
    assert torch.equal(images_of(shorter), images_of(episodes)[:3])
    batch = episodes.meta_batch(range(2))
    assert all(sorted(labels.tolist()) == [0, 1] for labels in batch.support.y)
    classes = images_of(episodes)[0][:2] // 10
    assert turned or classes[0] != classes[1]


def test_turns_of_an_image_that_have_rows_of_their_own_are_one_image():
    """As the features of a backbone are."""
    features = pool(classes=12)
    features.origins = np.tile(np.arange(60), 2)
    used = images_of(DisjointEpisodes(features, most=600)).flatten() % 60
    assert len(used.unique()) == len(used) >= 48


def test_its_episodes_are_of_one_group_each():
    episodes = DisjointEpisodes(pool(groups=list("ababab")), most=600)
    of = [{row // 10 % 2 for row in rows} for rows in images_of(episodes).tolist()]
    assert all(len(group) == 1 for group in of) and len(of) >= 8


def test_its_interval_counts_the_images():
    """Images are easy or hard: means over many collections of them lie as far apart as the interval says."""
    rng, means, said, naive = np.random.default_rng(0), [], [], []
    for _ in range(300):
        right = torch.from_numpy(rng.random(60) < 0.5).float()
        scores = right[images_of(DisjointEpisodes(pool(), most=600))].mean(1)
        means.append(scores.mean().item())
        said.append(scores.std().item() / len(scores) ** 0.5)
        naive.append(scores.std().item() / 600**0.5)
    assert np.mean(said) == pytest.approx(np.std(means), rel=0.15) and np.mean(naive) < np.std(means) / 5


def test_runs_are_scored_on_them(tmp_path):
    results = run(compose_run(*TINY, "task=glyphs", "model.filters=4", "disjoint=true", "test_episodes=500"), tmp_path)
    assert 10 <= results["episodes"] < 60 and results["ci95"] > 0  # 76 characters of 20 images, five and 16 an episode


def test_what_has_no_pool_or_too_few(tmp_path):
    with pytest.raises(InputError, match="this task has no pool of images"):
        build_run(compose_run(*TINY, "disjoint=true"))
    with pytest.raises(InputError, match="leave one of them out"):
        build_run(compose_run(*TINY, "task=glyphs", "disjoint=true", f"episodes={tmp_path / 'test.npz'}"))
    with pytest.raises(InputError, match="too few for two episodes"):
        DisjointEpisodes(pool(classes=2, each=5), most=600)
