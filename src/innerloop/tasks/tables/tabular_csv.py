"""Small classification problems from a CSV file."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.config import InputError, check_count
from innerloop.tasks.base import Split
from innerloop.tasks.class_episodes import Classes
from innerloop.tasks.class_split import by_split, drawn_split, read_split
from innerloop.tasks.class_tasks import ClassTasks
from innerloop.tasks.csv_files import check_columns, check_text, read_rows, renamed
from innerloop.tasks.places import place_of
from innerloop.tasks.readers import Numbers

LARGEST = 1e30  # of a number: scaled ones have to fit float32


class TabularCsv(ClassTasks):
    """Rows of numbers (features,) float32 of which a column says the problem and another the class; an episode is of one problem.

    path: a CSV file with the columns task and class; all others are features, scaled to mean 0 and deviation 1 over the training problems.
    columns: what task and class are called in it, {task: patient}.
    split: a CSV of class,split where class is the problem; null draws one from split_seed, 64, 16 and 20 % of the problems, and writes it
    beside the data. Raises InputError for what is missing or no number, by line and column.
    """

    def __init__(
        self, path: str | None, columns: dict[str, str] | None, split: str | None, split_seed: int, **shape: Any,
    ) -> None:  # fmt: skip
        super().__init__(**shape)
        check_count("task.split_seed", split_seed, least=0)
        file = place_of(path, "a CSV file with the columns task, class and one for each feature", key="task.path").resolve()
        problems, labels, rows, features = read_table(file, columns)
        names = sorted(set(problems))
        known = read_split(split) if split else drawn_split(names, file.parent, f"{file.stem}_split{split_seed}.csv", split_seed)
        self.parts = by_split(known, names, file)
        self.members: dict[tuple[str, str], list[int]] = {}
        for row, key in enumerate(zip(problems, labels, strict=True)):
            self.members.setdefault(key, []).append(row)
        trained = rows[np.isin(problems, self.parts["train"])]
        varies = trained.min(0) < trained.max(0)  # the deviation of equal numbers is not quite 0
        mean, deviation = trained.mean(0), np.where(varies, trained.std(0), 1)
        self.rows = ((rows - mean) / deviation).astype(np.float32)
        self.input_shape = (rows.shape[1],)
        self.reader = Numbers(self.input_shape, tuple(features), tuple(mean.tolist()), tuple(deviation.tolist()))

    def classes(self, split: Split) -> Classes:
        problems = set(self.parts[split])
        kept = sorted(key for key in self.members if key[0] in problems)
        members = [np.array(self.members[key]) for key in kept]
        return Classes(self.rows, members, ["/".join(key) for key in kept], groups=[problem for problem, _ in kept])


def read_table(path: Path, columns: dict[str, str] | None) -> tuple[list[str], list[str], np.ndarray, list[str]]:
    """The problem, the class and the features (n, features) of each row; and what the features are called."""
    called = check_columns(columns, ("task", "class"))
    lines = renamed(read_rows(path, str(path), [*called.values()], more=("one for each feature",)), called)
    features = [name for name in lines[0][1] if name not in ("task", "class")]
    if not features:
        raise InputError(f"{path} has no columns but task and class; it needs one for each feature")
    rows = np.array([[number(path, line, name, row[name]) for name in features] for line, row in lines])
    problems, labels = (
        [check_text(row[column], f"the {column} in line {line} of {path}") for line, row in lines] for column in ("task", "class")
    )
    return problems, labels, rows, features


def number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < LARGEST:
        raise InputError(
            f"line {line} of {path} has {text or 'nothing'} in the column {column}, which is no number below {LARGEST:g}; mend or delete it"
        )
    return value
