"""Whether one run is better than another: paired differences on the same test episodes."""

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from innerloop.config import NOT_THE_NUMBERS, InputError, differences, without
from innerloop.reports.jobs import Job, cell, differing, heading, jobs_below, settings_of
from innerloop.reports.table import NARROW, number, unit
from innerloop.reports.verdicts import Comparison, Contender, compare_contenders, verdict
from innerloop.runs.evidence import Evidence, checksum, evidence_path, read_evidence
from innerloop.runs.folder import Results, read_results

ONE_CONTENDER = ("seed", "threads", *NOT_THE_NUMBERS)  # what the runs of one may differ in; threads round differently, no more

COLUMNS = ("run", "verdict", "value", "difference ± 95 %")


class Scored(NamedTuple):
    """A finished run and its evidence. job.name: its path."""

    job: Job
    results: Results
    evidence: Evidence


def compare(paths: list[Path], step: int | None = None) -> tuple[str, list[Comparison]]:
    """Compares the runs below all paths with those of the first one, after `step` adaptation steps (the last one if None).

    Returns what was compared, and a Comparison for each contender but the baseline. Raises InputError for runs that cannot be compared.
    """
    return compare_scored([run for path in paths for run in scored_below(path)], step)


def compare_scored(runs: list[Scored], step: int | None = None) -> tuple[str, list[Comparison]]:
    """`compare` of runs that were read already."""
    check_comparable(runs)
    first = runs[0].results
    reference, *others = contenders_of(runs, step)
    if not others:
        raise InputError("there is nothing to compare with the first run; name two runs, or more")
    compared = compare_contenders(reference, others, first["lower_is_better"])
    where = f"{unit(first['metric'])} on {first['task']}, {first['episodes']} test episodes"
    return f"{where}, beside {reference.name}: {number(reference.scores.mean(), first['metric'])}", compared


def scored_below(path: Path) -> list[Scored]:
    """The finished runs in a directory; or an evaluation, RUN/evaluations/NAME.json. Raises InputError where there is none."""
    if path.suffix == ".json":
        if not path.is_file():
            raise InputError(f"{path} is not there; innerloop eval writes such files")
        return [scored(Job(str(path), settings_of(read_results(path)["config"]), read_results(path), "", set()), evidence_path(path))]
    finished = [job._replace(name=str(path / job.name)) for job in jobs_below(path) if job.results]
    if not finished:
        raise InputError(f"no run below {path} is finished")
    return [scored(job, Path(job.name) / "evidence.csv") for job in finished]


def scored(job: Job, path: Path) -> Scored:
    """With its evidence. Raises InputError where that is not of all its episodes."""
    assert job.results
    evidence = read_evidence(path)
    if checksum(evidence.ids) != job.results["episodes_checksum"]:
        raise InputError(f"{path} does not have the {job.results['episodes']} episodes of its results; score the run again")
    return Scored(job, job.results, evidence)


def on_the_same(runs: list[Scored]) -> list[list[Scored]]:
    """Gathers the runs that can be compared: of one metric on the same test episodes."""
    gathered: dict[Any, list[Scored]] = defaultdict(list)
    for run in runs:
        gathered[run.results["metric"], tuple(run.evidence.ids)].append(run)
    return list(gathered.values())


def check_comparable(runs: list[Scored]) -> None:
    """Raises InputError where two runs were not scored on the same episodes by the same metric, and says in what they differ."""
    first, *others = runs
    for other in others:
        if other.results["metric"] != first.results["metric"] or other.evidence.ids != first.evidence.ids:
            keys = ("task", "test_episodes", "episodes", "disjoint")
            there, here = ({key: run.results["config"].get(key) for key in keys} for run in (other, first))
            why = differences(there, here) or "of the same settings, drawn by other code or from other data"
            raise InputError(
                f"{other.job.name} and {first.job.name} were not scored on the same test episodes ({why}); "
                "score one of them again, with innerloop eval"
            )


