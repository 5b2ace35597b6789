"""Each of the other learners is its definition: the outer gradient of an oracle, task by task, with nothing of ours but the model."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

import innerloop
from innerloop.algorithms.alfa import ALFA
from innerloop.algorithms.anil import ANIL
from innerloop.algorithms.baseline_pp import BaselinePP
from innerloop.algorithms.cnp import CNP
from innerloop.algorithms.fomaml import FOMAML
from innerloop.algorithms.imaml import IMAML, conjugate_gradients
from innerloop.algorithms.imaml_released import IMAMLReleased
from innerloop.algorithms.in_context_examples import InContextExamples
from innerloop.algorithms.inner_optimizer import LearnedOptimizer, Momentum
from innerloop.algorithms.learned_loss import LearnedLoss
from innerloop.algorithms.learned_rates import LearnedRates
from innerloop.algorithms.maml import MAML
from innerloop.algorithms.mamlpp import MAMLpp
from innerloop.algorithms.matching import Matching
from innerloop.algorithms.metacurvature import MetaCurvature
from innerloop.algorithms.protomaml import ProtoMAML
from innerloop.algorithms.protonet import ProtoNet
from innerloop.algorithms.ridge import Ridge
from innerloop.algorithms.transductive import METHODS, Transductive
from innerloop.config import InputError
from innerloop.engine import forward as engines
from innerloop.episode import Episode, Examples
from innerloop.models.any_module import ends_in_head
from innerloop.models.conv4 import Conv4
from innerloop.models.mlp import MLP
from innerloop.objective import CLASSIFICATION, REGRESSION
from innerloop.project import CONF
from innerloop.runs.build import build_run
from innerloop.runs.evidence import read_evidence
from innerloop.runs.experiment import run
from innerloop.runs.rescore import rescore
from tests.conftest import TINY, classification_episodes, compose_run, make_model
from tests.training.test_shares import assert_close

pytestmark = pytest.mark.usefixtures("float64")
TOLERANCE, LR, WAYS = 1e-9, 0.2, 3
cross_entropy = nn.functional.cross_entropy


def gradients_of(loss, weights, create_graph=True):
    """By name, zero for what is not used."""
    found = torch.autograd.grad(loss, list(weights.values()), create_graph=create_graph, materialize_grads=True)
    return dict(zip(weights, found, strict=True))


def slow_of(algorithm):
    return dict(algorithm.model.named_parameters())


def features_of(algorithm, x):
    return functional_call(algorithm.model, {}, (x,))


def inner(algorithm, weights, adapted, support, update, steps, loss=None):
    """The fast weights after `steps`, each changed by update(name, index, weight, gradient, at)."""
    for at in range(steps):
        support_loss = (loss or plain_loss)(algorithm, weights, support)
        gradients = gradients_of(support_loss, {name: weights[name] for name in adapted})
        changed = {name: update(name, i, weights[name], gradients[name], at) for i, name in enumerate(adapted)}
        weights = weights | changed
    return weights


def plain_loss(algorithm, weights, part):
    return cross_entropy(functional_call(algorithm.model, weights, (part.x,)), part.y)


def ridge(algorithm, support, query):
    def features(x):
        z = features_of(algorithm, x).flatten(1)
        return torch.cat([z, torch.ones(len(z), 1)], 1) if algorithm.intercept else z

    x, y = features(support.x), nn.functional.one_hot(support.y, WAYS).double()
    penalty = algorithm.log_strength.exp() * len(x) * torch.eye(x.shape[1])
    layer = torch.linalg.inv(x.T @ x + penalty) @ x.T @ y  # the primal form; ours solves the dual
    return cross_entropy(algorithm.log_scale.exp() * features(query.x) @ layer, query.y)


def matching(algorithm, support, query):
    z, q = (features_of(algorithm, part.x) for part in (support, query))
    cosine = nn.functional.normalize(q) @ nn.functional.normalize(z).T
    probabilities = (algorithm.log_scale.exp() * cosine).softmax(1) @ nn.functional.one_hot(support.y, WAYS).double()
    return -probabilities.gather(1, query.y[:, None]).log().mean()


def gradient_step(algorithm):
    return lambda name, index, weight, gradient, at: weight - LR * gradient


def protomaml(algorithm, support, query):
    body, head = algorithm.model.body, algorithm.model.head
    features = body(support.x)
    prototypes = torch.stack([features[support.y == way].mean(0) for way in range(WAYS)])
    # copies: an inner step descends the body and the head as they begin, not the body through the prototypes a second time
    weights = {name: weight.clone() for name, weight in slow_of(algorithm).items()}
    weights |= {"head.weight": 2 * prototypes, "head.bias": -(prototypes**2).sum(1)}
    assert head.weight.shape == prototypes.shape
    fast = inner(algorithm, weights, list(weights), support, gradient_step(algorithm), algorithm.adaptation_steps)
    return plain_loss(algorithm, fast, query)


def tied(algorithm, support, query):
    weights = slow_of(algorithm)
    for name in ("head.weight", "head.bias"):
        weights[name] = weights[name].expand(WAYS, *weights[name].shape[1:])
    fast = inner(algorithm, weights, list(algorithm.slow_weights()), support, gradient_step(algorithm), algorithm.adaptation_steps)
    return plain_loss(algorithm, fast, query)


def zero(algorithm, support, query):
    weights = slow_of(algorithm)
    weights |= {name: torch.zeros(WAYS, *weights[name].shape[1:], requires_grad=True) for name in ("head.weight", "head.bias")}
    fast = inner(algorithm, weights, list(weights), support, gradient_step(algorithm), algorithm.adaptation_steps)
    return plain_loss(algorithm, fast, query)


def metacurvature(algorithm, support, query):
    def update(name, index, weight, gradient, at):
        matrices = list(algorithm.curvature[index])
        if len(matrices) == 1:
            return weight - LR * matrices[0] * gradient
        right = matrices[1] if len(matrices) == 2 else torch.kron(matrices[1], matrices[2])  # of in and window, as one matrix
        return weight - LR * (matrices[0] @ gradient.flatten(1) @ right).view_as(gradient)

    fast = inner(algorithm, slow_of(algorithm), list(algorithm.slow_weights()), support, update, algorithm.adaptation_steps)
    return plain_loss(algorithm, fast, query)


def rate_of(algorithm, index, at):
    return algorithm.rates[0 if algorithm.per == "one" else index][at if len(algorithm.rates[0]) > 1 else 0]


def learned_rates(algorithm, support, query):
    def update(name, index, weight, gradient, at):
        return weight - rate_of(algorithm, index, at) * gradient

    fast = inner(algorithm, slow_of(algorithm), list(algorithm.slow_weights()), support, update, algorithm.adaptation_steps)
    return plain_loss(algorithm, fast, query)


def learned_loss(algorithm, support, query):
    def loss(algorithm, weights, part):
        predictions = functional_call(algorithm.model, weights, (part.x,))
        own = cross_entropy(predictions, part.y)
        targets = nn.functional.one_hot(part.y, WAYS).double()
        rows = [algorithm.loss(torch.cat([p, y, own[None]])) for p, y in zip(predictions, targets, strict=True)]
        return own + torch.stack(rows).mean()

    weights = slow_of(algorithm)
    fast = inner(algorithm, weights, list(weights), support, gradient_step(algorithm), algorithm.adaptation_steps, loss)
    return plain_loss(algorithm, fast, query)


def alfa(algorithm, support, query):
    """With the network's outputs from the means of all layers, the outer gradient running through what it looks at."""
    weights = slow_of(algorithm)
    for at in range(algorithm.adaptation_steps):
        gradients = gradients_of(plain_loss(algorithm, weights, support), weights)
        means = torch.stack([w.mean() for w in weights.values()] + [g.mean() for g in gradients.values()])
        a, b = algorithm.network_of_rates(means).chunk(2)
        weights = {
            name: (1 - algorithm.decays[i][at] * b[i]) * weight - algorithm.rates[i][at] * a[i] * gradients[name]
            for i, (name, weight) in enumerate(weights.items())
        }
    return plain_loss(algorithm, weights, query)


