"""Published numbers beside ours: ledger/cells.yaml says what was published and how to train it, ledger/CELL/*.json what came of it."""

import json
import math
import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from rich.markup import escape
from rich.table import Table
from scipy.stats import t

from innerloop.config import InputError
from innerloop.reports.table import IN_PERCENT, NARROW
from innerloop.training.lightning_settings import accumulated

# of results.json, what a ledger keeps: no paths, no weights
KEPT = (
    "metric", "lower_is_better", "episodes", "episodes_checksum", "curve", "transductive", "seed", "algo", "task", "ways", "shots",
    "queries", "outer_steps", "train_seconds", "eval_seconds", "commit", "versions", "hardware",
)  # fmt: skip
OF_MACHINE = ("seed", "threads", "trainer", "num_workers", "hydra.run.dir", "resume", "task.root", "tags")  # no number hangs on them
SOURCES = {"code": "read in the authors' code or data", "quoted": "quoted by others", "memory": "from memory, not looked up"}


@dataclass(frozen=True)
class Cell:
    """A number of an article.

    published, ci95: accuracy in %. below: where they give no number but an order, the cell whose values are to be higher than this one's;
    neither: a cell to compare others with. answers: how many an accuracy without an interval is of. source: one of SOURCES. rerun: the
    best that others had who ran it again. run: overrides of train.py. evaluate: those of `innerloop eval` after it; None: the test of the
    run itself. step: of adaptation; None: the last. tasks: how many the authors trained on, where they say. ours: the schedule or the
    protocol is not theirs; departs: in what. explained_by: a cell whose difference from this one explains the gap.
    """

    article: str
    run: str
    source: str
    published: float | None = None
    below: str | None = None
    ci95: float | None = None
    answers: int | None = None
    rerun: float | None = None
    evaluate: str | None = None
    step: int | None = None
    tasks: int | None = None
    ours: bool = False
    departs: str = ""
    explained_by: str | None = None

    @property
    def interval(self) -> float:
        """The one they give; that of an accuracy of so many answers; 0 where nothing is known."""
        if self.ci95 is None and self.answers and self.published:
            return 196 * math.sqrt(self.published / 100 * (1 - self.published / 100) / self.answers)
        return self.ci95 or 0.0

    @property
    def claim(self) -> str:
        """What was published, as text."""
        if self.below:
            return f"below {self.below}"
        return "" if self.published is None else f"{self.published:g}" + (f" ± {self.ci95:g}" if self.ci95 else "")


@dataclass(frozen=True)
class Row:
    """A cell and what was found: the value of each seed and its 95 % interval over episodes."""

    name: str
    cell: Cell
    values: list[float]
    intervals: list[float]
    lower_is_better: bool
    tasks: int  # of training, in a seed
    minutes: float  # of training and testing, in a seed
    episodes: int
    machine: str
    commits: list[str]

    @property
    def mean(self) -> float:
        return statistics.mean(self.values)

    @property
    def ci95(self) -> float:
        """Over seeds, where there are some, and episodes together."""
        episodes, seeds = statistics.mean(self.intervals), len(self.values)
        if seeds == 1:
            return episodes
        spread = statistics.stdev(self.values) if math.isfinite(self.mean) else math.nan
        return math.hypot(episodes, t.ppf(0.975, seeds - 1) * spread / math.sqrt(seeds))


def read_cells(folder: Path) -> dict[str, Cell]:
    """Raises InputError where there is no ledger, or what is wrong in it."""
    path = folder / "cells.yaml"
    try:
        cells = yaml.safe_load(path.read_text())
    except OSError:
        raise InputError(f"there is no {path}; stand in a clone of innerloop, or name the folder of a ledger") from None
    found = {}
    for name, about in cells.items():
        try:
            found[name] = Cell(**about)
        except TypeError as error:
            raise InputError(f"{path}, {name}: {error}") from error
        if found[name].source not in SOURCES:
            raise InputError(f"{path}, {name}: source must be one of {', '.join(SOURCES)}")
        for key in ("below", "explained_by"):
            if (other := getattr(found[name], key)) and other not in cells:
                raise InputError(f"{path}, {name}: {key} names no cell, {other}")
    return found


def told_of(command: str, folder: Path) -> list[str]:
    """The cells whose training is what a run's command asks for, whatever the seed and the machine, in a sentence each; none where there is
    no ledger."""
    if not (folder / "cells.yaml").is_file():
        return []

    def settings(text: str) -> list[str]:
        return sorted(word for word in shlex.split(text) if "=" in word and word.partition("=")[0] not in OF_MACHINE)

    asked, rows = settings(command), read_rows(folder)
    return [in_a_sentence(name, cell, rows) for name, cell in read_cells(folder).items() if settings(cell.run) == asked]


def in_a_sentence(name: str, cell: Cell, rows: dict[str, Row | None]) -> str:
    """What was published, and what was found of it."""
    found = "not in the ledger yet"
    if row := rows[name]:
        about = dict(zip(HEAD, columns(row, rows), strict=True))
        found = f"in the ledger {about['ours']}" + (f", {about['verdict']}" if about["verdict"] else "")
    scored = f" (after innerloop eval RUN {cell.evaluate})" if cell.evaluate else ""
    published = f"published {cell.claim}, " if cell.claim else ""
    return f"{name}: {cell.article}; {published}{found}{scored}"


