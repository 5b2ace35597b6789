"""Policies: the outer gradient against the truth of small Markov decision processes, worlds against their definitions, and runs."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

import innerloop
from innerloop.algorithms.fomaml import FOMAML
from innerloop.algorithms.learn2learn import learn2learn_class
from innerloop.algorithms.maml import MAML
from innerloop.config import InputError
from innerloop.engine import forward as engines
from innerloop.episode import Episode, Examples
from innerloop.models.policy import Policy
from innerloop.models.recurrent_policy import RecurrentPolicy
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
from innerloop.tasks.worlds.actions import Continuous, Discrete
from innerloop.tasks.worlds.bandit import Arms, bayes_optimum
from innerloop.tasks.worlds.cartpole import Cart
from innerloop.tasks.worlds.navigation import Plane
from innerloop.tasks.worlds.pendulum import Swing
from innerloop.tasks.worlds.returns import Columns, Settings, advantages, discounted, return_objective
from innerloop.tasks.worlds.tabular_mdp import Table
from innerloop.tasks.worlds.world import Rollouts, normals
from tests.conftest import TINY, compose_run

STATES, ACTIONS, HORIZON, TASKS, LR = 3, 2, 3, 4, 2.0
POLICIES = ["eval_adaptation_steps=2", "task.shots=3", "task.queries=3", "reuse=2", "model.hidden=[8]"]
SMALL = [*TINY]


def processes():
    """Transitions (tasks, states, actions, states) and rewards (tasks, states, actions)."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(TASKS, STATES, ACTIONS, STATES, generator=generator).softmax(-1), torch.randn(
        TASKS, STATES, ACTIONS, generator=generator
    )


def every_rollout():
    """Of states and actions: (rollouts, horizon) each, from state 0."""
    states = [[0, *rest] for rest in itertools.product(range(STATES), repeat=HORIZON - 1)]
    both = [(s, a) for s in states for a in itertools.product(range(ACTIONS), repeat=HORIZON)]
    return torch.tensor([s for s, _ in both]), torch.tensor([a for _, a in both])


def true_return(transitions, rewards, logits, steps=HORIZON):
    """Of one task, by dynamic programming, from state 0; with the values of each state and step."""
    policy, value, values = logits.softmax(-1), torch.zeros(STATES), []
    for _ in range(steps):
        q = rewards + transitions @ value
        value = (policy * q).sum(-1)
        values.insert(0, (q, value))
    return value[0], values


def enumerated(surrogate, baseline):
    """The objective whose `look` gives every rollout, weighted by its chance: nothing is sampled."""
    transitions, rewards = processes()
    states, actions = every_rollout()
    objective = return_objective(Table(STATES, ACTIONS, HORIZON), Settings(surrogate=surrogate), 1, 1)

    @torch.no_grad()
    def look(policy, part, at):
        x = nn.functional.one_hot(states, STATES).to(rewards.dtype).flatten(0, 1).expand(len(part.x), -1, -1)
        logits = policy(x)
        of_states = policy(torch.eye(STATES).expand(len(part.x), -1, -1))
        log_prob = logits.log_softmax(-1).unflatten(1, states.shape).gather(-1, actions.expand(len(part.x), -1, -1).unsqueeze(-1))[..., 0]
        chance, reward, above = torch.zeros(3, len(part.x), *states.shape).unbind(0)
        for index, task in enumerate(part.x[:, 0].long().tolist()):
            moves = transitions[task][states[:, :-1], actions[:, :-1], states[:, 1:]].prod(-1)
            chance[index] = (moves * log_prob[index].sum(-1).exp()).unsqueeze(-1)
            reward[index] = rewards[task][states, actions]
            above[index] = discounted(reward[index], 1.0)
            if baseline:
                _, values = true_return(transitions[task], rewards[task], of_states[index])
                for step, (_, value) in enumerate(values):
                    above[index, :, step] -= value[states[:, step]]
        found = Rollouts(x, logits, actions.expand(len(part.x), -1, -1).unsqueeze(-1).to(x.dtype), reward, chance, torch.zeros_like(chance))
        y = Columns(Discrete(ACTIONS)).pack(found, log_prob, above)
        return Examples(x, y.flatten(1, 2).detach())

    return replace(objective, look=look)


