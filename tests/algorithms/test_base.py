"""What the base class hands to an algorithm that a researcher adds, and takes from it."""

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.maml import MAML
from innerloop.algorithms.protonet import ProtoNet
from innerloop.config import InputError
from innerloop.engine import forward as engines
from innerloop.episode import Episode, Examples
from innerloop.objective import CLASSIFICATION, REGRESSION
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
from innerloop.training.evaluation import predict_queries, sees_other_queries
from innerloop.training.shares import Execution, TaskShares
from tests.conftest import TINY, classification_episodes, compose_run, make_model


class Scheduled(MAML):
    """Inner step number `at` has a rate of its own, learned, as in MAML++."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.rates = nn.Parameter(torch.tensor([0.1, 0.3]))

    def step(self, weights, directions, at):
        return {name: weight - self.rates[min(at, 1)] * directions[name] for name, weight in weights.items()}


@pytest.mark.parametrize("checkpoint_inner", [False, True])
def test_a_step_knows_its_number(checkpoint_inner, float64):
    model, shape = make_model("mlp")
    episodes = classification_episodes(2, shape)
    algorithm = Scheduled(model, CLASSIFICATION, engines.vmap, 0.1, 3, False, checkpoint_inner)
    losses, _ = algorithm(episodes)
    losses.sum().backward()
    weights = {name: weight.detach() for name, weight in algorithm.initial_weights(episodes.support).items()}
    for rate in (0.1, 0.3, 0.3):
        plain = MAML(model, CLASSIFICATION, engines.vmap, rate, 1, True)
        with torch.no_grad():
            weights = plain.step(weights, plain.support_gradients(weights, episodes.support, 0), 0)
    expected = CLASSIFICATION.loss(engines.vmap(model, weights, episodes.query.x), episodes.query.y)
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-9)
    assert (algorithm.rates.grad != 0).all()


class FromItsExamples(MAML):
    """Begins where the support set says, and pulls the weights towards 0, as a learned or a regularised inner loop does."""

    def initial_weights(self, support):
        return {
            name: weight + support.y.mean((1, 2)).view(-1, *[1] * (weight.dim() - 1))
            for name, weight in super().initial_weights(support).items()
        }

    def support_loss(self, weights, support):
        return sum(weight.flatten(1).square().sum(1) for weight in weights.values()) / 2


def test_where_it_begins_and_what_it_descends_may_depend_on_the_support_set(float64):
    model, support = nn.Linear(1, 1), Examples(torch.rand(3, 4, 1), torch.rand(3, 4, 1))
    algorithm = FromItsExamples(model, REGRESSION, engines.vmap, 0.25, 2, False)
    expected = (model.bias + support.y.mean((1, 2)).unsqueeze(1)) * 0.75**2
    torch.testing.assert_close(algorithm.adapt(support)["bias"], expected)


def test_what_the_model_froze_is_neither_adapted_nor_trained():
    model, shape = make_model("mlp")
    model.body[1].requires_grad_(False)
    algorithm = MAML(model, CLASSIFICATION, engines.vmap, 0.1, 1, False)
    names = {name for name, _ in model.named_parameters()} - {"body.1.weight", "body.1.bias"}
    assert set(algorithm.slow_weights()) == names and len(algorithm.trained()) == len(names)
    with pytest.raises(InputError, match=r"algo.adapted=body.1.\* fits only weights that MLP has frozen; name others"):
        MAML(model, CLASSIFICATION, engines.vmap, 0.1, 1, False, adapted="body.1.*")


def test_prototypes_are_taken_without_looking_at_the_data():
    """So that the outer gradient can be compiled."""
    model, shape = make_model("mlp")
    algorithm, episodes = ProtoNet(model, CLASSIFICATION, engines.vmap, 3, 3), classification_episodes(2, shape)

    def loss(*tensors):
        return algorithm(Episode(Examples(*tensors[:2]), Examples(*tensors[2:])))[0]

    tensors = [*episodes.support, *episodes.query]
    graph = make_fx(loss, tracing_mode="fake", _allow_non_fake_inputs=True)(*tensors)
    torch.testing.assert_close(graph(*tensors), algorithm(episodes)[0])
    missing = Episode(Examples(episodes.support.x[:, :2], episodes.support.y[:, :2] * 0), episodes.query)
    assert algorithm.adapt(missing.support).shape[1] == 3  # of all ways, also where the examples are of one


class AsksItsObjective(MAML):
    def forward(self, episodes):
        assert self.objective is CLASSIFICATION
        return super().forward(episodes)


def test_the_objective_is_the_same_object_on_all_threads():
    model, shape = make_model("mlp")
    algorithm = AsksItsObjective(model, CLASSIFICATION, engines.vmap, 0.1, 1, False)
    shares = TaskShares(algorithm, Execution(engines.vmap, None, False), 2)
    for _ in range(2):
        shares.outer_loss(classification_episodes(4, shape))
    assert len(shares._copies) == 2


class Jointly(Algorithm):
    """Answers by the mean of all queries, so that no answer stands alone."""

    answers_jointly = True

    def adapt(self, support):
        return None

    def predict(self, adapted, x):
        return x + x.mean(1, keepdim=True)


def test_joint_answers_are_no_inductive_score():
    algorithm = Jointly(nn.Identity(), REGRESSION, engines.vmap)
    episodes = Episode(Examples(torch.ones(2, 1, 1), torch.ones(2, 1, 1)), Examples(torch.rand(2, 5, 1), torch.rand(2, 5, 1)))
    assert sees_other_queries(algorithm)
    x = episodes.query.x
    torch.testing.assert_close(predict_queries(algorithm, None, episodes, True), x + x.mean(1, keepdim=True))
    for inductive in (False, "support"):
        alone = predict_queries(algorithm, None, episodes, inductive)
        torch.testing.assert_close(alone, x + (1 + x) / 2)  # with the support set, and no other query


class Annealed(MAML):
    """Its inner rate falls over the training."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.rate = nn.Parameter(torch.tensor(0.1), requires_grad=False)

    seen: list[float] = []  # noqa: RUF012  of all copies

    def only_trains(self, name):
        return name == "rate"

    def anneal(self, done):
        self.seen.append(done)
        self.rate.copy_(0.1 * (1 - done))

    def step(self, weights, directions, at):
        return {name: weight - self.rate * directions[name] for name, weight in weights.items()}


