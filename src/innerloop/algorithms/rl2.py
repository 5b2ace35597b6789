"""Meta-reinforcement learning by memory."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm
from innerloop.config import InputError, check_count
from innerloop.engine.forward import Engine
from innerloop.episode import Episode, Examples
from innerloop.models.recurrent_policy import RecurrentPolicy
from innerloop.objective import Objective


class Memory(NamedTuple):
    """Of each life (tasks, lives, ...): the network's state, and the last action (encoded) with its reward."""

    hidden: Tensor
    last: Tensor


class RL2(Algorithm[Memory]):
    """RL² (Duan et al. 2016, arXiv 1611.02779; Wang et al. 2016, arXiv 1611.05763): a policy with a memory, which is not wiped between the
    rollouts of a life in one environment. What to do with what it saw is all learned by the outer loop; nothing is adapted by a gradient.

    A life is `adaptation_steps` rollouts and one more, which is scored; each task has `queries` lives, side by side. The outer loop is the
    task's own (PPO with `reuse`), on returns over whole lives. An adaptation step is one more rollout in the memory.
    """

    acts = True

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, world: Any, life: Any, queries: int, adaptation_steps: int,
    ) -> None:  # fmt: skip
        super().__init__(model, objective, engine)
        if objective.look is None:
            raise InputError("algo=rl2 acts in environments, and this task has examples; use task=bandit or another with actions")
        if not isinstance(model, RecurrentPolicy):
            raise InputError("algo=rl2 needs a policy that remembers; use model=recurrent_policy")
        check_count("algo.adaptation_steps", adaptation_steps, least=0)
        self.world, self.life, self.lives, self.adaptation_steps = world, life, queries, adaptation_steps

    def birth(self, tasks: Tensor) -> Memory:
        shape, model = (len(tasks), self.lives), self.model
        return Memory(tasks.new_zeros(*shape, model.memory.hidden_size), tasks.new_zeros(*shape, model.encoded + 1))  # type: ignore[union-attr, arg-type, operator]

    @torch.no_grad()
    def live(self, memory: Memory, tasks: Tensor, seeds: Tensor, at: int) -> tuple[Memory, Tensor, Any]:
        """One rollout of each life: the memory after it, what the network was shown (tasks, lives, horizon, inputs), and the rollouts."""
        acting = Acting(self, memory)
        found = self.world.roll_out(acting, tasks, seeds, self.lives, at)
        return Memory(acting.hidden, acting.last), torch.stack(acting.shown, 2), found

    def trajectory(self, support: Examples, steps: int) -> Iterator[Memory]:
        memory = self.birth(support.x)
        yield memory
        for at in range(steps):
            memory, _, _ = self.live(memory, support.x, support.y[:, 0], at)
            yield memory

    def adapt(self, support: Examples) -> Memory:
        *_, memory = self.trajectory(support, self.adaptation_steps)
        return memory

    def look(self, adapted: Memory, part: Examples, at: int | None) -> Examples:
        """The rollout that is scored; it is not remembered."""
        if part.y.dtype is not torch.int64:
            return part
        _, shown, found = self.live(adapted, part.x, part.y[:, 0], 0)
        return self.life([shown], [found])

    def recorded(self, episodes: Episode) -> Episode:
        """Whole lives in the place of the query sets."""
        memory, parts = self.birth(episodes.support.x), []
        for at in range(self.adaptation_steps + 1):
            tasks, seeds = episodes.query if at == self.adaptation_steps else episodes.support
            memory, *part = self.live(memory, tasks, seeds[:, 0], at)
            parts.append(part)
        return Episode(episodes.support, self.life(*zip(*parts, strict=True)))

    def predict(self, adapted: Memory, x: Tensor) -> Tensor:
        """x (tasks, lives * steps, inputs), of lives that go on from a memory."""
        steps = x.unflatten(1, (self.lives, -1)).flatten(0, 1)
        found, _ = self.model(steps, adapted.hidden.flatten(0, 1))
        return found.reshape(*x.shape[:2], -1)

    def forward(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        predictions = self.predict(self.birth(episodes.support.x), episodes.query.x)
        return self.outer_loss(predictions, episodes.query.y), predictions


class Acting:
    """The policy of lives that go on: what it is called with and told changes what it will do. After an end it is shown zeros."""

    def __init__(self, algorithm: RL2, memory: Memory) -> None:
        self.model, self.actions = algorithm.model, algorithm.world.actions
        self.hidden, self.last = memory
        self.shown: list[Tensor] = []
        self.there = torch.ones_like(self.last[..., :1])

    def __call__(self, observations: Tensor) -> Tensor:
        begins = torch.full_like(self.there, float(not self.shown))
        inputs = torch.cat([observations, self.last, begins], -1) * self.there
        self.shown.append(inputs)
        found, hidden = self.model(inputs.flatten(0, 1).unsqueeze(1), self.hidden.flatten(0, 1))
        self.hidden = hidden.view_as(self.hidden)
        return found.view(*observations.shape[:2], -1)

    def saw(self, action: Tensor, reward: Tensor, there: Tensor) -> None:
        """What came of the last call (tasks, lives, ...); there: the rollout goes on."""
        now = torch.cat([self.actions.encode(action), reward.unsqueeze(-1)], -1)
        self.last = torch.where(self.there > 0, now, self.last)
        self.there = there.unsqueeze(-1).to(self.there.dtype)
