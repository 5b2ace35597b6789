"""The Omniglot task: its splits, and its episodes on the real images where they are at hand."""

import os
import random
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from innerloop.config import InputError
from innerloop.objective import CLASSIFICATION
from innerloop.tasks.class_split import read_split
from innerloop.tasks.images import omniglot
from innerloop.tasks.images.omniglot import Omniglot
from innerloop.tasks.images.omniglot_cache import Characters, load_characters
from tests.conftest import OMNIGLOT as DATA

ARGUMENTS = {
    "split": "vinyals", "rotate_test": True,
    "ways": 5, "shots": 1, "queries": 15, "train_ways": 20, "train_shots": 5, "train_queries": 15,
}  # fmt: skip


def build(root: object = "unused", **changes: object) -> Omniglot:
    return Omniglot(**{"root": str(root), **ARGUMENTS, **changes})  # type: ignore[arg-type]


def parts(split: str) -> dict[str, set[str]]:
    listed = read_split(f"omniglot_{split}")
    return {part: {character for character, p in listed.items() if p == part} for part in ("train", "val", "test")}


@pytest.mark.parametrize(
    ("split", "sizes"),
    [("vinyals", (1028, 172, 423)), ("maml", (1100, 100, 423)), ("reptile", (1200, 0, 423)), ("background", (964, 0, 659))],
)
def test_splits_share_no_character_and_cover_all(split: str, sizes: tuple[int, int, int]) -> None:
    lines = (files("innerloop.tasks") / "splits" / f"omniglot_{split}.csv").read_text().split()[1:]
    assert len(lines) == len(read_split(f"omniglot_{split}")) == 1623  # none is listed twice
    assert tuple(len(members) for members in parts(split).values()) == sizes
    assert set(read_split(f"omniglot_{split}")) == set(read_split("omniglot_vinyals"))


@pytest.mark.parametrize(("split", "seed", "train", "val"), [("maml", 1, 1100, 100), ("reptile", 0, 1200, 0)])
def test_recipe_gives_the_committed_list(split: str, seed: int, train: int, val: int) -> None:
    order = sorted(read_split("omniglot_vinyals"))
    random.Random(seed).shuffle(order)
    expected = {"train": set(order[:train]), "val": set(order[train : train + val]), "test": set(order[-423:])}
    assert parts(split) == expected


@pytest.fixture
def synthetic(monkeypatch: pytest.MonkeyPatch) -> Characters:
    """All 1623 characters, as noise: what does not hang on the drawings themselves needs no data."""
    names = sorted(read_split("omniglot_vinyals"))
    images = np.random.default_rng(0).integers(0, 256, (20 * len(names), 1, 28, 28), dtype=np.uint8)
    characters = Characters(names, images)
    monkeypatch.setattr(omniglot, "load_characters", lambda root: characters)
    return characters


def test_number_of_classes(synthetic: Characters) -> None:
    for split, rotate_test, expected in [
        ("vinyals", True, [4112, 688, 1692]), ("vinyals", False, [4112, 688, 423]),
        ("maml", False, [4400, 400, 423]), ("reptile", False, [4800, 4800, 423]),
    ]:  # fmt: skip
        tasks = build(split=split, rotate_test=rotate_test)
        assert [len(tasks.distribution(part).members) for part in ("train", "val", "test")] == expected  # type: ignore[arg-type]


def test_turned_class_is_the_upright_one_turned(synthetic: Characters) -> None:
    test = build().distribution("test")
    name = test.names[0].rsplit("/", 1)[0]
    assert test.names[:4] == [f"{name}/rot000", f"{name}/rot090", f"{name}/rot180", f"{name}/rot270"]
    first = 20 * synthetic.names.index(name)
    assert test.members[1].tolist() == list(range(first, first + 20))
    for turns in range(4):
        test.ways, test.shots, test.queries = 1, 1, 0
        seen = test.episode(np.random.default_rng(0), np.array([turns]), [np.array([first])], shots=1).support.x[0, 0].numpy()
        assert np.array_equal(seen, np.rot90(synthetic.images[first, 0], turns) / np.float32(255))


def test_train_has_its_own_counts(synthetic: Characters) -> None:
    tasks = build()
    assert (tasks.objective, tasks.input_shape) == (CLASSIFICATION, (1, 28, 28))
    assert (tasks.outputs, tasks.ways, tasks.shots, tasks.queries) == (5, 5, 1, 15)
    train = tasks.distribution("train").sample(np.random.default_rng(0))
    assert train.support.x.shape == (100, 1, 28, 28) and train.query.y.shape == (300,)
    val = tasks.distribution("val").sample(np.random.default_rng(0))
    assert val.support.x.shape == (5, 1, 28, 28) and val.query.y.bincount().tolist() == [15] * 5


