"""What a run does in single test episodes: to look at, where results.json has means."""

from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.metasgd import MetaSGD
from innerloop.detection import DETECTION, SEGMENTATION, decode_boxes, surest
from innerloop.episode import Episode
from innerloop.objective import PICTURE
from innerloop.reports import figures
from innerloop.reports.charts import Chart
from innerloop.runs.answers import Answers
from innerloop.runs.build import Run
from innerloop.runs.evidence import Evidence
from innerloop.runs.experiment import load_checkpoint
from innerloop.training.batch_statistics import statistics_known
from innerloop.training.evaluation import predict_queries

QUERIES_SHOWN = 8  # of each class


def predictions_after(run: Run, episodes: Episode, steps: set[int]) -> dict[int, Tensor]:
    """Predictions (tasks, n, outputs) of the queries by number of adaptation steps; of 0 alone where there are none to count."""

    learner = run.learner
    learner.take_statistics(run.data)

    @torch.no_grad()
    def of_share(algorithm: Algorithm[Any], share: Episode) -> dict[int, Tensor]:
        found = {}
        with statistics_known(algorithm, learner.statistics):
            for step, adapted in enumerate(algorithm.trajectory(share.support, max(steps))):
                if step in steps:
                    found[step] = predict_queries(algorithm, adapted, share, learner.transductive)
            return found or {step: predict_queries(algorithm, adapted, share, learner.transductive)}

    shares = learner.shares.map(of_share, episodes)
    return {step: torch.cat([share[step] for share in shares]) for step in shares[0]}