def by_seed(runs: list[Scored]) -> dict[str, dict[int, Scored]]:
    """Gathers the runs that differ in their seed alone, one of each seed, under a name of what tells them from the others: settings, the
    code that they were run by, and their paths where there is no other difference."""
    once: dict[Path, Scored] = {}  # though it was named twice
    for run in runs:
        once.setdefault(Path(run.job.name).resolve(), run)
    runs = [run._replace(job=run.job._replace(settings=run.job.settings | code_of(run.results))) for run in once.values()]
    keys = differing([run.job._replace(settings=without(run.job.settings, ONE_CONTENDER)) for run in runs])
    alike: dict[str, list[Scored]] = defaultdict(list)
    for run in runs:
        alike[repr(sorted(without(run.job.settings, ONE_CONTENDER).items()))].append(run)
    named = {}
    for group in alike.values():
        name = " ".join(f"{heading(key)}={cell(key, group[0].job.settings.get(key))}" for key in keys)
        for place, contender in by_place(group).items():
            full = " ".join(filter(None, [name, place])) or group[0].job.name
            if full in named:  # as a class of a project that is called as one of ours
                full = f"{full} {group[0].job.name}"
            named[full] = {run.results["seed"]: run for run in sorted(contender, key=lambda run: run.results["seed"])}
    return named


def code_of(results: Results) -> dict[str, str | None]:
    """What ran it: commit, a project's own code, and versions."""
    versions = {f"version.{name}": text for name, text in results["versions"].items()}
    return {"commit": short_commit(results["commit"]), "project": results.get("project"), **versions}


def short_commit(commit: str | None) -> str:
    """Seven letters of it, and that of changes: "1a7535c+changes-0b12"."""
    head, plus, changes = (commit or "unknown").partition("+")
    return head[:7] + plus + changes[:12]


def by_place(runs: list[Scored]) -> dict[str, list[Scored]]:
    """Runs of the same settings and code, apart where a seed is there twice: by the folders that they are in, or each by its path."""
    for place in (lambda path: "", lambda path: str(path.parent), str):
        apart: dict[str, list[Scored]] = defaultdict(list)
        for run in runs:
            apart[place(Path(run.job.name))].append(run)
        if all(len({run.results["seed"] for run in part}) == len(part) for part in apart.values()):
            break
    return apart


def contenders_of(runs: list[Scored], step: int | None) -> list[Contender]:
    contenders = []
    for name, group in by_seed(runs).items():
        first = next(iter(group.values()))
        scores = np.stack([scores_after(run, step) for run in group.values()])
        steps = first.evidence.steps[-1] if step is None else step
        contenders.append(
            Contender(name, first.results["algo"], first.results["baseline"], list(group), scores, steps, first.results["metric"])
        )
    several = len({one.steps for one in contenders if one.steps}) > 1  # what takes no steps is after none
    return [one._replace(name=f"{one.name} after {one.steps} steps") if several and one.steps else one for one in contenders]


def scores_after(run: Scored, step: int | None) -> np.ndarray:
    """The metric of each episode."""
    steps, scores = run.evidence.steps, run.evidence.measures[run.results["metric"]]
    if step is None or steps == [0]:  # it takes none
        return scores[:, -1]
    if step not in steps:
        raise InputError(f"{run.job.name} was not scored after {step} adaptation steps, but after {', '.join(map(str, steps))}")
    return scores[:, steps.index(step)]


def in_words(one: Comparison) -> list[str]:
    """A row of a table: run, verdict with p, value, difference with its 95 % intervals: of these networks, and of these algorithms."""
    name = f"{one.name}, {one.seeds} seed{'s' * (one.seeds > 1)}"
    if not np.isfinite(one.difference):
        return [name, verdict(one), number(one.value, one.metric) if np.isfinite(one.value) else "", ""]
    p = one.p_networks if one.p_algorithms is None else one.p_algorithms
    value, difference = (number(x, one.metric) for x in (one.value, one.difference))
    intervals = [number(half, one.metric) for half in (one.networks, one.algorithms) if half is not None]
    told = f"{verdict(one)}, p {f'= {p:.3f}' if p >= 0.001 else '< 0.001'}"
    return [name, told, value, f"{'+' * (one.difference >= 0)}{difference} ± {' / '.join(intervals)}"]


def comparison_table(title: str, comparisons: list[Comparison]) -> RenderableType:
    """To be read."""
    table = Table(**NARROW)
    for column in COLUMNS:
        table.add_column(column, no_wrap=column in COLUMNS[2:])
    for one in comparisons:
        table.add_row(*map(escape, in_words(one)))
    return Group(Text(f"{title}; ± these networks / these algorithms"), table)