def with_optimizer(algorithm, support, query):
    """momentum, adam, rmsprop and the learned one, number by number."""
    weights, optimizer = slow_of(algorithm), algorithm.inner_optimizer
    means = squares = dict.fromkeys(weights, 0.0)
    for at in range(1, algorithm.adaptation_steps + 1):
        gradients = gradients_of(plain_loss(algorithm, weights, support), {name: weights[name] for name in algorithm.slow_weights()})
        for name, g in gradients.items():
            if isinstance(optimizer, Momentum):
                means = means | {name: 0.9 * means[name] + g}
                direction = means[name]
            else:
                beta = optimizer.beta1
                means = means | {name: beta * means[name] + (1 - beta) * g}
                squares = squares | {name: 0.999 * squares[name] + 0.001 * g**2}
                mean, root = means[name] / (1 - beta**at), (squares[name] / (1 - 0.999**at) + 1e-8).sqrt()
                direction = mean / root
                if isinstance(optimizer, LearnedOptimizer):
                    known = torch.stack([g / root, mean / root, root.log() / 10, torch.full_like(g, (at - 1) / at)], -1)
                    direction = g + root * optimizer.network(known)[..., 0]
            weights = weights | {name: weights[name] - LR * direction}
    return plain_loss(algorithm, weights, query)


def mamlpp(algorithm, support, query):
    weights, total = slow_of(algorithm), 0.0
    for at in range(algorithm.adaptation_steps):
        weights = weights | {name: table[at] for name, table in zip(algorithm.norms, algorithm.tables, strict=True)}
        gradients = gradients_of(plain_loss(algorithm, weights, support), {name: weights[name] for name in algorithm.slow_weights()})
        weights = weights | {
            name: weights[name] - rate_of(algorithm, i, at) * gradient for i, (name, gradient) in enumerate(gradients.items())
        }
        total = total + algorithm.importance[at] * plain_loss(algorithm, weights, query)
    return total


