"""Few-shot classification of the texts in a CSV file."""

from pathlib import Path
from typing import Any

from innerloop.config import check_count
from innerloop.tasks.class_split import by_split, drawn_split, read_split
from innerloop.tasks.csv_files import check_columns, check_text, read_rows, renamed
from innerloop.tasks.places import place_of
from innerloop.tasks.texts.texts import Texts


class TextCsv(Texts):
    """A CSV file with the columns text and class. columns: what these are called in it, {text: utterance, class: intent}.

    split: a CSV of class,split; null draws one from split_seed, 64, 16 and 20 % of the classes, and writes it beside the data.
    tokenizer, vocabulary, length: as Texts. Raises InputError for what is missing, empty or not UTF-8, by its line.
    """

    def __init__(
        self, path: str | None, columns: dict[str, str] | None, split: str | None, split_seed: int, tokenizer: str | None,
        vocabulary: int, length: int, **shape: Any,
    ) -> None:  # fmt: skip
        check_count("task.split_seed", split_seed, least=0)
        file = place_of(path, "a CSV file with the columns text and class", key="task.path").resolve()
        texts = read_texts(file, columns)
        names = sorted({name for _, name in texts})
        known = read_split(split) if split else drawn_split(names, file.parent, f"{file.stem}_split{split_seed}.csv", split_seed)
        parts = by_split(known, names, file)
        super().__init__(texts, parts, tokenizer, vocabulary, length, **shape)


def read_texts(path: Path, columns: dict[str, str] | None) -> list[tuple[str, str]]:
    """Each text with its class."""
    called = check_columns(columns, ("text", "class"))
    return [
        (check_text(row["text"], f"line {line} of {path}"), check_text(row["class"], f"the class in line {line} of {path}"))
        for line, row in renamed(read_rows(path, str(path), [*called.values()]), called)
    ]
