"""Results as tables on the terminal."""

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from innerloop.config import InputError

Results = dict[str, Any]


def show(table: Table) -> None:
    """Prints a table, as wide as it needs where the output is no terminal."""
    console = Console()
    console.print(table, width=None if console.is_terminal else max(console.width, 200))


def results_table(results: Results) -> Table:
    """The metric of one run after each number of adaptation steps."""
    where = f"{results['algo']} on {results['task']}, {results['episodes']} test episodes"
    table = Table(title=where, title_justify="left")
    for column in ("adaptation steps", results["metric"], "95 % CI"):
        table.add_column(column, justify="right")
    for point in results["curve"]:
        table.add_row(str(point["step"]), f"{point['value']:.4f}", f"± {point['ci95']:.4f}")
    return table


def sweep_table(directory: Path) -> Table:
    """One row for each job below `directory`: what its configuration has that others have not, its result, and the spread over seeds.

    Raises InputError when there is no finished or failed job.
    """
    jobs = {path.parent: json.loads(path.read_text()) for path in sorted(directory.rglob("results.json"))}
    failed = {path.parent: path.read_text().strip() for path in sorted(directory.rglob("error.txt"))}
    if not jobs and not failed:
        raise InputError(f"there is no results.json below {directory}; give the directory of a sweep or of a run")
    settings = {job: flat(results["config"]) for job, results in jobs.items()}
    keys = differing(list(settings.values()))
    seeds = over_seeds(jobs, settings, [key for key in keys if key != "seed"])
    table = Table(title=f"{directory}: {len(jobs)} finished, {len(failed)} failed", title_justify="left")
    for column in ("job", *keys, "metric", "value", "95 % CI", "mean ± std over seeds"):
        table.add_column(column, overflow="fold")
    for job, results in jobs.items():
        values = [str(settings[job].get(key, "")) for key in keys]
        table.add_row(name(job, directory), *values, results["metric"], f"{results['value']:.4f}", f"± {results['ci95']:.4f}", seeds[job])
    for job, error in failed.items():
        table.add_row(name(job, directory), *["" for _ in keys], "failed", "", "", error)
    return table


def name(job: Path, directory: Path) -> str:
    """The job's folder as seen from the sweep's."""
    return str(job.relative_to(directory))


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """{"algo": {"inner_lr": 0.1}} -> {"algo.inner_lr": 0.1}."""
    if not isinstance(config, dict):
        return {prefix: config}
    return {key: value for k, v in config.items() for key, value in flat(v, f"{prefix}.{k}" if prefix else str(k)).items()}


def differing(settings: list[dict[str, Any]]) -> list[str]:
    """The keys that do not have the same value everywhere."""
    keys = dict.fromkeys(key for setting in settings for key in setting)
    return [key for key in keys if len({repr(setting.get(key)) for setting in settings}) > 1]


def over_seeds(jobs: dict[Path, Results], settings: dict[Path, dict[str, Any]], keys: list[str]) -> dict[Path, str]:
    """For each job, mean and standard deviation of the jobs that differ from it in their seed alone."""
    groups = defaultdict(list)
    for job in jobs:
        groups[tuple(repr(settings[job].get(key)) for key in keys)].append(job)
    spread = {}
    for group in groups.values():
        values = [jobs[job]["value"] for job in group]
        text = f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f} (n={len(values)})" if len(values) > 1 else ""
        spread.update(dict.fromkeys(group, text))
    return spread