COMMON = {"inner_lr": LR, "first_order": False}
STEPS = {**COMMON, "adaptation_steps": 2}
HEADS = {"ways": WAYS, "train_ways": WAYS}
PARTS = {**STEPS, "per_step": True, "per_step_norm": False}
ZOO = {
    "ridge": (Ridge, {**HEADS, "strength": 0.3, "scale": 2.0, "intercept": True, "learned": True}, ridge),
    "ridge without intercept": (Ridge, {**HEADS, "strength": 2.0, "scale": 1.0, "intercept": False, "learned": False}, ridge),
    "matching": (Matching, {**HEADS, "scale": 5.0}, matching),
    "protomaml": (ProtoMAML, {**HEADS, **STEPS, "inner_lr": LR}, protomaml),
    "tied head": (MAML, {**STEPS, "head": "tied"}, tied),
    "tied head, anil": (ANIL, {**STEPS, "head": "tied"}, tied),
    "zero head": (MAML, {**STEPS, "head": "zero"}, zero),
    "metacurvature": (MetaCurvature, STEPS, metacurvature),
    "rates per layer and step": (LearnedRates, {**STEPS, "per": "layer", "per_step": True}, learned_rates),
    "rates per weight and step": (LearnedRates, {**STEPS, "per": "weight", "per_step": True}, learned_rates),
    "one rate": (LearnedRates, {**STEPS, "per": "one", "per_step": False}, learned_rates),
    "alfa": (ALFA, {**STEPS, "decay": 0.1}, alfa),
    "momentum": (MAML, {**STEPS, "inner_optimizer": "momentum"}, with_optimizer),
    "adam": (MAML, {**STEPS, "inner_lr": 0.2, "adaptation_steps": 3, "inner_optimizer": "adam"}, with_optimizer),
    "rmsprop, anil": (ANIL, {**STEPS, "inner_optimizer": "rmsprop"}, with_optimizer),
    "learned optimizer": (MAML, {**STEPS, "inner_optimizer": "learned"}, with_optimizer),
    "all but some": (MAML, {**STEPS, "adapted": ["*", "!head.bias"], "inner_optimizer": "momentum"}, with_optimizer),
    "learned loss": (LearnedLoss, {**STEPS, "outputs": WAYS, "width": 5}, learned_loss),
    "mamlpp": (
        MAMLpp,
        {**STEPS, "adaptation_steps": 3, "per": "layer", "per_step": True, "multi_step": 0.5, "per_step_norm": False},
        mamlpp,
    ),
    "mamlpp, norms": (MAMLpp, {**PARTS, "per": "one", "multi_step": 0.0, "per_step_norm": True}, mamlpp),
}
KINDS = ("mlp", "conv4_max", "conv4_stride")
EVERY = [(case, kind) for case in ZOO for kind in KINDS if kind != "mlp" or case != "mamlpp, norms"]


def build(case, kind, engine):
    """Off the identities, ones and zeros that learning starts from, which would hide mistakes."""
    cls, arguments, _ = ZOO[case]
    model, shape = make_model(kind)
    algorithm = cls(model, CLASSIFICATION, getattr(engines, engine), **arguments)
    algorithm.ways = algorithm.train_ways = WAYS
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in algorithm.named_parameters():
            if not name.startswith("model.") and parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return algorithm, classification_episodes(3, shape)


