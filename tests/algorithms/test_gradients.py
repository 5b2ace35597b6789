"""The outer gradient of every algorithm is its definition: a hand-written oracle, learn2learn, finite differences, closed forms."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from innerloop.algorithms.anil import ANIL
from innerloop.algorithms.boil import BOIL
from innerloop.algorithms.fomaml import FOMAML
from innerloop.algorithms.inner_optimizer import Adam
from innerloop.algorithms.joint import Joint
from innerloop.algorithms.learn2learn import check_all_weights, learn2learn_class
from innerloop.algorithms.maml import MAML
from innerloop.algorithms.metasgd import MetaSGD
from innerloop.algorithms.protonet import ProtoNet
from innerloop.algorithms.reptile import Reptile
from innerloop.config import InputError
from innerloop.engine import forward as engines
from innerloop.episode import Episode, Examples
from innerloop.objective import CLASSIFICATION, REGRESSION
from tests.conftest import classification_episodes, make_model

pytestmark = pytest.mark.usefixtures("float64")
TOLERANCE = 1e-9
INNER_LR = 0.3
CASES = {
    "maml 1 step": (MAML, {"adaptation_steps": 1, "first_order": False}),
    "maml 3 steps": (MAML, {"adaptation_steps": 3, "first_order": False}),
    "maml 3 steps first order": (MAML, {"adaptation_steps": 3, "first_order": True}),
    "fomaml 1 step": (FOMAML, {"adaptation_steps": 1}),
    "anil 3 steps": (ANIL, {"adaptation_steps": 3, "first_order": False}),
    "metasgd 2 steps": (MetaSGD, {"adaptation_steps": 2, "first_order": False}),
    "metasgd 2 steps first order": (MetaSGD, {"adaptation_steps": 2, "first_order": True}),
    "reptile sgd": (Reptile, {"adaptation_steps": 3, "inner_optimizer": "sgd", "inner_batch_size": None, "eval_inner_batch_size": None}),
    "reptile sgd minibatches": (
        Reptile,
        {"adaptation_steps": 4, "inner_optimizer": "sgd", "inner_batch_size": 4, "eval_inner_batch_size": None},
    ),
    "reptile adam": (Reptile, {"adaptation_steps": 3, "inner_optimizer": "rmsprop", "inner_batch_size": 4, "eval_inner_batch_size": None}),
}
KEPT = {"adaptation_steps": 3, "inner_optimizer": "kept_rmsprop", "inner_batch_size": 4, "eval_inner_batch_size": None}
PARTS = {  # the adapted and the learned weights of the cases above; here and in these, by the beginnings of their names
    "anil 3 steps": ("head.", ""),
    "boil 2 steps": ("body.", ""),
    "maml some adapted, others learned": ("head.", "body."),
    "maml all adapted, some learned": ("", "head."),
    "maml some adapted and learned": ("body.", "body."),
    "fomaml some learned": ("body.", "head."),
    "metasgd of frozen weights": ("body.", "head."),
    "reptile of some": ("head.", "head."),
}
CASES |= {
    "boil 2 steps": (BOIL, {"adaptation_steps": 2, "first_order": False}),
    "maml some adapted, others learned": (
        MAML,
        {"adaptation_steps": 2, "first_order": False, "adapted": "head.*", "meta_learned": "body.*"},
    ),
    "maml all adapted, some learned": (MAML, {"adaptation_steps": 2, "first_order": False, "meta_learned": ["head.w*", "*d.bias"]}),
    "maml some adapted and learned": (MAML, {"adaptation_steps": 2, "first_order": True, "adapted": "body.*", "meta_learned": "body.*"}),
    "fomaml some learned": (FOMAML, {"adaptation_steps": 2, "adapted": ["body.*"], "meta_learned": "head.*"}),
    "metasgd of frozen weights": (MetaSGD, {"adaptation_steps": 2, "first_order": False, "adapted": "body.*", "meta_learned": "head.*"}),
    "reptile of some": (Reptile, CASES["reptile adam"][1] | {"adapted": "head.*"}),
}
WHOLE = [case for case in CASES if case == "anil 3 steps" or case not in PARTS]  # what learn2learn has learners for
EVERY = [(case, engine) for case in CASES for engine in ("vmap", "loop", "learn2learn") if engine != "learn2learn" or case in WHOLE]
MODELS = ("mlp", "conv4_max", "conv4_stride")


def build(case, kind, engine):
    cls, arguments = CASES[case]
    model, shape = make_model(kind)
    if engine == "learn2learn":
        cls = learn2learn_class(cls)
    return cls(model, CLASSIFICATION, getattr(engines, engine), inner_lr=INNER_LR, **arguments), classification_episodes(3, shape)


def outer_gradients(algorithm, episodes):
    losses, predictions = algorithm(episodes)
    losses.mean().backward()
    return (
        {name: parameter.grad for name, parameter in algorithm.named_parameters() if parameter.grad is not None},
        losses.detach(),
        predictions.detach(),
    )


def oracle(case, kind):
    """The definition, task by task with torch.autograd.grad and nothing of ours but the model and the minibatches' positions."""
    algorithm, episodes = build(case, kind, "loop")
    adapted, learned = PARTS.get(case, ("", ""))
    model = algorithm.model.requires_grad_()
    parameters = {
        name: parameter
        for name, parameter in algorithm.named_parameters()
        if name.removeprefix("model.").startswith((learned, "step_sizes"))
    }
    slow = dict(model.named_parameters())
    fast_names = [name for name in slow if name.startswith(adapted)]
    first_order = isinstance(algorithm, Reptile) or algorithm.first_order
    total = 0
    for t in range(3):
        batches = [Examples(algorithm_x[t], algorithm_y[t]) for algorithm_x, algorithm_y in inner_batches(algorithm, episodes)]
        weights, squares = dict(slow), {name: 0 for name in slow}
        for step, (x, y) in enumerate(batches, start=1):
            loss = nn.functional.cross_entropy(functional_call(model, weights, (x,)), y)
            gradients = torch.autograd.grad(loss, [weights[name] for name in fast_names], create_graph=not first_order)
            for index, (name, gradient) in enumerate(zip(fast_names, gradients, strict=True)):
                rate = INNER_LR
                if isinstance(algorithm, MetaSGD):
                    rate = algorithm.step_sizes[index]
                if isinstance(algorithm, Reptile) and isinstance(algorithm.inner_optimizer, Adam):
                    squares[name] = 0.999 * squares[name] + 0.001 * gradient**2
                    gradient = gradient / ((squares[name] / (1 - 0.999**step)).sqrt() + 1e-8)
                weights[name] = weights[name] - rate * gradient
        if isinstance(algorithm, Reptile):
            total = total + sum((slow[name] - weights[name].detach()).square().sum() / 2 for name in fast_names)
        else:
            query_x, query_y = episodes.query
            total = total + nn.functional.cross_entropy(functional_call(model, weights, (query_x[t],)), query_y[t])
    gradients = torch.autograd.grad(total / 3, list(parameters.values()))
    return dict(zip(parameters, gradients, strict=True))