class Logits(nn.Module):
    """A table of logits, or a small network of one-hot states."""

    def __init__(self, tabular):
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Linear(STATES, ACTIONS, bias=False)] if tabular else [nn.Linear(STATES, 5), nn.Tanh(), nn.Linear(5, ACTIONS)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


def truth(model, steps):
    """The gradient of minus the mean return after `steps` of exact policy gradient, by autograd through dynamic programming."""
    transitions, rewards = processes()
    slow, total = dict(model.named_parameters()), 0.0
    for task in range(TASKS):
        weights = slow
        for _ in range(steps):
            value, _ = true_return(transitions[task], rewards[task], functional_call(model, weights, (torch.eye(STATES),)))
            gradients = torch.autograd.grad(value / HORIZON, list(weights.values()), create_graph=True)
            weights = {name: w + LR * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
        value, _ = true_return(transitions[task], rewards[task], functional_call(model, weights, (torch.eye(STATES),)))
        total = total - value / HORIZON
    return torch.cat([g.flatten() for g in torch.autograd.grad(total / TASKS, list(slow.values()))])


def outer_gradient(cls, model, engine, steps, surrogate="dice", baseline=True, record=False):
    cls = learn2learn_class(cls) if engine == "learn2learn" else cls
    algorithm = cls(model, enumerated(surrogate, baseline), getattr(engines, engine), LR, steps)
    tasks = Examples(torch.arange(TASKS, dtype=torch.get_default_dtype()).unsqueeze(-1), torch.zeros(TASKS, 1, dtype=torch.long))
    episodes = Episode(tasks, tasks)
    if record:
        recorded = algorithm.recorded(episodes)
        part = replace(algorithm.objective, look=lambda _, part, at: part if at is None else Examples(part.x[:, at], part.y[:, at]))
        algorithm.objective = part
        losses, _ = algorithm(recorded)
    else:
        weights = algorithm.adapt(tasks)
        query = algorithm.look(weights, tasks, None)
        losses = algorithm.outer_loss(algorithm.predict(weights, query.x), query.y)
    return torch.cat([g.flatten() for g in torch.autograd.grad(losses.mean(), list(model.parameters()))])


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize("engine", ["vmap", "loop", "learn2learn"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_dice_has_the_true_outer_gradient(steps, engine, record, float64):
    """With the exact baseline and without one, for a network of states, by autograd through dynamic programming; recorded or not."""
    model = Logits(tabular=False)
    for baseline in (True, False):
        assert relative(outer_gradient(MAML, model, engine, steps, "dice", baseline, record), truth(model, steps)) < 1e-12


def test_the_other_surrogates_are_biased_as_they_are(float64):
    """Of a tabular policy, one step: lvc a little, vpg a lot, and with an exact baseline vpg is first order to the last digit."""
    model = Logits(tabular=True)
    exact = truth(model, 1)
    first = outer_gradient(FOMAML, model, "vmap", 1)
    errors = {(s, b): relative(outer_gradient(MAML, model, "vmap", 1, s, b), exact) for s in ("vpg", "lvc") for b in (True, False)}
    assert relative(outer_gradient(MAML, model, "vmap", 1, "vpg", True), first) < 1e-12
    assert errors == pytest.approx({("vpg", True): 0.0533, ("vpg", False): 0.303, ("lvc", True): 0.0166, ("lvc", False): 0.0166}, abs=5e-4)
    assert relative(first, exact) == pytest.approx(0.0533, abs=5e-4)


def bandits_of_every_kind(chances, surrogate, explore):
    """One bandit, and all sets of three pulls that a policy might learn from, as tasks; queries are both arms with their chances."""
    arms, rewards = (
        torch.tensor([*itertools.product(range(2), repeat=3)]).repeat_interleave(8, 0),
        torch.tensor([*itertools.product([0.0, 1.0], repeat=3)]).repeat(8, 1),
    )
    settings = Settings(surrogate=surrogate, normalise=False, explore=explore)
    objective = return_objective(Arms(2, 1), settings, 3, 2)

    @torch.no_grad()
    def look(policy, part, at):
        x = torch.ones(64, 2 if at is None else 3, 1)
        logits = policy(x)
        if at is None:
            action, reward = torch.arange(2.0).expand(64, -1), 2 * chances.expand(64, -1)  # scores are means over arms
            there = logits.softmax(-1)[:, 0]
            advantage = chances.expand(64, -1)
        else:
            action, reward, there, advantage = arms.to(x.dtype), rewards, torch.ones(64, 3), rewards
        log_prob = Discrete(2).log_prob(logits, action.unsqueeze(-1))
        return Examples(x, torch.stack([action, log_prob, advantage, torch.zeros_like(there), reward, there], -1))

    return replace(objective, look=look), arms, rewards


def chance_of(logits, chances, arms, rewards):
    """Of each set of pulls."""
    paid = chances[arms]
    return (logits.softmax(-1)[arms] * (rewards * paid + (1 - rewards) * (1 - paid))).prod(1)


def test_the_exploration_term_counts_how_the_rollouts_came_about(float64):
    """E-MAML, on a bandit of which every set of pulls is enumerated: exact with the term, and a quarter off without it."""
    chances, model = torch.tensor([0.9, 0.2]), nn.Linear(1, 2, bias=False)
    nn.init.constant_(model.weight, 0.0)
    model.weight.data[0] = 0.3
    found = {}
    for explore in (True, False):
        objective, arms, rewards = bandits_of_every_kind(chances, "vpg", explore)
        algorithm = MAML(model, objective, engines.vmap, 1.0, 1)
        tasks = Examples(torch.zeros(64, 1), torch.zeros(64, 1, dtype=torch.long))
        recorded = algorithm.recorded(Episode(tasks, tasks))
        algorithm.objective = replace(objective, look=lambda _, part, at: part if at is None else Examples(part.x[:, at], part.y[:, at]))
        losses, _ = algorithm(recorded)
        weights = chance_of(model.weight[:, 0], chances, arms, rewards).detach()
        (found[explore],) = torch.autograd.grad((weights * losses).sum(), [model.weight])

    logits = model.weight[:, 0]
    gradients = [  # of the inner loss of each set
        torch.autograd.grad(-(rewards[i] * logits.log_softmax(-1)[arms[i]]).mean(), [logits], create_graph=True)[0] for i in range(64)
    ]
    returns = torch.stack([(logits - g).softmax(-1) @ chances for g in gradients])
    (exact,) = torch.autograd.grad(-(chance_of(logits, chances, arms, rewards) * returns).sum(), [model.weight])
    # The baseline is the mean of the other tasks: without bias where tasks are drawn; here, where all are there once, 64/63 of a constant's
    assert relative(found[False] + 63 / 64 * (found[True] - found[False]), exact) < 1e-12
    assert relative(found[False], exact) > 0.1


@pytest.mark.parametrize("actions", [Continuous(2), Discrete(3)])
def test_actions_are_as_likely_as_they_say(actions, float64):
    """The density sums to one, samples come as often, and the divergence is the mean log ratio."""
    generator = torch.Generator().manual_seed(0)
    old, new = torch.randn(2, actions.parameters, generator=generator) / 2
    drawn = actions.sample(old.expand(200_000, -1), torch.randn(200_000, actions.numbers, generator=generator))
    log_old, log_new = (actions.log_prob(p.expand(len(drawn), -1), drawn) for p in (old, new))
    assert (log_old - log_new).mean().item() == pytest.approx(actions.divergence(old, new).item(), abs=0.02)
    if isinstance(actions, Discrete):
        shares = torch.bincount(drawn[:, 0].long(), minlength=3) / len(drawn)
        torch.testing.assert_close(shares.double(), old.softmax(-1), atol=0.01, rtol=0)
    else:
        expected = torch.distributions.Normal(old[:2], old[2:].exp()).log_prob(drawn).sum(-1)
        torch.testing.assert_close(log_old, expected)


def rollouts(there, rewards, observations=None):
    there, rewards = torch.tensor(there)[None], torch.tensor(rewards, dtype=torch.get_default_dtype())[None]
    observations = torch.zeros(*rewards.shape, 1) if observations is None else observations
    return Rollouts(observations, torch.zeros(*rewards.shape, 2), torch.zeros(*rewards.shape, 1), rewards, there, there)


def test_advantages_stop_at_the_end(float64):
    """What comes after an end counts for nothing, neither in returns, nor in the baseline, nor in normalisation."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(4, 5, generator=generator).tolist()
    there = [[True] * 5, [True] * 3 + [False] * 2, [True] * 5, [True] + [False] * 4]
    other = [[r if t else 99.0 for r, t in zip(*row, strict=True)] for row in zip(rewards, there, strict=True)]
    settings = Settings(discount=0.9, trace=0.8)
    found = advantages(rollouts(there, rewards), settings)
    torch.testing.assert_close(found, advantages(rollouts(there, other), settings))
    kept = found[torch.tensor(there)[None]]
    assert (found[~torch.tensor(there)[None]] == 0).all()
    assert kept.mean().abs() < 1e-9 and kept.std(correction=0) == pytest.approx(1.0, abs=1e-6)
    plain = advantages(rollouts(there, rewards), Settings(discount=0.9, trace=1.0, normalise=False))
    scaled = advantages(rollouts(there, (10 * np.array(rewards)).tolist()), Settings(discount=0.9, trace=1.0, normalise=False))
    torch.testing.assert_close(scaled, 10 * plain, atol=1e-4, rtol=1e-4)


def test_advantages_are_those_of_the_definition(float64):
    """Sum of delta discounted by discount * trace, with the values of a least-squares fit."""
    generator = torch.Generator().manual_seed(0)
    observations, rewards = torch.randn(1, 6, 4, 2, generator=generator), torch.randn(1, 6, 4, generator=generator)
    found = Rollouts(observations, observations, observations, rewards, *[torch.ones(1, 6, 4, dtype=torch.bool)] * 2)
    settings = Settings(discount=0.9, trace=0.7, normalise=False)
    returns = np.array([[sum(0.9**k * rewards[0, i, t + k].item() for k in range(4 - t)) for t in range(4)] for i in range(6)])
    time = np.tile(np.arange(4) / 100, (6, 1))[..., None]
    x = observations[0].numpy()
    features = np.concatenate([x, x**2, time, time**2, time**3, np.ones_like(time)], -1).reshape(24, -1)
    weights = np.linalg.solve(features.T @ features + 1e-5 * np.eye(features.shape[1]), features.T @ returns.ravel())
    values = np.concatenate([(features @ weights).reshape(6, 4), np.zeros((6, 1))], 1)
    delta = rewards[0].numpy() + 0.9 * values[:, 1:] - values[:, :-1]
    expected = [[sum((0.9 * 0.7) ** k * delta[i, t + k] for k in range(4 - t)) for t in range(4)] for i in range(6)]
    np.testing.assert_allclose(advantages(found, settings)[0].numpy(), expected, atol=1e-9)


def test_rollouts_are_a_function_of_policy_task_seed_and_step():
    """In company, alone, or in another order, to the bit; another step or seed draws other numbers."""
    world, task, seeds = Plane(7), torch.rand(3, 2) - 0.5, torch.tensor([5, 6, 2**61])
    policy = lambda x: torch.cat([x, torch.zeros_like(x)], -1)  # noqa: E731
    found = world.roll_out(policy, task, seeds, 4, 1)
    for index in range(3):
        alone = world.roll_out(policy, task[index : index + 1], seeds[index : index + 1], 4, 1)
        assert all(torch.equal(a[0], b[index]) for a, b in zip(alone, found, strict=True))
    assert not torch.equal(found.actions, world.roll_out(policy, task, seeds, 4, 2).actions)
    assert torch.equal(normals(seeds, 0, 5)[2], normals(seeds[2:], 0, 5)[0]) and not torch.equal(
        normals(seeds, 0, 5), normals(seeds + 1, 0, 5)
    )


def test_a_rollout_ends_at_the_goal_and_its_return_too():
    world, task = Plane(10), torch.tensor([[0.2, 0.0]])
    straight = lambda x: torch.cat([torch.ones_like(x[..., :1]), 0 * x[..., :1], torch.full_like(x, -20.0)], -1)  # noqa: E731
    found = world.roll_out(straight, task, torch.tensor([0]), 2, 0)
    assert found.there[0, 0].tolist() == [True, True] + [False] * 8
    objective = return_objective(world, Settings(), 2, 2)
    query = objective.look(straight, Examples(task, torch.tensor([[0]])), None)
    assert objective.score(query.y, query.y).item() == pytest.approx(-0.1, abs=1e-5)
    assert objective.more["length"](query.y, query.y).item() == 2 and objective.tested_loss(query.y, query.y).item() == pytest.approx(
        0.1, abs=1e-5
    )


def test_physics_are_those_of_their_equations():
    """One step of cart and pendulum by hand, as gymnasium's source has them."""
    task, state = torch.tensor([[[9.8, 0.5, 0.1, 10.0]]]), torch.tensor([[[0.1, 0.2, 0.05, -0.3]]])
    after, reward, ended = Cart(5).step(task, state, torch.tensor([[[1.0]]]), torch.zeros(1, 1, 0))
    temp = (10 + 0.05 * 0.09 * math.sin(0.05)) / 1.1
    twist = (9.8 * math.sin(0.05) - math.cos(0.05) * temp) / (0.5 * (4 / 3 - 0.1 * math.cos(0.05) ** 2 / 1.1))
    pull = temp - 0.05 * twist * math.cos(0.05) / 1.1
    assert after[0, 0].tolist() == pytest.approx([0.1 + 0.02 * 0.2, 0.2 + 0.02 * pull, 0.05 - 0.02 * 0.3, -0.3 + 0.02 * twist], abs=1e-6)
    assert reward.item() == 1 and not ended.item()
    swing, reward, _ = Swing(5).step(torch.tensor([[[10.0, 1.0, 1.0, 2.0]]]), torch.tensor([[[0.5, -1.0]]]), torch.tensor([[[3.0]]]), None)
    speed = -1 + 0.05 * (15 * math.sin(0.5) + 3 * 2)
    assert swing[0, 0].tolist() == pytest.approx([0.5 + 0.05 * speed, speed], abs=1e-6)
    assert reward.item() == pytest.approx(-(0.25 + 0.1 + 0.004), abs=1e-6)


WORLDS = ("navigation2d", "compass", "bandit", "tabular_mdp", "cartpole", "pendulum")
LEARNERS = ("maml", "fomaml", "metasgd", "reptile", "joint", "scratch", "learned_rates", "anil", "boil", "metacurvature", "mamlpp")


@pytest.mark.parametrize("task", WORLDS)
def test_policies_train_in_every_world(task, tmp_path):
    results = run(compose_run(*SMALL, f"task={task}", "task.horizon=4", *POLICIES), tmp_path)
    assert results["metric"] == "return" and results["value"] is not None and len(results["curve"]) == 3


@pytest.mark.parametrize("algo", LEARNERS)
def test_every_learner_of_weights_has_a_policy(algo, tmp_path):
    results = run(compose_run(*SMALL, "task=compass", f"algo={algo}", "task.horizon=4", *POLICIES), tmp_path)
    assert all(point["value"] is not None for point in results["curve"])


def test_the_exploration_term_is_there_in_a_share_of_one_task():
    gradients = []
    for explore in ("true", "false"):
        overrides = ["task=compass", "task.horizon=4", "task.normalise=false", f"task.explore={explore}", *POLICIES]
        built = build_run(compose_run(*SMALL, *overrides))
        built.learner.shares.take_gradients(built.learner.algorithm.recorded(built.data.val_episodes.meta_batch([0])))
        gradients.append(torch.cat([p.grad.flatten() for p in built.learner.algorithm.trained()]))
    assert relative(*gradients) > 0.01


@pytest.mark.parametrize("actions, deviations", [(Continuous(1), True), (Continuous(2), True), (Discrete(2), False), (Discrete(3), False)])
def test_only_continuous_actions_have_deviations(actions, deviations):
    policy = Policy((4,), actions.parameters, actions, [8], "tanh", -0.5)
    memory = RecurrentPolicy((4,), actions.parameters, actions, 8, -0.5)
    assert hasattr(policy, "log_std") == (memory.log_std is not None) == deviations
    assert policy(torch.zeros(3, 4)).shape == (3, actions.parameters)


@pytest.mark.parametrize("algo", ["protonet", "ridge", "cnp", "imaml", "in_context_examples", "learned_loss"])
def test_other_learners_refuse_a_policy_in_a_sentence(algo, tmp_path):
    with pytest.raises(InputError, match=f"algo={algo} (learns from examples that it is shown|classifies|replaces|begins|predicts)"):
        run(compose_run(*SMALL, "task=compass", f"algo={algo}", "task.horizon=4", *POLICIES), tmp_path)


@pytest.mark.parametrize("more", [["threads=2"], ["engine=loop"], ["engine.chunk_size=1"], ["engine=learn2learn"]], ids=str)
def test_policies_give_the_same_numbers_on_every_path(more, tmp_path):
    common = [
        *SMALL,
        "task=compass",
        "task.horizon=4",
        *POLICIES,
        "meta_batch_size=4",
        "outer_steps=4",
        "val_every=2",
        "task.surrogate=dice",
    ]
    plain, other = (run(compose_run(*common, *extra), tmp_path / str(len(extra))) for extra in ([], more))
    for a, b in zip(plain["curve"], other["curve"], strict=True):
        assert a["value"] == pytest.approx(b["value"], rel=1e-4)


def test_a_policy_goes_on_to_the_same_bits(tmp_path):
    cfg = compose_run(*SMALL, "task=compass", "task.horizon=4", *POLICIES, "outer_steps=8", "val_every=4")
    whole = run(cfg, tmp_path)
    evidence = (tmp_path / "evidence.csv").read_text().splitlines()
    for name in ("results.json", "checkpoints/step-00000008.ckpt"):
        (tmp_path / name).unlink()
    assert run(cfg, tmp_path)["curve"] == whole["curve"]
    names = evidence[0].split(",")
    kept = [index for index, name in enumerate(names) if name != "ms"]
    again = (tmp_path / "evidence.csv").read_text().splitlines()
    assert [[line.split(",")[i] for i in kept] for line in again] == [[line.split(",")[i] for i in kept] for line in evidence]


def test_the_articles_goals_are_tested_on(tmp_path):
    built = build_run(compose_run(*SMALL, "task=navigation2d", "task.article=true", "test_episodes=40"))
    goals = built.data.test_episodes.meta_batch(range(40)).support.x
    np.random.seed(1)
    np.testing.assert_allclose(goals.numpy(), np.random.uniform(-0.5, 0.5, (40, 2)).astype(np.float32))
    with pytest.raises(InputError, match="test_episodes=41 asks for more than the 40 published tasks"):
        build_run(compose_run(*SMALL, "task=navigation2d", "task.article=true", "test_episodes=41"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["task.surrogate=reinforce"], "task.surrogate must be one of vpg, lvc, dice"),
        (["task.horizon=0"], "task.horizon must be a whole number"),
        (["algo.inner_lr=[0.1,-1]"], "algo.inner_lr must be a number > 0, got -1"),
        (["reuse=0"], "reuse must be a whole number"),
        (["reuse=5", "trainer=ddp"], "reuse=5 runs on one device; use reuse=1 on several"),
        (["task.explore=true"], "task.explore=true weighs rollouts by returns as they are; set task.normalise=false"),
        (["algo=joint", "task.inner_kl=0.1"], "task.explore and task.inner_kl are of the rollouts .* and algo=joint has an outer loss"),
        (["algo=rl2", "task.inner_kl=0.1"], "and algo=rl2 has an outer loss of its own"),
        (["task.inner_kl=-1"], "task.inner_kl must be a number >= 0"),
        (["algo=rl2", "model=small_policy"], "algo=rl2 needs a policy that remembers; use model=recurrent_policy"),
        (["task.discount=2"], "task.discount must be a number from 0 to 1, got 2"),
        (["algo.inner_lr=1e30"], "the loss is|diverged|no number"),
    ],
)
def test_what_does_not_fit_is_said(overrides, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        run(compose_run(*SMALL, "task=compass", "task.horizon=4", *overrides), tmp_path)


def test_the_best_there_can_be_on_bandits():
    assert [bayes_optimum(2, pulls) for pulls in (1, 2)] == pytest.approx([1 / 2, 13 / 12])
    assert bayes_optimum(5, 10) == pytest.approx(6.660, abs=5e-4)


def test_memory_goes_on_from_rollout_to_rollout(tmp_path):
    """RL²: what is recorded is what the network says again; evaluation scores one more rollout after 0, 1, ... remembered ones."""
    built = build_run(compose_run(*SMALL, "task=compass", "task.horizon=6", "task.queries=3", "algo=rl2"))
    algorithm, episodes = built.learner.algorithm, built.data.train_episodes.meta_batch(range(4))
    recorded = algorithm.recorded(episodes)
    assert recorded.query.x.shape == (4, 3 * 18, 4 + 2 + 2)
    parameters = algorithm.predict(algorithm.birth(episodes.support.x), recorded.query.x)
    action, old, *_, reward, there = recorded.query.y.split([2, 1, 1, 1, 1, 1], -1)
    new = algorithm.world.actions.log_prob(parameters, action)
    torch.testing.assert_close(new[there[..., 0] > 0], old[..., 0][there[..., 0] > 0], rtol=1e-4, atol=1e-5)
    shown = recorded.query.x.unflatten(1, (3, 18))
    begins = shown[..., -1] * there[..., 0].unflatten(1, (3, 18))
    assert begins.sum(-1).eq(3).all() and begins[..., [0, 6, 12]].eq(1).all()
    torch.testing.assert_close(shown[..., 1:6, 6], (reward * there)[..., 0].unflatten(1, (3, 18))[..., :5])  # of the step before
    assert (shown[..., 0, 4:7] == 0).all() and (shown[..., 6, 4:6] != 0).any()  # at birth nothing; a new rollout remembers
    memories = list(algorithm.trajectory(episodes.support, 2))
    assert len(memories) == 3 and not torch.equal(memories[1].hidden, memories[2].hidden)
    before = algorithm.look(memories[2], episodes.query, None)
    assert torch.equal(before.y, algorithm.look(memories[2], episodes.query, None).y)


@pytest.mark.parametrize("task", ["bandit", pytest.param("cartpole", marks=pytest.mark.slow)])
def test_memory_learns_and_goes_on_to_the_same_bits(task, tmp_path):
    cfg = compose_run(*SMALL, f"task={task}", "task.horizon=4", "algo=rl2", "outer_steps=8", "val_every=4", "threads=2")
    whole = run(cfg, tmp_path)
    for name in ("results.json", "checkpoints/step-00000008.ckpt"):
        (tmp_path / name).unlink()
    assert run(cfg, tmp_path)["curve"] == whole["curve"] and len(whole["curve"]) == 3
    with pytest.raises(InputError, match="has a policy that remembers and takes no steps"):
        innerloop.load_policy(tmp_path)


def test_one_that_is_told_the_task_sees_it(tmp_path):
    built = build_run(compose_run(*SMALL, "task=navigation2d", "task.horizon=4", "task.told=true", "algo=joint"))
    algorithm, episodes = built.learner.algorithm, built.data.train_episodes.meta_batch(range(2))
    x = algorithm.recorded(episodes).query.x
    assert x.shape[-1] == 4 and torch.equal(x[..., 2:], episodes.query.x.unsqueeze(1).expand(-1, x.shape[1], -1))
    assert run(compose_run(*SMALL, "task=bandit", "task.told=true", "algo=rl2"), tmp_path)["value"] is not None


def test_what_holds_on_to_the_support_policies_is_a_divergence(float64):
    """The estimate is 0 where the weights are those that made the rollouts, and above elsewhere."""
    objective = return_objective(Arms(2, 1), Settings(inner_kl=1.0), 1, 1)
    logits = torch.randn(1, 50, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    action = torch.arange(50.0).remainder(2).view(1, 50, 1)
    old = Discrete(2).log_prob(logits.detach(), action).unsqueeze(-1)
    y = torch.cat([action, old, torch.zeros(1, 50, 3), torch.ones(1, 50, 1)], -1)
    same, other = (objective.inner_terms(of, y, torch.zeros(1)) for of in (logits, logits + torch.tensor([0.0, 0.5])))
    assert same.item() == 0 and other.item() > 0
    assert torch.autograd.grad(same.sum(), [logits])[0].abs().max() == 0


def test_a_task_without_actions_has_no_policy(tmp_path):
    with pytest.raises(InputError, match="model=policy acts, and this task has no actions"):
        run(compose_run(*SMALL, "model=policy"), tmp_path)
