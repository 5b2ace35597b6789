"""Pictures as functions from places to colours."""

import json
import math

import numpy as np
import pytest
import torch

from innerloop.config import InputError
from innerloop.models.siren import Siren
from innerloop.objective import PICTURE
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
from tests.command_line import call
from tests.conftest import TINY, compose_run
from tests.tiny_data import image_files, write_tree

SMALL = ["task.size=8", "model.hidden=[8]"]


@pytest.fixture
def pictures(tmp_path):
    root = write_tree(tmp_path / "images", image_files())
    return [*TINY, "task=pictures", f"task.root={root}", *SMALL]


def test_an_episode_is_a_picture(pictures):
    tasks = build_run(compose_run(*pictures)).data.tasks
    episodes = tasks.distribution("test")
    (x, y), query = episodes.sample(np.random.default_rng(0))
    assert x.shape == (64, 2) and y.shape == (64, 3) and torch.equal(x, query.x)
    assert x[0].tolist() == pytest.approx([-7 / 8, -7 / 8]) and x[1].tolist() == pytest.approx([-7 / 8, -5 / 8])  # down, right
    image = y.view(8, 8, 3).permute(2, 0, 1)
    of_test = torch.from_numpy(episodes.images[episodes.rows]).float() / 255
    assert any(torch.allclose(image, other) for other in of_test)


def test_splits_share_no_picture(pictures):
    tasks = build_run(compose_run(*pictures)).data.tasks
    rows = [set(tasks.distribution(split).rows.tolist()) for split in ("train", "val", "test")]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]


def test_some_pixels_are_some_of_the_picture(pictures):
    built = build_run(compose_run(*pictures, "task.pixels=10"))
    (x, y), query = built.data.test_episodes[0]
    assert x.shape == (10, 2) and query.x.shape == (64, 2)
    for place, color in zip(x, y, strict=True):
        (same,) = (query.x == place).all(1).nonzero()
        assert torch.equal(query.y[same[0]], color)


def test_decibels():
    y = torch.rand(2, 5, 3)
    assert PICTURE.score(y + 0.1, y).tolist() == pytest.approx([20, 20], abs=1e-3)
    assert math.isnan(PICTURE.score(y * torch.nan, y)[0])


def test_a_siren_keeps_the_size_of_what_goes_through():
    torch.manual_seed(0)
    model = Siren((2,), 3, [256, 256, 256], 30.0)
    x = 2 * torch.rand(500, 2) - 1
    for layer in model.body:
        x = layer(x)
        assert 0.5 < x.std() < 0.85  # of the sine of much is 0.71
    assert (model(2 * torch.rand(500, 2) - 1) - 0.5).abs().max() < 0.3


@pytest.mark.parametrize("algo", ["maml", "metasgd", "joint", "reptile", "ridge", "cnp"])
def test_they_are_learned(algo, pictures, tmp_path):
    results = run(compose_run(*pictures, f"algo={algo}"), tmp_path / "run")
    assert results["metric"] == "psnr" and not results["lower_is_better"] and results["value"] is not None


def test_the_report_draws_them(pictures, tmp_path):
    call("train.py", *pictures, "task.pixels=20", f"hydra.run.dir={tmp_path / 'run'}")
    call("-m", "innerloop", "report", str(tmp_path / "run"))
    page = next((tmp_path / "run").glob("*.html")).read_text()
    assert "Unseen pictures" in page and "after 2 steps" in page
    assert json.loads((tmp_path / "run" / "results.json").read_text())["ways"] is None


def test_more_pixels_than_there_are(pictures):
    with pytest.raises(InputError, match="task.pixels=65 asks for more than the 64 of a picture; lower it, or set it to null"):
        build_run(compose_run(*pictures, "task.pixels=65"))
