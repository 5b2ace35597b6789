"""`innerloop report`: runs as one page that stands by itself, to be looked at, sent around and printed."""

import itertools
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from jinja2 import Environment, PackageLoader, StrictUndefined
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from innerloop.config import InputError, register
from innerloop.files import write_whole
from innerloop.project import CONF, searched
from innerloop.reports import figures
from innerloop.reports.charts import (
    Chart,
    adaptation_chart,
    calibration_chart,
    class_chart,
    difference_chart,
    heat_maps,
    shape_charts,
    spread_chart,
    training_chart,
    validation_charts,
)
from innerloop.reports.compare import COLUMNS, Scored, by_seed, compare_scored, in_words, on_the_same, scored_below
from innerloop.reports.gallery import LEGEND, Kind, by_kind, name_of
from innerloop.reports.inspection import draw_episodes, draw_step_sizes
from innerloop.reports.jobs import jobs_below, settings_of
from innerloop.reports.ledger import told_of
from innerloop.reports.table import measured, number, short, stated, unit
from innerloop.reports.verdicts import Comparison, doubts
from innerloop.runs.answers import answers_path, read_answers
from innerloop.runs.evidence import evidence_path
from innerloop.runs.experiment import load_run
from innerloop.training.evaluation import half_ci95

MOST_LINES = 8  # in one chart
GROUPS = ("algo", "task", "model", "engine", "optimizer", "scheduler")


class Section(NamedTuple):
    """Runs on the same test episodes: charts of the first MOST_LINES of them, and all beside the reference."""

    name: str
    groups: dict[str, dict[int, Scored]]
    charts: list[Chart]
    left_out: int
    comparisons: list[Comparison]
    warnings: list[str]