@pytest.mark.parametrize("engine", ["vmap", "loop"])
@pytest.mark.parametrize(("case", "kind"), EVERY)
def test_the_outer_gradient_is_the_oracles(case, kind, engine):
    algorithm, episodes = build(case, kind, engine)
    learned = {name: p for name, p in algorithm.named_parameters() if p.requires_grad}
    losses, _ = algorithm(episodes)
    found = torch.autograd.grad(losses.mean(), list(learned.values()))  # raises where a learned parameter is not used
    wanted = torch.stack([ZOO[case][2](algorithm, *(Examples(*(v[t] for v in part)) for part in episodes)) for t in range(3)])
    torch.testing.assert_close(losses, wanted, atol=TOLERANCE, rtol=0)
    expected = torch.autograd.grad(wanted.mean(), list(learned.values()))
    assert max(gradient.abs().max() for gradient in expected) > 1e-4  # there is something to compare
    for name, ours, theirs in zip(learned, found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("case", ZOO)
def test_shares_add_up(case):
    assert_close(*build(case, "conv4_stride" if case == "mamlpp, norms" else "mlp", "vmap"), threads=2, chunk_size=1)


@pytest.mark.slow
@pytest.mark.parametrize("case", ZOO)
def test_compiled_steps_are_the_same(case):
    shares = assert_close(*build(case, "conv4_stride" if case == "mamlpp, norms" else "mlp", "vmap"), compile=True)
    assert None not in shares._compiled.values()


@pytest.mark.parametrize("case", [case for case, (cls, *_) in ZOO.items() if cls not in (Ridge, Matching)])
def test_checkpointing_changes_nothing(case):
    algorithm, episodes = build(case, "conv4_max", "vmap")
    plain = torch.autograd.grad(algorithm(episodes)[0].mean(), algorithm.trained())
    algorithm.checkpoint_inner = True
    for a, b in zip(plain, torch.autograd.grad(algorithm(episodes)[0].mean(), algorithm.trained()), strict=True):
        torch.testing.assert_close(a, b, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_protomaml_without_steps_is_a_prototypical_network(kind):
    """Up to |z|^2 of each query, which a linear head leaves out."""
    models = [make_model(kind) for _ in range(2)]
    episodes = classification_episodes(3, models[0][1])
    ours = ProtoMAML(models[0][0], CLASSIFICATION, engines.vmap, **HEADS, inner_lr=LR, adaptation_steps=0, first_order=False)
    theirs = ProtoNet(models[1][0], CLASSIFICATION, engines.vmap, **HEADS)
    (losses, answers), (their_losses, their_answers) = ours(episodes), theirs(episodes)
    torch.testing.assert_close(losses, their_losses, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(answers.log_softmax(-1), their_answers.log_softmax(-1), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("case", "permutes"),
    [("ridge", True), ("matching", True), ("protomaml", True), ("tied head", True), ("zero head", True), ("metacurvature", False)],
)
def test_renumbering_the_classes_renumbers_the_answers(case, permutes):
    """Of what treats all classes alike; not where each class has a row of its own."""
    algorithm, episodes = build(case, "mlp", "vmap")
    order = torch.tensor([2, 0, 1])
    renumbered = Examples(episodes.support.x, order[episodes.support.y])
    predictions, others = (algorithm.predict(algorithm.adapt(part), episodes.query.x) for part in (episodes.support, renumbered))
    same = torch.allclose(others[..., order], predictions, atol=1e-6)
    assert same is permutes


def test_ridge_regression_is_least_squares():
    """On linear features, with a penalty that vanishes."""
    model = MLP((2,), 1, [], "relu")
    algorithm = Ridge(model, REGRESSION, engines.vmap, None, None, strength=1e-12, scale=1.0, intercept=True, learned=True)
    x = torch.randn(2, 8, 2, generator=torch.Generator().manual_seed(0))
    y = x @ torch.tensor([[2.0], [-1.0]]) + 0.5
    predictions = algorithm.predict(algorithm.adapt(Examples(x, y)), x)
    torch.testing.assert_close(predictions, y, atol=1e-6, rtol=0)
    assert [name for name, _ in algorithm.named_parameters()] == ["log_strength"]


@pytest.mark.parametrize("engine", ["vmap", "loop"])
@pytest.mark.parametrize("kind", ["mlp", "conv4"])
def test_cavia_adapts_its_context_alone(kind, engine):
    shape = (4,) if kind == "mlp" else (1, 16, 16)
    torch.manual_seed(0)
    model = MLP(shape, WAYS, [8], "tanh", context=4) if kind == "mlp" else Conv4(shape, WAYS, 4, "batch", "stride", context=4)
    episodes = classification_episodes(3, shape)
    patterns = {"adapted": "*context", "meta_learned": ["*weight", "*bias"]}
    algorithm = MAML(model, CLASSIFICATION, getattr(engines, engine), 1.0, 2, False, **patterns)
    assert algorithm.counts()["adapted"] == 4
    losses, _ = algorithm(episodes)
    found = torch.autograd.grad(losses.mean(), algorithm.trained())
    (name,) = algorithm.slow_weights()
    total = 0.0
    for t in range(3):
        context = torch.zeros(4, requires_grad=True)
        for _ in range(2):
            loss = cross_entropy(functional_call(model, {name: context}, (episodes.support.x[t],)), episodes.support.y[t])
            context = context - torch.autograd.grad(loss, context, create_graph=True)[0]
        total = total + cross_entropy(functional_call(model, {name: context}, (episodes.query.x[t],)), episodes.query.y[t])
    for ours, theirs in zip(found, torch.autograd.grad(total / 3, algorithm.trained()), strict=True):
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("attention", [False, True])
def test_cnp_is_its_definition(attention):
    """The likelihood, and its gradient, example by example; an answer depends on no other query, nor on the order of examples."""
    torch.manual_seed(0)
    algorithm = CNP(nn.Identity(), REGRESSION, engines.vmap, (2,), 1, 8, 2, attention)
    generator = torch.Generator().manual_seed(1)
    episodes = Episode(*(Examples(torch.randn(3, n, 2, generator=generator), torch.randn(3, n, 1, generator=generator)) for n in (4, 5)))
    losses, predictions = algorithm(episodes)
    found = torch.autograd.grad(losses.mean(), algorithm.trained())
    wanted = []
    for t in range(3):
        support, query = (Examples(part.x[t], part.y[t]) for part in episodes)
        vectors = torch.stack([algorithm.encoder(torch.cat(pair)) for pair in zip(support.x, support.y, strict=True)])
        total = 0.0
        for row, (x, y) in enumerate(zip(query.x, query.y, strict=True)):
            share = torch.full((4,), 0.25)
            if attention:
                share = (torch.stack([algorithm.key(x) @ algorithm.key(seen) for seen in support.x]) / 8**0.5).softmax(0)
            mean, raw = algorithm.decoder(torch.cat([x, share @ vectors]))
            spread = 0.1 + 0.9 * nn.functional.softplus(raw)
            total = total + 0.5 * ((y - mean) / spread) ** 2 + spread.log() + 0.5 * torch.log(torch.tensor(2 * torch.pi))
            torch.testing.assert_close(mean, predictions[t, row, 0], atol=TOLERANCE, rtol=0)
        wanted.append(total.squeeze() / 5)
    for ours, theirs in zip(found, torch.autograd.grad(torch.stack(wanted).mean(), algorithm.trained()), strict=True):
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)
    assert_close(algorithm, episodes, threads=2)
    turned = Examples(*(v.flip(1) for v in episodes.support))
    torch.testing.assert_close(algorithm.predict(algorithm.adapt(turned), episodes.query.x[:, :1]), predictions[:, :1])


def test_the_likelihood_is_in_the_evidence(tmp_path):
    torch.set_default_dtype(torch.float32)  # as runs have
    results = run(compose_run(*TINY, "algo=cnp", "algo.width=8"), tmp_path)
    assert {"nll", "loss"} <= set(results["measures"]) and results["measures"]["nll"]["value"] != results["measures"]["loss"]["value"]
    assert "nll" in read_evidence(tmp_path / "evidence.csv").measures
    learner = innerloop.load(tmp_path).fit(torch.arange(4.0), torch.arange(4.0))
    assert learner.predict(torch.arange(3.0)).shape == (3,)
    with pytest.raises(InputError, match="algo=cnp predicts numbers, and this task's answers are none"):
        run(compose_run(*TINY, "algo=cnp", "task=glyphs"), tmp_path / "glyphs")


def test_the_weights_of_the_steps_move_to_the_last():
    """MAML++: equal parts at the start, at least 3 % of one while there are several, then the last step's loss alone."""
    algorithm, _ = build("mamlpp", "mlp", "vmap")
    algorithm.anneal(0.0)
    torch.testing.assert_close(algorithm.importance.data, torch.full((3,), 1 / 3))
    algorithm.anneal(0.25)
    torch.testing.assert_close(algorithm.importance.data, torch.tensor([1 / 6, 1 / 6, 2 / 3]))
    algorithm.anneal(0.499)
    torch.testing.assert_close(algorithm.importance.data, torch.tensor([0.01, 0.01, 0.98]))
    algorithm.anneal(0.5)
    assert algorithm.importance.tolist() == [0, 0, 1]


def test_steps_beyond_those_learned_take_the_last_rate():
    algorithm, episodes = build("rates per layer and step", "mlp", "vmap")
    assert torch.equal(algorithm.rate(0, 7), algorithm.rate(0, 1)) and not torch.equal(algorithm.rate(0, 0), algorithm.rate(0, 1))
    assert len(list(algorithm.trajectory(episodes.support, 5))) == 6


@pytest.mark.parametrize("cls", [MAML, FOMAML, ANIL])
def test_a_head_that_cannot_be_tied_is_refused(cls):
    arguments = {"inner_lr": 0.1, "adaptation_steps": 1, **({} if cls is FOMAML else {"first_order": False})}
    with pytest.raises(InputError, match="algo.head must be one of own, tied, zero, got 'both'"):
        cls(make_model("mlp")[0], CLASSIFICATION, engines.vmap, **arguments, head="both")
    with pytest.raises(InputError, match="algo.head=tied is for classes"):
        cls(MLP((1,), 1, [4], "relu"), REGRESSION, engines.vmap, **arguments, head="tied")
    with pytest.raises(InputError, match="algo.head=zero is for a layer `head` that each task adapts"):
        cls(make_model("mlp")[0], CLASSIFICATION, engines.vmap, **arguments, adapted="body.*", head="zero")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda model: Ridge(nn.Linear(2, 2), CLASSIFICATION, engines.vmap, 3, 3, 1.0, 1.0, True, True), "replaces the last layer"),
        (lambda model: Ridge(model, CLASSIFICATION, engines.vmap, 3, 3, -1.0, 1.0, True, True), "algo.strength must be a number > 0"),
        (lambda model: Matching(model, REGRESSION, engines.vmap, 3, 3, 1.0), "classifies, and this task is regression"),
        (lambda model: ProtoMAML(model, REGRESSION, engines.vmap, 3, 3, 0.1, 1), "begins with the prototypes of classes"),
        (lambda model: LearnedRates(model, CLASSIFICATION, engines.vmap, 0.1, 1, "all", True), "algo.per must be one of"),
        (lambda model: MAMLpp(model, CLASSIFICATION, engines.vmap, 0.1, 2, "one", True, 2, False), "algo.multi_step must be a part"),
        (lambda model: MAMLpp(model, CLASSIFICATION, engines.vmap, 0.1, 2, "one", True, 0, True), "needs norm layers"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make(make_model("mlp")[0])


@pytest.mark.parametrize("kind", ["mlp", "conv4_max"])
def test_metacurvature_is_that_of_learn2learn(kind):
    """Its GBML with MetaCurvatureTransform, whose matrix of the window stands on the other side."""
    from innerloop.algorithms.learn2learn import l2l

    algorithm, episodes = build("metacurvature", kind, "loop")
    losses, _ = algorithm(episodes)
    losses.mean().backward()
    ours = [(p.grad, m) for p, m in zip(algorithm.model.parameters(), algorithm.curvature, strict=True)]
    model = make_model(kind)[0]
    theirs = l2l.algorithms.GBML(model, transform=l2l.optim.MetaCurvatureTransform, lr=LR, adapt_transform=False)
    transforms = list(theirs.compute_update.transforms_modules)
    assert len(transforms) == len(ours)
    with torch.no_grad():
        for transform, (_, matrices) in zip(transforms, ours, strict=True):
            if transform.dim == 1:
                transform.mc.copy_(matrices[0])
                continue
            transform.mc_in.copy_(matrices[0])
            transform.mc_out.copy_(matrices[1])
            if transform.dim == 4:
                transform.mc_f.copy_(matrices[2].T)
    for t in range(3):
        clone = theirs.clone()
        for _ in range(algorithm.adaptation_steps):
            clone.adapt(cross_entropy(clone(episodes.support.x[t]), episodes.support.y[t]))
        (cross_entropy(clone(episodes.query.x[t]), episodes.query.y[t]) / 3).backward()
    for (gradient, matrices), weight, transform in zip(ours, model.parameters(), transforms, strict=True):
        torch.testing.assert_close(gradient, weight.grad, atol=TOLERANCE, rtol=0)
        own = transform.mc.grad if transform.dim == 1 else transform.mc_in.grad
        torch.testing.assert_close(matrices[0].grad, own, atol=TOLERANCE, rtol=0)
        if transform.dim == 4:
            torch.testing.assert_close(matrices[2].grad, transform.mc_f.grad.T, atol=TOLERANCE, rtol=0)


class Quadratic(nn.Module):
    """Predicts its weights, scaled: support loss mean_i scale_i^2 (w_i - a_i)^2, whose Hessian is diagonal."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 3.0]))

    def forward(self, x):
        return (torch.tensor([0.5, 1.0, 1.5, 2.0]) * self.weight).expand(len(x), 4)


@pytest.mark.parametrize("engine", ["vmap", "loop"])
def test_imaml_has_the_closed_form_on_a_quadratic(engine):
    """strength (H + strength)^-1 grad L_query, at as many conjugate gradients as dimensions; and not with fewer."""
    scale = torch.tensor([0.5, 1.0, 1.5, 2.0])
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(3, 2, 4, generator=generator)
    episodes = Episode(*(Examples(torch.zeros(3, 1, 1), y[:, i : i + 1]) for i in range(2)))
    found = {}
    for cg_steps in (4, 1):
        algorithm = IMAML(Quadratic(), REGRESSION, getattr(engines, engine), 0.1, 400, 0.7, cg_steps)
        losses, _ = algorithm(episodes)
        (found[cg_steps],) = torch.autograd.grad(losses.mean(), algorithm.trained())
    slow, hessian = algorithm.model.weight.detach(), 2 * scale**2 / 4
    phi = (hessian * y[:, 0] / scale + 0.7 * slow) / (hessian + 0.7)
    query = 2 * scale * (scale * phi - y[:, 1]) / 4
    expected = (0.7 * query / (hessian + 0.7)).mean(0)
    torch.testing.assert_close(found[4], expected, atol=1e-12, rtol=0)
    assert (found[1] - expected).abs().max() > 1e-4 and algorithm.residual < 1e-9 and algorithm.stopped == 0


@pytest.mark.parametrize("engine", ["vmap", "loop"])
@pytest.mark.parametrize("kind", ["mlp", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_imaml_is_the_limit_of_many_steps(kind, engine):
    """Head alone, which has a minimum: the gradient of 300 unrolled proximal steps, that of the shared body included."""
    model, shape = make_model(kind)
    episodes = classification_episodes(3, shape)
    rate, strength = (0.5, 0.5) if kind == "mlp" else (0.2, 1.0)
    algorithm = IMAML(model, CLASSIFICATION, getattr(engines, engine), rate, 300, strength, 60, adapted="head.*")
    losses, _ = algorithm(episodes)
    found = torch.autograd.grad(losses.mean(), algorithm.trained())
    total, head = 0.0, ["head.weight", "head.bias"]
    for t in range(3):
        support, query = (Examples(part.x[t], part.y[t]) for part in episodes)
        slow = slow_of(algorithm)
        weights = inner(
            algorithm, slow, head, support, lambda n, i, w, g, at, slow=slow: w - rate * (g + strength * (w - slow[n])), 300
        )  # fmt: skip
        total = total + plain_loss(algorithm, weights, query)
    for ours, theirs in zip(found, torch.autograd.grad(total / 3, algorithm.trained()), strict=True):
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)
    assert_close(algorithm, episodes, threads=2, chunk_size=1)


def test_imaml_stops_where_the_curvature_is_not_positive():
    """That task alone, at the first-order gradient or later; the others go on, and no number is lost."""
    b = [torch.tensor([[1.0, 2.0], [1.0, 2.0]])]
    matrices = torch.stack([torch.diag(torch.tensor([2.0, 3.0])), torch.diag(torch.tensor([-1.0, -4.0]))])
    x, alive = conjugate_gradients(lambda v: [torch.einsum("tij,tj->ti", matrices, v[0])], b, 2)
    torch.testing.assert_close(x[0][0], torch.tensor([0.5, 2 / 3]))
    assert alive.tolist() == [True, False] and torch.equal(x[0][1], b[0][1])


def test_imaml_logs_how_far_it_is(tmp_path):
    torch.set_default_dtype(torch.float32)
    run(compose_run(*TINY, "algo=imaml", "trainer.log_every_n_steps=1"), tmp_path)
    header = (tmp_path / "csv" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/residual", "train/stopped"} <= set(header)


@pytest.mark.parametrize("algo", ["mamlpp", "imaml", "ridge", "metacurvature"])
def test_a_run_that_was_interrupted_goes_on_to_the_same_numbers(algo, tmp_path):
    """In the middle of MAML++'s annealing too."""
    torch.set_default_dtype(torch.float32)
    anneal = ["algo.multi_step=0.9", "algo.inner_lr=0.01", "algo.adaptation_steps=2"] if algo == "mamlpp" else []
    cfg = compose_run(*TINY, f"algo={algo}", "outer_steps=8", "val_every=4", *anneal)
    whole = run(cfg, tmp_path)
    for name in ("results.json", "checkpoints/step-00000008.ckpt"):
        (tmp_path / name).unlink()
    assert run(cfg, tmp_path)["curve"] == whole["curve"]


def reads_examples(objective=CLASSIFICATION, outputs=WAYS):
    torch.manual_seed(0)
    algorithm = InContextExamples(MLP((4,), outputs, [8], "tanh"), objective, engines.vmap, (4,), outputs, None, 8, 2, 2)
    with torch.no_grad():
        for parameter in algorithm.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # off zero, where blocks add nothing
    return algorithm


def transductive_head(method, ways=WAYS):
    torch.manual_seed(0)
    return Transductive(MLP((4,), ways, [8], "tanh"), CLASSIFICATION, engines.vmap, ways, ways, 7, method)


@pytest.mark.parametrize("make", [reads_examples, *(lambda method=method: transductive_head(method) for method in METHODS)])
def test_what_reads_a_set_does_not_care_how_classes_are_numbered(make):
    algorithm, episodes = make().eval(), classification_episodes(3, (4,))
    order = torch.tensor([2, 0, 1])
    parts = episodes.support, Examples(episodes.support.x, order[episodes.support.y])
    predictions, others = (algorithm.predict(algorithm.adapt(part), episodes.query.x) for part in parts)
    torch.testing.assert_close(others[..., order], predictions, atol=1e-6, rtol=0)
    assert not torch.allclose(others, predictions, atol=1e-3)  # the numbers did move


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_a_query_is_read_beside_the_examples_alone(kind):
    """Other queries change no answer, and examples do; an oracle with one query at a time; threads add up."""
    algorithm = reads_examples() if kind == "classes" else reads_examples(REGRESSION, 1)
    episodes = classification_episodes(3, (4,))
    if kind == "numbers":
        episodes = Episode(*(Examples(x, y.unsqueeze(-1).double()) for x, y in episodes))
    adapted = algorithm.adapt(episodes.support)
    predictions = algorithm.predict(adapted, episodes.query.x)
    alone = torch.cat([algorithm.predict(adapted, episodes.query.x[:, q : q + 1]) for q in range(episodes.query.x.shape[1])], 1)
    torch.testing.assert_close(alone, predictions, atol=TOLERANCE, rtol=0)
    x, y = episodes.support
    other = algorithm.adapt(Examples(x.clone().index_fill_(1, torch.tensor([0]), 3.0), y))
    assert (algorithm.predict(other, episodes.query.x) - predictions).abs().max() > 1e-3
    assert_close(algorithm, episodes, threads=2, chunk_size=1)
    torch.testing.assert_close(
        algorithm.network((adapted[0][:1], None if kind == "numbers" else adapted[1][:1]))(episodes.query.x[0]), predictions[0]
    )


def clusters(tasks, of_class):
    """Queries around three corners, and one example of each class farther off than they are: all of length 1."""
    generator = torch.Generator().manual_seed(0)
    corners, truth = torch.eye(3, 8), torch.tensor(of_class)
    query = corners[truth] + 0.25 * torch.randn(tasks, len(truth), 8, generator=generator)
    support = corners + 0.5 * torch.randn(tasks, 3, 8, generator=generator)
    return *(nn.functional.normalize(x, dim=-1) for x in (support, query)), torch.eye(3).expand(tasks, 3, 3), truth


def right(method, support, query, members, truth):
    return (METHODS[method](support, members, query).argmax(-1) == truth).double().mean()


@pytest.mark.parametrize("method", METHODS)
def test_transductive_heads_use_the_queries(method):
    """They do better on clusters that only the queries show; alone, each task as in company; and simpleshot does not look at them."""
    support, query, members, truth = clusters(40, [0, 1, 2] * 15)
    logits = METHODS[method](support, members, query)
    torch.testing.assert_close(METHODS[method](support[:1], members[:1], query[:1]), logits[:1], atol=1e-6, rtol=1e-6)
    gain = right(method, support, query, members, truth) - right("simpleshot", support, query, members, truth)
    assert gain > 0.01 if method != "simpleshot" else gain == 0
    alone = METHODS[method](support, members, query[:, :1])
    assert torch.allclose(alone, logits[:, :1]) is (method == "simpleshot")


def test_what_counts_on_balanced_queries_falls_without_them():
    """All queries of one class: bd_cspn, pt_map and tim spread them over the others, alpha_tim less, laplacian_shot not."""
    support, query, members, truth = clusters(40, [0] * 45)
    found = {method: right(method, support, query, members, truth) for method in METHODS}
    assert max(found["bd_cspn"], found["pt_map"], found["tim"]) < found["alpha_tim"] < found["simpleshot"] < found["laplacian_shot"] + 0.05
    assert not METHODS["tim"](support, members, query).requires_grad


def test_the_centre_is_the_mean_of_the_training_features():
    """In squares: its gradient is what is missing to the mean, and the features get none of it."""
    algorithm, episodes = transductive_head("simpleshot"), classification_episodes(3, (4,))
    algorithm(episodes)[0].mean().backward()
    features = torch.cat([algorithm.model(part.x.flatten(0, 1)).view(3, -1, 8) for part in episodes], 1)
    torch.testing.assert_close(algorithm.centre.grad, -features.mean((0, 1)))
    plain = transductive_head("simpleshot")
    x, y = (torch.cat(pair, 1) for pair in zip(*episodes, strict=True))
    cross_entropy(plain.classifier(plain.model(x.flatten(0, 1))), y.flatten()).backward()
    torch.testing.assert_close(algorithm.model.body[1].weight.grad, plain.model.body[1].weight.grad)


def test_cosine_classifier_has_no_length():
    algorithm = BaselinePP(MLP((4,), WAYS, [8], "tanh"), CLASSIFICATION, engines.vmap, 7, 0.1, 10.0, adapted="head.*")
    episodes = classification_episodes(3, (4,))
    expected = nn.functional.cosine_similarity(
        algorithm.model.body(episodes.query.x[0])[:, None], algorithm.model.head.weight, dim=-1
    ).expand(-1, WAYS)
    predictions = algorithm.predict(algorithm.initial_weights(episodes.support), episodes.query.x)
    torch.testing.assert_close(predictions[0], 10 * expected)
    *_, fitted = algorithm.trajectory(episodes.support, 300)
    after = algorithm.predict(fitted, episodes.support.x)
    assert (
        CLASSIFICATION.loss(after, episodes.support.y).mean()
        < 0.5
        * CLASSIFICATION.loss(algorithm.predict(algorithm.initial_weights(episodes.support), episodes.support.x), episodes.support.y).mean()
    )
    assert not algorithm.model.head.weight.requires_grad and algorithm(episodes)[1].shape[-1] == 7


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "learned", "momentum"])
def test_a_gradient_of_zero_is_no_nan(optimizer):
    """Of units that are off: the derivative of a root at zero would be infinite."""
    torch.manual_seed(0)
    model = MLP((1,), 1, [6], "relu")
    with torch.no_grad():
        model.body[1].bias.fill_(-50)  # off for all inputs
    algorithm = MAML(model, REGRESSION, engines.vmap, 0.1, 3, inner_optimizer=optimizer)
    x = torch.rand(2, 4, 1)
    losses, _ = algorithm(Episode(Examples(x, x.sin()), Examples(x, x.cos())))
    gradients = torch.autograd.grad(losses.sum(), algorithm.trained())
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("algo", ["joint", "scratch", "reptile", "imaml"])
def test_a_learned_optimizer_that_nothing_would_train_is_refused(algo, tmp_path):
    with pytest.raises(
        InputError, match=r"algo\.inner_optimizer must be one of sgd, momentum, adam, rmsprop(, kept_rmsprop)?, got 'learned'"
    ):
        run(compose_run(*TINY, f"algo={algo}", "algo.inner_optimizer=learned"), tmp_path)