def inner_batches(algorithm, episodes):
    if isinstance(algorithm, Reptile):  # trains on the whole episode
        pooled = Examples(*(torch.cat(pair, 1) for pair in zip(*episodes, strict=True)))
        return list(algorithm.batches(pooled, algorithm.adaptation_steps))
    return [episodes.support] * algorithm.adaptation_steps


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(("case", "engine"), EVERY)
def test_outer_gradient_equals_oracle(case, kind, engine):
    gradients, _, _ = outer_gradients(*build(case, kind, engine))
    expected = oracle(case, kind)
    assert gradients.keys() == expected.keys()
    assert max(gradient.abs().max() for gradient in expected.values()) > 1e-3  # there is something to compare
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], atol=TOLERANCE, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("case", [case for case in CASES if case not in WHOLE])
def test_learn2learn_refuses_parts(case):
    with pytest.raises(InputError, match="engine=learn2learn"):
        check_all_weights(build(case, "mlp", "learn2learn")[0])


def test_patterns_that_fit_nothing_are_named():
    model, _ = make_model("mlp")
    with pytest.raises(InputError, match=r"algo.adapted=\*.lora_\* fits no weight of MLP, which has such as body.1.weight, .*; name some"):
        MAML(model, CLASSIFICATION, engines.vmap, INNER_LR, 1, first_order=False, adapted=["head.*", "*.lora_*"])
    with pytest.raises(InputError, match="algo.meta_learned=prompt fits no weight of MLP"):
        MAML(model, CLASSIFICATION, engines.vmap, INNER_LR, 1, first_order=False, meta_learned="prompt")


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("case", CASES)
def test_engines_give_equal_losses_predictions_and_evaluation(case, kind):
    results = {}
    engine_names = [engine for one, engine in EVERY if one == case]
    for engine in engine_names:
        algorithm, episodes = build(case, kind, engine)
        _, losses, predictions = outer_gradients(algorithm, episodes)
        with torch.no_grad():
            trajectory = [algorithm.predict(adapted, episodes.query.x) for adapted in algorithm.trajectory(episodes.support, 3)]
        assert len(trajectory) == 4
        results[engine] = [losses, predictions, *trajectory]
    for engine in engine_names[1:]:
        for ours, theirs in zip(results["vmap"], results[engine], strict=True):
            torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", MODELS)
