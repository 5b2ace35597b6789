"""What a report draws of its runs: each chart with its numbers, for those who cannot see it or want to copy them."""

import csv
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from innerloop.reports import figures
from innerloop.reports.compare import Scored
from innerloop.reports.jobs import Job, cell, differing, heading, order
from innerloop.reports.table import IN_PERCENT, measured, number, unit
from innerloop.reports.verdicts import Comparison
from innerloop.runs.answers import Answers
from innerloop.training.evaluation import half_ci95

MOST_BARS = 30
Groups = Mapping[str, Mapping[int, Scored]]  # runs by what they are called, and by seed


class Chart(NamedTuple):
    """An SVG, and what it shows as a table. note: how to read it. wide: as wide as the page."""

    title: str
    svg: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""
    wide: bool = False


def line_chart(
    title: str, x_label: str, metric: str, of: figures.Lines, note: str, levels: Mapping[str, float], higher_is_better: bool = False
) -> Chart:
    """Lines of a metric, in percent where the field writes it so. levels: what the metric is by chance, ..."""
    plain = metric.rpartition("/")[2]
    scale = 100 if plain in IN_PERCENT else 1
    scaled: figures.Lines = {
        name: (x, (scale * np.asarray(y)).tolist(), None if half is None else (scale * np.asarray(half)).tolist())
        for name, (x, y, half) in of.items()
    }
    label = unit(plain)
    at = {name: scale * level for name, level in levels.items()}
    drawn = figures.lines(title, x_label, label, scaled, at, higher_is_better=higher_is_better)
    rows = [
        [name, f"{x:g}", number(y, plain), "" if half is None else f"± {number(half[i], plain)}"]
        for name, (xs, ys, half) in of.items()
        for i, (x, y) in enumerate(zip(xs, ys, strict=True))
    ]
    return Chart(title, drawn, ["", x_label, label, "95 %"], rows, note)


@np.errstate(invalid="ignore")  # of what diverged
def adaptation_chart(groups: Groups) -> Chart:
    """The metric after each number of inner steps: mean over seeds and episodes, interval over episodes."""
    found: dict[str, figures.Line] = {}
    results = next(iter(next(iter(groups.values())).values())).results
    for name, group in groups.items():
        scores, steps = mean_over_seeds(group)
        found[name] = (steps, scores.mean(0).tolist(), half_ci95(scores.std(0, ddof=1), len(scores)).tolist())
    note = "Mean over test episodes and seeds; the band is the 95 % interval over episodes. What takes no steps is a level line."
    rising = not results["lower_is_better"]
    return line_chart("Adaptation on unseen tasks", "adaptation steps", results["metric"], found, note, by_chance(results), rising)


def by_chance(results: dict[str, object]) -> dict[str, float]:
    """What guessing reaches."""
    ways = results.get("ways")
    return {"chance": 1 / ways} if results["metric"] == "accuracy" and isinstance(ways, int) else {}


def mean_over_seeds(group: Mapping[int, Scored]) -> tuple[np.ndarray, list[int]]:
    """Scores (episodes, steps), and the steps: of the seeds that were scored as the first one was."""
    first, metric = next(iter(group.values())), next(iter(group.values())).results["metric"]
    alike = [run.evidence.measures[metric] for run in group.values() if run.evidence.steps == first.evidence.steps]
    return np.mean([one for one in alike if one.shape == alike[0].shape], 0), first.evidence.steps


def validation_charts(groups: Groups) -> list[Chart]:
    """The metric on validation episodes during training, by outer steps and by time: mean over seeds, interval over episodes."""
    by_steps: dict[str, figures.Line] = {}
    by_time: dict[str, figures.Line] = {}
    metric = ""
    for name, group in groups.items():
        first = next(iter(group.values())).results
        metric = f"val/{first['metric']}"
        logs = [(run.results, log) for run in group.values() if (log := logged(run)).get(metric)]
        if not logs:
            continue
        steps = logs[0][1][metric][0]
        alike = [(results, log) for results, log in logs if log[metric][0] == steps]
        means = np.mean([log[metric][1] for _, log in alike], 0)
        halves = [log[f"{metric}_ci95"][1] for _, log in alike if len(log.get(f"{metric}_ci95", ((), ()))[1]) == len(steps)]
        half = np.mean(halves, 0) if halves else None
        by_steps[name] = (steps, means, half)
        seconds = [results["train_seconds"] / results["outer_steps"] for results, _ in alike if results.get("train_seconds")]
        if seconds:
            by_time[name] = (np.multiply(steps, np.mean(seconds)), means, half)
    results = next(iter(next(iter(groups.values())).values())).results
    note = "Mean over seeds, on tasks that are neither trained on nor tested on; the band is the 95 % interval over episodes."
    found, rising = [], not results["lower_is_better"]
    if by_steps:
        found = [line_chart("Validation during training", "outer steps", metric, by_steps, note, by_chance(results), rising)]
    if len(by_time) > 1:
        note = "The same by the seconds of training, validation counted in, as if all steps took as long."
        found.append(line_chart("Validation by time", "seconds of training", metric, by_time, note, by_chance(results), rising))
    return found


