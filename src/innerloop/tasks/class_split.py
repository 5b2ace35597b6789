"""Which classes are trained on, validated on and tested on."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from innerloop.config import InputError
from innerloop.files import write_whole
from innerloop.tasks.base import SPLITS
from innerloop.tasks.csv_files import read_rows
from innerloop.tasks.places import place_for, places

SHARES = (0.64, 0.16)  # of train and val, as in mini-ImageNet; test has the rest


def published(name: str) -> Traversable:
    return files("innerloop.tasks") / "splits" / f"{name}.csv"


def is_published(name: str) -> bool:
    """Whether splits/ has a split of that name."""
    return published(name).is_file()


def read_split(path: str) -> dict[str, str]:
    """The split of each class, from a CSV file with the columns class and split, or from the published one of that name (splits/).

    Classes with an empty split are in none. Raises InputError where it cannot be read.
    """
    source = published(path) if is_published(path) else Path(path).expanduser()
    where = f"task.split={path}"
    return assigned(((row["class"], row["split"]) for _, row in read_rows(source, where, ("class", "split"))), where)


def assigned(pairs: Iterable[tuple[str, str]], where: str) -> dict[str, str]:
    """The split of each class. Raises InputError where one has another name, or a class has two."""
    found: dict[str, str] = {}
    for name, part in pairs:
        if part not in (*SPLITS, ""):
            raise InputError(f"{where} has class '{name}' in split '{part}'; write train, val, test or nothing")
        if found.setdefault(name, part) != part:
            raise InputError(f"{where} has class '{name}' in split '{found[name]}' and in '{part}'; leave it in one of them")
    return found


def listed(split: dict[str, list[str]] | str | None) -> dict[str, str]:
    """The same of a task's own lists, {train: [...], val: [...], test: [...]}, or of a CSV."""
    if isinstance(split, str):
        return read_split(split)
    if not isinstance(split, Mapping) or not all(isinstance(names, Sequence) for names in split.values()):
        raise InputError(f"task.split={split} must be {{train: [...], val: [...], test: [...]}}, or a CSV with the columns class and split")
    return assigned(((str(name), part) for part, names in split.items() for name in names), "task.split")


def drawn_split(classes: Sequence[str], folder: Path, name: str, seed: int) -> dict[str, str]:
    """The split in the file `name` beside the data in `folder`; where there is none it is drawn from `seed`, and written there.

    Raises InputError where classes came after it was drawn, or are fewer than splits.
    """
    for path in places(folder, name):
        if path.exists():
            split = read_split(str(path))
            if new := set(classes) - split.keys():
                raise InputError(f"{path} does not name class '{min(new)}'; give it a split there, or delete the file to draw all anew")
            if gone := {name for name, part in split.items() if part} - set(classes):
                raise InputError(f"{path} names '{min(gone)}', which is not there; take it out, or delete the file to draw all anew")
            return split
    if len(classes) < len(SPLITS):
        raise InputError(
            f"{folder} has {len(classes)} classes, and train, val and test need one each at least; bring more, or give task.split"
        )
    order = [sorted(classes)[i] for i in np.random.default_rng(seed).permutation(len(classes))]
    train, val = (max(1, round(share * len(order))) for share in SHARES)
    train = min(train, len(order) - val - 1)
    split = dict(zip(order, ["train"] * train + ["val"] * val + ["test"] * len(order), strict=False))
    write_split(place_for(folder, name), split)
    return split


def write_split(path: Path, split: dict[str, str]) -> None:
    """As `read_split` reads it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("class", "split"), *sorted(split.items())])
    write_whole(path, text.getvalue().encode())


def by_split(split: dict[str, str], there: Sequence[str], root: Path) -> dict[str, list[str]]:
    """The classes of train, val and test. Raises InputError where `split` names some that are not `there`, or a part has none."""
    known = set(there)
    missing = [name for name, part in split.items() if part and name not in known]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"task.split names '{missing[0]}'{more}, not to be found in {root}; mend the names, or leave its split empty")
    parts: dict[str, list[str]] = {part: [name for name in there if split.get(name) == part] for part in SPLITS}
    for part, names in parts.items():
        if not names:
            raise InputError(f"{root} has no class for {part}; bring some, or give another split by task.split")
    return parts
