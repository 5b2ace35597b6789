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
    """Prints a table, wide where the output is no terminal."""
    console = Console()
    console = console if console.is_terminal else Console(width=200)
    console.print(table)


def results_table(results: Results) -> Table:
    """The metric of one run after each number of adaptation steps."""
    where = f"{results['algo']} on {results['task']}, {results['episodes']} test episodes"
    table = Table(title=where, title_justify="left")
    for column in ("adaptation steps", results["metric"], "95 % CI"):
        table.add_column(column, justify="right")
    for point in results["curve"]:
        table.add_row(str(point["step"]), *measured(point))
    return table


def sweep_table(directory: Path) -> Table:
    """One row for each job below `directory`: what its configuration has that others have not, its result, and the spread over seeds.

    Raises InputError when there is no finished or failed job.
    """
    jobs = {path.parent: read(path) for path in sorted(directory.rglob("results.json"))}
    failed = {path.parent: path.read_text().strip() for path in sorted(directory.rglob("error.txt"))}
    if not jobs and not failed:
        raise InputError(f"there is no results.json below {directory}; give the directory of a sweep or of a run")
    settings = {job: flat(results["config"]) for job, results in jobs.items()}
    keys = differing(list(settings.values()))
    seeds = over_seeds(jobs, settings, [key for key in keys if key != "seed"])
    table = Table(title=f"{directory}: {len(jobs)} finished, {len(failed)} failed", title_justify="left")
    for column in ("job", *map(heading, keys), "metric", "value", "95 % CI", "mean ± std over seeds"):
        table.add_column(column, overflow="fold")
    for job, results in jobs.items():
        values = [cell(key, settings[job].get(key, "")) for key in keys]
        table.add_row(job_name(job, directory), *values, results["metric"], *measured(results), seeds[job])
    for job, error in failed.items():
        table.add_row(job_name(job, directory), *["" for _ in keys], "failed", "", "", error)
    return table


def read(path: Path) -> Results:
    """Raises InputError for a damaged file."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); delete it or run the job again") from error


def measured(point: dict[str, Any]) -> tuple[str, str]:
    """Value and interval as text; null is what diverged."""
    return ("diverged", "") if point["value"] is None else (f"{point['value']:.4f}", f"± {point['ci95']:.4f}")


def heading(key: str) -> str:
    """The group of a choice: algo._target_ -> algo."""
    return key.removesuffix("._target_").removesuffix(".path")


def cell(key: str, value: Any) -> str:
    """A class by its name, all else as it is."""
    return str(value).rsplit(".", 1)[-1].lower() if is_choice(key) else str(value)


def is_choice(key: str) -> bool:
    """Whether a key names the class or function that a group was set to."""
    return key.endswith(("._target_", "engine.forward.path"))


def job_name(job: Path, directory: Path) -> str:
    """The job's folder as seen from the sweep's."""
    return str(job.relative_to(directory))


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """{"algo": {"inner_lr": 0.1}} -> {"algo.inner_lr": 0.1}."""
    if not isinstance(config, dict):
        return {prefix: config}
    return {key: value for k, v in config.items() for key, value in flat(v, f"{prefix}.{k}" if prefix else str(k)).items()}


def differing(settings: list[dict[str, Any]]) -> list[str]:
    """The fewest keys that tell the jobs apart: one is shown where jobs differ in it that agree in all shown before it.

    The choices of groups come first, since they bring many keys along, then the short names, and the seed last.
    """
    keys = dict.fromkeys(key for setting in settings for key in setting)
    shown: list[str] = []
    for key in sorted(keys, key=lambda key: (key == "seed", not is_choice(key), key.count("."))):
        alike = defaultdict(set)
        for setting in settings:
            alike[tuple(repr(setting.get(k)) for k in shown)].add(repr(setting.get(key)))
        if any(len(values) > 1 for values in alike.values()):
            shown.append(key)
    return shown


def over_seeds(jobs: dict[Path, Results], settings: dict[Path, dict[str, Any]], keys: list[str]) -> dict[Path, str]:
    """For each job, mean and standard deviation of the jobs that differ from it in their seed alone."""
    groups = defaultdict(list)
    for job in jobs:
        groups[tuple(repr(settings[job].get(key)) for key in keys)].append(job)
    spread = {}
    for group in groups.values():
        spread.update(dict.fromkeys(group, spread_text({jobs[job]["seed"]: jobs[job]["value"] for job in group})))
    return spread


def spread_text(values: dict[int, float | None]) -> str:
    """seed -> value, None if it diverged."""
    finite = [value for value in values.values() if value is not None]
    diverged = f", {len(values) - len(finite)} diverged" if len(finite) < len(values) else ""
    return f"{statistics.mean(finite):.4f} ± {statistics.stdev(finite):.4f} (n={len(finite)}{diverged})" if len(finite) > 1 else ""
