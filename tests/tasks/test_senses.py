"""What is met by several senses, any of which may be missing."""

import numpy as np
import pytest
import torch

import innerloop
from innerloop.config import InputError
from innerloop.models.senses import Senses as Network
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
from innerloop.tasks.class_episodes import Classes
from innerloop.tasks.senses.heard_and_seen import COPIES, HeardAndSeen, check_digits
from innerloop.tasks.senses.named_pictures import numbers_of
from innerloop.tasks.senses.senses import Senses, vectors
from tests.conftest import DATA, TINY, compose_run
from tests.tiny_data import image_files, write_tree

COUNTS = {"ways": 2, "shots": 1, "queries": 2, "train_ways": 2, "train_shots": 1, "train_queries": 2}
HERE, THERE = 10.0, 20.0  # what the two senses have of everything
SHAPES = {"near": (1, 2, 2), "far": (3,)}


class Made(Senses):
    """Four classes of six things."""

    def __init__(self, support="all", query="all", **more):
        super().__init__(SHAPES, support, query, "any", "any", **COUNTS, **more)

    def classes(self, split):
        inputs = vectors(np.full((24, 1, 2, 2), HERE), np.full((24, 3), THERE))
        return Classes(inputs, [*np.arange(24).reshape(4, 6)], ["a", "b", "c", "d"])


def there_in(x):
    """Which senses inputs say they have, after a look at whether they have them."""
    bits = x[0, :2].tolist()
    expected = torch.tensor([*bits, *[bits[0] * HERE] * 4, *[bits[1] * THERE] * 3])
    assert torch.equal(x, expected.expand_as(x))
    return tuple(bits)


@pytest.mark.parametrize(("support", "query"), [("near", "far"), ("all", "near"), ("far", "all")])
def test_what_is_missing_is_zero_and_said(support, query):
    wanted = {"near": (1, 0), "far": (0, 1), "all": (1, 1)}
    for strangers in (0, 2):
        tasks = Made(support, query, strangers=strangers)
        episode = tasks.distribution("test").sample(np.random.default_rng(0))
        assert (there_in(episode.support.x), there_in(episode.query.x)) == (wanted[support], wanted[query])
        assert len(episode.query.x) == 4 + strangers


def test_in_training_each_part_has_any_of_them():
    episodes = Made().distribution("train")
    drawn = [episodes.sample(np.random.default_rng([0, i])) for i in range(200)]
    met = [(there_in(episode.support.x), there_in(episode.query.x)) for episode in drawn]
    counts = [met.count(both) for both in {*met}]
    assert len(counts) == 9 and min(counts) > 8  # 22 expected


def test_the_network_does_not_look_at_what_is_missing():
    torch.manual_seed(0)
    network = Network((9,), 2, SHAPES, 4)
    x = torch.randn(3, 9)
    x[:, :2] = torch.tensor([1.0, 0.0])
    other = x.clone()
    other[:, 6:] = torch.randn(3, 3)
    assert torch.equal(network(x), network(other))
    both, far = x.clone(), x.clone()
    both[:, 1], far[:, :2] = 1, torch.tensor([0.0, 1.0])
    torch.testing.assert_close(network.body(both), (network.body(x) + network.body(far)) / 2)


def test_a_task_of_one_sense_is_refused():
    with pytest.raises(InputError, match="model=senses is for tasks of several senses, and this one has none; use task=heard_and_seen"):
        Network((9,), 2, None, 4)
    with pytest.raises(InputError, match="task.query must be one of near, far, all, any, got 'smelt'"):
        Made(query="smelt")


def test_a_name_is_its_trigrams():
    apple, apples, crab, nameless = map(numbers_of, ("red-apple", "Apples", "crab", "--"))
    assert np.linalg.norm(apple) == pytest.approx(1) and not nameless.any()
    assert np.array_equal(apple, numbers_of("apple red"))
    assert apple @ apples > 0.5 > crab @ apples


