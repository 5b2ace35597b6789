"""What a policy is trained on and scored by: surrogates whose gradients are those of its return."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop.config import InputError, check_choice, check_count, check_flag, check_positive
from innerloop.episode import Examples
from innerloop.objective import Objective
from innerloop.tasks.worlds.actions import Actions
from innerloop.tasks.worlds.world import Policy, Rollouts, World

SURROGATES = ("vpg", "lvc", "dice")


@dataclass(frozen=True)
class Settings:
    """How rollouts become a loss.

    surrogate: of the inner steps. All have the gradient of the return; their second derivatives differ, and so the outer gradient.
        vpg: log-probability times advantage, as the first MAML code has it: an exact baseline leaves none of the second derivative of a
        tabular policy. lvc: likelihood ratio times advantage (ProMP, Rothfuss et al. 2019, arXiv 1810.06784), of low variance and little
        bias. dice: the whole history's ratio (Foerster et al. 2018, arXiv 1802.05098; with advantages as Farquhar et al. 2019, arXiv
        1909.10549), without bias.
    discount, trace: of generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438). normalise: advantages of a task to mean 0
        and deviation 1, which makes the inner step independent of the reward's scale.
    clip: of the outer loop's likelihood ratio (PPO, Schulman et al. 2017, arXiv 1707.06347).
    explore: the outer gradient counts that other weights would have made other support rollouts (E-MAML, Stadie et al. 2018, arXiv
        1803.01118): more noise, no bias; normalise must be false. inner_kl: how much of the divergence from the policies that made the
        support rollouts is in the outer loss (ProMP), estimated from their actions.
    """

    surrogate: str = "vpg"
    discount: float = 0.99
    trace: float = 1.0
    normalise: bool = True
    clip: float = 0.3
    explore: bool = False
    inner_kl: float = 0.0

    def __post_init__(self) -> None:
        check_choice("task.surrogate", self.surrogate, SURROGATES)
        check_flag("task.normalise", self.normalise)
        check_flag("task.explore", self.explore)
        if self.explore and self.normalise:
            raise InputError("task.explore=true weighs rollouts by returns as they are; set task.normalise=false")
        check_positive("task.clip", self.clip)
        if not isinstance(self.inner_kl, int | float) or not self.inner_kl >= 0:
            raise InputError(f"task.inner_kl must be a number >= 0, got {self.inner_kl!r}")
        for name, value in (("discount", self.discount), ("trace", self.trace)):
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise InputError(f"task.{name} must be a number from 0 to 1, got {value!r}")


class Columns:
    """A step of a rollout as the target y (..., columns): action, log-probability, advantage, success, reward, there."""

    def __init__(self, actions: Actions) -> None:
        self.actions = actions

    def pack(self, found: Rollouts, log_prob: Tensor, advantage: Tensor) -> Tensor:
        rest = (log_prob, advantage, found.success, found.rewards, found.there)
        return torch.cat([found.actions, *(column.to(found.rewards.dtype).unsqueeze(-1) for column in rest)], -1)

    def unpack(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        action, *rest = y.split([self.actions.size, 1, 1, 1, 1, 1], -1)
        log_prob, advantage, success, reward, there = (column[..., 0] for column in rest)
        return action, log_prob, advantage, success, reward, there


def return_objective(world: World, settings: Settings, shots: int, queries: int) -> Objective:
    """For episodes of (task, seed): x (tasks, parameters), y (tasks, 1) int64. The rollouts in their place are examples with
    x (tasks, rollouts * horizon, observations) and y as Columns has it."""
    check_count("task.shots", shots)
    check_count("task.queries", queries)
    columns, horizon = Columns(world.actions), world.horizon

    def look(policy: Policy, part: Examples, at: int | None) -> Examples:
        """Support rollouts of inner step `at`, or the query's where it is None; of recorded ones, theirs."""
        if part.y.dtype is not torch.int64:
            return part if at is None else Examples(part.x[:, at], part.y[:, at])
        found = world.roll_out(policy, part.x, part.y[:, 0], queries if at is None else shots, at or 0)
        log_prob = world.actions.log_prob(found.parameters, found.actions)
        y = columns.pack(found, log_prob, advantages(found, settings))
        return Examples(found.observations.flatten(1, 2), y.flatten(1, 2))

    def mean(values: Tensor, there: Tensor) -> Tensor:
        return (values * there).sum(-1) / there.sum(-1)

    def inner(predictions: Tensor, y: Tensor) -> Tensor:
        action, old, advantage, *_, there = columns.unpack(y)
        log_prob = world.actions.log_prob(predictions, action)
        if settings.surrogate == "vpg":
            return -mean(log_prob * advantage, there)
        if settings.surrogate == "lvc":
            return -mean((log_prob - old).exp() * advantage, there)
        history = ((log_prob - log_prob.detach()) * (there > 0)).unflatten(-1, (-1, horizon)).cumsum(-1).exp()
        before = torch.cat([torch.ones_like(history[..., :1]), history[..., :-1]], -1)
        return -mean((history - before).flatten(-2) * advantage, there)

    def outer(predictions: Tensor, y: Tensor) -> Tensor:
        action, old, advantage, *_, there = columns.unpack(y)
        ratio = (world.actions.log_prob(predictions, action) - old).exp()
        clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
        return -mean(torch.minimum(ratio * advantage, clipped * advantage), there)

    def inner_terms(predictions: Tensor, y: Tensor, worth: Tensor) -> Tensor:
        """What the support rollouts of one inner step add to the outer loss, under the weights that made them."""
        action, old, *_, there = columns.unpack(y)
        change = (world.actions.log_prob(predictions, action) - old) * (there > 0)
        total = settings.inner_kl * divergence(predictions, y)
        return total - worth / horizon * (change * there).sum(-1) if settings.explore else total

    def divergence(predictions: Tensor, y: Tensor) -> Tensor:
        """From the policies that made the rollouts, by Schulman's estimate from their actions, which is never below 0."""
        action, old, *_, there = columns.unpack(y)
        change = world.actions.log_prob(predictions, action) - old
        return mean((change.exp() - 1 - change).masked_fill(there == 0, 0), there)

    def score(predictions: Tensor, y: Tensor) -> Tensor:
        """The sum of rewards, averaged over rollouts."""
        *_, reward, there = columns.unpack(y)
        return (reward * there).unflatten(-1, (-1, horizon)).sum(-1).mean(-1)

    def length(predictions: Tensor, y: Tensor) -> Tensor:
        *_, there = columns.unpack(y)
        return there.unflatten(-1, (-1, horizon)).sum(-1).mean(-1)

    def success(predictions: Tensor, y: Tensor) -> Tensor:
        """The share of rollouts that did the task at any of their steps."""
        *_, done, _, there = columns.unpack(y)
        return (done * there).unflatten(-1, (-1, horizon)).amax(-1).mean(-1)

    def regret(predictions: Tensor, y: Tensor) -> Tensor:
        return -score(predictions, y)

    more = inner_terms if settings.explore or settings.inner_kl else None
    return Objective(
        "return", inner, score, False, {"length": length, **({"success": success} if world.succeeds else {})},
        outer_loss=outer, tested_loss=regret, look=look, inner_terms=more, divergence=divergence,
    )  # fmt: skip