def entry(results: dict[str, Any], command: str) -> dict[str, Any]:
    """What a ledger keeps of results.json."""
    config = results["config"]
    tasks = results["outer_steps"] * accumulated(OmegaConf.create(config)) * config["meta_batch_size"]
    return {"command": command, "tasks": tasks, **{key: results[key] for key in KEPT}}


def read_rows(folder: Path) -> dict[str, Row | None]:
    """Of each cell; None where nobody has run it yet."""
    return {name: row_of(name, cell, sorted((folder / name).glob("*.json"))) for name, cell in read_cells(folder).items()}


def row_of(name: str, cell: Cell, files: list[Path]) -> Row | None:
    entries = [json.loads(file.read_text()) for file in files]
    if not entries:
        return None
    points = [point_at(entry, cell.step, file) for entry, file in zip(entries, files, strict=True)]
    scale = 100 if entries[0]["metric"] in IN_PERCENT else 1

    def of_points(key: str) -> list[float]:
        return [math.nan if point[key] is None else scale * point[key] for point in points]  # None: it diverged

    seconds = [entry["train_seconds"] + entry["eval_seconds"] for entry in entries]
    return Row(
        name, cell,
        of_points("value"), of_points("ci95"), entries[0]["lower_is_better"],
        entries[0]["tasks"], statistics.mean(seconds) / 60, entries[0]["episodes"],
        ", ".join(dict.fromkeys(of.split(",")[0] for entry in entries for of in entry["hardware"].split(", then "))),
        list(dict.fromkeys(short(entry["commit"]) for entry in entries)),
    )  # fmt: skip


def short(commit: str | None) -> str:
    """Of a commit; code that was edited since does not pass for it."""
    return "unknown" if commit is None else commit[:7] + "+changes" * ("+changes" in commit)


def point_at(entry: dict[str, Any], step: int | None, file: Path) -> dict[str, float]:
    found = [point for point in entry["curve"] if step is None or point["step"] == step]
    if not found:
        raise InputError(f"{file} has no step {step}")
    return found[-1]


def verdict(row: Row, rows: dict[str, Row | None]) -> str:
    """reproduced: within both intervals, as the authors trained and scored, on no fewer tasks. reached: within them by a recipe of ours.
    above: better than they say. explained: worse, and the ablation makes up for as much. open: else. Of an order: reproduced where the
    difference is beyond both intervals; nothing while there is no other row."""
    cell = row.cell
    if not math.isfinite(row.mean):  # it diverged
        return "open"
    if cell.below:
        higher = rows.get(cell.below)
        if higher is None:
            return ""
        return on_their_terms(row) if higher.mean - row.mean > math.hypot(higher.ci95, row.ci95) else "open"
    if cell.published is None:
        return ""
    worse = (row.mean - cell.published) * (1 if row.lower_is_better else -1)
    if abs(worse) <= math.hypot(cell.interval, row.ci95):
        return on_their_terms(row)
    if worse < 0:
        return "above"
    other = rows.get(cell.explained_by) if cell.explained_by else None
    return "explained" if other and abs(other.mean - row.mean) >= worse else "open"


def on_their_terms(row: Row) -> str:
    """What a row is called that is as they say."""
    return "reached" if row.cell.ours or (row.cell.tasks and row.tasks < row.cell.tasks) else "reproduced"


def columns(row: Row, rows: dict[str, Row | None]) -> list[str]:
    """A row as text: HEAD."""
    cell, digits = row.cell, 2 if max(map(abs, row.values)) >= 1 else 3
    ours = f"{row.mean:.{digits}f} ± {row.ci95:.{digits}f}"
    seeds = ", ".join(f"{value:.{digits}f}" for value in row.values) if len(row.values) > 1 else "one seed"
    seen = f"{row.tasks:,}" + (f" of {cell.tasks:,}" if cell.tasks else "")
    return [
        row.name, cell.article, cell.claim, cell.source, "" if cell.rerun is None else f"{cell.rerun:g}", ours, seeds, verdict(row, rows),
        seen, f"{row.minutes:.0f}" if row.minutes >= 1 else "< 1", row.machine, ", ".join(row.commits),
    ]  # fmt: skip


def unfilled(rows: dict[str, Row | None]) -> list[str]:
    """Names of the cells that nobody has run yet."""
    return [name for name, row in rows.items() if row is None]


HEAD = ["cell", "article", "published", "source", "rerun", "ours", "each seed", "verdict", "training tasks", "minutes", "machine", "commit"]


def ledger_table(rows: dict[str, Row | None]) -> Table:
    table = Table(**NARROW)
    for column in HEAD:
        table.add_column(column, overflow="fold")
    for row in rows.values():
        if row:
            table.add_row(*map(escape, columns(row, rows)))
    return table


def markdown(rows: dict[str, Row | None], of: list[str], names: list[str] | None = None) -> str:
    """The columns `of` HEAD, of the rows that there are, or of those of these names."""
    lines = [of, ["---"] * len(of)]
    shown = [row for name, row in rows.items() if row and (names is None or name in names)]
    lines += [[dict(zip(HEAD, columns(row, rows), strict=True))[column] for column in of] for row in shown]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
