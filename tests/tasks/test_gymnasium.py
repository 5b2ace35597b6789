"""Environments of gymnasium as families of tasks."""

import numpy as np
import pytest
import torch

import innerloop
from innerloop.config import InputError
from innerloop.episode import Examples
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
from innerloop.tasks.worlds.cartpole import Cart
from innerloop.tasks.worlds.gymnasium import Environments, Gymnasium
from innerloop.tasks.worlds.pendulum import Swing
from tests.conftest import TINY, compose_run

gymnasium = pytest.importorskip("gymnasium")
SMALL = [*TINY, "task=gymnasium", "task.horizon=4", "task.shots=3", "task.queries=3", "reuse=2", "model.hidden=[8]"]
PENDULUM = ["task.env=Pendulum-v1", "task.parameters={g: [5, 15]}"]


COMMON = dict(shots=2, queries=2, surrogate="vpg", discount=0.99, trace=1.0, normalise=True, clip=0.3)


def solved(env, task, reward, info):
    info["is_success"] = env.unwrapped.taken == 2 and env.unwrapped.gain > 2
    return reward


def nan(env, task, reward, info):
    return float("nan")


class Remembering(gymnasium.Env):
    """Observes how often it was stepped after its end, which is after three steps."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    gain = 1.0

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.taken = 0
        return np.array([0.0, self.np_random.random()], np.float32), {}

    def step(self, action):
        self.taken += 1
        assert self.taken <= 3, "stepped after its end"
        return np.array([self.taken, action], np.float32), self.gain * action, self.taken == 3, False, {}


@pytest.fixture(autouse=True)
def registered():
    gymnasium.register("Remembering-v0", Remembering, disable_env_checker=True, order_enforce=False)
    yield
    del gymnasium.registry["Remembering-v0"]


def test_success_is_at_any_step_where_the_environment_tells_of_it():
    tasks = Gymnasium("Remembering-v0", {"gain": [1, 3]}, 6, "tests.tasks.test_gymnasium.solved", **COMMON)
    assert tasks.world.succeeds
    found = tasks.objective.look(fixed([-50.0, 50.0]), Examples(torch.tensor([[2.0], [3.0]]), torch.tensor([[1], [2]])), None)
    assert tasks.objective.more["success"](found.y, found.y).tolist() == [0.0, 1.0]
    assert not Environments("Remembering-v0", ["gain"], 6, None).succeeds


def fixed(values):
    return lambda x: torch.tensor(values).expand(*x.shape[:2], -1)


def test_a_rollout_that_has_ended_is_stepped_no_more():
    world = Environments("Remembering-v0", ["gain"], 6, None)
    found = world.roll_out(fixed([-50.0, 50.0]), torch.tensor([[2.0], [3.0]]), torch.tensor([1, 2]), 2, 0)
    assert found.there[0, 0].tolist() == [True, True, True, False, False, False]
    assert (found.rewards * found.there).sum(2).tolist() == [[6.0, 6.0], [9.0, 9.0]]  # each task has its own gain
    starts = found.observations[:, :, 0, 1]
    assert len(set(starts.flatten().tolist())) == 4  # each rollout its own start


@pytest.mark.parametrize(
    ("name", "world", "task", "parameters"),
    [
        ("Pendulum-v1", Swing(8), [9.0, 1.1, 0.9, 2.0], ("g", "l", "m")),
        ("CartPole-v1", Cart(8), [9.8, 0.5, 0.1, 10.0], ("gravity",)),
    ],
)
def test_native_worlds_have_the_physics_of_gymnasiums(name, world, task, parameters):
    """From the same state under the same actions, step by step."""
    env = gymnasium.make(name).unwrapped
    env.reset(seed=0)
    for parameter, value in zip(parameters, task, strict=False):
        setattr(env, parameter, value)
    state = torch.tensor(np.array(env.state), dtype=torch.float32)[None, None]
    rng = np.random.default_rng(0)
    for _ in range(8):
        drawn = rng.uniform(-1, 1) if name == "Pendulum-v1" else float(rng.integers(2))
        action = np.array([2 * drawn], np.float32) if name == "Pendulum-v1" else int(drawn)
        seen, reward, *_ = env.step(action)
        state, ours, _ = world.step(torch.tensor(task)[None, None], state, torch.tensor([[[drawn]]]), torch.zeros(1, 1, 0))
        np.testing.assert_allclose(world.observe(None, state)[0, 0].numpy(), seen, atol=1e-4)
        assert ours.item() == pytest.approx(reward, abs=1e-3)


def test_a_family_of_ones_own_without_any_python(tmp_path):
    """Twice the same bytes but for the time that it took; threads change nothing."""
    evidence = []
    for number, more in enumerate(([], [], ["threads=2"])):
        run(compose_run(*SMALL, *PENDULUM, *more), tmp_path / str(number))
        lines = (tmp_path / str(number) / "evidence.csv").read_text().splitlines()
        assert lines[0].endswith(",ms")
        evidence.append([line.rpartition(",")[0] for line in lines])
    assert evidence[0] == evidence[1] == evidence[2]


def test_an_argument_and_a_reward_of_ones_own(tmp_path, monkeypatch):
    import innerloop.tasks.worlds.mujoco as home

    monkeypatch.setattr(home, "scaled", lambda env, task, reward, info: task["reward.scale"] * reward, raising=False)
    more = [
        "task.env=Pendulum-v1",
        "task.parameters={make.g: [5, 15], reward.scale: [1, 2]}",
        "task.reward=innerloop.tasks.worlds.mujoco.scaled",
    ]
    assert run(compose_run(*SMALL, *more), tmp_path)["value"] is not None


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ([], "task=gymnasium needs task.env=NAME"),
        (["task.env=Nothing-v0", "task.parameters={g: [5, 15]}"], "task.env=Nothing-v0 cannot be made"),
        (["task.env=Pendulum-v1", "task.parameters={gravty: [5, 15]}"], "Pendulum-v1 has no attribute of that name"),
        (
            ["task.env=Pendulum-v1", "task.parameters={options.goal: [5, 15]}"],
            "task.parameters.options.goal changes nothing in Pendulum-v1",
        ),
        (["task.env=Pendulum-v1", "task.parameters={dt: [0.1, 0.05]}"], "must be .low, high. with low <= high"),
        (["task.env=Blackjack-v1", "task.parameters={natural: [0, 1]}"], "has observations of Tuple"),
        (["task.env=HalfCheetah-v5", "task.parameters={dt: [0.02, 0.1]}"], "HalfCheetah-v5 does not let it be set"),
        ([*PENDULUM, "task.reward=innerloop.tasks.worlds.mujoco.direction"], "task.reward asks for 'reward.direction', which neither"),
        ([*PENDULUM, "task.reward=innerloop.nothing"], "task.reward=innerloop.nothing cannot be imported"),
        ([*PENDULUM, "task.reward=tests.tasks.test_gymnasium.nan"], "gave a reward that is no number at step 0"),
        ([*PENDULUM, "task.horizon=0"], "task.horizon must be a whole number"),
    ],
)
def test_what_does_not_fit_is_said(overrides, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        run(compose_run(*SMALL, *overrides), tmp_path)


@pytest.mark.parametrize("task", ["cheetah_velocity", "cheetah_direction", "ant_velocity"])
def test_bodies_of_mujoco(task):
    """Their reward is the task's: the same actions are worth more in one task than in another, and the same bits come twice."""
    pytest.importorskip("mujoco")
    small = [override for override in SMALL if override != "task=gymnasium"]
    world = build_run(compose_run(*small, f"task={task}")).data.tasks.world
    goals = torch.tensor([[-1.0], [1.0]]) if task == "cheetah_direction" else torch.tensor([[0.0], [2.0]])
    policy = fixed([0.5] * world.actions.size + [-1.0] * world.actions.size)
    found, again = (world.roll_out(policy, goals, torch.tensor([7, 7]), 2, 0) for _ in range(2))
    assert torch.equal(found.rewards, again.rewards) and torch.equal(found.observations, again.observations)
    assert torch.equal(found.observations[0], found.observations[1]) and not torch.equal(found.rewards[0], found.rewards[1])
    if task == "ant_velocity":  # what it loses by its speed and actions is less than what standing is worth
        standing = world.roll_out(fixed([0.0] * world.actions.size + [-9.0] * world.actions.size), goals[:1], torch.tensor([7]), 2, 0)
        assert (standing.rewards > 0).all()


