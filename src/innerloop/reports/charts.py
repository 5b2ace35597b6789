"""What a report draws of its runs."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from innerloop.reports import figures
from innerloop.reports.compare import Scored
from innerloop.reports.inspection import MOST_BARS
from innerloop.reports.table import Job, cell, differing, heading, order
from innerloop.training.evaluation import half_ci95


@np.errstate(invalid="ignore")  # of what diverged
def adaptation_chart(groups: dict[str, dict[int, Scored]]) -> str:
    """The metric after each number of inner steps: mean over seeds and episodes, interval over episodes."""
    found: dict[str, figures.Line] = {}
    metric = ""
    for name, group in groups.items():
        first = next(iter(group.values()))
        metric = first.results["metric"]
        alike = [run.evidence.measures[metric] for run in group.values() if run.evidence.steps == first.evidence.steps]
        scores = np.mean([one for one in alike if one.shape == alike[0].shape], 0)
        half = half_ci95(scores.std(0, ddof=1), len(scores))
        found[name] = (first.evidence.steps, scores.mean(0).tolist(), half.tolist())
    return figures.lines("Adaptation on unseen tasks", "adaptation steps", metric, found)


def validation_chart(groups: dict[str, dict[int, Scored]]) -> str | None:
    """The metric on validation episodes during training, of the first seed of each."""
    found: dict[str, figures.Line] = {}
    metric = ""
    for name, group in groups.items():
        run = next(iter(group.values()))
        metric = f"val/{run.results['metric']}"
        if points := logged(run).get(metric):
            found[name] = (*points, None)
    return figures.lines("Validation during training", "outer steps", metric, found) if found else None


def logged(run: Scored) -> dict[str, tuple[list[float], list[float]]]:
    """metrics.csv, column by column: outer steps and values; empty where there is none."""
    columns: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    path = Path(run.job.name) / "csv" / "metrics.csv"
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            for name in [name for name, value in line.items() if value and name not in ("step", "epoch")]:
                columns[name][0].append(int(float(line["step"])) + 1)
                columns[name][1].append(float(line[name]))
    return dict(columns)


def heat_maps(jobs: list[Job]) -> list[tuple[str, str]]:
    """The result over two numbers that a sweep varied, for each combination of its other settings; the mean over seeds."""
    keys = [key for key in differing(jobs) if key != "seed"]
    numbers = [key for key in keys if all(isinstance(job.settings.get(key), int | float) for job in jobs)]
    numbers.sort(key=lambda key: ("inner_lr" not in key, "adaptation_steps" not in key))
    if len(numbers) < 2:
        return []
    x_key, y_key, *_ = numbers
    others = [key for key in keys if key not in (x_key, y_key)]
    by_others: dict[str, list[Job]] = defaultdict(list)
    for job in (job for job in jobs if job.results and job.results["value"] is not None):  # not what diverged
        by_others[", ".join(f"{heading(key)}={cell(key, job.settings.get(key))}" for key in others)].append(job)
    return [(name, heat_map(name, x_key, y_key, alike)) for name, alike in by_others.items()]


def heat_map(name: str, x_key: str, y_key: str, jobs: list[Job]) -> str:
    x, y = (sorted({job.settings[key] for job in jobs}, key=order) for key in (x_key, y_key))
    cells: dict[tuple[int, int], list[float]] = defaultdict(list)
    for job in jobs:
        assert job.results
        cells[y.index(job.settings[y_key]), x.index(job.settings[x_key])].append(job.results["value"])
    values = np.full((len(y), len(x)), np.nan)
    for place, found in cells.items():
        values[place] = np.mean(found)
    results = jobs[0].results or {}
    return figures.heat_map(f"{results['metric']} {name}", x_key, y_key, x, y, values, results["lower_is_better"])


def class_chart(by_class: dict[str, float]) -> str:
    names = list(by_class)
    names = names if len(names) <= MOST_BARS else [*names[: MOST_BARS // 2], *names[-MOST_BARS // 2 :]]
    return figures.bars("Accuracy by class", "accuracy", {name: by_class[name] for name in names}, float(np.mean(list(by_class.values()))))
