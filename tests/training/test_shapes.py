"""Episodes of any number of classes and shots: one shape for each meta-batch of training, one for each episode that is scored."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import innerloop
from innerloop.algorithms.maml import MAML
from innerloop.algorithms.protonet import ProtoNet
from innerloop.algorithms.ridge import Ridge
from innerloop.config import InputError
from innerloop.engine import forward as engines
from innerloop.objective import CLASSIFICATION
from innerloop.runs.answers import read_answers
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
from innerloop.runs.frozen_episodes import write_episodes
from innerloop.training.data import EpisodeDataset, MetaBatches
from innerloop.training.shares import Execution, TaskShares
from tests.command_line import call
from tests.conftest import TINY, classification_episodes, compose_run, make_model

TABLES = (*TINY, "task=tabular", "task.ways=[2,4]", "task.shots=[1,6]", "task.queries=3", "test_episodes=12")
TIED = ("algo=maml", "algo.head=tied")


def dataset(*overrides):
    return build_run(compose_run(*TABLES, "algo=protonet", *overrides)).data


def shape(episode):
    ways = int(episode.support.y.max()) + 1
    return ways, episode.support.x.shape[-2] // ways


def test_a_meta_batch_has_one_shape_and_every_scored_episode_its_own():
    data = dataset("outer_steps=60", "val_every=60", "meta_batch_size=4", "test_episodes=60")
    batches = [shape(data.train_episodes.meta_batch(range(i, i + 4))) for i in range(0, 240, 4)]
    tested = [shape(data.test_episodes[i]) for i in range(60)]
    for shapes in (batches, tested):
        ways, shots = zip(*shapes, strict=True)
        assert {*ways} == {2, 3, 4} and {*shots} == {1, 2, 3, 4, 5, 6}
    query = data.test_episodes[0].query
    assert query.y.bincount().tolist() == [3] * shape(data.test_episodes[0])[0]


@pytest.mark.parametrize("overrides", [TABLES, (*TINY, "task=sinusoid", "task.shots=[2,9]")])
def test_two_devices_take_the_same_meta_batches(overrides):
    episodes = build_run(compose_run(*overrides, "algo=ridge", "meta_batch_size=4", "outer_steps=6")).data.train_episodes
    of_ranks = [MetaBatches(episodes, 2, rank, 2) for rank in (0, 1)]
    for step in range(2):
        whole = episodes.meta_batch(range(4 * step, 4 * step + 4))
        for rank, batches in enumerate(of_ranks):
            for ours, theirs in zip(batches[step], whole, strict=True):
                assert torch.equal(ours.x, theirs.x[rank::2]) and torch.equal(ours.y, theirs.y[rank::2])


def test_shapes_do_not_depend_on_what_else_is_drawn():
    """Episodes of a fixed shape are as they were before there were others."""
    fixed = build_run(compose_run(*TINY, "task=tabular", "task.ways=3")).data.train_episodes
    again = EpisodeDataset(fixed.tasks, 10, fixed.key, of_one_shape=5)
    assert torch.equal(fixed[3].support.x, again[3].support.x)


def hand_written(algorithm, episodes):
    """MAML with a tied head, one task after the other."""
    losses = []
    for sx, sy, qx, qy in zip(*episodes.support, *episodes.query, strict=True):
        weights = dict(algorithm.model.named_parameters())
        ways = int(sy.max()) + 1
        weights = {name: w.expand(ways, *w.shape[1:]) if name.startswith("head.") else w for name, w in weights.items()}
        for _ in range(algorithm.adaptation_steps):
            loss = cross_entropy(torch.func.functional_call(algorithm.model, weights, (sx,)), sy)
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            weights = {name: w - algorithm.inner_lr * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
        losses.append(cross_entropy(torch.func.functional_call(algorithm.model, weights, (qx,)), qy))
    return torch.autograd.grad(torch.stack(losses).mean(), list(algorithm.model.parameters()))


@pytest.mark.parametrize("engine, threads", [("vmap", 1), ("loop", 1), ("loop", 2)])
def test_the_outer_gradient_is_that_of_a_loop_over_tasks(engine, threads, float64):
    model, shape = make_model("conv4_max", ways=5)
    algorithm = MAML(model, CLASSIFICATION, getattr(engines, engine), 0.3, 2, head="tied")
    algorithm.varied = True
    shares = TaskShares(algorithm, Execution(algorithm.engine, None, False), threads)
    for ways, shots in ((3, 2), (7, 1), (2, 4), (3, 1)):
        episodes = classification_episodes(4, shape, ways=ways, shots=shots)
        algorithm.zero_grad()
        shares.outer_loss(episodes)[0].backward()
        expected = hand_written(algorithm, episodes)
        for parameter, wanted in zip(algorithm.model.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("algo", [TIED, ("algo=fomaml", "algo.head=zero"), ("algo=protonet",), ("algo=joint",), ("algo=ridge",)])
def test_an_interrupted_run_ends_in_the_same_numbers(algo, tmp_path):
    cfg = compose_run(*TABLES, *algo, "outer_steps=8", "val_every=4", "threads=2")
    whole = run(cfg, tmp_path)
    for name in ("results.json", "checkpoints/step-00000008.ckpt"):
        (tmp_path / name).unlink()
    again = run(cfg, tmp_path)
    assert again["curve"] == whole["curve"] and again["by_shape"] == whole["by_shape"]
    assert again["ways"] == [2, 4] and again["shots"] == [1, 6]
    assert sum(row["episodes"] for row in again["by_shape"]["ways"]) == 12
    mean = sum(row["episodes"] * row["value"] for row in again["by_shape"]["shots"]) / 12
    assert mean == pytest.approx(again["value"], abs=1e-6)


def test_how_many_are_scored_at_once_changes_nothing(tmp_path):
    one, many = (run(compose_run(*TABLES, *TIED, f"eval_batch_size={size}"), tmp_path / str(size)) for size in (1, 25))
    assert one["curve"] == many["curve"]


def test_a_report_shows_episodes_of_all_sizes(tmp_path):
    run(compose_run(*TABLES, *TIED), tmp_path / "run")
    answers = read_answers(tmp_path / "run" / "answers.npz")
    episodes = build_run(compose_run(*TABLES, *TIED)).data.test_episodes
    assert [(row >= 0).sum() for row in answers.truth] == [len(episodes[i].query.y) for i in range(12)]
    assert ((answers.truth >= 0) == (answers.classes >= 0)).all() and np.isfinite(answers.confidence[answers.truth >= 0]).all()
    call("-m", "innerloop", "report", str(tmp_path / "run"))
    page = next(tmp_path.rglob("*.html")).read_text()
    assert "By number of classes" in page and "The worst test episode" in page


def test_frozen_episodes_keep_their_shapes(tmp_path):
    drawn = dataset().test_episodes
    write_episodes(tmp_path / "test.npz", drawn, 12)
    results = run(compose_run(*TABLES, *TIED), tmp_path / "drawn")
    frozen = run(compose_run(*TABLES, *TIED, f"episodes={tmp_path / 'test.npz'}"), tmp_path / "frozen")
    assert frozen["curve"] == results["curve"] and frozen["episodes_checksum"] == results["episodes_checksum"]
    with pytest.raises(InputError, match="are of many shapes, and this task's of one shape; set task.ways"):
        build_run(compose_run(*TINY, "task=tabular", f"episodes={tmp_path / 'test.npz'}"))


def test_a_trained_run_takes_other_ways(tmp_path):
    run(compose_run(*TINY, "task=tabular", "task.ways=3", *TIED), tmp_path / "run")
    call("-m", "innerloop", "eval", str(tmp_path / "run"), "task.ways=5", "task.shots=[1,4]")
    (other,) = (tmp_path / "run" / "evaluations").glob("*.json")
    assert json.loads(other.read_text())["ways"] == 5


@pytest.mark.parametrize("algo", [TIED, ("algo=joint",)])
def test_a_trained_run_is_fitted_to_more_classes(algo, tmp_path):
    run(compose_run(*TINY, "task=tabular", "task.ways=3", *algo), tmp_path / "run")
    x, y = np.random.default_rng(0).standard_normal((14, 10)).astype(np.float32), np.arange(14) % 7
    learner = innerloop.load(tmp_path / "run").fit(x, y)
    assert learner.predict_proba(x).shape == (14, 7) and set(learner.predict(x)) <= set(range(7))
    learner.save(tmp_path / "kept")
    np.testing.assert_allclose(innerloop.load(tmp_path / "kept").predict_proba(x), learner.predict_proba(x), rtol=1e-5)


def test_functions_of_any_number_of_points(tmp_path):
    results = run(compose_run(*TINY, "task=sinusoid", "task.shots=[2,9]", "algo=cnp", "test_episodes=12"), tmp_path)
    assert results["shots"] == [2, 9] and {*results["by_shape"]} == {"shots"}


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (
            ["algo=maml"],
            r"task.ways=\[2, 4\] and task.train_ways=\[2, 4\] are not one number, but MAML has one output for each way; .*tied",
        ),
        (["algo=metasgd"], "are not one number, but MetaSGD has one output"),
        (["algo=metasgd", "algo.head=tied"], "algo.head=tied is one row for all classes, and MetaSGD learns numbers for each; use own"),
        (["algo=learned_rates", "algo.per=weight", "algo.head=zero"], "algo.head=zero is one row for all classes, and LearnedRates learns"),
        (["algo=metasgd", "algo.inner_lr=[0.1,0.2]"], r"algo.inner_lr must be a number > 0, got \[0.1, 0.2\]"),
        (["algo=maml", "algo.inner_lr=[0.1,0.2]", "engine=learn2learn"], "engine=learn2learn has no part for a list of algo.inner_lr"),
        ([*TIED, "engine.compile=true"], "engine.compile=true compiles for one shape of episodes"),
        ([*TIED, "steps_at_once=2"], "steps_at_once=2 takes meta-batches of one shape"),
        ([*TIED, "disjoint=true"], "disjoint=true draws episodes of one shape"),
        ([*TIED, "task.ways=[4,2]"], r"task.ways must be a whole number >= 2, or a range .* of such, got \[4, 2\]"),
        ([*TIED, "task.shots=[1,2,3]"], "task.shots must be a whole number"),
        (["algo=maml", "algo.head=tied", "engine=learn2learn"], "engine=learn2learn has no part for algo.head"),
    ],
)
def test_what_does_not_go_together_is_said(overrides, sentence):
    with pytest.raises(InputError, match=sentence):
        build_run(compose_run(*TABLES, *overrides))


@pytest.mark.parametrize("cls", [ProtoNet, Ridge])
def test_prototypes_know_how_many_classes_there_are(cls):
    model, shape = make_model("mlp")
    more = {"strength": 1.0, "scale": 1.0, "intercept": True, "learned": True} if cls is Ridge else {}
    algorithm = cls(model, CLASSIFICATION, engines.vmap, 3, 3, **more)
    algorithm.varied = True
    for ways in (2, 6):
        episodes = classification_episodes(2, shape, ways=ways)
        algorithm.told(episodes)
        assert algorithm(episodes)[1].shape[-1] == ways
