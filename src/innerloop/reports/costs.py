"""What each learner costs, and how far it comes in equal time and on equal tasks."""

import numpy as np
from rich.table import Table

from innerloop.reports.charts import logged
from innerloop.reports.compare import Scored, by_seed
from innerloop.reports.table import NARROW, number, unit


def costs(runs: list[Scored]) -> Table:
    """Finished runs on the same test episodes, a line for each learner, averaged over its seeds.

    Equal time is the shortest training of all: the validation metric there, between two validations, as if all steps took as long.
    """
    groups = {name: list(group.values()) for name, group in by_seed(runs).items()}
    seconds = {name: np.mean([run.results["train_seconds"] for run in group]) for name, group in groups.items() if trained(group)}
    shortest, metric = min(seconds.values(), default=0.0), runs[0].results["metric"]
    columns = [
        "",
        "seconds",
        "tasks",
        f"val, {unit(metric)} after {shortest:.0f} s",
        f"test, {unit(metric)} ± over seeds",
        "MB",
        "adapted",
        "learned",
    ]
    table = Table(*columns, **NARROW)
    for name, group in groups.items():
        values = [run.results["value"] for run in group if run.results["value"] is not None]
        spread = f" ± {number(float(np.std(values, ddof=1)), metric)}" if len(values) > 1 else ""
        at_time = [value for run in group if name in seconds and (value := reached(run, shortest)) is not None]
        sizes = group[0].results.get("parameters") or {}
        table.add_row(
            name,
            f"{seconds[name]:.0f}" if name in seconds else "",
            str(group[0].results["outer_steps"] * group[0].results["config"]["meta_batch_size"]) if name in seconds else "",
            number(float(np.mean(at_time)), metric) if at_time else "",
            f"{number(float(np.mean(values)), metric)}{spread}" if len(values) == len(group) else "diverged",
            f"{np.mean([run.results['peak_memory_mb'] for run in group]):.0f}",
            *(f"{sizes[key]:,}" if key in sizes else "" for key in ("adapted", "meta-learned")),
        )
    return table


def trained(group: list[Scored]) -> bool:
    return all(run.results["train_seconds"] and run.results["outer_steps"] for run in group)


def reached(run: Scored, seconds: float) -> float | None:
    """The validation metric after so long a training; None where it was not logged."""
    steps, values = logged(run).get(f"val/{run.results['metric']}", ([], []))
    times = np.multiply(steps, run.results["train_seconds"] / run.results["outer_steps"])
    return float(np.interp(seconds, times, values)) if len(times) else None