class Still(gymnasium.Env):
    """One step long; the best action is -0.5."""

    action_space = gymnasium.spaces.Box(-1, 1, (1,))
    observation_space = gymnasium.spaces.Box(-1, 1, (3,))

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(3, np.float32), {}

    def step(self, action):
        return np.ones(3, np.float32), -abs(float(action[0]) + 0.5), True, False, {}


def test_a_trained_policy_adapts_to_an_environment_of_ones_own(tmp_path):
    """From rollouts in it: the policy moves to where rewards are; and a run of examples, or another kind of environment, is refused."""
    small = [override for override in SMALL if override != "task=gymnasium"]
    run(compose_run(*small, "task=pendulum", "task.shots=20", "algo.inner_lr=1.0", "eval_adaptation_steps=5"), tmp_path / "run")
    policy = innerloop.load_policy(tmp_path / "run")
    with pytest.raises(InputError, match=r"call fit\(env\) first"):
        policy.act(np.ones(3))
    before = innerloop.load_policy(tmp_path / "run", steps=0).fit(Still()).act(np.ones(3))
    after = policy.fit(Still()).act(np.ones(3))
    assert after.shape == (1,) and abs(after[0] + 0.5) < abs(before[0] + 0.5) - 0.1
    assert len(policy.returns_) == 5 and policy.returns_[-1] > policy.returns_[0]
    assert policy.fit(Still()).act(np.ones(3)) == after and -1 <= policy.act(np.ones(3), sample=True)[0] <= 1
    assert gymnasium.make("Pendulum-v1").action_space.contains(policy.fit(gymnasium.make("Pendulum-v1")).act(np.ones(3)))
    with pytest.raises(InputError, match="observations of 4 numbers, and the run was trained on 3"):
        policy.fit(gymnasium.make("CartPole-v1"))
    run(compose_run(*TINY), tmp_path / "examples")
    with pytest.raises(InputError, match="use innerloop.load"):
        innerloop.load_policy(tmp_path / "examples")
