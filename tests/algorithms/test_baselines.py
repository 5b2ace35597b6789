"""The baselines do what they say, and a comparison warns where meta-learning does not beat them."""

import re

import pytest
import torch
from torch import nn

from innerloop.algorithms.centroid import Centroid
from innerloop.algorithms.joint import Joint
from innerloop.algorithms.nearest_mean import NearestMean
from innerloop.algorithms.sinusoid_oracle import SinusoidOracle
from innerloop.config import InputError
from innerloop.engine import forward as engines
from innerloop.episode import Examples
from innerloop.objective import CLASSIFICATION, REGRESSION
from innerloop.runs.build import build_run
from innerloop.runs.experiment import load_weights, run
from innerloop.runs.rescore import rescore
from innerloop.training.checkpoint import read
from tests.command_line import call
from tests.conftest import TINY, classification_episodes, compose_run, make_model


@pytest.fixture
def episodes():
    return classification_episodes(4, (1, 16, 16))


def test_class_labels_name_the_same_images():
    """Episodes labelled by class are those labelled by way, with other names: one way is one class throughout an episode."""
    by_way, by_class = (build_run(compose_run("task=glyphs", f"algo={algo}", "task.shots=2")).data for algo in ("maml", "centroid"))
    classes = by_class.tasks.train_classes
    assert classes == len(by_class.tasks.distribution("train").members) and not by_class.tasks.distribution("train").by_class
    seen = set()
    for index in range(20):
        way, own = by_way.train_episodes[index], by_class.train_episodes[index]
        assert torch.equal(way.support.x, own.support.x) and torch.equal(way.query.x, own.query.x)
        pairs = {(int(a), int(b)) for part in (0, 1) for a, b in zip(way[part].y, own[part].y, strict=True)}
        assert len(pairs) == len(dict(pairs)) == by_way.tasks.ways
        seen |= {label for _, label in pairs}
    assert len(seen) > by_way.tasks.ways and max(seen) < classes
    assert torch.equal(by_way.test_episodes[0].query.y, by_class.test_episodes[0].query.y)


@pytest.mark.parametrize("cls", [Joint, Centroid])
def test_they_learn_the_classes_of_the_training_split(cls, episodes):
    """The loss is that of a classifier on all examples; the head of an episode takes no part in it."""
    arguments = [7, 0.1] if cls is Joint else [3, 3, 7]
    algorithm = cls(make_model("conv4_stride")[0], CLASSIFICATION, engines.loop, *arguments)
    losses, predictions = algorithm(episodes)
    assert predictions.shape == (4, episodes.query.y.shape[1], 7)
    for task in range(4):
        x, y = (torch.cat([part[i][task] for part in episodes]) for i in (0, 1))
        expected = nn.functional.cross_entropy(algorithm.classifier(algorithm.model.body(x)), y)
        torch.testing.assert_close(losses[task], expected)
    gradients = torch.autograd.grad(losses.sum(), algorithm.trained())
    assert all(gradient.abs().sum() > 0 for gradient in gradients[-2:])


def test_joint_begins_an_episode_at_a_head_that_knows_nothing(episodes):
    algorithm = Joint(make_model("conv4_stride")[0], CLASSIFICATION, engines.loop, 7, 0.5)
    with torch.no_grad():
        before, *_, after = algorithm.trajectory(episodes.support, 20)
        assert not algorithm.predict(before, episodes.query.x).any()
        fitted = algorithm.predict(after, episodes.support.x).argmax(-1)
    assert (fitted == episodes.support.y).float().mean() > 0.8


def test_centroid_compares_directions():
    algorithm = Centroid(make_model("mlp")[0], CLASSIFICATION, engines.loop, 3, 3, 7)
    episodes = classification_episodes(4, (4,))
    assert torch.allclose(algorithm.embed(episodes.query.x).norm(dim=-1), torch.ones(4, episodes.query.y.shape[1]))


def test_centroid_answers_ten_times_the_similarity():
    """Logits by hand: -10 |z - p|^2; z of length 1, p the mean of such."""
    algorithm = Centroid(make_model("mlp")[0], CLASSIFICATION, engines.loop, 3, 3, 7)
    episodes = classification_episodes(2, (4,))
    logits = algorithm.predict(algorithm.adapt(episodes.support), episodes.query.x)
    for task in range(2):
        z, queries = (nn.functional.normalize(algorithm.model(part.x[task]), dim=-1) for part in episodes)
        means = torch.stack([z[episodes.support.y[task] == way].mean(0) for way in range(3)])
        expected = -10 * (queries[:, None] - means).square().sum(-1)
        torch.testing.assert_close(logits[task], expected)


