"""What a run does in single test episodes: to look at, where results.json has means."""

import copy
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.metasgd import MetaSGD
from innerloop.episode import Episode
from innerloop.reports import figures
from innerloop.runs.build import Run
from innerloop.runs.experiment import load_checkpoint
from innerloop.tasks.class_episodes import ClassEpisodes
from innerloop.training.data import TEST, EpisodeDataset
from innerloop.training.evaluation import predict_queries

QUERIES_SHOWN = 8  # of each class
MOST_BARS = 30


def predictions_after(run: Run, episodes: Episode, steps: set[int]) -> dict[int, Tensor]:
    """Predictions (tasks, n, outputs) of the queries by number of adaptation steps; of 0 alone where there are none to count."""

    @torch.no_grad()
    def of_share(algorithm: Algorithm[Any], share: Episode) -> dict[int, Tensor]:
        found = {}
        for step, adapted in enumerate(algorithm.trajectory(share.support, max(steps))):
            if step in steps:
                found[step] = predict_queries(algorithm, adapted, share, run.cfg.transductive)
        return found or {step: predict_queries(algorithm, adapted, share, run.cfg.transductive)}

    shares = run.learner.shares.map(of_share, episodes)
    return {step: torch.cat([share[step] for share in shares]) for step in shares[0]}


def draw_episodes(run: Run, name: str) -> str | None:
    """The first test episodes as a chart: images, or functions of one variable. None for inputs that have no picture."""
    tasks = run.data.tasks
    if tasks.ways is None and tasks.input_shape == (1,) and tasks.outputs == 1:
        return draw_fits(run)
    if tasks.ways and len(tasks.input_shape) == 3 and tasks.input_shape[0] in (1, 3):
        return draw_images(run, name)
    return None


def draw_images(run: Run, name: str) -> str:
    """The first test episode, with what its queries were taken for before and after adaptation."""
    ways, last = run.data.tasks.ways or 0, run.cfg.eval_adaptation_steps
    episodes = run.data.test_episodes.meta_batch(range(1))
    found = predictions_after(run, episodes, {0, last})
    (support_x, support_y), (query_x, query_y) = ((part.x[0], part.y[0]) for part in episodes)
    rows = [
        [(labels == way).nonzero()[:, 0][:count] for way in range(ways)] for labels, count in ((support_y, None), (query_y, QUERIES_SHOWN))
    ]
    both = torch.cat([support_x, query_x])
    if both.min() < 0 or both.max() > 1:  # no images, but spectrograms and the like
        support_x, query_x = ((x - both.min()) / (both.max() - both.min()) for x in (support_x, query_x))
    support, query = (torch.stack([x[r] for r in of]).movedim(2, -1).numpy() for x, of in zip((support_x, query_x), rows, strict=True))
    before, after = (np.stack([found[step][0].argmax(-1)[r].numpy() for r in rows[1]]) for step in (0, max(found)))
    return figures.episode(f"A test episode of {name}", support, query, before if len(found) > 1 else None, after)


def draw_fits(run: Run, count: int = 3) -> str:
    """Some unseen functions, and what the run makes of their support points."""
    last = run.cfg.eval_adaptation_steps
    cfg = cast(
        DictConfig, OmegaConf.merge(run.cfg, {"task": {"queries": 200}, "episodes": None, "disjoint": False})
    )  # points enough for a curve
    run = load_checkpoint(cfg, Path(run.cfg.output_dir))
    episodes = run.data.test_episodes.meta_batch(range(count))
    found = predictions_after(run, episodes, {0, min(1, last), last})
    shown = []
    for task in range(count):
        order = episodes.query.x[task, :, 0].argsort()
        truth = (episodes.query.x[task, order, 0].tolist(), episodes.query.y[task, order, 0].tolist(), None)
        support = (episodes.support.x[task, :, 0].tolist(), episodes.support.y[task, :, 0].tolist(), None)
        shown.append((truth, support, [predictions[task, order, 0].tolist() for predictions in found.values()]))
    return figures.fits("Unseen functions", list(found), shown)


def accuracy_by_class(run: Run, count: int) -> dict[str, float] | None:
    """Accuracy on the queries of each class in the first `count` test episodes, or of each group of classes (alphabet, script) where the
    classes are many; lowest first. None where the episodes have no classes to name."""
    distribution = run.data.tasks.distribution("test")
    if not isinstance(distribution, ClassEpisodes) or not isinstance(run.data.test_episodes, EpisodeDataset):
        return None
    named = copy.copy(distribution)
    named.by_class = True
    classes = EpisodeDataset(named, count, (TEST, 0))
    grouped = len(named.names) > MOST_BARS
    right: dict[str, list[float]] = defaultdict(list)
    for start in range(0, count, run.cfg.eval_batch_size):
        indices = range(start, min(start + run.cfg.eval_batch_size, count))
        episodes, labels = run.data.test_episodes.meta_batch(indices), classes.meta_batch(indices).query.y
        found = predictions_after(run, episodes, {run.cfg.eval_adaptation_steps})
        correct = found[max(found)].argmax(-1) == episodes.query.y
        for name, hit in zip(labels.flatten().tolist(), correct.flatten().tolist(), strict=True):
            right[group_of(named.names[name]) if grouped else named.names[name]].append(hit)
    return dict(sorted(((name, float(np.mean(hits))) for name, hits in right.items()), key=lambda item: item[1]))


def group_of(name: str) -> str:
    """Latin/character01/rot090 -> Latin; LATIN SMALL LETTER A -> LATIN."""
    return name.partition("/")[0] if "/" in name else name.partition(" ")[0]


def draw_step_sizes(run: Run) -> str | None:
    """The inner learning rates that Meta-SGD learned, weight by weight; None for other algorithms."""
    algorithm = run.learner.algorithm
    if not isinstance(algorithm, MetaSGD):
        return None
    named = zip(algorithm.slow_weights(), algorithm.step_sizes, strict=True)
    values = {name: rates.detach().flatten().numpy() for name, rates in named}
    return figures.boxes("Learned inner learning rates", "inner learning rate (5 %, quartiles, 95 %)", values, algorithm.inner_lr)
