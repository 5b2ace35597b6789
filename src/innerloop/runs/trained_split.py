"""The split that a run was trained on, kept in its directory: files of splits may be edited, and nothing trained on may be tested on."""

import csv
import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from innerloop.config import InputError
from innerloop.files import write_whole
from innerloop.runs.settings import load_config
from innerloop.tasks.base import SPLITS, Tasks
from innerloop.tasks.csv_files import read_rows

FILE = "split.csv"
COLUMNS = ("class", "split", "content")
PLACES = ("root", "path", "table")  # settings of a task that say where its data are


class Part(NamedTuple):
    """A class (or text) of a split. content: a digest of an example of it."""

    name: str
    split: str
    content: str


def parts_of(tasks: Tasks) -> list[Part]:
    """All of them; none where tasks are drawn by a formula."""
    return [
        Part(name, split, hashlib.blake2b(np.ascontiguousarray(example).tobytes(), digest_size=8).hexdigest())
        for split in SPLITS
        for name, example in tasks.contents(split).items()
    ]


def keep_split(run: Path, tasks: Tasks, force: bool) -> None:
    """Writes RUN/split.csv. Raises InputError where what was trained so far had another split."""
    path, parts = run / FILE, parts_of(tasks)
    if not parts:
        return
    if path.exists() and any(run.glob("checkpoints/*.ckpt")) and not force and names(read_parts(path)) != names(parts):
        raise InputError(f"train, val and test are not those that this run began with, which are in {path}; put them back")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *parts])
    rank_zero_only(write_whole)(path, text.getvalue().encode())


def read_parts(path: Path) -> list[Part]:
    return [Part(*(row[column] for column in COLUMNS)) for _, row in read_rows(path, str(path), COLUMNS)]


def names(parts: list[Part]) -> set[tuple[str, str]]:
    return {(part.name, part.split) for part in parts}


def check_unseen(run: Path, task: DictConfig, tasks: Tasks) -> None:
    """Raises InputError where the run was trained on a class that is in the test split now: one of the same name in the same data, or of
    the same content anywhere. What the run itself had in both splits (MNIST's digits) is let through."""
    path = run / FILE
    if not path.exists():
        return
    own = read_parts(path)
    tested = {part.name for part in own if part.split == "test"}
    trained = {part.name: part.content for part in own if part.split == "train" and part.name not in tested}
    contents = set(trained.values()) - {part.content for part in own if part.split == "test"}
    same_data = same_place(load_config(run).task, task)
    for part in parts_of(tasks):
        if part.split == "test" and (part.content in contents or (same_data and part.name in trained)):
            raise InputError(f"'{part.name}' would be tested on, and {run} was trained on it ({path} has the split); put the split back")


def same_place(one: DictConfig, other: DictConfig) -> bool:
    """Whether two tasks read their data from one place, however it is spelt."""
    places = [[Path(str(task[key])).expanduser().resolve() for key in PLACES if task.get(key)] for task in (one, other)]
    return bool(places[0]) and places[0] == places[1]
