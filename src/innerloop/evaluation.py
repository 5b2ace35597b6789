"""The evaluation protocol, in one place: per-episode metrics after 0..K adaptation steps, then mean and 95 % interval over episodes."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm
from innerloop.episode import Episode


class Curve(NamedTuple):
    """steps: the inner steps reported. losses, scores: (tasks, len(steps)), of the query set of each task after that many steps."""

    steps: list[int]
    losses: Tensor
    scores: Tensor


def reported_steps(steps: int) -> list[int]:
    """0 to 10, then every tenth and the last: the steps at which the query set is scored."""
    return [step for step in range(steps + 1) if step <= 10 or step % 10 == 0 or step == steps]


@torch.no_grad()
def adaptation_curve(algorithm: Algorithm[Any], episodes: Episode, steps: int, transductive: bool) -> Curve:
    """Adapts on each support set and scores each query set on the way. Keeps no graph, whatever the number of steps."""
    reported, losses, scores = reported_steps(steps), [], []
    taken = []
    for step, adapted in enumerate(algorithm.trajectory(episodes.support, steps)):
        if step not in reported:
            continue
        predictions = predict_queries(algorithm, adapted, episodes, transductive)
        taken.append(step)
        losses.append(algorithm.objective.loss(predictions, episodes.query.y))
        scores.append(algorithm.objective.score(predictions, episodes.query.y))
    return Curve(taken, torch.stack(losses, 1), torch.stack(scores, 1))


def predict_queries(algorithm: Algorithm[Any], adapted: Any, episodes: Episode, transductive: bool) -> Tensor:
    """Predictions on the query sets (tasks, queries, outputs).

    transductive: the whole query set in one batch, so that batch norm sees all of it. Otherwise each query in a batch with the support
    set alone (as Nichol et al. 2018, section 6.1), so that no prediction depends on other queries; as many forward passes as queries.
    """
    support, query = episodes
    if transductive or not uses_batch_statistics(algorithm):
        return algorithm.predict(adapted, query.x)
    batches = (torch.cat([support.x, query.x[:, q : q + 1]], 1) for q in range(query.x.shape[1]))
    return torch.cat([algorithm.predict(adapted, batch)[:, -1:] for batch in batches], 1)


def uses_batch_statistics(module: nn.Module) -> bool:
    """Whether a prediction depends on what else is in the batch."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) and not layer.track_running_stats for layer in module.modules())


def mean_ci95(values: Tensor) -> tuple[float, float]:
    """Mean over episodes (E,) and half the width of its 95 % interval, 1.96 std / sqrt(E)."""
    return values.mean().item(), (1.96 * values.std() / len(values) ** 0.5).item()
