"""Whether one run is better than another: paired differences on the same test episodes."""

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.markup import escape
from rich.table import Table
from scipy import stats

from innerloop.config import InputError
from innerloop.evidence import Evidence, evidence_path, read_evidence
from innerloop.settings import differences
from innerloop.table import Job, Results, cell, differing, heading, jobs_below, read_results, settings_of


class Scored(NamedTuple):
    """A finished run and its evidence. job.name: its path."""

    job: Job
    results: Results
    evidence: Evidence


class Contender(NamedTuple):
    """Runs that differ in their seed alone. scores: (seeds, episodes), of the metric."""

    name: str
    seeds: list[int]
    scores: np.ndarray


class Comparison(NamedTuple):
    """A contender's scores minus the baseline's.

    over_episodes: half the 95 % interval of the difference over episodes, of scores that are averaged over seeds. over_seeds: standard
    deviation of the seeds' differences, None for one seed. p: of a paired t-test over episodes, corrected for the number of contenders
    (Holm). better: None where p is above 0.05.
    """

    name: str
    seeds: int
    value: float
    difference: float
    over_episodes: float
    over_seeds: float | None
    p: float
    better: bool | None


def compare(paths: list[Path], step: int | None = None) -> tuple[str, list[Comparison]]:
    """Compares the runs below all paths with those of the first one, after `step` adaptation steps (the last one if None).

    Returns what was compared, and a Comparison for each contender but the baseline. Raises InputError for runs that cannot be compared.
    """
    runs = list({Path(run.job.name).resolve(): run for path in paths for run in scored_below(path)}.values())  # each once
    check_comparable(runs)
    first = runs[0].results
    baseline, *others = contenders_of(runs, step)
    if not others:
        raise InputError("there is nothing to compare with the first run; name two runs, or more")
    compared = corrected([difference(baseline, other, first["lower_is_better"]) for other in others])
    where = f"{first['metric']} on {first['task']}, {first['episodes']} test episodes ({first['episodes_checksum']})"
    return f"{where}, beside {baseline.name}: {baseline.scores.mean():.4f}", compared


def scored_below(path: Path) -> list[Scored]:
    """The finished runs in a directory; or an evaluation, RUN/evaluations/NAME.json."""
    if path.suffix == ".json":
        results = read_results(path)
        return [Scored(Job(str(path), settings_of(results["config"]), results, "", set()), results, read_evidence(evidence_path(path)))]
    finished = [(job._replace(name=str(path / job.name)), job.results) for job in jobs_below(path) if job.results]
    if not finished:
        raise InputError(f"no run below {path} is finished")
    return [Scored(job, results, read_evidence(Path(job.name) / "evidence.csv")) for job, results in finished]


def check_comparable(runs: list[Scored]) -> None:
    """Raises InputError where two runs were not scored on the same episodes by the same metric, and says in what they differ."""
    first, *others = runs
    for other in others:
        if other.results["metric"] != first.results["metric"] or other.evidence.ids != first.evidence.ids:
            keys = ("task", "test_episodes")
            there, here = ({key: run.results["config"][key] for key in keys} for run in (other, first))
            why = differences(there, here) or "of the same settings, drawn by other code or from other data"
            raise InputError(
                f"{other.job.name} and {first.job.name} were not scored on the same test episodes ({why}); "
                "score one of them again, with innerloop eval"
            )


def contenders_of(runs: list[Scored], step: int | None) -> list[Contender]:
    """Gathers the runs that differ in their seed alone, and names them by what tells them apart."""
    keys = [key for key in differing([run.job for run in runs]) if key != "seed"]
    alike: dict[str, list[Scored]] = defaultdict(list)
    for run in runs:
        alike[repr(sorted((key, value) for key, value in run.job.settings.items() if key != "seed"))].append(run)
    found = []
    for group in alike.values():
        name = " ".join(f"{heading(key)}={cell(key, group[0].job.settings.get(key))}" for key in keys) or group[0].job.name
        found.append(Contender(name, [run.results["seed"] for run in group], np.stack([scores_after(run, step) for run in group])))
    return found


def scores_after(run: Scored, step: int | None) -> np.ndarray:
    """The metric of each episode."""
    steps, scores = run.evidence.steps, run.evidence.measures[run.results["metric"]]
    if step is None or len(steps) == 1:
        return scores[:, -1]
    if step not in steps:
        raise InputError(f"{run.job.name} was not scored after {step} adaptation steps, but after {', '.join(map(str, steps))}")
    return scores[:, steps.index(step)]


@np.errstate(invalid="ignore")  # of what diverged
def difference(baseline: Contender, other: Contender, lower_is_better: bool) -> Comparison:
    """Seeds are paired where both have the same ones."""
    paired = baseline.seeds == other.seeds
    by_episode = other.scores.mean(0) - baseline.scores.mean(0)
    by_seed = (other.scores - (baseline.scores if paired else baseline.scores.mean(0))).mean(1)
    mean, interval = by_episode.mean(), 1.96 * by_episode.std(ddof=1) / len(by_episode) ** 0.5
    # scores that are equal in all episodes, or that diverged, are evidence of nothing
    p = float(stats.ttest_1samp(by_episode, 0.0).pvalue) if by_episode.any() and np.isfinite(by_episode).all() else 1.0
    spread = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None
    better = bool((mean < 0) == lower_is_better)
    return Comparison(other.name, len(other.seeds), float(other.scores.mean()), float(mean), float(interval), spread, p, better)


def corrected(comparisons: list[Comparison]) -> list[Comparison]:
    """p-values by Holm's method, and no word on which is better where they do not allow one."""
    order = sorted(range(len(comparisons)), key=lambda i: comparisons[i].p)
    largest, found = 0.0, list(comparisons)
    for rank, index in enumerate(order):
        one = comparisons[index]
        largest = max(largest, min(1.0, (len(comparisons) - rank) * one.p))
        found[index] = one._replace(p=largest, better=one.better if largest < 0.05 else None)
    return found


def comparison_table(title: str, comparisons: list[Comparison]) -> Table:
    """To be read."""
    table = Table(title=escape(title), title_justify="left")
    for column in ("run", "seeds", "value", "difference", "95 % CI over episodes", "std over seeds", "p", ""):
        table.add_column(column, overflow="fold")
    words = {True: "better", False: "worse", None: "no difference shown"}
    for one in comparisons:
        spread = "" if one.over_seeds is None else f"{one.over_seeds:.4f}"
        p = f"{one.p:.3f}" if one.p >= 0.001 else "< 0.001"
        cells: list[Any] = [one.name, one.seeds, f"{one.value:.4f}", f"{one.difference:+.4f}", f"± {one.over_episodes:.4f}", spread, p]
        table.add_row(*(escape(str(cell)) for cell in cells), words[one.better])
    return table
