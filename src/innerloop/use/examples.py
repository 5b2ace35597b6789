"""Examples as people have them: folders, tables, arrays, lists. Read one by one, so that a bad one is named and the others serve."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from innerloop.config import InputError
from innerloop.tasks.archives import opened
from innerloop.tasks.csv_files import read_rows

REMEDY = "name a folder, a zip of one, a CSV file, or give arrays"
CLASS, TARGETS = "class", ("y",)


class Example(NamedTuple):
    """name: what it is called in a list of answers. x: what the network takes, or None, and then `reason` says why. label: where known."""

    name: str
    x: Tensor | None
    label: Any = None
    reason: str = ""


class Source(NamedTuple):
    """Raw inputs with their names and labels (None where they have none)."""

    name: str
    raw: Any
    label: Any


def read_examples(reader: Any, data: Any, y: Any = None) -> Iterator[Example]:
    """data: a folder or zip of files (of folders by class: their names are the labels), a CSV file, a data frame, or one raw input after
    the other; y: their labels then. Raises InputError for what is none of these, and where labels and inputs are not as many."""
    for name, raw, label in sources_of(reader, data, y):
        try:
            yield Example(name, reader.read(raw() if callable(raw) else raw, name), label)
        except InputError as error:
            yield Example(name, None, label, str(error))


def sources_of(reader: Any, data: Any, y: Any) -> Iterator[Source]:
    if isinstance(data, str | Path):
        if y is not None:
            raise InputError(f"{data} is a file or a folder, which has its labels itself; leave y out")
        return of_path(reader, Path(data).expanduser())
    if hasattr(data, "columns") and hasattr(data, "to_dict"):  # a data frame
        rows = [(f"row {row}", {str(k): v for k, v in cells.items()}) for row, cells in enumerate(data.to_dict("records"))]
        return with_labels(of_rows(reader, rows, None), y)
    return with_labels(of_sequence(reader, data), y)


def of_path(reader: Any, path: Path) -> Iterator[Source]:
    if not path.exists():
        raise InputError(f"{path} is not there; {REMEDY}")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        rows = [(f"line {line}", row) for line, row in read_rows(path, str(path), [])]
        yield from of_rows(reader, rows, path.parent)
    elif path.is_dir() or suffix == ".zip":
        yield from of_folder(reader, path)
    elif suffix in reader.suffixes:
        yield Source(path.name, path.read_bytes(), None)
    else:
        raise InputError(f"{path} is no {what(reader)}; {REMEDY}")


def what(reader: Any) -> str:
    kinds = reader.suffixes
    return f"file of {reader.kind} ({', '.join(kinds[:4])}{', ...' if len(kinds) > 4 else ''})" if kinds else "CSV file"


def of_folder(reader: Any, path: Path) -> Iterator[Source]:
    """Each file, with the folder that it is in for a label."""
    if not reader.suffixes:
        raise InputError(f"{path} is a folder, and this run takes rows of numbers; name a CSV file, or give arrays")
    with opened(path, REMEDY) as (names, read):
        names = sorted(name for name in names if PurePosixPath(name).suffix.lower() in reader.suffixes)
        if not names:
            raise InputError(f"{path} has no {what(reader)}; {REMEDY}")
        folders = [PurePosixPath(name).parent for name in names]
        outer = os.path.commonpath(folders) if len(set(folders)) > 1 else ""  # as that of a zip, in which its folders lie
        for name, folder in zip(names, folders, strict=True):
            label = str(folder.relative_to(outer))
            yield Source(name, lambda name=name: read(name), None if label == "." else label)


def of_rows(reader: Any, rows: Sequence[tuple[str, Mapping[str, Any]]], folder: Path | None) -> Iterator[Source]:
    """Rows of a table: of a text, of a file beside the table, or of numbers; and, where there is such a column, their class, or their y."""
    columns = list(rows[0][1]) if rows else []
    targets = [column for column in columns if column in TARGETS or column.startswith("y_")]
    for name, row in rows:
        values = [row[column] for column in targets]
        label = row[CLASS] if CLASS in row else values[0] if len(values) == 1 else values or None
        if reader.kind == "texts":
            needed(columns, "text")
            yield Source(name, row["text"], label)
        elif reader.suffixes:
            needed(columns, "file")
            place = Path(row["file"]) if folder is None else folder / row["file"]
            yield Source(row["file"], lambda place=place: read_file(place), label)
        else:
            own = reader.columns or [column for column in columns if column not in (CLASS, *targets)]
            yield Source(name, {column: row[column] for column in own if column in row}, label)


def needed(columns: Sequence[str], column: str) -> None:
    if column not in columns:
        raise InputError(f"the table has no column {column}; it has {', '.join(columns)}")


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error


def of_sequence(reader: Any, data: Any) -> Iterator[Source]:
    """One raw input after the other; paths among them are read (a string is one, where inputs are files and no texts)."""
    paths = (str, Path) if reader.suffixes and reader.kind != "texts" else (Path,)
    if not isinstance(data, Iterable) or isinstance(data, Mapping | bytes):
        raise InputError(f"a {type(data).__name__} is no list of examples; {REMEDY}")
    for number, raw in enumerate(data):
        if isinstance(raw, paths):
            yield Source(str(raw), lambda raw=raw: read_file(Path(raw).expanduser()), None)
        else:
            yield Source(str(number), raw.numpy() if isinstance(raw, Tensor) else raw, None)


def with_labels(sources: Iterator[Source], y: Any) -> Iterator[Source]:
    if y is None:
        yield from sources
        return
    labels = y.numpy() if isinstance(y, Tensor) else np.asarray(y)
    count = 0
    for source in sources:
        if count < len(labels):
            yield source._replace(label=labels[count])
        count += 1
    if count != len(labels):
        raise InputError(f"there are {count} examples and {len(labels)} labels; give one for each")


def stacked(examples: Sequence[Example]) -> Tensor:
    """The inputs of those that could be read, (n, ...)."""
    return torch.stack([example.x for example in examples if example.x is not None])