def test_nearest_mean_is_that_of_the_inputs(episodes):
    algorithm = NearestMean(make_model("mlp")[0], CLASSIFICATION, engines.vmap, 3, 3, nn.Flatten())
    answers = algorithm.predict(algorithm.adapt(episodes.support), episodes.query.x).argmax(-1)
    for task, (x, y) in enumerate(zip(*episodes.support, strict=True)):
        means = torch.stack([x[y == way].mean(0) for way in range(3)]).flatten(1)
        assert torch.equal(answers[task], torch.cdist(episodes.query.x[task].flatten(1), means).argmin(-1))
    assert not algorithm.trained()


def test_the_oracle_needs_two_points():
    amplitude, phase, x = torch.tensor([[1.0], [4.0]]), torch.tensor([[0.3], [2.0]]), torch.linspace(-4, 4, 9).expand(2, 9)
    y = amplitude * torch.sin(x - phase)
    oracle = SinusoidOracle(nn.Identity(), REGRESSION, engines.vmap)
    predicted = oracle.predict(oracle.adapt(Examples(x[:, 2:4, None], y[:, 2:4, None])), x[..., None])
    torch.testing.assert_close(predicted[..., 0], y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (["algo=centroid"], "algo=centroid learns the classes of the training split, and this task has none; use algo=joint"),
        (["algo=sinusoid_oracle", "task=glyphs"], "algo=sinusoid_oracle fits sinusoids, and this task is classification"),
        (["algo=nearest_mean"], "classifies, and this task is regression"),
    ],
)
def test_they_say_what_they_are_not_for(overrides, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        run(compose_run(*overrides, *TINY), tmp_path)


def test_nearest_mean_is_not_transductive(tmp_path):
    assert run(compose_run("algo=nearest_mean", "task=glyphs", *TINY, "threads=2"), tmp_path)["transductive"] is False


@pytest.mark.parametrize("algo", ["joint", "centroid"])
def test_they_are_scored_on_other_classes_and_ways(algo, tmp_path):
    """The classifier of the training classes plays no part in it."""
    run(compose_run(f"algo={algo}", "task=glyphs", *TINY), tmp_path)
    checkpoint = read(tmp_path / "checkpoints" / "best.ckpt")["state_dict"]
    other = build_run(compose_run(f"algo={algo}", "task=glyphs", "task.ways=3", *TINY)).learner
    other.algorithm.classifier = nn.Linear(other.algorithm.classifier.in_features, 11)
    load_weights(other, tmp_path / "checkpoints" / "best.ckpt", to_score=True)
    assert torch.equal(other.state_dict()["algorithm.model.body.0.0.weight"], checkpoint["algorithm.model.body.0.0.weight"])
    assert rescore(tmp_path, ["task.ways=3"])[0]["ways"] == 3


def test_a_comparison_without_its_baseline_says_so(tmp_path):
    _, stderr = call("train.py", "sweep=compare_sinusoid", *TINY, "algo=joint", "seed=0", f"hydra.sweep.dir={tmp_path}", code=1)
    assert stderr == "Error: no run of maml is finished, which the others are to be compared with\n"


def test_a_comparison_is_beside_the_choice_that_it_names(tmp_path):
    """Of several choices of one algorithm; and of other episodes apart."""
    choices = ["hydra.sweeper.params.algo='zoo/tied,zoo/maml'", "seed=0", f"hydra.sweep.dir={tmp_path}", "task=glyphs", "model.filters=4"]
    for ways in (5, 3):
        stdout, _ = call("train.py", "sweep=zoo_omniglot", *choices, f"task.ways={ways}", *TINY, "scheduler=constant")
    assert stdout.count("beside algo.head=own") == 2 and "next: innerloop report" in stdout


def test_a_comparison_warns_where_meta_learning_does_not_win(tmp_path):
    """An untrained MAML is no better than joint training, and the oracle is no baseline; the same command takes the runs that are there."""
    command = ["train.py", "sweep=compare_sinusoid", *TINY, "seed=0", f"hydra.sweep.dir={tmp_path}"]
    stdout, _ = call(*command)
    assert "5 finished, 0 failed" in stdout and "beside algo=maml" in stdout
    assert re.search(
        "Note: (it is not decided whether algo=maml beats|algo=maml gains nothing|the baseline algo=joint is better).*algo", stdout
    )
    assert "the baseline algo=sinusoid_oracle" not in stdout
    assert call(*command)[0].count("holds the results of this run already") == 5
