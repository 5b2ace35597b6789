"""`innerloop report`: runs as one page that stands by itself, to be looked at, sent around and printed."""

import csv
import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra import compose, initialize_config_dir
from jinja2 import Environment, PackageLoader, StrictUndefined
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from innerloop import figures
from innerloop.compare import Comparison, Scored, by_seed, compare_scored, in_words, is_baseline, not_beaten, scored_below
from innerloop.config import InputError, register
from innerloop.experiment import load_run
from innerloop.inspection import MOST_BARS, accuracy_by_class, draw_episodes, draw_step_sizes
from innerloop.output import write_whole
from innerloop.rescore import CONF
from innerloop.table import Job, cell, differing, heading, jobs_below, measured, order, settings_of, short

MOST_LINES = 8  # in one chart
EPISODES_BY_CLASS = 100


class Compared(NamedTuple):
    """What `compare` says of all runs beside the first one that is no baseline; or why they cannot be compared."""

    title: str
    comparisons: list[Comparison]
    warnings: list[str]


def write_report(paths: list[Path], output: Path) -> None:
    """Writes a page on the finished runs below `paths`. Raises InputError where there is none, or `output` cannot be written."""
    runs = [run for path in paths for run in scored_below(path)]
    groups = by_seed(runs)
    shown = dict(itertools.islice(groups.items(), MOST_LINES))
    compared = compare_all(runs) if len(groups) > 1 else None
    page = {
        "title": f"{names_in(runs, 'algo')} on {names_in(runs, 'task')}",
        "sentence": sentence(groups, compared),
        "compared": compared,
        "rows": [row(name, group) for name, group in groups.items()] if len(runs) > 1 else [],
        "unfinished": [job for path in paths if path.is_dir() for job in jobs_below(path) if not job.results],
        "adaptation": adaptation_chart(shown),
        "validation": validation_chart(shown) if len(shown) > 1 else None,
        "left_out": len(groups) - len(shown),
        "heat_maps": heat_maps([run.job for run in runs]),
        "details": [details(run) for run in of_each_algorithm(sorted(runs, key=is_baseline))],
    }
    environment = Environment(loader=PackageLoader("innerloop", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters.update(measured=lambda point: " ".join(measured(point)), short=short, in_words=in_words)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, environment.get_template("report.html").render(page).encode())


def names_in(runs: list[Scored], key: str) -> str:
    return ", ".join(dict.fromkeys(run.results[key] for run in runs))


def compare_all(runs: list[Scored]) -> Compared:
    first = [run for run in runs if not is_baseline(run)][:1]
    try:
        title, comparisons = compare_scored(first + runs)
    except InputError as error:
        return Compared(f"Not compared: {error}", [], [])
    return Compared(title, comparisons, not_beaten(comparisons) if first else [])


def sentence(groups: dict[str, dict[int, Scored]], compared: Compared | None) -> str:
    """What was found, in one sentence."""
    if compared and compared.comparisons:
        words = {False: "better than", True: "worse than", None: "not shown to differ from"}
        told = {words[better]: [one.name for one in compared.comparisons if one.better is better] for better in words}
        return f"{compared.title}, which is " + "; ".join(f"{word} {', '.join(names)}" for word, names in told.items() if names) + "."
    results = next(iter(next(iter(groups.values())).values())).results
    before, last = results["curve"][0], results["curve"][-1]
    after = f", {figures.after(last['step'])} ({' '.join(measured(before))} before)" if last["step"] else ""
    of = f"mean and 95 % interval over {results['episodes']} unseen test episodes"
    what = f"{results['algo']} on {results['task']}: {results['metric']} {' '.join(measured(last))}{after}; {of}, seed {results['seed']}."
    return what if len(groups) == 1 else f"{len(groups)} kinds of runs; the first, {what}"


def row(name: str, group: dict[int, Scored]) -> dict[str, Any]:
    """Of the table of runs: means over seeds, and their spread."""
    results = [run.results for run in group.values()]
    values = [r["value"] for r in results if r["value"] is not None]
    return {
        "name": name,
        "seeds": ", ".join(map(str, group)),
        "values": [" ".join(measured(r)) for r in results],
        "spread": f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else "",
        **{key: mean_of(results, key) for key in ("auc", "worst5", "train_seconds")},
    }


def mean_of(results: list[dict[str, Any]], key: str) -> float | None:
    values = [r[key] for r in results if r.get(key) is not None]
    return float(np.mean(values)) if values else None


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
        half = 1.96 * scores.std(0, ddof=1) / len(scores) ** 0.5
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


def of_each_algorithm(runs: list[Scored]) -> list[Scored]:
    """The run of each algorithm with the lowest validation loss, in the order of the runs."""
    best: dict[str, Scored] = {}
    for run in runs:
        old = best.setdefault(run.results["algo"], run)
        if val_loss(run) < val_loss(old):
            best[run.results["algo"]] = run
    return list(best.values())


def val_loss(run: Scored) -> float:
    loss = run.results.get("val_loss")
    return float("inf") if loss is None else loss


def details(run: Scored) -> dict[str, Any]:
    """One run: how it trained, what it does in an episode, where it errs, how it was set, how to have it again."""
    path, results = Path(run.job.name), run.results
    columns = {name: (*points, None) for name, points in logged(run).items() if name in ("train/loss", "val/loss")}
    found: dict[str, Any] = {
        "name": f"{results['algo']} on {results['task']}, seed {results['seed']}",
        "path": path,
        "training": figures.lines("Training", "outer steps", "loss", columns) if columns else None,
        "results": results,
        "changed": changed(path, results["config"]),
        "config": OmegaConf.to_yaml(results["config"]),
        "pictures": [],
        "remark": None,
    }
    try:
        built = load_run(path)
        by_class = accuracy_by_class(built, min(EPISODES_BY_CLASS, results["episodes"]))
        found["pictures"] = [
            ("Test episodes", draw_episodes(built, found["name"])),
            ("Accuracy by class", by_class and class_chart(by_class)),
            ("Learned inner learning rates", draw_step_sizes(built)),
        ]
    except InputError as error:  # an evaluation has no checkpoint, data may be gone
        found["remark"] = str(error)
    return found


def class_chart(by_class: dict[str, float]) -> str:
    names = list(by_class)
    names = names if len(names) <= MOST_BARS else [*names[: MOST_BARS // 2], *names[-MOST_BARS // 2 :]]
    return figures.bars("Accuracy by class", "accuracy", {name: by_class[name] for name in names}, float(np.mean(list(by_class.values()))))


def changed(path: Path, config: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The settings that differ from those of its algorithm and task as conf/ has them: key, value, default."""
    try:
        choices = OmegaConf.load(path / ".hydra" / "hydra.yaml").hydra.runtime.choices
        groups = [f"{group}={choices[group]}" for group in ("algo", "task")]
        register()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            default = OmegaConf.to_container(compose("train", overrides=groups), resolve=True)
    except (OSError, OmegaConfBaseException, ValueError, TypeError, KeyError):
        return []
    old, new = settings_of(default), settings_of(config)  # type: ignore[arg-type]
    return [(key, new.get(key), old.get(key)) for key in sorted(old | new) if new.get(key) != old.get(key)]