def test_pictures_and_names_go_together(tmp_path):
    root = write_tree(tmp_path / "images", image_files())
    settings = ["task=named_pictures", f"task.root={root}", "task.size=16", "task.ways=2", "task.queries=2"]
    tasks = build_run(compose_run(*TINY, *settings)).data.tasks
    plain, both = tasks.pictures.classes("test"), tasks.classes("test")
    assert both.names == plain.names
    for name, rows, known in zip(both.names, both.members, plain.members, strict=True):
        pictures, names = np.split(both.inputs[rows][:, 2:], [3 * 16 * 16], axis=1)
        np.testing.assert_allclose(pictures, plain.inputs[known].reshape(len(rows), -1) / 255, rtol=1e-6)
        np.testing.assert_allclose(names, np.tile(numbers_of(name), (len(rows), 1)), rtol=1e-6)


@pytest.mark.parametrize("algo", ["algo=maml", "algo=protonet", "algo=baseline"])
def test_any_learner_takes_them(algo, tmp_path):
    root = write_tree(tmp_path / "images", image_files())
    few = ["task.ways=2", "task.queries=2", "task.size=16", "task.support=name", "task.query=any"]
    results = run(compose_run(*TINY, "task=named_pictures", f"task.root={root}", algo, *few), tmp_path / "run")
    assert 0 <= results["value"] <= 1
    x = torch.cat([torch.ones(4, 2), torch.rand(4, 3 * 16 * 16 + 256)], 1)
    learner = innerloop.load(tmp_path / "run").fit(x, ["a", "b", "a", "b"])
    assert set(learner.predict(x)) <= {"a", "b"}


def test_recordings_of_other_words_and_too_many_of_them_are_refused():
    images = Classes(np.zeros((9, 1, 2, 2)), [np.arange(9)], ["7"])
    check_digits(images, Classes(np.zeros((2, 3)), [np.arange(2)], ["7/ann"]))
    with pytest.raises(InputError, match="task.heard has recordings of 'eight', and MNIST shows digits"):
        check_digits(images, Classes(np.zeros((2, 3)), [np.arange(2)], ["eight/ann"]))
    with pytest.raises(InputError, match="task.heard needs 12 images of a 7, 4 a recording, and the split has 9"):
        check_digits(images, Classes(np.zeros((3, 3)), [np.arange(2), np.arange(1)], ["7/ann", "7/bob"]))
    with pytest.raises(InputError, match="task.heard=/nowhere is not there"):
        HeardAndSeen("x", "/nowhere", {}, 8000, 0.64, 32, "all", "all", "any", "any", **COUNTS)


@pytest.mark.skipif(not (DATA / "mnist").is_dir() or not (DATA / "fsdd").is_dir(), reason="no data; set INNERLOOP_DATA")
def test_what_is_heard_is_what_is_seen():
    """An episode is of one speaker of its split, and has no recording and no image twice."""
    speakers = {"train": ["jackson"], "val": ["george"], "test": ["theo"]}
    tasks = HeardAndSeen(
        str(DATA / "mnist"), str(DATA / "fsdd" / "recordings.zip"), speakers, 8000, 0.64, 32, "all", "all", "any", "any",
        **COUNTS | {"ways": 10},
    )  # fmt: skip
    classes = tasks.classes("test")
    images, recordings = tasks.digits.classes("test"), tasks.spoken.classes("test")
    assert {group.partition("/")[0] for group in classes.groups} == {"theo"}
    assert len(classes.origins) == len(classes.inputs) == COPIES * len({*classes.origins})  # disjoint=true counts a recording once
    known = {image.tobytes(): digit for digit, rows in zip(images.names, images.members, strict=True) for image in images.inputs[rows]}
    named = zip(recordings.names, recordings.members, strict=True)
    heard_as = {recording.tobytes(): name for name, rows in named for recording in recordings.inputs[rows]}
    for name, rows in zip(classes.names, classes.members, strict=True):
        digit, speaker, _ = name.split("/")
        pictures, sounds = np.split(classes.inputs[rows][:, 2:], [28 * 28], axis=1)
        pictures = [image.tobytes() for image in (pictures * 255).round().astype(np.uint8)]
        sounds = [sound.tobytes() for sound in sounds]
        assert {known[image] for image in pictures} == {digit} and {heard_as[sound] for sound in sounds} == {f"{digit}/{speaker}"}
        assert len({*pictures}) == len({*sounds}) == len(rows) == 50