def test_protonet_engines_agree_and_logits_are_squared_distances(kind):
    gradients = {}
    for engine in ("vmap", "loop"):
        model, shape = make_model(kind)
        algorithm, episodes = ProtoNet(model, CLASSIFICATION, getattr(engines, engine), 3, 3), classification_episodes(3, shape)
        gradients[engine], losses, _ = outer_gradients(algorithm, episodes)
    for name, gradient in gradients["vmap"].items():
        torch.testing.assert_close(gradient, gradients["loop"][name], atol=TOLERANCE, rtol=0)
    for t in range(3):
        support, query = model(episodes.support.x[t]), model(episodes.query.x[t])
        prototypes = torch.stack([support[episodes.support.y[t] == way].mean(0) for way in range(3)])
        expected = nn.functional.cross_entropy(-(torch.cdist(query, prototypes) ** 2), episodes.query.y[t])
        torch.testing.assert_close(losses[t], expected.detach(), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("steps", [1, 3])
def test_maml_gradient_equals_finite_differences(kind, steps):
    model, shape = make_model(kind)
    algorithm = MAML(model, CLASSIFICATION, engines.vmap, INNER_LR, steps, first_order=False)
    episodes = classification_episodes(3, shape)
    gradients, _, _ = outer_gradients(algorithm, episodes)
    generator = torch.Generator().manual_seed(2)
    direction = {name: torch.randn(p.shape, generator=generator) for name, p in algorithm.named_parameters()}
    slope = sum((gradients[name] * direction[name]).sum() for name in gradients)

    def loss_at(distance):
        with torch.no_grad():
            for name, parameter in algorithm.named_parameters():
                parameter.add_(distance * direction[name])
        value = algorithm(episodes)[0].mean().item()
        with torch.no_grad():
            for name, parameter in algorithm.named_parameters():
                parameter.sub_(distance * direction[name])
        return value

    step = 1e-6  # small: max-pool and ReLU have kinks
    measured = (loss_at(step) - loss_at(-step)) / (2 * step)
    assert measured == pytest.approx(slope.item(), rel=1e-5, abs=1e-8)


class Constant(nn.Module):
    """Predicts its single weight whatever the input: support loss (w - a)^2, query loss (w - b)^2."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.weight.expand(len(x), 1)


@pytest.mark.parametrize("engine", [engines.vmap, engines.loop])
@pytest.mark.parametrize("first_order", [False, True])
def test_quadratic_task_has_the_closed_form(engine, first_order):
    """After k steps w_k - a = (1 - 2 lr)^k (w - a), so d (w_k - b)^2 / dw = 2 (w_k - b) (1 - 2 lr)^k; first order drops the power."""
    targets_a, targets_b = torch.tensor([1.0, -1.0]), torch.tensor([0.5, 3.0])
    episodes = Episode(
        Examples(torch.zeros(2, 4, 1), targets_a[:, None, None].expand(2, 4, 1)),
        Examples(torch.zeros(2, 4, 1), targets_b[:, None, None].expand(2, 4, 1)),
    )
    algorithm = MAML(Constant(), REGRESSION, engine, inner_lr=0.1, adaptation_steps=3, first_order=first_order)
    gradients, losses, _ = outer_gradients(algorithm, episodes)
    shrink = 0.8**3
    adapted = targets_a + shrink * (2.0 - targets_a)
    torch.testing.assert_close(losses, (adapted - targets_b) ** 2, atol=TOLERANCE, rtol=0)
    expected = (2 * (adapted - targets_b) * (1 if first_order else shrink)).mean()
    torch.testing.assert_close(gradients["model.weight"], expected, atol=TOLERANCE, rtol=0)


def test_reptile_under_sgd_moves_towards_the_mean_of_the_adapted_weights():
    algorithm, episodes = build("reptile sgd", "mlp", "vmap")
    before = {name: weight.detach().clone() for name, weight in algorithm.slow_weights().items()}
    fast = algorithm.adapt(Examples(*(torch.cat(pair, 1) for pair in zip(*episodes, strict=True))))
    outer_gradients(algorithm, episodes)
    torch.optim.SGD(algorithm.parameters(), lr=0.25).step()
    for name, weight in algorithm.slow_weights().items():
        torch.testing.assert_close(weight.detach(), before[name] + 0.25 * (fast[name].mean(0) - before[name]), atol=1e-12, rtol=0)


def test_serial_reptile_with_kept_squares_is_one_adam_over_all_tasks():
    model, shape = make_model("mlp")
    algorithm = Reptile(model, CLASSIFICATION, engines.vmap, INNER_LR, **KEPT)
    plain = copy.deepcopy(algorithm.model)
    adam = torch.optim.Adam(plain.parameters(), lr=INNER_LR, betas=(0.0, 0.999))
    outer = torch.optim.SGD(algorithm.parameters(), lr=1.0)
    for seed in range(4):
        episodes = classification_episodes(1, shape, seed=seed)
        whole = Examples(*(torch.cat(parts, 1) for parts in zip(*episodes, strict=True)))
        for batch in algorithm.batches(whole, algorithm.adaptation_steps):
            adam.zero_grad()
            nn.functional.cross_entropy(plain(batch.x[0]), batch.y[0]).backward()
            adam.step()
        outer.zero_grad()
        outer_gradients(algorithm, episodes)
        outer.step()
    for mine, theirs in zip(algorithm.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)
    fresh = adam.state_dict()
    before = [parameter.detach().clone() for parameter in algorithm.parameters()]
    algorithm.eval()
    with torch.no_grad():
        fast = algorithm.adapt(whole)  # a test task begins from them too, and leaves them as they are
    assert all(torch.equal(a, b) for a, b in zip(before, algorithm.parameters(), strict=True))
    adam.load_state_dict(fresh)
    for _ in range(algorithm.adaptation_steps):
        adam.zero_grad()
        nn.functional.cross_entropy(plain(whole.x[0]), whole.y[0]).backward()
        adam.step()
    for name, theirs in plain.named_parameters():
        torch.testing.assert_close(fast[name][0], theirs.detach(), atol=1e-12, rtol=0)


def test_reptile_minibatches_pass_over_the_support_set_in_new_orders():
    algorithm, _ = build("reptile sgd minibatches", "mlp", "vmap")
    support = Examples(torch.arange(10.0).expand(2, 10)[..., None], torch.arange(10).expand(2, 10))
    batches = list(algorithm.batches(support, steps=5))
    assert [batch.y.shape for batch in batches] == [(2, 4)] * 5
    drawn = torch.cat([batch.y[0] for batch in batches])
    first, second = drawn[:10].tolist(), drawn[10:].tolist()
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert all(torch.equal(batch.x[..., 0].long(), batch.y) for batch in batches)


def test_joint_trains_without_an_inner_step():
    model, shape = make_model("mlp")
    episodes = classification_episodes(3, shape)
    algorithm = Joint(model, CLASSIFICATION, engines.vmap, None, INNER_LR)
    gradients, _, predictions = outer_gradients(algorithm, episodes)
    x, y = torch.cat([episodes.support.x, episodes.query.x], 1), torch.cat([episodes.support.y, episodes.query.y], 1)
    loss = nn.functional.cross_entropy(model(x.flatten(0, 1)), y.flatten())
    expected = torch.autograd.grad(loss, list(model.parameters()))
    for gradient, wanted in zip(gradients.values(), expected, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(predictions, torch.stack([model(task_x) for task_x in episodes.query.x]).detach())


def test_anil_moves_the_head_alone():
    algorithm, episodes = build("anil 3 steps", "mlp", "vmap")
    assert set(algorithm.adapt(episodes.support)) == {"head.weight", "head.bias"}


@pytest.mark.parametrize(("case", "engine"), EVERY)
def test_evaluation_keeps_no_graph(case, engine):
    algorithm, episodes = build(case, "mlp", engine)
    with torch.no_grad():
        for adapted in algorithm.trajectory(episodes.support, 3):
            prediction = algorithm.predict(adapted, episodes.query.x)
            assert prediction.grad_fn is None and not prediction.requires_grad
    assert all(parameter.grad is None for parameter in algorithm.parameters())


def test_learn2learn_refuses_kept_squares():
    with pytest.raises(InputError, match="has no part for algo.inner_optimizer"):
        check_all_weights(learn2learn_class(Reptile)(make_model("mlp")[0], CLASSIFICATION, engines.loop, INNER_LR, **KEPT))


def test_learn2learn_refuses_what_it_has_nothing_for():
    with pytest.raises(InputError, match="engine=learn2learn runs maml, fomaml, anil, metasgd, reptile, not algo=protonet"):
        learn2learn_class(ProtoNet)


class Scaled(nn.Module):
    """With a temperature, which has no axis, and a layer under two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.mid = nn.Linear(4, 4)
        self.mid.weight = self.first.weight
        self.head = nn.Linear(4, 3)
        self.temperature = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.head(self.mid(self.first(x).tanh())) * self.temperature


@pytest.mark.parametrize("engine", [engines.vmap, engines.loop])
def test_reptile_moves_weights_without_an_axis(engine, float64):
    """Its loss is half the squared distance that the fast weights went, the temperature's among them."""
    torch.manual_seed(0)
    algorithm = Reptile(Scaled(), CLASSIFICATION, engine, 0.1, 2, "sgd", None, None)
    episodes = classification_episodes(3, (4,))
    losses, _ = algorithm(episodes)
    fast = algorithm.adapt(Examples(*(torch.cat(parts, 1) for parts in zip(*episodes, strict=True))))
    slow = algorithm.slow_weights()
    expected = [sum(0.5 * (slow[name] - fast[name][task]).square().sum() for name in slow) for task in range(3)]
    torch.testing.assert_close(losses, torch.stack(expected), rtol=1e-9, atol=1e-9)
    losses.sum().backward()
    assert algorithm.model.temperature.grad == pytest.approx((3 * slow["temperature"] - fast["temperature"].sum()).item())


def test_a_pattern_fits_any_name_of_a_tied_weight():
    model = Scaled()
    adapted = {name: MAML(model, CLASSIFICATION, engines.loop, 0.1, 1, False, adapted=name) for name in ("mid.*", "first.*")}
    by_name = {name: set(algorithm.slow_weights()) for name, algorithm in adapted.items()}
    assert by_name == {"mid.*": {"first.weight", "mid.bias"}, "first.*": {"first.weight", "first.bias"}}


def test_minibatches_of_more_examples_than_there_are_take_all():
    model, shape = make_model("mlp")
    episodes = classification_episodes(2, shape)
    moved = [Reptile(model, CLASSIFICATION, engines.vmap, 0.1, 3, "sgd", size, None).adapt(episodes.support) for size in (None, 100)]
    assert all(torch.allclose(moved[0][name], moved[1][name], rtol=1e-12) for name in moved[0])
