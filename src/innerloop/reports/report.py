"""`innerloop report`: runs as one page that stands by itself, to be looked at, sent around and printed."""

import itertools
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra import compose, initialize_config_dir
from jinja2 import Environment, PackageLoader, StrictUndefined
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from innerloop.config import InputError, register
from innerloop.files import write_whole
from innerloop.reports import figures
from innerloop.reports.charts import adaptation_chart, class_chart, heat_maps, logged, validation_chart
from innerloop.reports.compare import COLUMNS, Scored, by_seed, compare_scored, in_words, on_the_same, scored_below
from innerloop.reports.gallery import LEGEND, Kind, by_kind, name_of
from innerloop.reports.inspection import accuracy_by_class, draw_episodes, draw_step_sizes
from innerloop.reports.table import jobs_below, measured, settings_of, short
from innerloop.reports.verdicts import Comparison, doubts
from innerloop.runs.experiment import load_run
from innerloop.runs.trust import CONF

MOST_LINES = 8  # in one chart
EPISODES_BY_CLASS = 100


class Section(NamedTuple):
    """Runs on the same test episodes: charts of the first MOST_LINES of them, and all beside the first one that is no baseline."""

    name: str
    groups: dict[str, dict[int, Scored]]
    adaptation: str
    validation: str | None
    left_out: int
    title: str
    comparisons: list[Comparison]
    warnings: list[str]


def write_report(paths: list[Path], output: Path, trust: bool = False) -> None:
    """Writes a page on the finished runs below `paths`. Raises InputError where there is none, or `output` cannot be written.

    trust: as for load_run.
    """
    runs = [run for path in paths for run in scored_below(path)]
    sections = [section(alike) for alike in on_the_same(runs)]
    algorithms, kinds = by_kind(runs)
    page = {
        "title": f"{names_in(runs, 'algo')} on {names_in(runs, 'task')}",
        "sentence": sentence(sections[0]) if len(sections) == 1 else bests(kinds),
        "legend": LEGEND,
        "algorithms": algorithms,
        "kinds": kinds if len(kinds) > 1 else [],
        "sections": sections,
        "rows": [(one.name, row(name, group)) for one in sections for name, group in one.groups.items()] if len(runs) > 1 else [],
        "columns": COLUMNS,
        "unfinished": [job for path in paths if path.is_dir() for job in jobs_below(path) if not job.results],
        "heat_maps": heat_maps([run.job for run in runs]),
        "details": [details(run, trust) for run in (of_each_algorithm(runs) if len(sections) == 1 else of_each_kind(sections))],
    }
    environment = Environment(loader=PackageLoader("innerloop.reports", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters.update(measured=lambda point: " ".join(measured(point)), short=short, in_words=in_words)
    text = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f]", "\ufffd", environment.get_template("report.html").render(page))  # in names of classes
    write_whole(output, text.encode())


def names_in(runs: list[Scored], key: str) -> str:
    return ", ".join(dict.fromkeys(run.results[key] for run in runs))


def section(runs: list[Scored]) -> Section:
    groups = by_seed(runs)
    shown = dict(itertools.islice(groups.items(), MOST_LINES))
    validation = validation_chart(shown) if len(shown) > 1 else None
    first = [run for run in runs if not run.results["baseline"]][:1]
    title, comparisons = compare_scored(first + runs) if len(groups) > 1 else ("", [])
    warnings = doubts(comparisons) if first else []
    name = name_of(runs[0].results)
    return Section(name, groups, adaptation_chart(shown), validation, len(groups) - len(shown), title, comparisons, warnings)


def bests(kinds: list[Kind]) -> str:
    """The best of each kind, in one sentence."""
    return "The best, " + "; ".join(f"on {kind.name}: {kind.best[0]}, {kind.best[1]}" for kind in kinds) + "."


def sentence(found: Section) -> str:
    """What was found, in one sentence."""
    if found.comparisons:
        words = {False: "better than", True: "worse than", None: "not shown to differ from"}
        finite = [one for one in found.comparisons if np.isfinite(one.difference)]
        told = {words[better]: [one.name for one in finite if one.answer is better] for better in words}
        diverged = [one.name for one in found.comparisons if one not in finite]
        apart = [f"{word} {', '.join(names)}" for word, names in told.items() if names]
        parts = [f"which is {'; '.join(apart)}"] if apart else []
        parts += [f"{', '.join(diverged)} diverged"] if diverged else []
        return f"{found.title}, {'; '.join(parts)}."
    results = next(iter(next(iter(found.groups.values())).values())).results
    before, last = results["curve"][0], results["curve"][-1]
    after = f", {figures.after(last['step'])} ({' '.join(measured(before))} before)" if last["step"] else ""
    of = f"mean and 95 % interval over {results['episodes']} unseen test episodes"
    return f"{results['algo']} on {results['task']}: {results['metric']} {' '.join(measured(last))}{after}; {of}, seed {results['seed']}."


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


def of_each_algorithm(runs: list[Scored]) -> list[Scored]:
    """The run of each algorithm with the lowest validation loss, in the order of the runs, baselines last."""
    best: dict[str, Scored] = {}
    for run in sorted(runs, key=lambda run: run.results["baseline"]):
        old = best.setdefault(run.results["algo"], run)
        if val_loss(run) < val_loss(old):
            best[run.results["algo"]] = run
    return list(best.values())


def of_each_kind(sections: list[Section]) -> list[Scored]:
    """The run on each kind of test episodes with the lowest validation loss, no baseline where there is another."""
    every = ([run for group in one.groups.values() for run in group.values()] for one in sections)
    return [min(runs, key=lambda run: (run.results["baseline"], val_loss(run))) for runs in every]


def val_loss(run: Scored) -> float:
    loss = run.results.get("val_loss")
    return float("inf") if loss is None else loss


def details(run: Scored, trust: bool) -> dict[str, Any]:
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
        built = load_run(path, trust)
        by_class = accuracy_by_class(built, min(EPISODES_BY_CLASS, results["episodes"]))
        found["pictures"] = [
            ("Test episodes", draw_episodes(built, found["name"])),
            ("Accuracy by class", by_class and class_chart(by_class)),
            ("Learned inner learning rates", draw_step_sizes(built)),
        ]
    except InputError as error:  # an evaluation has no checkpoint, data may be gone
        found["remark"] = str(error)
    return found


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