class Counting(MLP):
    """Counts the forward passes of its body, of all tasks together."""

    calls = 0

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.body.register_forward_hook(lambda *_: setattr(Counting, "calls", Counting.calls + 1))


@pytest.mark.parametrize("algo", ["anil", "metasgd", "learned_loss", "imaml"])
def test_a_body_that_is_not_adapted_runs_once_an_episode(algo, tmp_path, monkeypatch):
    """And once for the queries; nothing else changes."""
    import innerloop.models.mlp as home

    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(home, "Counting", Counting, raising=False)
    cfg = compose_run(
        *TINY, f"algo={algo}", "algo.adapted=head.*", "algo.adaptation_steps=4", "model._target_=innerloop.models.mlp.Counting"
    )
    built = build_run(cfg)
    algorithm, episodes = built.learner.algorithm, built.data.val_episodes.meta_batch(range(2))
    assert algorithm.model.ends_in_head
    found = {}
    for once in (True, False):
        algorithm.head_only, Counting.calls = once, 0
        losses, predictions = algorithm(episodes)
        passes = Counting.calls
        found[once] = [predictions, *torch.autograd.grad(losses.sum(), algorithm.trained(), allow_unused=True)]
        expected = 2 + (algo == "imaml") if once else 5 + (algo == "imaml")
        assert passes == expected
    for a, b in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_a_model_that_does_not_end_in_its_head_is_left_alone():
    class Twice(MLP):
        def forward(self, x):
            return super().forward(x) * 2

    x = torch.zeros(2, 4)
    assert ends_in_head(MLP((4,), 3, [8], "relu"), x) and not ends_in_head(Twice((4,), 3, [8], "relu"), x)
    assert not ends_in_head(nn.Linear(4, 3), x)


