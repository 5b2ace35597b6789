"""A trained policy in an environment of one's own."""

import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from innerloop.algorithms.base import GradientBased
from innerloop.config import InputError, check_count
from innerloop.episode import Examples
from innerloop.runs.experiment import load_run
from innerloop.tasks.worlds.gymnasium import Environments
from innerloop.tasks.worlds.returns import return_objective
from innerloop.tasks.worlds.world import Policy, Rollouts


class AdaptivePolicy:
    """Adapts to a new environment from a few rollouts, then acts.

        policy = innerloop.load_policy("outputs/.../RUN")
        policy.fit(env)                     # an environment of gymnasium, with observations and actions like those of training
        observation, _ = env.reset()
        action = policy.act(observation)    # as env.step takes it

    steps: inner steps; None: as many as the run was scored after. returns_: after fit, the mean return of the rollouts that each inner step
    learned from. Raises InputError, one sentence, for whatever does not fit.
    """

    def __init__(self, path: str | Path, steps: int | None = None, trust: bool = False) -> None:
        if steps is not None:
            check_count("steps", steps, least=0)
        run = load_run(Path(path).expanduser(), trust)
        if not run.data.tasks.objective.look:
            raise InputError(f"{path} learned from examples, not in environments; use innerloop.load")
        if not isinstance(run.learner.algorithm, GradientBased):
            raise InputError(f"{path} has a policy that remembers and takes no steps, which load_policy cannot fit; use algo=maml")
        self.tasks: Any = run.data.tasks
        self.steps = run.cfg.eval_adaptation_steps if steps is None else steps
        self.algorithm = copy.deepcopy(run.learner.algorithm).eval()
        self.returns_: list[float] = []
        self._adapted: Any = None
        self._world: Adopted | None = None

    def fit(self, env: Any, seed: int = 0) -> Self:
        """Rolls out, steps along what that was worth, and again: `task.shots` rollouts a step, on `env` itself. Returns itself."""
        self._world = Adopted(env, self.tasks.world.horizon)
        for what, here, there in (
            ("observations of", self._world.observations, self.tasks.world.observations),
            ("a policy of", self._world.actions.parameters, self.tasks.actions.parameters),
        ):
            if here != there:
                raise InputError(f"this environment has {what} {here} numbers, and the run was trained on {there}; take one like those")
        objective = return_objective(self._world, self.tasks.settings, self.tasks.shots, self.tasks.queries)
        self.algorithm.objective, self.returns_ = objective, []
        with torch.no_grad():
            *_, self._adapted = self.algorithm.trajectory(Examples(torch.zeros(1, 0), torch.tensor([[seed]])), self.steps)
        self.returns_ = self._world.returns
        return self

    def act(self, observation: Any, sample: bool = False) -> Any:
        """The likeliest action, or one drawn by torch's random numbers."""
        if self._world is None:
            raise InputError("there is no environment yet; call fit(env) first")
        x = torch.as_tensor(np.asarray(observation, np.float32)).view(1, 1, -1)
        with torch.no_grad():
            parameters = self.algorithm.predict(self._adapted, x)
        actions = self._world.actions
        action = actions.sample(parameters, torch.randn(1, 1, actions.numbers)) if sample else actions.mode(parameters)
        return self._world.in_range(action[0].numpy())[0]


class Adopted(Environments):
    """One environment that is there already: its rollouts come one after the other."""

    def __init__(self, env: Any, horizon: int) -> None:
        self.env, self.returns = env, list[float]()
        super().__init__(str(getattr(env, "spec", None) and env.spec.id or type(env).__name__), [], horizon, None)

    def make(self, arguments: Any) -> Any:
        return self.env

    def roll_out(self, policy: Policy, task: Tensor, seeds: Tensor, count: int, at: int) -> Rollouts:
        each = [super(Adopted, self).roll_out(policy, task, seeds * count + number, 1, at) for number in range(count)]
        found = Rollouts(*(torch.cat(parts, 1) for parts in zip(*each, strict=True)))
        self.returns.append((found.rewards * found.there).sum(2).mean().item())
        return found
