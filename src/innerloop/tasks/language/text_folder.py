"""Texts of many authors, languages or projects."""

from pathlib import Path, PurePosixPath

import numpy as np

from innerloop.config import InputError, check_count
from innerloop.episode import Episode
from innerloop.tasks.archives import opened
from innerloop.tasks.base import Split
from innerloop.tasks.class_split import by_split, drawn_split, read_split
from innerloop.tasks.language.language import LanguageTasks
from innerloop.tasks.places import place_of
from innerloop.tasks.tokenizers import BYTES, byte_pairs, read_tokenizer


class TextFolder(LanguageTasks):
    """Each folder in `root` is a task, with all files below it; or each file, where there are no folders. Windows of an episode are of one
    task and do not overlap.

    tokenizer: a tokenizer.json, or the folder of one, as language models come with; null makes tokens of `vocabulary` kinds: 256, bytes;
    more, pieces of words too, found by byte-pair encoding in the training tasks alone (UTF-8 then). length: tokens of a window. shots,
    queries: windows in the support and query set. split: a CSV of class,split, where class is a folder's or file's name; null draws one
    from split_seed, 64, 16 and 20 % of the tasks, and writes it beside the data.
    Raises InputError for what is missing, no text, or too short, by its name.
    """

    def __init__(
        self, root: str | None, split: str | None, split_seed: int, tokenizer: str | None, vocabulary: int,
        length: int, shots: int, queries: int,
    ) -> None:  # fmt: skip
        check_count("task.vocabulary", vocabulary, least=BYTES)
        known_tokenizer = read_tokenizer(tokenizer) if tokenizer else None
        super().__init__(known_tokenizer.get_vocab_size() if known_tokenizer else vocabulary, length, shots, queries)
        check_count("task.split_seed", split_seed, least=0)
        folder = place_of(root, "a folder with a folder or a file for each task").resolve()
        if not folder.is_dir():
            raise InputError(f"task.root={root} is a file; it must be a folder with a folder or a file for each task")
        texts = read_folder(folder)
        known = read_split(split) if split else drawn_split(sorted(texts), folder, f"{folder.name}_split{split_seed}.csv", split_seed)
        self.parts = by_split(known, sorted(texts), folder)
        if vocabulary == BYTES and not known_tokenizer:
            self.tokens: dict[str, np.ndarray] = {name: np.frombuffer(text, np.uint8) for name, text in texts.items()}
        else:
            decoded = {name: decode(name, text) for name, text in texts.items()}
            encoder = known_tokenizer or byte_pairs([decoded[name] for name in self.parts["train"]], vocabulary)
            self.tokens = {name: np.array(encoder.encode(text, add_special_tokens=False).ids) for name, text in decoded.items()}
        needed = (shots + queries) * (length + 1)
        for name in sum(self.parts.values(), []):
            if len(self.tokens[name]) < needed:
                raise InputError(
                    f"{folder / name} has {len(self.tokens[name]):,} tokens and an episode takes (shots + queries) * (length + 1) = "
                    f"{needed:,}; lower task.length, or leave it out of the split"
                )

    def contents(self, split: Split) -> dict[str, np.ndarray]:
        return {name: self.tokens[name][: self.input_shape[0]] for name in self.parts[split]}

    def distribution(self, split: Split) -> "Windows":
        return Windows(self, [self.tokens[name] for name in self.parts[split]])


class Windows:
    """Episodes of windows from `texts`, one of them each."""

    def __init__(self, tasks: TextFolder, texts: list[np.ndarray]) -> None:
        self.tasks, self.texts = tasks, texts

    def sample(self, rng: np.random.Generator) -> Episode:
        text = self.texts[rng.integers(len(self.texts))]
        size, count = self.tasks.input_shape[0] + 1, self.tasks.shots + self.tasks.queries
        offset = rng.integers(min(size, len(text) - count * size + 1))
        places = rng.choice((len(text) - offset) // size, count, replace=False)
        return self.tasks.episode(np.stack([text[offset + size * place : offset + size * (place + 1)] for place in places]))


def read_folder(root: Path) -> dict[str, bytes]:
    """The text of each task; of several files one after the other. What a run wrote beside them (*.csv) is passed over."""
    with opened(root, "task.root must be a folder") as (names, read):
        files = [PurePosixPath(name) for name in sorted(names)]
        folders = any(len(file.parts) > 1 for file in files)
        found: dict[str, list[bytes]] = {}
        for file in files:
            if len(file.parts) > 1 or (not folders and file.suffix != ".csv"):
                found.setdefault(file.parts[0], []).append(read(str(file)))
    if not found:
        raise InputError(f"{root} is empty; it must have a folder or a file for each task")
    return {name: b"\n".join(texts) for name, texts in found.items()}


def decode(name: str, text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"the text of {name} is not UTF-8 ({error}); mend it, or take bytes, task.vocabulary={BYTES} without a tokenizer"
        ) from error
