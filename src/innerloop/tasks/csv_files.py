"""Tables that users bring."""

import csv
import io
from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path

from innerloop.config import InputError


def read_rows(source: Path | Traversable, name: str, columns: Sequence[str], more: Sequence[str] = ()) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file in UTF-8 by the names in its first line, each with its line (its last one, where a cell has several).

    name: what errors call it. columns: that it must have. more: others, in words. Raises InputError where the file cannot be read,
    lacks a column, has no row, or a row has fewer or more cells than the first line.
    """
    *others, last = [*columns, *more] or ["a name"]
    wanted = f"the columns {', '.join(others)} and {last}" if others else f"a column {last}" if columns else "names in its first line"
    wanted += ", and a row for each example"
    try:
        text = source.read_text(encoding="utf-8-sig")  # Excel begins its files with a mark
        csv.field_size_limit(2**30)  # a text may be a book
        reader = csv.DictReader(io.StringIO(text), strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name} cannot be read as a CSV file in UTF-8 ({error}); it must have {wanted}") from error
    header = list(reader.fieldnames or [])
    if not rows or not {*columns} <= {*header}:
        there = f"; it has {', '.join(header)}, and task.columns says what they are" if header else ""
        raise InputError(f"{name} must have {wanted}{there}")
    if doubtful := [i for i, column in enumerate(header) if not column.strip() or column in header[:i]]:
        raise InputError(f"column {doubtful[0] + 1} of {name} has no name of its own in the first line; name it, or delete the column")
    for line, row in rows:
        if None in row or None in row.values():
            many = "more" if None in row else "fewer"
            raise InputError(f"line {line} of {name} has {many} cells than its first line; put text with commas into quotes")
    return rows


def renamed(rows: list[tuple[int, dict[str, str]]], columns: Mapping[str, str]) -> list[tuple[int, dict[str, str]]]:
    """The same rows under our names of their columns. columns: ours and the file's, {"text": "utterance"}."""
    own = {name: ours for ours, name in columns.items()}
    names = {name: own.get(name, f"{name} (of the file)" if name in columns else name) for name in rows[0][1]}
    return [(line, {names[name]: cell for name, cell in row.items()}) for line, row in rows]


def check_columns(columns: Mapping[str, str] | None, wanted: Sequence[str]) -> dict[str, str]:
    """Of each column that a task needs, its name in the file. Raises InputError for others, and for one name twice."""
    given = {str(own): str(name) for own, name in (columns or {}).items()}
    if strange := sorted(given.keys() - {*wanted}):
        raise InputError(f"task.columns.{strange[0]} is none of {', '.join(wanted)}; say what these are called in the file")
    found = {name: given.get(name, name) for name in wanted}
    if len(set(found.values())) < len(found):
        raise InputError(f"task.columns names one column twice: {', '.join(f'{own} is {name}' for own, name in found.items())}")
    return found


def check_text(text: str, where: str) -> str:
    """The text, less the space around it. Raises InputError where nothing is left."""
    if not text.strip():
        raise InputError(f"{where} has no text; fill it in or delete it")
    return text.strip()