@pytest.mark.parametrize("kind", ["mlp", "conv4"])
def test_warp_layers_start_as_the_identity_and_are_not_adapted(kind):
    torch.manual_seed(0)
    shape = (4,) if kind == "mlp" else (1, 16, 16)
    make = (
        (lambda **more: MLP(shape, WAYS, [8], "tanh", **more))
        if kind == "mlp"
        else (lambda **more: Conv4(shape, WAYS, 8, "batch", "stride", **more))
    )
    warped, plain = make(warp=True), make()
    names = {name: name.replace("layer.", "") for name, _ in warped.named_parameters() if ".warp." not in name}
    plain.load_state_dict({short: warped.get_parameter(name) for name, short in names.items()})
    x = classification_episodes(1, shape).support.x[0]
    torch.testing.assert_close(warped(x), plain(x))
    algorithm = MAML(warped, CLASSIFICATION, engines.vmap, 0.1, 1, adapted=["*", "!*.warp.*"])
    assert set(algorithm.slow_weights()) == set(names) and len(algorithm.trained()) > len(names)


def test_the_released_imaml_is_near_first_order():
    """Its system on a quadratic in closed form, after one pull; no pull in evaluation, whose steps are MAML's."""
    scale, start = torch.tensor([0.5, 1.0, 1.5, 2.0]), torch.tensor([1.0, -2.0, 0.5, 3.0])
    y = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(0))
    episodes = Episode(*(Examples(torch.zeros(1, 1, 1), y[:, i : i + 1]) for i in range(2)))
    algorithm = IMAMLReleased(Quadratic(), REGRESSION, engines.vmap, 0.1, 3, 0.7, 4)
    phi, hessian = start.clone(), 2 * scale**2 / 4
    for _ in range(3):
        phi = phi - 0.1 * 2 * scale * (scale * phi - y[0, 0]) / 4
    with torch.no_grad():
        algorithm.eval()
        torch.testing.assert_close(algorithm.adapt(episodes.support)["weight"][0], phi, atol=1e-12, rtol=0)
    phi = phi - 0.1 * 0.7 * (phi - start)
    losses, _ = algorithm.train()(episodes)
    query = 2 * scale * (scale * phi - y[0, 1]) / 4
    expected = query / (2 + hessian / 10.7)
    torch.testing.assert_close(torch.autograd.grad(losses.mean(), algorithm.trained())[0], expected, atol=1e-12, rtol=0)


EVERY_LEARNER = [path.stem for path in sorted((CONF / "algo").glob("*.yaml")) if path.stem not in ("in_context", "sinusoid_oracle")]


@pytest.mark.slow
@pytest.mark.parametrize("algo", EVERY_LEARNER)
def test_other_ways_shots_and_steps_give_a_figure_or_a_sentence(algo, tmp_path):
    torch.set_default_dtype(torch.float32)
    task = ["task=sinusoid"] if algo in ("cnp", "cavia") else ["task=glyphs", "task.ways=3", "task.train_ways=3", "model.filters=4"]
    run(compose_run(*TINY, f"algo={algo}", *task, "outer_steps=4", "val_every=4"), tmp_path)
    others = ["task.shots=3"], ["eval_adaptation_steps=7"], *([["task.ways=5", "task.train_ways=5"]] if "task=glyphs" in task else [])
    for number, overrides in enumerate(others):
        try:
            results, _ = rescore(tmp_path, [*overrides, f"test_episodes={4 + number}"])
        except InputError as error:
            assert "ways" in str(error)
        else:
            assert results["value"] is not None and all(point["value"] is not None for point in results["curve"])
