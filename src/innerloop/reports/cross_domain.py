"""What was learned on one kind of task, tried on others."""

from pathlib import Path
from typing import Any

from rich.table import Table

from innerloop.config import InputError
from innerloop.reports.table import measured, unit
from innerloop.runs.folder import read_results
from innerloop.runs.rescore import choice, evaluation_file, rescore

Results = dict[str, Any]


def cross_domain(runs: list[Path], tasks: list[str], shots: list[int]) -> dict[int, dict[str, dict[str, Results]]]:
    """Results by number of shots, by what was learned, by the task that it was tried on; of all but the task as the run had it.

    runs: their output directories. tasks: choices of the group task. What learns nothing is scored on its own task alone. Scores that are
    there (RUN/evaluations) are taken as they are. Raises InputError where a run is not finished, or a task does not fit its network.
    """
    found: dict[int, dict[str, dict[str, Results]]] = {count: {} for count in shots}
    known = {run: read_results(run / "results.json") for run in runs}
    names = {run: learned_by(results) for run, results in known.items()}
    for run, results in known.items():
        if not results["ways"]:
            raise InputError(f"{run} is of a task without classes, {results['task']}; leave it out")
        alike = list(names.values()).count(names[run]) > 1 and results["outer_steps"]  # what learns nothing fills one row, task by task
        name = f"{names[run]}, {run.name}" if alike else names[run]
        for count in shots:
            row = found[count].setdefault(name, {})
            for task in tasks if results["outer_steps"] else [results["task"]]:
                row[task] = on_task(run, results, task, count)
    return found


def learned_by(results: Results) -> str:
    """What a row is called."""
    learned = f" trained on {results['task']}" if results["outer_steps"] else ", untrained"
    return f"{results['algo']}{learned}, seed {results['seed']}"


def on_task(run: Path, results: Results, task: str, shots: int) -> Results:
    """The run's score on a task of as many ways and queries, from RUN/evaluations if it is there."""
    own = results["config"]["task"]
    overrides = [] if is_own(task, results) else [f"task={task}"]
    overrides += [f"task.ways={own['ways']}", f"task.shots={shots}", f"task.queries={own['queries']}"]
    file = evaluation_file(run, overrides)
    if file.exists() and file.stat().st_mtime > (run / "results.json").stat().st_mtime:
        return read_results(file)
    try:
        return rescore(run, overrides)[0]
    except InputError as error:
        raise InputError(f"{run} on task={task}: {error}") from error


def is_own(task: str, results: Results) -> bool:
    """Whether the choice `task` is what the run was trained on."""
    own = results["config"]["task"]
    if task.replace("_", "") != results["task"].replace("_", ""):
        return False
    return all(choice("task", f"task={task}").get(key) == own.get(key) for key in ("_target_", "unseen"))


def matrix(rows: dict[str, dict[str, Results]], tasks: list[str], shots: int) -> Table:
    """One table: what was learned by what it was tried on."""
    first = next(iter(next(iter(rows.values())).values()))
    title = f"{unit(first['metric'])} (95 % CI) on other tasks: {first['ways']}-way {shots}-shot, {first['episodes']} test episodes"
    table = Table("", *tasks, title=title, title_justify="left")
    for name, row in rows.items():
        table.add_row(name, *(" ".join(measured(row[task], first["metric"])) if task in row else "" for task in tasks))
    return table
