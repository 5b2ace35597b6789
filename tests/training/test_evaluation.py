"""The evaluation protocol: intervals that cover, curves that match plain adaptation, inductive predictions that see no other query."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.func import functional_call

from innerloop.algorithms.anil import ANIL
from innerloop.algorithms.maml import MAML
from innerloop.algorithms.protonet import ProtoNet
from innerloop.engine import forward as engines
from innerloop.episode import Episode
from innerloop.models.conv4 import Conv4
from innerloop.objective import CLASSIFICATION
from innerloop.runs.build import build_run
from innerloop.training.batch_statistics import batch_norms, statistics_known
from innerloop.training.evaluation import adaptation_curve, mean_ci95, measures_of, predict_queries, reported_steps
from tests.conftest import TINY, classification_episodes, compose_run, make_model


@pytest.mark.parametrize("draw", ["normal", "accuracies of 15 answers"])
def test_intervals_cover_the_true_mean_95_times_in_100(draw):
    generator = torch.Generator().manual_seed(0)
    runs, episodes = 4000, 600
    if draw == "normal":
        truth, scores = 0.3, 0.3 + 2 * torch.randn(runs, episodes, generator=generator)
    else:
        skill = torch.full((runs, episodes, 15), 0.9)
        truth, scores = 0.9, torch.bernoulli(skill, generator=generator).mean(-1)
    covered = 0
    for values in scores:
        mean, ci95 = mean_ci95(values)
        covered += abs(mean - truth) <= ci95
    # 3.3 standard deviations of a binomial(4000, 0.95) around it
    assert abs(covered / runs - 0.95) < 3.3 * math.sqrt(0.95 * 0.05 / runs)


def test_interval_formula():
    mean, ci95 = mean_ci95(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert mean == 3.0
    assert ci95 == pytest.approx(3.182446 * math.sqrt((4 + 1 + 0 + 9) / 3) / 2)  # Student's t of 3 degrees of freedom


def test_reported_steps():
    assert reported_steps(0) == [0]
    assert reported_steps(3) == [0, 1, 2, 3]
    assert reported_steps(45) == [*range(11), 20, 30, 40, 45]


@pytest.fixture
def maml():
    model, shape = make_model("conv4_stride")
    return MAML(model, CLASSIFICATION, engines.vmap, 0.1, 2, first_order=False), classification_episodes(3, shape)


def test_curve_is_what_adapting_that_many_steps_gives(maml):
    algorithm, episodes = maml
    curve = adaptation_curve(algorithm, episodes, reported_steps(3), transductive=True)
    assert curve.steps == [0, 1, 2, 3]
    for index, steps in enumerate(curve.steps):
        algorithm.adaptation_steps = steps
        losses, predictions = algorithm(episodes)
        torch.testing.assert_close(curve.measures["loss"][:, index], losses.detach())
        assert torch.equal(curve.measures["accuracy"][:, index], (predictions.argmax(-1) == episodes.query.y).float().mean(-1))


@pytest.mark.parametrize("cls", [MAML, ProtoNet])
@pytest.mark.parametrize("transductive", [True, False, "support"])
def test_inductive_predictions_ignore_the_other_queries(maml, cls, transductive):
    algorithm, episodes = maml
    if cls is ProtoNet:
        algorithm = ProtoNet(algorithm.model, CLASSIFICATION, engines.vmap, 3, 3)
    with torch.no_grad():
        adapted = algorithm.adapt(episodes.support)
        before = predict_queries(algorithm, adapted, episodes, transductive)
        episodes.query.x[:, 1:] = episodes.query.x[:, 1:].flip(-1) * 0.5
        after = predict_queries(algorithm, adapted, episodes, transductive)
    assert torch.equal(before[:, 0], after[:, 0]) is (transductive is not True)


@pytest.mark.parametrize("engine", [engines.vmap, engines.loop])
def test_statistics_of_the_support_set_normalise_the_queries(maml, engine):
    """As if the batch norms had been told mean and variance of each layer's support activations."""
    algorithm, episodes = maml
    algorithm.engine = engine
    with torch.no_grad():
        adapted = algorithm.adapt(episodes.support)
        found = predict_queries(algorithm, adapted, episodes, "support")
        fitted = algorithm.predict(adapted, episodes.support.x)
        mirrored = Episode(episodes.support, episodes.support)
        torch.testing.assert_close(predict_queries(algorithm, adapted, mirrored, "support"), fitted, atol=1e-5, rtol=1e-5)
        together = predict_queries(algorithm, adapted, episodes, True)
    assert found.shape == together.shape and not torch.allclose(found, together, atol=1e-3)
    assert all("forward" not in vars(layer) for layer in algorithm.modules())  # as before


@pytest.mark.parametrize("engine", [engines.vmap, engines.loop])
def test_each_query_is_normalised_with_the_support_set(maml, engine):
    """transductive=false by hand: the support set and one query in a batch of their own, whose last answer counts."""
    algorithm, episodes = maml
    algorithm.engine = engine
    with torch.no_grad():
        adapted = algorithm.adapt(episodes.support)
        found = predict_queries(algorithm, adapted, episodes, False)
        for task in range(len(found)):
            weights = {name: weight[task] for name, weight in adapted.items()}
            for query in range(found.shape[1]):
                batch = torch.cat([episodes.support.x[task], episodes.query.x[task, query : query + 1]])
                expected = functional_call(algorithm.model, weights, (batch,))[-1]
                torch.testing.assert_close(found[task, query], expected, rtol=1e-4, atol=1e-5)


