"""The evaluation protocol, in one place: per-episode metrics after 0..K adaptation steps, then mean and 95 % interval over episodes."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from innerloop.algorithms.base import Algorithm
from innerloop.episode import Episode, Examples
from innerloop.objective import CLASSIFICATION, Objective, auroc
from innerloop.training.batch_statistics import batch_norms, statistics_of_first

Item = TypeVar("Item")
Transductive = bool | str  # True, False, "support", "training"


class Curve(NamedTuple):
    """steps: the inner steps reported. measures: by name, (tasks, len(steps)), of each task after that many steps.
    answers: of a classifier, (tasks, queries, 3): the class it gives each query at the first of the steps, at the last, and how sure."""

    steps: list[int]
    measures: dict[str, Tensor]
    answers: Tensor | None = None


def reported_steps(steps: int) -> list[int]:
    """0 to 10, then every tenth and the last: the steps at which the query set is scored."""
    return [step for step in range(steps + 1) if step <= 10 or step % 10 == 0 or step == steps]


@torch.no_grad()
def adaptation_curve(
    algorithm: Algorithm[Any], episodes: Episode, reported: list[int], transductive: Transductive, evidence: bool = False
) -> Curve:
    """Adapts on each support set and scores each query set after the `reported` numbers of steps; what takes no steps, once.

    Keeps no graph, whatever the number of steps. The measures are "loss" and the metric; with `evidence` also "support_loss", the
    objective's others, and "ms", the milliseconds of adaptation so far, of the tasks at hand together, divided by their number: with
    `threads` of those of one thread. The answers come with `evidence` too.
    """
    taken: list[int] = []
    seconds, objective = 0.0, algorithm.objective
    measured: list[dict[str, Tensor]] = []
    answers: list[Tensor] = []
    features = of_each_query(algorithm.at_hand, algorithm, episodes, transductive) if algorithm.head_only else None
    fitted = algorithm.predict_at_hand if algorithm.head_only else algorithm.predict
    support_x = algorithm.at_hand(episodes.support.x) if algorithm.head_only and evidence else episodes.support.x

    def of_queries(adapted: Any, query: Examples) -> Tensor:
        if features is not None:
            return algorithm.predict_at_hand(adapted, features)
        return predict_queries(algorithm, adapted, Episode(episodes.support, query), transductive)

    def score(step: int, adapted: Any) -> None:
        query = algorithm.look(adapted, episodes.query, None)
        predictions = of_queries(adapted, query)
        taken.append(step)
        measured.append(measures_of(objective, predictions, query.y, evidence))
        if evidence:
            measured[-1] |= algorithm.more(adapted, query)
            if objective.look is None:
                measured[-1]["support_loss"] = objective.loss(fitted(adapted, support_x), episodes.support.y)
            if algorithm.varied:
                measured[-1] |= shape_of(episodes)
            measured[-1]["ms"] = torch.full((len(predictions),), 1000 * seconds / len(predictions), device=predictions.device)
            if objective is CLASSIFICATION:
                sure, answer = predictions.float().softmax(-1).max(-1)
                answers[1:] = [torch.stack([answer.float(), sure], -1)]

    for step, (adapted, took) in enumerate(timed(algorithm.trajectory(episodes.support, reported[-1]))):
        seconds += took
        if step in reported:
            score(step, adapted)
    if not taken:
        score(step, adapted)
    measures = {name: torch.stack([at_step[name] for at_step in measured], 1) for name in measured[0]}
    return Curve(taken, measures, torch.cat([answers[0][..., :1], answers[-1]], -1) if answers else None)


def measures_of(objective: Objective, predictions: Tensor, y: Tensor, evidence: bool) -> dict[str, Tensor]:
    """Of the query sets: by name, (tasks,). Strangers, queries of none of the classes, come last and count for auroc alone."""
    known = int((y[0] >= 0).sum()) if objective is CLASSIFICATION else y.shape[1]
    strange = {"auroc": auroc(predictions, known)} if evidence and known < y.shape[1] else {}
    predictions, y = predictions[:, :known], y[:, :known]
    wanted = {"loss": objective.tested_loss or objective.loss, objective.metric: objective.score} | (objective.more if evidence else {})
    return {name: measure(predictions, y) for name, measure in wanted.items()} | strange


def shape_of(episodes: Episode) -> dict[str, Tensor]:
    """What differs between episodes, of each task (tasks,): classes, and support examples of each, as numbers to be averaged."""
    (x, y), tasks = episodes.support, len(episodes.support.x)
    ways = 1 if y.is_floating_point() else int(y.max()) + 1
    numbers = {"shots": x.shape[1] / ways} | ({} if y.is_floating_point() else {"ways": ways})
    return {name: torch.full((tasks,), float(number), device=x.device) for name, number in numbers.items()}


def timed(items: Iterator[Item]) -> Iterator[tuple[Item, float]]:
    """Each item with the seconds that it took to come."""
    while True:
        wait_for_gpu()
        started = time.perf_counter()
        try:
            item = next(items)
        except StopIteration:
            return
        wait_for_gpu()
        yield item, time.perf_counter() - started


def wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def predict_queries(algorithm: Algorithm[Any], adapted: Any, episodes: Episode, transductive: Transductive) -> Tensor:
    """Predictions on the query sets (tasks, queries, outputs).

    transductive: the whole query set in one batch, so that batch norm sees all of it. Else no prediction depends on other queries: False
    takes each query in a batch with the support set (as Nichol et al. 2018, section 6.1), as many forward passes as queries; "support"
    takes all, normalised by the statistics of the support set; "training", by those that the batch norms were told before
    (statistics_known). What answers all queries jointly is asked for one at a time.
    """
    return of_each_query(partial(algorithm.predict, adapted), algorithm, episodes, transductive)


def of_each_query(function: Callable[[Tensor], Tensor], algorithm: Algorithm[Any], episodes: Episode, transductive: Transductive) -> Tensor:
    """function of the query sets, by the batches that `transductive` asks for."""
    support, query = episodes
    if transductive is True or not sees_other_queries(algorithm):
        return function(query.x)
    if one_at_a_time(algorithm, transductive):
        batches = (torch.cat([support.x, query.x[:, q : q + 1]], 1) for q in range(query.x.shape[1]))
        return torch.cat([function(batch)[:, -1:] for batch in batches], 1)
    if transductive == "support":
        with statistics_of_first(algorithm, support.x.shape[1]):
            return function(torch.cat([support.x, query.x], 1))[:, support.x.shape[1] :]
    return function(query.x)


def one_at_a_time(algorithm: Algorithm[Any], transductive: Transductive) -> bool:
    """Whether each query is answered in a forward pass of its own, beside the support set."""
    jointly, normed = algorithm.answers_jointly, bool(batch_norms(algorithm))
    return (jointly and transductive is not True) or (normed and transductive is False)


def sees_other_queries(algorithm: Algorithm[Any]) -> bool:
    """Whether a prediction depends on what else is in the batch."""
    return algorithm.answers_jointly or bool(batch_norms(algorithm))


def area_under(curve: Curve, measure: str) -> float:
    """A measure's mean over episodes, averaged over the adaptation curve: the area under it, divided by its steps."""
    means, last = curve.measures[measure].mean(0).tolist(), curve.steps[-1]
    return float(np.trapezoid(means, curve.steps)) / last if last else means[0]


def mean_ci95(values: Tensor) -> tuple[float, float]:
    """Mean over episodes (E,) and half the width of its 95 % interval."""
    return values.mean().item(), float(half_ci95(values.std().item(), len(values)))


def half_ci95(std: Any, count: int) -> Any:
    """Half the width of the 95 % interval of a mean of `count` numbers of that deviation: Student's t, 1.96 std / sqrt(count) for many."""
    return stdtrit(count - 1, 0.975) * std / count**0.5
