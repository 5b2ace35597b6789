"""Glyphs: the classes are many, apart from each other and split by script; the images are the same everywhere."""

import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import torch

from innerloop.config import InputError
from innerloop.tasks.base import Split
from innerloop.tasks.images import glyphs
from innerloop.tasks.images.glyphs import Glyphs

SPLITS: tuple[Split, ...] = ("train", "val", "test")
DIGEST = """
import hashlib
from innerloop.tasks.images.glyphs import characters_of, draw_split
print(ascii("".join(characters_of("val"))), hashlib.sha256(draw_split("val").tobytes()).hexdigest())
"""


def make(ways: int = 5, shots: int = 1, queries: int = 15, train_ways: int = 5, train_shots: int = 1, train_queries: int = 15) -> Glyphs:
    return Glyphs(ways, shots, queries, train_ways, train_shots, train_queries)


def images_by_class() -> np.ndarray:
    """All classes of all splits: (classes, 20, 784)."""
    return np.concatenate([glyphs.draw_split(split).reshape(-1, 20, 28 * 28) for split in SPLITS])


def test_there_are_hundreds_of_classes_most_of_them_for_training():
    sizes = {split: len(glyphs.characters_of(split)) for split in SPLITS}
    assert sum(sizes.values()) >= 300
    assert sizes["train"] > 0.6 * sum(sizes.values())
    assert min(sizes.values()) >= 20  # 20 ways work in every split


def test_no_script_and_no_class_is_in_two_splits():
    characters = {split: set(glyphs.characters_of(split)) for split in SPLITS}
    scripts = {split: {unicodedata.name(c).split()[0] for c in characters[split]} for split in SPLITS}
    for a, b in [("train", "val"), ("train", "test"), ("val", "test")]:
        assert not scripts[a] & scripts[b]
        assert not characters[a] & characters[b]


def test_no_two_classes_look_alike_on_average():
    means = images_by_class().mean(1)
    assert np.triu(np.corrcoef(means), 1).max() < 0.98


@pytest.mark.parametrize("pair", ["oO", "cC", "AА", "AΑ", "oо"])  # lower and upper case; Latin and Cyrillic, Latin and Greek
def test_scaled_copies_and_letters_shared_by_scripts_are_one_class(pair):
    every = {character for split in SPLITS for character in glyphs.characters_of(split)}
    assert len(every & set(pair)) == 1


def test_the_20_images_of_a_class_all_differ_and_none_is_blank():
    classes = images_by_class()
    assert min(len(np.unique(images, axis=0)) for images in classes) == 20
    assert (classes.sum(-1, dtype=np.int64) > 5 * 255).all()


def test_no_font_draws_a_class_as_blank_or_as_its_box_for_missing_characters():
    for font in glyphs._fonts():
        missing = bytes(font.face.getmask("\uffff"))
        for character in (c for split in SPLITS for c in glyphs.characters_of(split) if ord(c) in font.characters):
            assert bytes(font.face.getmask(character)) not in (missing, b""), (font.face.path, character)


def test_two_processes_draw_the_same_images(capsys):
    exec(DIGEST, {})
    other = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True)
    assert other.stdout == capsys.readouterr().out != ""


def test_no_caller_can_change_the_images_that_all_share():
    with pytest.raises(ValueError, match="read-only"):
        glyphs.draw_split("val")[0] = 0


@pytest.mark.parametrize("split", SPLITS)
def test_an_episode_has_the_shape_that_its_split_asks_for(split):
    tasks = make(ways=20, shots=1, queries=5, train_ways=7, train_shots=3, train_queries=4)
    ways, shots, queries = (7, 3, 4) if split == "train" else (20, 1, 5)
    episode = tasks.distribution(split).sample(np.random.default_rng(0))
    for examples, per_class in [(episode.support, shots), (episode.query, queries)]:
        assert examples.x.shape == (ways * per_class, *tasks.input_shape)
        assert examples.x.dtype == torch.float32 and 0 <= examples.x.min() and 0.9 < examples.x.max() <= 1
        assert examples.x.mean() < 0.5  # ink is 1 and rare
        assert examples.y.bincount().tolist() == [per_class] * ways
    assert tasks.outputs == tasks.ways == 20


def test_raw_pixels_neither_solve_it_nor_fail():
    """The floor of a stand-in that still leaves something to learn: nearest class mean, 5 ways, 5 shots."""
    distribution = make(shots=5).distribution("test")
    right = []
    for index in range(100):
        support, query = distribution.sample(np.random.default_rng([0, index]))
        means = torch.stack([support.x[support.y == way].mean(0) for way in range(5)])
        right.append((torch.cdist(query.x.flatten(1), means.flatten(1)).argmin(1) == query.y).float().mean().item())
    assert 0.5 < np.mean(right) < 0.75


@pytest.mark.parametrize(
    ("split", "arguments", "message"),
    [
        ("train", {"train_ways": 5000}, "lower task.ways"),
        ("val", {"ways": 5000}, "task.ways=5000 asks for more than the"),
        ("test", {"shots": 6}, "has 20 examples but an episode needs shots \\+ queries = 21; lower task.shots"),
    ],
)
def test_more_than_there_is_is_refused_by_name(split, arguments, message):
    with pytest.raises(InputError, match=message):
        make(**arguments).distribution(split)


@pytest.mark.parametrize("name", ["ways", "shots", "queries", "train_ways", "train_shots", "train_queries"])
def test_a_count_of_zero_is_refused_by_name(name):
    with pytest.raises(InputError, match=f"task.{name} must be a whole number"):
        make(**{name: 0})


def test_ink_on_paper_is_read_as_strokes_of_1_on_0():
    paper = np.full((28, 28), 255, np.uint8)
    ink = paper.copy()
    ink[10:18, 10:18] = 0
    assert make().reader.read(paper, "it").max() == 0 and make().reader.read(ink, "it").max() == 1
