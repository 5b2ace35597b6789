"""Few-shot classification of recorded words."""

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch

from innerloop.config import InputError, check_choice, check_count, check_positive
from innerloop.tasks.archives import opened, with_progress_bar
from innerloop.tasks.base import Split
from innerloop.tasks.class_episodes import Classes
from innerloop.tasks.class_split import by_split, listed
from innerloop.tasks.class_tasks import ClassTasks
from innerloop.tasks.csv_files import check_columns, check_text, read_rows, renamed
from innerloop.tasks.places import place_of
from innerloop.tasks.prepared import Unprepared, load_prepared
from innerloop.tasks.readers import Recordings
from innerloop.tasks.sounds.log_mel import WINDOW, log_mel, read_wav

REMEDY = "task.root must be a folder or a zip of .wav files"


class Recording(NamedTuple):
    file: str
    word: str
    speaker: str


class Spoken(ClassTasks):
    """Words as log-mel spectrograms (1, mels, frames) float32, each recording's of mean 0 and deviation 1; frames are 16 ms apart.

    root: a folder or zip of .wav files. table: a CSV with the columns file, class and speaker; null reads class_speaker_index.wav from the
    names. columns: what these are called in it. unseen: "speaker", an episode is of one speaker, and those of val and test do not occur in
    training; "class", the words do not. split: the train, val and test lists of speakers (or words). rate: of all recordings, in Hz.
    seconds: longer ones are cut there, shorter ones followed by silence. Raises InputError for what is missing, damaged or does not fit,
    by the file's name.
    """

    def __init__(
        self, root: str | None, table: str | None, columns: dict[str, str] | None, unseen: str, split: dict[str, list[str]], rate: int,
        seconds: float, mels: int, **shape: Any,
    ) -> None:  # fmt: skip
        super().__init__(**shape)
        check_choice("task.unseen", unseen, ("speaker", "class"))
        check_count("task.rate", rate, least=1000)
        check_count("task.mels", mels)
        check_positive("task.seconds", seconds)
        if seconds < WINDOW:
            raise InputError(f"task.seconds={seconds} is shorter than a spectrum, {WINDOW}; raise it")
        path = place_of(root, "a folder or a zip of .wav files")
        with opened(path, REMEDY) as (names, _):
            self.recordings = in_table(path, table, columns, names) if table else named(path, names)
        files = [recording.file for recording in self.recordings]
        which = hashlib.sha256("\n".join(files).encode()).hexdigest()[:8]

        def sources() -> list[Path]:
            return [path / file for file in files] if path.is_dir() else [path]

        self.inputs = load_prepared(
            path if path.is_dir() else path.parent,
            f"{path.stem}_{which}_{rate}hz_{seconds}s_{mels}mels.prepared",
            sources,
            sources,
            lambda _: prepare(path, files, rate, seconds, mels),
        ).images
        self.unseen, self.reader = unseen, Recordings(rate, seconds, mels)
        self.input_shape = self.inputs.shape[1:]
        there = sorted({r.speaker if unseen == "speaker" else r.word for r in self.recordings})
        self.parts = by_split(listed(split), there, path)

    def classes(self, split: Split) -> Classes:
        by_speaker = self.unseen == "speaker"
        rows: dict[tuple[str, str], list[int]] = {}
        for row, r in enumerate(self.recordings):
            rows.setdefault((r.speaker if by_speaker else "", r.word), []).append(row)
        kept = sorted(key for key in rows if key[0 if by_speaker else 1] in self.parts[split])
        members = [np.array(rows[key]) for key in kept]
        names = [f"{word}/{speaker}" if speaker else word for speaker, word in kept]
        return Classes(self.inputs, members, names, groups=[speaker for speaker, _ in kept] if by_speaker else None)


def prepare(root: Path, files: list[str], rate: int, seconds: float, mels: int) -> Unprepared:
    """The spectrogram of each file."""
    samples = round(seconds * rate)
    shape = (len(files), *log_mel(torch.zeros(samples), rate, mels).shape)

    def spectrograms() -> Iterator[np.ndarray]:
        with opened(root, REMEDY) as (_, read):
            for file in with_progress_bar(files, "recordings (once)", len(files)):
                wave = read_wav(f"{file} in {root}", read(file), rate, samples)
                yield log_mel(torch.from_numpy(wave), rate, mels).numpy()

    return Unprepared(shape, spectrograms(), {}, "<f4")


def named(root: Path, names: list[str]) -> list[Recording]:
    """What the names of the files say: class_speaker_index.wav."""
    found = [Recording(name, *parts[:2]) for name in sorted(names) if len(parts := PurePosixPath(name).stem.split("_")) == 3]
    found = [recording for recording in found if recording.file.lower().endswith(".wav")]
    if not found:
        raise InputError(f"{root} has no files named class_speaker_index.wav; name a table of file, class and speaker (task.table)")
    return found


def in_table(root: Path, table: str, columns: dict[str, str] | None, names: list[str]) -> list[Recording]:
    """What a CSV file says of the files in `root`; others there are passed over."""
    called = check_columns(columns, ("file", "class", "speaker"))
    lines = list(renamed(read_rows(Path(table).expanduser(), f"task.table={table}", [*called.values()]), called))
    rows = [{key: check_text(row[key], f"the {key} in line {line} of {table}") for key in called} for line, row in lines]
    files, there = [row["file"] for row in rows], set(names)
    for file in files:
        if file not in there:
            raise InputError(f"task.table={table} names {file}, which is not in {root}; mend the name or delete the row")
    if len(set(files)) < len(files):
        twice = next(file for i, file in enumerate(files) if file in files[:i])
        raise InputError(f"task.table={table} names {twice} twice; delete one of its rows")
    return [Recording(row["file"], row["class"], row["speaker"]) for row in rows]
