"""Results as tables on the terminal."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from innerloop.config import InputError
from innerloop.reports.jobs import sweep_rows
from innerloop.runs.folder import Results

NARROW: Any = {"box": box.SIMPLE_HEAD, "padding": (0, 0), "pad_edge": False}  # for tables of many columns
IN_PERCENT = ("accuracy",)  # as the field writes it; files have fractions
TOLD = (0, 1, 3, 5, 10)  # of the adaptation steps, those that a table shows besides every tenth and the last; results.json has all


def show(table: RenderableType) -> None:
    """Prints a table, wide where the output is no terminal."""
    console = Console()
    console = console if console.is_terminal else Console(width=200)
    console.print(table)


def as_text(table: Table) -> str:
    """For a file."""
    console = Console(width=200, color_system=None, file=io.StringIO())
    console.print(table)
    return f"\n{console.file.getvalue().rstrip()}"  # type: ignore[attr-defined]


def results_table(results: Results) -> Table:
    """The metric of one run after each number of adaptation steps."""
    where = f"{results['algo']} on {results['task']}, {results['episodes']} test episodes"
    table = Table(title=escape(where), title_justify="left")
    for column in ("adaptation steps", unit(results["metric"]), "95 % CI"):
        table.add_column(column, justify="right")
    for point in results["curve"]:
        if point["step"] in TOLD or point["step"] > TOLD[-1] or point is results["curve"][-1]:
            table.add_row(str(point["step"]), *measured(point, results["metric"]))
    return table


def sweep_table(directory: Path, sort: str | None = None) -> RenderableType:
    """`sweep_rows` to be read. A job's column ends its folder's name; what there is to say of those without results stands below."""
    rows = sweep_rows(directory, sort)
    table = Table(**NARROW)
    results = ("job", "metric", "value", "ci95", "val_loss", "mean", "std", "seeds", "remark")
    settings = [column for column in rows[0] if column not in results]
    several = any(row["std"] is not None for row in rows)
    metrics = {row["metric"] for row in rows if row["metric"]}
    (metric,) = metrics if len(metrics) == 1 else [""]
    for column in (*map(last_of(settings), settings), "val/loss", f"{unit(metric) or 'test'}, 95 % CI", *["seeds, ± std"] * several):
        table.add_column(column, no_wrap=True)
    table.add_column("job", overflow="fold")
    for row in rows:
        there = row["metric"]
        scored = " ".join(measured(row, there)) if there and metric else stated(row, there) if there else row["remark"].partition(":")[0]
        spread = f"{number(row['mean'], there)} ± {number(row['std'], there)}" if there and row["std"] is not None else ""
        cells = (*(short(row[column]) for column in settings), number(row["val_loss"]), scored, *[spread] * several, ending(row["job"]))
        table.add_row(*map(escape, cells))  # brackets are rich's markup
    remarks = [f"{ending(row['job'])} {row['remark']}" for row in rows if ":" in row["remark"]]
    return Group(Text(f"{directory}: {counts(rows)}"), table, *map(Text, remarks))  # a title of the table would be broken at its width


def ending(job: str) -> str:
    """What tells a job's folder from the others: maml-sinusoid-e7468d65 -> *e7468d65, as a shell finds it."""
    found = re.fullmatch(r"[\w-]+-([0-9a-f]{8})", job)
    return f"*{found[1]}" if found else job


def last_of(keys: list[str]) -> Callable[[str], str]:
    """What heads the column of a setting: the last part of its key, where no other one ends so."""
    ends = [key.rpartition(".")[2] for key in keys]
    return lambda key: key.rpartition(".")[2] if ends.count(key.rpartition(".")[2]) == 1 else key


def counts(rows: list[dict[str, Any]]) -> str:
    """How many jobs are finished, failed, ..."""
    ends = [("finished" if row["metric"] else row["remark"].partition(":")[0]) for row in rows]
    number = {end: ends.count(end) for end in ("finished", "failed", "diverged", "pruned")}
    number["unfinished"] = len(rows) - sum(number.values())
    return ", ".join(f"{count} {end}" for end, count in number.items() if count or end in ("finished", "failed"))


def write_csv(directory: Path, path: Path, sort: str | None = None) -> None:
    """`sweep_rows` as a file for other programs."""
    rows = sweep_rows(directory, sort)
    try:
        file = path.open("w", newline="")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; name another file") from error
    with file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def measured(point: dict[str, Any], metric: str) -> tuple[str, str]:
    """Value and interval as text; null is what diverged."""
    return ("diverged", "") if point["value"] is None else (number(point["value"], metric), f"± {number(point['ci95'], metric)}")


def number(value: float | None, metric: str = "") -> str:
    """Four decimals, or two of a percentage; of what exploded, its size."""
    if value is None:
        return ""
    if metric in IN_PERCENT:
        return f"{100 * value:.2f}"
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.1e}"


def stated(point: dict[str, Any], metric: str) -> str:
    """In a sentence: accuracy 83.12 ± 0.73 %."""
    percent = " %" if metric in IN_PERCENT and point["value"] is not None else ""
    return f"{metric} {' '.join(measured(point, metric)).strip()}{percent}"


def unit(metric: str) -> str:
    """A metric as tables and charts head it: "accuracy, %"."""
    return f"{metric}, %" if metric in IN_PERCENT else metric


def short(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
