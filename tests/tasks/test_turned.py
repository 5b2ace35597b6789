"""Drawings that are turned, counted from a direction that only the support set tells."""

import math

import numpy as np
import pytest
import torch

import innerloop
from innerloop.config import InputError
from innerloop.objective import degrees_off
from innerloop.runs.experiment import run
from innerloop.tasks.images.turned import Turned, turned
from tests.conftest import TINY, compose_run

SETTINGS = {"of": "glyphs", "root": None, "split": None, "channels": 1, "size": 28, "shots": 4, "queries": 6}


def directions(degrees):
    radians = torch.tensor(degrees) * math.pi / 180
    return torch.stack([radians.cos(), radians.sin()], -1)


def test_the_error_is_the_angle_between_directions():
    """Whatever their lengths, and around the circle."""
    y = directions([[0.0, 90.0, 350.0], [10.0, 10.0, 10.0]])
    predictions = directions([[30.0, 90.0, 10.0], [190.0, 10.0, 10.0]]) * torch.tensor([[2.0], [0.5]])[:, :, None]
    assert degrees_off(predictions, y).tolist() == pytest.approx([50 / 3, 60.0], abs=1e-3)
    predictions[1, 0, 0] = torch.nan
    assert degrees_off(predictions, y).isnan().tolist() == [False, True]


def test_targets_are_the_angles_of_one_drawing_from_a_direction_of_the_episode():
    tasks = Turned(**SETTINGS)
    episodes = tasks.distribution("test")
    origins = []
    for index in range(3):
        episode, same = (episodes.sample(np.random.default_rng(index)) for _ in range(2))
        assert torch.equal(episode.query.x, same.query.x) and torch.equal(episode.query.y, same.query.y)
        rng = np.random.default_rng(index)
        drawing = episodes.images[rng.choice(episodes.rows[rng.integers(len(episodes.rows))])]
        origin, angles = rng.uniform(0, 360), rng.uniform(0, 360, 10)
        both = torch.cat([episode.support.x, episode.query.x]), torch.cat([episode.support.y, episode.query.y])
        for x, y, angle in zip(*both, angles, strict=True):
            assert torch.equal(x, turned(drawing, angle))
            torch.testing.assert_close(y, directions(float(angle + origin)), rtol=0, atol=1e-5)
        origins.append(origin)
    assert len({*origins}) == 3
    quarter = turned(drawing, 90)
    np.testing.assert_array_equal((255 * quarter).round().byte().numpy(), np.rot90(drawing, axes=(1, 2)))


@pytest.mark.parametrize("algo", ["maml", "ridge", "joint"])
def test_learners_learn_it_and_are_used(algo, tmp_path):
    results = run(compose_run(*TINY, "task=turned", "model.filters=4", f"algo={algo}"), tmp_path / "run")
    assert results["metric"] == "degrees" and 0 < results["value"] < 180
    episode = Turned(**SETTINGS).distribution("test").sample(np.random.default_rng(0))
    learner = innerloop.load(tmp_path / "run").fit(episode.support.x.numpy(), episode.support.y.numpy())
    assert learner.predict(episode.query.x.numpy()).shape == (6, 2)


def test_what_does_not_fit_is_said():
    with pytest.raises(InputError, match="task.of must be one of glyphs, omniglot, images, got 'faces'"):
        Turned(**SETTINGS | {"of": "faces"})