def life_of(world: World, settings: Settings, shown: Sequence[Tensor], rollouts: Sequence[Rollouts]) -> Examples:
    """Rollouts that one policy remembers, one after the other, as examples of one: x (tasks, lives * steps, inputs) as it was shown them, y
    as Columns has it; advantages are of returns over the whole life."""
    whole = Rollouts(*(torch.cat(parts, 2) for parts in zip(*rollouts, strict=True)))
    log_prob = world.actions.log_prob(whole.parameters, whole.actions)
    y = Columns(world.actions).pack(whole, log_prob, advantages(whole, settings))
    return Examples(torch.cat(list(shown), 2).flatten(1, 2), y.flatten(1, 2))


def advantages(found: Rollouts, settings: Settings) -> Tensor:
    """Of each step (tasks, rollouts, horizon), 0 after an end: what came after it above what a baseline expects there."""
    there = found.there.double()
    rewards = found.rewards.double() * there
    values = baseline(found, discounted(rewards, settings.discount), there)
    later = torch.cat([values[..., 1:], torch.zeros_like(values[..., :1])], -1)
    found_advantages = discounted(rewards + settings.discount * later - values, settings.discount * settings.trace) * there
    if settings.normalise:
        count = there.sum((1, 2), keepdim=True)
        centred = (found_advantages - found_advantages.sum((1, 2), keepdim=True) / count) * there
        found_advantages = centred / ((centred.square().sum((1, 2), keepdim=True) / count).sqrt() + 1e-8)
    return found_advantages.to(found.rewards.dtype)


def discounted(values: Tensor, factor: float) -> Tensor:
    """The sum of what comes from each step on, a step later counted `factor` times as much."""
    sums, total = [], torch.zeros_like(values[..., 0])
    for value in reversed(values.unbind(-1)):
        total = value + factor * total
        sums.append(total)
    return torch.stack(sums[::-1], -1)


def baseline(found: Rollouts, returns: Tensor, there: Tensor) -> Tensor:
    """Linear in observations, their squares and powers of time, fitted to each task's own rollouts (Duan et al. 2016, arXiv 1604.06778)."""
    x = found.observations.double().clamp(-10, 10)
    time = (torch.arange(x.shape[2], device=x.device, dtype=x.dtype) / 100).expand(x.shape[:3]).unsqueeze(-1)
    features = torch.cat([x, x.square(), time, time**2, time**3, torch.ones_like(time)], -1) * there.unsqueeze(-1)
    rows = features.flatten(1, 2)
    ridge = 1e-5 * torch.eye(rows.shape[-1], dtype=x.dtype, device=x.device)
    weights = torch.linalg.solve(rows.mT @ rows + ridge, rows.mT @ returns.flatten(1).unsqueeze(-1))
    return (rows @ weights).view_as(returns)
