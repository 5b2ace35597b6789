"""Episodes whose classes have unequal numbers of examples, and several sets of images."""

import json

import numpy as np
import pytest
import torch

from innerloop.config import InputError
from innerloop.episode import Episode
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
from tests.conftest import TINY, compose_run
from tests.tiny_data import image_files, write_tree

TASK = [
    *TINY, "meta_batch_size=1", "task=glyphs", "task.sampling=meta_dataset", "task.ways=[3,6]", "task.shots=[1,10]", "task.queries=5",
    "model.filters=4",
]  # fmt: skip


@pytest.mark.parametrize(
    "algo",
    [
        "protonet", "ridge", "nearest_mean", "matching", "maml algo.head=tied", "anil algo.head=tied", "protomaml", "baseline_pp",
        "transductive", "centroid",
    ],
)  # fmt: skip
def test_algorithms_take_unequal_shots(algo, tmp_path):
    results = run(compose_run(*TASK, *f"algo={algo}".split()), tmp_path)
    assert 0 <= results["value"] <= 1 and results["by_shape"]
    assert json.loads((tmp_path / "results.json").read_text())["ways"] == [3, 6]


def test_a_prototype_is_the_mean_of_its_own_examples():
    built = build_run(compose_run(*TASK, "algo=protonet"))
    algorithm = built.learner.algorithm.double().eval()
    for index in range(3):
        support, query = (type(part)(part.x.double(), part.y) for part in built.data.test_episodes.meta_batch(range(index, index + 1)))
        counts = support.y[0].bincount()
        assert len(set(counts.tolist())) > 1
        z, q = (algorithm.model(part.x[0]).detach() for part in (support, query))
        means = torch.stack([z[support.y[0] == way].mean(0) for way in range(len(counts))])
        algorithm.told(Episode(support, query))
        found = algorithm.predict(algorithm.adapt(support), query.x)[0]
        expected = -torch.cdist(q, means).square()
        torch.testing.assert_close(found - found[:, :1], expected - expected[:, :1], atol=1e-9, rtol=1e-9)


def test_what_does_not_fit_is_said():
    with pytest.raises(InputError, match="set meta_batch_size=1"):
        build_run(compose_run(*TASK, "meta_batch_size=2"))
    with pytest.raises(InputError, match="set 'task.ways=.5,50.'"):
        build_run(compose_run(*TASK, "task.ways=5"))
    with pytest.raises(InputError, match="task.sampling must be meta_dataset or null"):
        build_run(compose_run(*TASK, "task.sampling=fair"))


def test_several_sets_one_in_each_episode(tmp_path):
    roots = [write_tree(tmp_path / name, image_files()) for name in ("one", "two")]
    command = [*TINY, "task=images", f"task.root=[{roots[0]},{roots[1]}]", "task.size=8", "task.ways=2", "task.queries=1", "algo=protonet"]
    built = build_run(compose_run(*command, "model.filters=4", "model.pool=stride"))
    for split in ("train", "val", "test"):
        episodes = built.data.tasks.distribution(split)
        episodes.by_class = True
        sets = set()
        for index in range(20):
            names = {episodes.names[c].split(": ")[0] for c in episodes.sample(np.random.default_rng(index)).support.y.tolist()}
            assert len(names) == 1
            sets |= names
        assert sets == {str(root) for root in roots}
    alone = build_run(compose_run(*command, f"task.root={roots[1]}", "model.filters=4", "model.pool=stride"))
    assert len(built.data.tasks.classes("test").members) == 2 * len(alone.data.tasks.classes("test").members)
    results = run(compose_run(*command, "model.filters=4", "model.pool=stride"), tmp_path / "run")
    assert results["episodes"] == 4
    with pytest.raises(InputError, match="is of one task.root, and there are 2"):
        build_run(compose_run(*command, "task.split=split.csv"))
    with pytest.raises(InputError, match="must be one place here; task=images takes a list of them"):
        build_run(compose_run(*TINY, "task=omniglot", f"task.root=[{roots[0]}]"))