def test_the_support_loss_is_that_of_the_support_set(maml):
    algorithm, episodes = maml
    curve = adaptation_curve(algorithm, episodes, [0, 1, 2], True, evidence=True)
    for step, adapted in enumerate(algorithm.trajectory(episodes.support, 2)):
        predictions = algorithm.predict(adapted, episodes.support.x)
        expected = [nn.functional.cross_entropy(p, y) for p, y in zip(predictions, episodes.support.y, strict=True)]
        torch.testing.assert_close(curve.measures["support_loss"][:, step], torch.stack(expected).detach())


def test_the_answers_are_those_of_the_first_and_the_last_step(maml):
    algorithm, episodes = maml
    curve = adaptation_curve(algorithm, episodes, [0, 2], True, evidence=True)
    with torch.no_grad():
        before, _, after = (algorithm.predict(adapted, episodes.query.x) for adapted in algorithm.trajectory(episodes.support, 2))
    assert curve.steps == [0, 2]
    assert torch.equal(curve.answers[..., 0], before.argmax(-1).float()) and torch.equal(curve.answers[..., 1], after.argmax(-1).float())
    torch.testing.assert_close(curve.answers[..., 2], after.softmax(-1).amax(-1))
    assert adaptation_curve(algorithm, episodes, [2], True).answers is None


def test_what_takes_no_steps_is_scored_whatever_was_asked_for(maml):
    algorithm, episodes = maml
    algorithm = ProtoNet(algorithm.model, CLASSIFICATION, engines.vmap, ways=3, train_ways=3)
    assert adaptation_curve(algorithm, episodes, [5], True).steps == [0]


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_only_batch_norm_makes_a_model_transductive(norm):
    model = Conv4((1, 16, 16), 3, filters=8, norm=norm, pool="stride").eval()
    assert bool(batch_norms(model)) is (norm == "batch")
    x = torch.rand(4, 1, 16, 16)
    alone, together = model(x[:2])[0], model(x)[0]
    assert torch.allclose(alone, together, atol=1e-6) is (norm != "batch")


def test_the_interval_holds_for_few_episodes_too():
    """In 95 of 100 samples of five the truth is inside, where 1.96 standard errors hold it in 88."""
    samples = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside = [abs(mean) <= half for mean, half in map(mean_ci95, samples)]
    assert sum(inside) / len(inside) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("measure", [CLASSIFICATION.score, *CLASSIFICATION.more.values()])
def test_a_classifier_that_diverged_has_no_score(measure, bad):
    """It is not a guess: the largest of NaNs is class 0."""
    predictions, y = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(0)), torch.arange(2).repeat(3, 3)
    whole = measure(predictions, y)
    predictions[1, 4, 0] = bad
    assert measure(predictions, y)[1].isnan() and torch.equal(measure(predictions, y)[[0, 2]], whole[[0, 2]])


def test_strangers_are_told_by_the_largest_logit_and_count_for_nothing_else():
    torch.manual_seed(0)
    predictions = torch.randn(8, 40, 5).round(decimals=1)  # with equal ones
    y = torch.cat([torch.randint(5, (8, 30)), torch.full((8, 10), -1)], 1)
    found = measures_of(CLASSIFICATION, predictions, y, evidence=True)
    without = measures_of(CLASSIFICATION, predictions[:, :30], y[:, :30], evidence=True)
    assert all(torch.equal(found[name], values) for name, values in without.items()) and found.keys() - without.keys() == {"auroc"}
    wanted = [roc_auc_score([1] * 30 + [0] * 10, task.amax(-1)) for task in predictions]
    assert found["auroc"].tolist() == pytest.approx(wanted, abs=1e-12)
    predictions[3, 35] = torch.nan
    assert measures_of(CLASSIFICATION, predictions, y, evidence=True)["auroc"].isnan().tolist() == [task == 3 for task in range(8)]


class Calm(ANIL):
    def predict(self, adapted, x):
        return super().predict(adapted, x) / 10


def test_a_learner_is_scored_by_its_own_predictions():
    model, shape = make_model("mlp")
    algorithm = Calm(model, CLASSIFICATION, engines.vmap, 0.1, 3)
    episodes = classification_episodes(4, shape)
    losses, _ = algorithm(episodes)
    curve = adaptation_curve(algorithm, episodes, [3], True, evidence=True)
    torch.testing.assert_close(curve.measures["loss"][:, 0], losses.detach())


@pytest.mark.parametrize("transductive", [True, False, "support", "training"])
@pytest.mark.parametrize("algo", ["anil", "baseline", "baseline_pp"])
def test_queries_go_through_a_body_that_is_not_adapted_once(algo, transductive):
    """Whatever the number of reported steps; and the curve is that of a pass for each."""
    settings = ["task=glyphs", "task.shots=1", "task.queries=2", "model.filters=4", f"algo={algo}", f"transductive={transductive}", *TINY]
    built = build_run(compose_run(*settings))
    learner = built.learner
    learner.take_statistics(built.data)
    episodes, steps = built.data.test_episodes.meta_batch(range(2)), [0, 1, 5]
    passes = []
    learner.algorithm.model.body.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    curves = {}
    for once in (True, False):
        passes.clear()
        learner.algorithm.head_only = once
        with statistics_known(learner.algorithm, learner.statistics):
            curves[once] = adaptation_curve(learner.algorithm, episodes, steps, transductive, evidence=True)
        queries = 10 if transductive is False else 1
        # of each task: the inner loop, the support loss, the queries
        assert len(passes) == 2 * (2 + queries) if once else len(passes) > 2 * (2 + queries)
    for name in curves[True].measures.keys() - {"ms"}:
        torch.testing.assert_close(curves[True].measures[name], curves[False].measures[name])
    assert torch.equal(curves[True].answers[..., :2], curves[False].answers[..., :2])