def test_reptile_validates_on_training_characters(synthetic: Characters) -> None:
    tasks = build(split="reptile")
    assert tasks.distribution("val").names == tasks.distribution("train").names


def test_within_an_alphabet(synthetic: Characters) -> None:
    """As Lake et al. test: 20 evaluation alphabets, an episode's classes from one of them; training and validation have no such bound."""
    tasks = build(split="background", ways=20, shots=1, queries=1, rotate_test=False, within="alphabet")
    test = tasks.distribution("test")
    test.by_class = True
    seen = set()
    for index in range(60):
        classes = test.sample(np.random.default_rng(index)).support.y.tolist()
        (alphabet,) = {test.names[c].split("/")[0] for c in classes}
        assert len(classes) == len(set(classes)) == 20
        seen.add(alphabet)
    assert 15 < len(seen) <= 20
    train = tasks.distribution("train")
    train.by_class = True
    assert len({train.names[c].split("/")[0] for c in train.sample(np.random.default_rng(0)).support.y.tolist()}) > 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"within": "script"}, "task.within must be alphabet or null"),
        ({"within": "alphabet", "ways": 50}, "task.ways=50 asks for more than the .* classes there are of"),
        ({"split": "torchmeta"}, "task.split=torchmeta must be one of vinyals, maml, reptile, background, or a CSV file"),
        ({"ways": 0}, "task.ways must be a whole number >= 2, got 0"),
        ({"train_queries": 2.5}, "task.train_queries must be a whole number >= 1, got 2.5"),
        ({"ways": 700}, "task.ways=700 asks for more than the 688 classes"),
        ({"ways": 500, "rotate_test": False}, "task.ways=500 asks for more than the 423 classes"),
        ({"shots": 6}, r"has 20 examples but an episode needs shots \+ queries = 21"),
    ],
)
def test_arguments_that_do_not_fit(synthetic: Characters, changes: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        tasks = build(**changes)
        for split in ("train", "val", "test"):
            tasks.distribution(split)


def test_images_without_a_character_of_the_split(synthetic: Characters) -> None:
    synthetic.names[0] = "Renamed/character01"
    with pytest.raises(InputError, match="Alphabet_of_the_Magi/character01 of the vinyals split is not in task.root"):
        build()


@pytest.fixture(scope="session")
def real_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real images, prepared once for all tests (and all workers of pytest-xdist) in a folder of the tests."""
    if not all((DATA / f"{half}.zip").exists() for half in ("images_background", "images_evaluation")):
        pytest.skip(f"no Omniglot zips in {DATA}; set INNERLOOP_DATA")
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "omniglot_real"
    root.mkdir(exist_ok=True)
    for archive in DATA.glob("images_*.zip"):
        try:
            (root / archive.name).symlink_to(archive.resolve())
        except FileExistsError:  # another worker was first
            pass
    load_characters(root)
    return root


def test_real_images(real_root: Path) -> None:
    characters = load_characters(real_root)
    assert sorted(characters.names) == sorted(read_split("omniglot_vinyals"))
    assert characters.images.shape == (32460, 1, 28, 28)
    ink = characters.images / 255
    assert 0.05 < ink.mean() < 0.15  # thin strokes on an empty ground
    assert (ink.reshape(32460, -1).max(1) > 0.5).all()


def test_real_episode(real_root: Path) -> None:
    episode = build(real_root).distribution("test").sample(np.random.default_rng([0, 1]))
    assert episode.support.x.shape == (5, 1, 28, 28) and episode.query.x.shape == (75, 1, 28, 28)
    assert sorted(episode.support.y.tolist()) == [0, 1, 2, 3, 4]
    for x in (episode.support.x, episode.query.x):
        assert x.min() == 0 and 0.8 < x.max() <= 1
    together = np.concatenate([episode.support.x.numpy(), episode.query.x.numpy()])
    assert len(np.unique(together, axis=0)) == 80  # no query image is in the support set


def test_nearest_mean_is_as_good_as_it_should_be(real_root: Path) -> None:
    """Pixels' nearest class mean, 5-way 5-shot, reaches about 70 % on Omniglot: images and labels belong together."""
    test = build(real_root, shots=5, rotate_test=False).distribution("test")
    right = []
    for index in range(100):
        support, query = test.sample(np.random.default_rng(index))
        means = torch.stack([support.x[support.y == way].mean(0).flatten() for way in range(5)])
        nearest = torch.cdist(query.x.flatten(1), means).argmin(1)
        right.append((nearest == query.y).float().mean().item())
    assert 0.6 < np.mean(right) < 0.85