def write_report(paths: list[Path], output: Path, trust: bool = False) -> None:
    """Writes a page on the finished runs below `paths`. Raises InputError where there is none, or `output` cannot be written.

    trust: as for load_run.
    """
    runs = [run for path in paths for run in scored_below(path)]
    beside = next((name for path in paths if (name := reference_of(path))), None)
    sections = [section(alike, beside) for alike in on_the_same(runs)]
    algorithms, kinds = by_kind(runs)
    looked_at = of_each_algorithm(runs) if len(sections) == 1 else of_each_kind(sections)
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
        "details": [details(run, trust, len(runs) == 1) for run in looked_at],
    }
    environment = Environment(loader=PackageLoader("innerloop.reports", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters.update(short=short, for_people=for_people, in_words=in_words)
    text = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f]", "\ufffd", environment.get_template("report.html").render(page))  # in names of classes
    write_whole(output, text.encode())


def names_in(runs: list[Scored], key: str) -> str:
    return ", ".join(dict.fromkeys(run.results[key] for run in runs))


def for_people(name: str) -> str:
    """algo=maml algo.inner_lr=0.01 -> maml, inner_lr 0.01."""
    return re.sub(r"(?:^| )([\w.]+)=", lambda found: ", " if found[1] in GROUPS else f", {found[1].rpartition('.')[2]} ", name).strip(", ")


def reference_of(path: Path) -> str | None:
    """The algorithm that a sweep itself compares the others with, if it says so."""
    try:
        callbacks = OmegaConf.load(path / "multirun.yaml").hydra.callbacks
        return next((str(node.beside) for node in callbacks.values() if "beside" in node), None)
    except (OSError, OmegaConfBaseException, AttributeError, YAMLError):
        return None


def section(runs: list[Scored], beside: str | None) -> Section:
    candidates = [run for run in runs if run.results["algo"] == beside] or [run for run in runs if not run.results["baseline"]]
    groups = {for_people(name): group for name, group in by_seed(candidates[:1] + runs).items()}  # as they are compared
    shown = dict(itertools.islice(groups.items(), MOST_LINES))
    comparisons = compare_scored(candidates[:1] + runs)[1] if len(groups) > 1 else []
    comparisons = [one._replace(name=for_people(one.name), beside=for_people(one.beside)) for one in comparisons]
    drawn: list[Chart | None] = [adaptation_chart(shown)]
    if len(shown) > 1:
        drawn += [difference_chart(comparisons, groups), spread_chart(shown), *validation_charts(shown)]
    charts = [chart for chart in drawn if chart]
    warnings = doubts(comparisons) if candidates else []
    return Section(name_of(runs[0].results), groups, charts, len(groups) - len(shown), comparisons, warnings)


def bests(kinds: list[Kind]) -> str:
    """The best of each kind, in one sentence."""
    return "The best, " + "; ".join(f"on {kind.name}: {for_people(kind.best[0])}, {kind.best[1]}" for kind in kinds) + "."


def sentence(found: Section) -> str:
    """What was found, in one sentence."""
    results = next(iter(next(iter(found.groups.values())).values())).results
    metric = results["metric"]
    of = f"mean and 95 % interval over {results['episodes']} unseen test episodes"
    if found.comparisons:
        beside = found.comparisons[0].beside
        group = next(group for name, group in found.groups.items() if beside == name or beside.startswith(f"{name} after "))
        results = next(iter(group.values())).results
        words = {False: "better than", True: "worse than", None: "not decided beside"}
        finite = [one for one in found.comparisons if np.isfinite(one.difference)]
        told = {words[better]: [one.name for one in finite if one.answer is better] for better in words}
        apart = [f"{word} {' and '.join(names)}" for word, names in told.items() if names]
        names = [one.name for one in found.comparisons if not np.isfinite(one.value)]
        apart += [f"{' and '.join(names)} diverged"] if names else []
        apart = apart or ["nothing can be told beside what diverged"]
        seeds = f", seed {results['seed']}" if len(group) > 1 else ""
        return f"{beside} on {results['task']}: {stated(results, metric)}{seeds}; {'; '.join(apart)} ({of})."
    before, last = results["curve"][0], results["curve"][-1]
    earlier = f" ({' '.join(measured(before, metric))} before)" if before["step"] == 0 else ""
    after = f", {figures.after(last['step'])}{earlier}" if last["step"] else ""
    name = f"{results['algo']} on {results['task']}"
    return f"{name}: {stated(last, metric)}{after}; {of}, seed {results['seed']}."


def row(name: str, group: dict[int, Scored]) -> dict[str, Any]:
    """Of the table of runs: means over seeds, and their spread."""
    results = [run.results for run in group.values()]
    values, metric = [r["value"] for r in results if r["value"] is not None], results[0]["metric"]
    return {
        "name": name,
        "seeds": ", ".join(map(str, group)),
        "values": [" ".join(measured(r, metric)) for r in results],
        "spread": f"{number(float(np.mean(values)), metric)} ± {number(float(np.std(values, ddof=1)), metric)}" if len(values) > 1 else "",
        **{key: number(mean_of(results, key), metric) for key in ("auc", "worst5")},
        "train_seconds": mean_of(results, "train_seconds"),
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


def details(run: Scored, trust: bool, alone: bool) -> dict[str, Any]:
    """One run: how it trained, what it does in an episode, where it errs, how it was set, how to have it again.

    alone: nothing else is on the page.
    """
    path, results = Path(run.job.name), run.results
    answers = read_answers(answers_path(evidence_path(path if path.suffix == ".json" else path / "results.json")))
    found: dict[str, Any] = {
        "name": f"{results['algo']} on {results['task']}, seed {results['seed']}",
        "path": path,
        "results": results,
        "changed": changed(path, results["config"]),
        "config": OmegaConf.to_yaml(results["config"]),
        "scores": scores(run),
        "remark": None,
        "ledger": told_of(results["command"], Path("ledger")),
    }
    drawn: list[Chart | None] = [*([adaptation_chart({results["algo"]: {results["seed"]: run}})] if alone else []), training_chart(run)]
    drawn += shape_charts(results)
    drawn += [class_chart(answers), calibration_chart(answers)] if answers else []
    try:
        built = load_run(path, trust)
        drawn += [draw_step_sizes(built), *draw_episodes(built, run.evidence, answers)]
        if built.data.tasks.ways and not answers:
            found["remark"] = f"the run has no answers.npz; `innerloop eval {path}` scores it again, for a report of its own"
    except InputError as error:  # an evaluation has no checkpoint, data may be gone
        found["remark"] = str(error)
    return found | {"charts": [chart for chart in drawn if chart]}


def scores(run: Scored) -> list[tuple[str, str]]:
    """What was measured besides the metric: of the last step, mean and 95 % interval over episodes."""
    metric, last = run.results["metric"], run.evidence.steps[-1]
    found = [(unit(metric), " ".join(measured(run.results, metric)))]
    for name, values in run.evidence.measures.items():
        if name not in (metric, "ms"):
            found.append((name.replace("_", " "), f"{values[:, -1].mean():.4f} ± {half_ci95(values[:, -1].std(ddof=1), len(values)):.4f}"))
    if last and "ms" in run.evidence.measures:
        found.append(("adaptation", f"{run.evidence.measures['ms'][:, -1].mean() / last:.3g} ms a step and task"))
    return found


def changed(path: Path, config: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The settings that differ from those of its algorithm and task as conf/ has them: key, value, default."""
    try:
        choices = OmegaConf.load(path / ".hydra" / "hydra.yaml").hydra.runtime.choices
        groups = [f"{group}={choices[group]}" for group in ("algo", "task")]
        register()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            default = OmegaConf.to_container(compose("train", overrides=[*searched(), *groups]), resolve=True)
    except (OSError, OmegaConfBaseException, HydraException, ValueError, TypeError, KeyError):
        return []  # of a project that the reader does not stand in
    old, new = settings_of(default), settings_of(config)  # type: ignore[arg-type]
    return [(key, new.get(key), old.get(key)) for key in sorted(old | new) if new.get(key) != old.get(key)]