def training_chart(run: Scored) -> Chart | None:
    """Training and validation loss of one run."""
    algo, results = run.results["config"]["algo"], run.results
    columns = {name: (*points, None) for name, points in logged(run).items() if name in ("train/loss", "val/loss")}
    if not columns:
        return None
    trained, scored = algo.get("adaptation_steps"), results["config"]["eval_adaptation_steps"]
    note = "val/loss is that of the query sets of unseen tasks."
    if trained and trained != scored:
        note += f" It is taken after {scored} adaptation steps, and train/loss after {trained}: one may well lie below the other."
    drawn = line_chart("Training", "outer steps", "loss", columns, note, {})
    return drawn._replace(svg=figures.lines("Training", "outer steps", "loss", columns, colors=(figures.INK, figures.PLAIN)))


def spread_chart(groups: Groups) -> Chart:
    """How the episodes spread around the mean: a heavy tail is hidden by ±."""
    metric = next(iter(next(iter(groups.values())).values())).results["metric"]
    scale = 100 if metric in IN_PERCENT else 1
    scores = {name: scale * mean_over_seeds(group)[0][:, -1] for name, group in groups.items()}
    finite = {name: values[np.isfinite(values)] for name, values in scores.items()}
    title = "Spread over test episodes"
    drawn = figures.boxes(title, f"{unit(metric)} (5 %, quartiles, 95 %)", finite, None)
    at = (0, 5, 25, 50, 75, 95, 100)
    rows = [[name, *(f"{value:.4g}" for value in np.percentile(values, at))] for name, values in finite.items() if len(values)]
    header = ["", "lowest", "5 %", "25 %", "median", "75 %", "95 %", "highest"]
    return Chart(
        title, drawn, header, rows, "Each episode's score after the last step, averaged over seeds. Beyond the whiskers: 5 % on each side."
    )


def difference_chart(comparisons: Sequence[Comparison], groups: Groups) -> Chart | None:
    """Each contender's difference, with the interval of these networks and, wider, that of these algorithms.

    What ended far above where the others begin, as `figures.highest` has it, is named and not drawn: all else would be one point.
    """
    begin = [mean_over_seeds(group)[0][:, 0].mean() for group in groups.values()]
    lower = next(iter(next(iter(groups.values())).values())).results["lower_is_better"]
    most = 10 * np.nanmax(np.abs(begin)) if lower else np.inf
    finite = [one for one in comparisons if np.isfinite(one.difference) and abs(one.value) <= most]
    if not finite:
        return None
    scale = 100 if finite[0].metric in IN_PERCENT else 1
    rows = [(one.name, *(scale * np.nan_to_num(x or 0.0) for x in (one.difference, one.networks, one.algorithms))) for one in finite]
    title = f"Differences from {finite[0].beside}"
    drawn = figures.forest(title, f"difference of {unit(finite[0].metric)}", rows)
    numbers = [[name, *(f"{x:.4g}" for x in values)] for name, *values in rows]
    note = "Thick: the 95 % interval for these networks, over episodes. Thin: for these algorithms, over episodes and seeds."
    if diverged := [one.name for one in comparisons if one not in finite]:
        note += f" Not drawn, since diverged: {', '.join(diverged)}."
    return Chart(title, drawn, ["", "difference", "± these networks", "± these algorithms"], numbers, note)


def logged(run: Scored) -> dict[str, tuple[list[float], list[float]]]:
    """metrics.csv, column by column: outer steps and values; empty where there is none that can be read."""
    columns: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    path = Path(run.job.name) / "csv" / "metrics.csv"
    try:
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                for name in [name for name, value in line.items() if value and name not in ("step", "epoch")]:
                    columns[name][0].append(int(float(line["step"])) + 1)
                    columns[name][1].append(float(line[name]))
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return {}
    return dict(columns)


def heat_maps(jobs: list[Job]) -> list[Chart]:
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
    maps = [heat_map(name, x_key, y_key, alike) for name, alike in by_others.items()]
    return [found for found in maps if len(found.rows) > 1]  # one cell is no map