def draw_episodes(run: Run, evidence: Evidence, answers: Answers | None) -> list[Chart]:
    """Test episodes to look at: functions of one variable, or a classifier's best, median and worst one."""
    tasks = run.data.tasks
    if tasks.objective.look:
        return draw_rollouts(run) if tasks.world.place else draw_film(run)  # type: ignore[attr-defined]
    if tasks.objective is PICTURE:
        note = "The first test pictures: none was picked. What it was fitted to, the picture, and what the network draws."
        return [Chart("Unseen pictures", draw_pictures(run), [], [], note, wide=True)]
    if tasks.objective in (DETECTION, SEGMENTATION):
        note = "The first test episode: not picked. What it was fitted to, new scenes, and what is found in them; a color for each class."
        return [Chart("Objects of unseen classes", draw_scenes(run), [], [], note, wide=True)]
    if tasks.ways is None and tasks.input_shape == (1,) and tasks.outputs == 1:
        return [Chart("Unseen functions", draw_fits(run), [], [], "The first test episodes: none was picked.")]
    if answers is None or not tasks.ways:
        return []
    order = np.argsort(evidence.measures[tasks.objective.metric][:, -1], kind="stable")
    told = {"worst": order[0], "median": order[len(order) // 2], "best": order[-1]}
    draw = draw_images if len(tasks.input_shape) == 3 and tasks.input_shape[0] in (1, 3) else tell_answers
    return [draw(run, answers, int(index), f"The {which} test episode", evidence.steps) for which, index in told.items()]


def draw_images(run: Run, answers: Answers, index: int, title: str, steps: list[int]) -> Chart:
    """Images of an episode, a row for each class, and what its queries were taken for before and after adaptation."""
    episode = run.data.test_episodes.meta_batch(range(index, index + 1))
    (support_x, support_y), (query_x, query_y) = ((part.x[0], part.y[0]) for part in episode)
    rows = [rows_of(support_y, ways := int(support_y.max()) + 1), rows_of(query_y, ways)[:, :QUERIES_SHOWN]]
    both = torch.cat([support_x, query_x])
    if both.min() < 0 or both.max() > 1:  # no images, but spectrograms and the like
        support_x, query_x = ((x - both.min()) / (both.max() - both.min()) for x in (support_x, query_x))
    support, query = (
        torch.where((of < 0)[..., None, None, None], torch.nan, x[of]).movedim(2, -1).numpy()
        for x, of in zip((support_x, query_x), rows, strict=True)
    )
    before, after = (of[index][rows[1]] for of in (answers.first, answers.last))
    moved = steps[0] == 0 and len(steps) > 1
    drawn = figures.episode(f"{title} of {run.data.tasks.name}", support, query, before if moved else None, after)
    numbers = f"the class it was taken for before adaptation → after {steps[-1]} steps" if moved else "the class it was taken for"
    more = f"; {QUERIES_SHOWN} queries of each class are drawn" if (query_y == 0).sum() > QUERIES_SHOWN else ""
    note = f"{right_of(answers, index)} queries right{more}. Under each query: {numbers}; red and ✗, wrong."
    return Chart(title, drawn, [], [], note, wide=support.shape[1] + query.shape[1] > 10)


def rows_of(labels: Tensor, ways: int) -> Tensor:
    """Where each class is (ways, most examples of one); -1 where it has fewer."""
    rows = [(labels == way).nonzero()[:, 0] for way in range(ways)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)


def tell_answers(run: Run, answers: Answers, index: int, title: str, steps: list[int]) -> Chart:
    """Where inputs have no picture: how many queries of each class were right, and what the others were taken for."""
    truth, last = answers.truth[index], answers.last[index]
    names = [way_name(answers, index, way) for way in range(max(truth.max(), last.max()) + 1)]
    rows = []
    for way, name in enumerate(names):
        given = Counter(last[truth == way].tolist())
        others = ", ".join(f"{names[other]} ({count})" for other, count in given.most_common() if other != way)
        rows.append([name, f"{given[way]} of {given.total()}", others])
    return Chart(title, "", ["class", "right", "taken for"], rows, f"{right_of(answers, index)} queries right.")


def way_name(answers: Answers, index: int, way: int) -> str:
    """What a class of an episode is called."""
    row = answers.classes[index][answers.truth[index] == way][:1]
    return answers.names[row[0]] if answers.names and len(row) else str(way + 1)


def right_of(answers: Answers, index: int) -> str:
    """60 of 75."""
    there = answers.truth[index] >= 0
    return f"{(answers.truth[index] == answers.last[index])[there].sum()} of {there.sum()}"


def draw_fits(run: Run, count: int = 3) -> str:
    """Some unseen functions, and what the run makes of their support points."""
    last = run.cfg.eval_adaptation_steps
    cfg = cast(
        DictConfig, OmegaConf.merge(run.cfg, {"task": {"queries": 200}, "episodes": None, "disjoint": False})
    )  # points enough for a curve
    run = load_checkpoint(cfg, Path(run.cfg.output_dir))
    run.learner.float()
    count = min(count, len(run.data.test_episodes))
    episodes = run.data.test_episodes.meta_batch(range(count))
    found = predictions_after(run, episodes, {0, min(1, last), last})
    shown = []
    for task in range(count):
        order = episodes.query.x[task, :, 0].argsort()
        truth = (episodes.query.x[task, order, 0].tolist(), episodes.query.y[task, order, 0].tolist(), None)
        support = (episodes.support.x[task, :, 0].tolist(), episodes.support.y[task, :, 0].tolist(), None)
        shown.append((truth, support, [predictions[task, order, 0].tolist() for predictions in found.values()]))
    return figures.fits("Unseen functions", list(found), shown)


def draw_pictures(run: Run, count: int = 3) -> str:
    """Some unseen pictures, and what the network makes of them."""
    count = min(count, len(run.data.test_episodes))
    episodes, last, size = run.data.test_episodes.meta_batch(range(count)), run.cfg.eval_adaptation_steps, run.data.tasks.size  # type: ignore[attr-defined]
    found = predictions_after(run, episodes, {0, min(1, last), min(2, last), last})
    columns: dict[str, list[np.ndarray]] = {}
    if run.data.tasks.pixels is not None:  # type: ignore[attr-defined]
        columns["support"] = [shown_alone(x, y, size) for x, y in zip(*episodes.support, strict=True)]
    columns["picture"] = [y.view(size, size, -1).numpy() for y in episodes.query.y]
    for step, predictions in found.items():
        columns[figures.after(step)] = [p.view(size, size, -1).clamp(0, 1).cpu().numpy() for p in predictions]
    return figures.marked("Unseen pictures", {name: [*map(figures.Marked, shown)] for name, shown in columns.items()})


def draw_scenes(run: Run, count: int = 3) -> str:
    """Some scenes of an episode, and what is found in them."""
    episodes, last = run.data.test_episodes.meta_batch(range(1)), run.cfg.eval_adaptation_steps
    found = predictions_after(run, episodes, {0, min(1, last), min(3, last), last})
    (support_x, support_y), (query_x, query_y) = ((part.x[0, :count], part.y[0, :count]) for part in episodes)
    columns = {"support": [*map(scene_of, support_x, support_y)], "query": [*map(scene_of, query_x, query_y)]}
    for step, predictions in found.items():
        columns[figures.after(step)] = [*map(scene_of, query_x, predictions[0, :count].cpu(), [True] * count)]
    shown = min(map(len, columns.values()))
    return figures.marked("Objects of unseen classes", {name: scenes[:shown] for name, scenes in columns.items()})


def scene_of(x: Tensor, said: Tensor, predicted: bool = False) -> figures.Marked:
    """An image (channels, h, w), and the target or the prediction that is about it."""
    image, size = x.movedim(0, -1).numpy(), x.shape[-1]
    if said.shape[0] == size**2:
        return figures.Marked(image, mask=(said.argmax(-1) if predicted else said).view(size, size).numpy())
    if predicted:
        boxes, labels = surest(said)
    else:
        there = said[:, 0] > 0
        boxes, labels = decode_boxes(said[:, 1:])[there], said[there, 0]
    return figures.Marked(image, (boxes * size / said.shape[0] ** 0.5).numpy(), labels.numpy())


def shown_alone(x: Tensor, y: Tensor, size: int) -> np.ndarray:
    """The pixels of a support set on white."""
    picture = torch.ones(size, size, y.shape[-1])
    rows, columns = ((x + 1) / 2 * size - 0.5).round().long().unbind(-1)
    picture[rows, columns] = y
    return picture.numpy()


@torch.no_grad()
def draw_rollouts(run: Run, count: int = 3, shown: int = 10) -> list[Chart]:
    """Where a policy goes in the first test tasks, after 0, 1, ... adaptation steps."""
    count = min(count, len(run.data.test_episodes))
    algorithm, episodes = run.learner.algorithm, run.data.test_episodes.meta_batch(range(count))
    tasks, last = run.data.tasks, min(run.cfg.eval_adaptation_steps, 3)
    columns = []
    for adapted in algorithm.trajectory(episodes.support, last):
        x, y = algorithm.look(adapted, episodes.query, None)
        places = x[..., :2].clone()
        places[y[..., -1] == 0] = torch.nan
        columns.append(places.unflatten(1, (-1, tasks.world.horizon))[:, :shown].numpy())  # type: ignore[attr-defined]
    of_tasks = [[places[task] for places in columns] for task in range(count)]
    two = episodes.query.x.shape[1] == 2  # the task is a place
    goals = [episodes.query.x[task].numpy() if two else None for task in range(count)]
    note = f"The first test tasks, a row each: none was picked. {shown} rollouts of each."
    return [Chart("Rollouts on unseen tasks", figures.paths("Rollouts", range(len(columns)), of_tasks, goals), [], [], note, wide=True)]


@torch.no_grad()
def draw_film(run: Run, moments: int = 9) -> list[Chart]:
    """A rollout in the first test task, after 0, 1, ... adaptation steps; nothing where the world has no pictures."""
    algorithm, episodes, world = run.learner.algorithm, run.data.test_episodes.meta_batch(range(1)), run.data.tasks.world  # type: ignore[attr-defined]
    times = sorted({round(i * (world.horizon - 1) / (moments - 1)) for i in range(moments)})
    rows = []
    for adapted in algorithm.trajectory(episodes.support, min(run.cfg.eval_adaptation_steps, 3)):
        x, y = algorithm.look(adapted, episodes.query, None)
        rows.append([world.pose(x[0, time].tolist()) if y[0, time, -1] else None for time in times])
    if not rows[0][0]:
        return []
    note = "The first rollout in the first test task: none was picked. Numbers are steps; an empty frame is after its end."
    return [Chart("A rollout on an unseen task", figures.film("A rollout", times, rows), [], [], note, wide=True)]


def draw_step_sizes(run: Run) -> Chart | None:
    """The inner learning rates that Meta-SGD learned, weight by weight; None for other algorithms."""
    algorithm = run.learner.algorithm
    if not isinstance(algorithm, MetaSGD):
        return None
    named = zip(algorithm.slow_weights(), algorithm.step_sizes, strict=True)
    values = {name: rates.detach().flatten().numpy() for name, rates in named}
    title = "Learned inner learning rates"
    drawn = figures.boxes(title, "inner learning rate (5 %, quartiles, 95 %)", values, algorithm.inner_lr)
    rows = [[name, *(f"{rate:.4g}" for rate in np.percentile(of, (5, 25, 50, 75, 95)))] for name, of in values.items()]
    return Chart(
        title, drawn, ["weight", "5 %", "25 %", "median", "75 %", "95 %"], rows, f"Dashed: where all began, {algorithm.inner_lr:g}."
    )