@pytest.mark.parametrize("more", [[], ["steps_at_once=2"], ["threads=2"]], ids=str)
def test_annealing_runs_from_0_to_1_on_every_path_and_across_a_resume(more, tmp_path, monkeypatch):
    import innerloop.algorithms.maml as home

    monkeypatch.setattr(home, "Annealed", Annealed, raising=False)
    common = [*TINY, "algo._target_=innerloop.algorithms.maml.Annealed", "outer_steps=8", "val_every=4", "meta_batch_size=4", *more]
    Annealed.seen.clear()
    whole = run(compose_run(*common), tmp_path / "whole")
    assert Annealed.seen == [step / 8 for step in range(8)]
    built = build_run(compose_run(*common))
    assert not built.learner.algorithm.rate.requires_grad
    run(compose_run(*common), tmp_path / "parts")
    for path in (tmp_path / "parts" / "results.json", tmp_path / "parts" / "checkpoints" / "step-00000008.ckpt"):
        path.unlink()
    assert run(compose_run(*common), tmp_path / "parts")["curve"] == whole["curve"]


def test_the_fractions_of_training():
    model, _ = make_model("mlp")
    algorithm = Annealed(model, REGRESSION, engines.vmap, 0.1, 1, False)
    learner = build_run(compose_run(*TINY)).learner
    learner.algorithm = algorithm
    learner._trainer = type("Trainer", (), {"num_training_batches": 4})()
    with torch.no_grad():
        for batch in range(4):
            learner._anneal(batch)
    assert algorithm.rate == pytest.approx(0.1 * 0.25)