def heat_map(name: str, x_key: str, y_key: str, jobs: list[Job]) -> Chart:
    x, y = (sorted({job.settings[key] for job in jobs}, key=order) for key in (x_key, y_key))
    cells: dict[tuple[int, int], list[float]] = defaultdict(list)
    results = jobs[0].results or {}
    scale = 100 if results["metric"] in IN_PERCENT else 1
    for job in jobs:
        assert job.results
        cells[y.index(job.settings[y_key]), x.index(job.settings[x_key])].append(scale * job.results["value"])
    values = np.full((len(y), len(x)), np.nan)
    for place, found in cells.items():
        values[place] = np.mean(found)
    title = f"Sweep: {name}" if name else "Sweep"
    drawn = figures.heat_map(title, x_key, y_key, x, y, values, results["lower_is_better"])
    rows = [[f"{x[column]:g}", f"{y[row]:g}", f"{values[row, column]:.4g}"] for row, column in sorted(cells)]
    return Chart(
        title, drawn, [x_key, y_key, unit(results["metric"])], rows, f"{unit(results['metric'])}, mean over seeds; brighter is better."
    )


def shape_charts(results: Mapping[str, Any]) -> list[Chart]:
    """Where episodes differ in their number of classes, or of examples of each: the metric in bins of these."""
    metric, found = results["metric"], []
    for name, bins in (results.get("by_shape") or {}).items():
        what = {"ways": "classes", "shots": "support examples"}[name]
        rows = [["{from:g} to {to:g}".format(**row), *measured(row, metric), str(row["episodes"])] for row in bins]
        found.append(Chart(f"By number of {what}", "", [what, unit(metric), "95 % CI", "episodes"], rows, "Of the test episodes."))
    return found


def class_chart(answers: Answers) -> Chart | None:
    """Accuracy on the queries of each class, or of each group of classes (alphabet, script) where the classes are many; lowest first."""
    if not answers.names:
        return None
    groups = [group_of(name) for name in answers.names]
    grouped = len(answers.names) > MOST_BARS and len(set(groups)) < len(groups)
    names = np.array(groups if grouped else answers.names)
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    there = answers.truth >= 0
    for name, hit in zip(names[answers.classes[there]], (answers.last == answers.truth)[there], strict=True):
        right[name] += int(hit)
        asked[name] += 1
    ordered = sorted(asked, key=lambda name: right[name] / asked[name])
    shown = ordered if len(ordered) <= MOST_BARS else [*ordered[: MOST_BARS // 2], *ordered[-MOST_BARS // 2 :]]
    intervals = {name: binomtest(right[name], asked[name]).proportion_ci(method="wilson") for name in ordered}
    bars = {name: (100 * right[name] / asked[name], 100 * intervals[name].low, 100 * intervals[name].high) for name in shown}
    mean = 100 * right.total() / asked.total()
    what = "group of classes" if grouped else "class"
    left_out = f" Of {len(ordered)}, the {MOST_BARS // 2} lowest and highest." if len(shown) < len(ordered) else ""
    note = f"Over all test episodes, by {what}; dashed: the mean, {mean:.1f} %. The intervals take queries for independent.{left_out}"
    rows = [[name, f"{100 * right[name] / asked[name]:.1f}", str(asked[name])] for name in ordered]
    return Chart(
        "Accuracy by class", figures.bars("Accuracy by class", "accuracy, %", bars, mean), [what, "accuracy, %", "queries"], rows, note
    )


def group_of(name: str) -> str:
    """Latin/character01/rot090 -> Latin; LATIN SMALL LETTER A -> LATIN."""
    return name.partition("/")[0] if "/" in name else name.partition(" ")[0]


def calibration_chart(answers: Answers, bins: int = 10) -> Chart | None:
    """How often answers of some confidence are right."""
    known = np.isfinite(answers.confidence) & (answers.truth >= 0)
    confidence, right = answers.confidence[known], (answers.last == answers.truth)[known]
    if not len(confidence):
        return None
    bin_of = np.clip((confidence * bins).astype(int), 0, bins - 1)
    there = [b for b in range(bins) if (bin_of == b).any()]
    points = [(100 * confidence[bin_of == b].mean(), 100 * right[bin_of == b].mean(), int((bin_of == b).sum())) for b in there]
    drawn = figures.calibration("Calibration", points)
    rows = [[f"{sure:.1f}", f"{hit:.1f}", str(count)] for sure, hit, count in points]
    note = "All test queries, by how sure the answer was. On the diagonal, answers of 80 % confidence are right in 80 of 100."
    return Chart("Calibration", drawn, ["confidence, %", "right, %", "queries"], rows, note)
