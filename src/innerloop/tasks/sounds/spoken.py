"""Few-shot classification of recorded words."""

import hashlib
import io
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from scipy.io import wavfile
from torch import Tensor

from innerloop.config import InputError, check_choice, check_count, check_positive
from innerloop.tasks.archives import opened, with_progress_bar
from innerloop.tasks.base import Split
from innerloop.tasks.class_episodes import Classes
from innerloop.tasks.class_split import by_split, listed
from innerloop.tasks.class_tasks import ClassTasks
from innerloop.tasks.csv_files import check_columns, read_rows, renamed
from innerloop.tasks.places import place_of
from innerloop.tasks.prepared import Unprepared, load_prepared

REMEDY = "task.root must be a folder or a zip of .wav files"
WINDOW, STEP = 0.032, 0.016  # seconds of a spectrum, and from one to the next
LOUDEST = 1000  # of a sample: those of floats may be a little above 1
QUIET = 1e-6  # added to a power before its logarithm: 60 dB below the loudest that a recording can hold


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
        seconds: float, mels: int,
        ways: int, shots: int, queries: int, train_ways: int, train_shots: int, train_queries: int,
    ) -> None:  # fmt: skip
        super().__init__(ways, shots, queries, train_ways, train_shots, train_queries)
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
        self.unseen = unseen
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
    rows = [row for _, row in renamed(read_rows(Path(table).expanduser(), f"task.table={table}", [*called.values()]), called)]
    files, there = [row["file"] for row in rows], set(names)
    for file in files:
        if file not in there:
            raise InputError(f"task.table={table} names {file}, which is not in {root}; mend the name or delete the row")
    if len(set(files)) < len(files):
        twice = next(file for i, file in enumerate(files) if file in files[:i])
        raise InputError(f"task.table={table} names {twice} twice; delete one of its rows")
    return [Recording(row["file"], row["class"], row["speaker"]) for row in rows]


def read_wav(name: str, content: bytes, rate: int, samples: int) -> np.ndarray:
    """(samples,) float32 in [-1, 1], from the beginning; several channels as their mean."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that hold no sound
            warnings.filterwarnings("error", "Reached EOF prematurely")
            found, wave = wavfile.read(io.BytesIO(content))
    except Exception as error:  # whatever damaged bytes lead to
        raise InputError(f"{name} cannot be read as a .wav file; replace it or leave it out") from error
    if found != rate:
        raise InputError(f"{name} has {found} samples a second and task.rate={rate}; set task.rate, or convert the file")
    if not len(wave):
        raise InputError(f"{name} is of zero length; leave it out")
    wave = in_unit_range(wave.reshape(len(wave), -1)[:samples]).mean(1)
    if not (np.abs(wave) <= LOUDEST).all():
        raise InputError(f"{name} has samples that are no numbers from -1 to 1; replace it or leave it out")
    return np.pad(wave, (0, samples - len(wave))).astype(np.float32)


def in_unit_range(wave: np.ndarray) -> np.ndarray:
    """8 bits are from 0 to 255, other whole numbers on both sides of 0; floats are in [-1, 1] already."""
    if wave.dtype == np.uint8:
        return (wave - 128.0) / 128
    return wave / -float(np.iinfo(wave.dtype).min) if wave.dtype.kind == "i" else wave


def log_mel(wave: Tensor, rate: int, mels: int) -> Tensor:
    """(samples,) -> (1, mels, frames), of mean 0 and deviation 1; high pitches first, which is up in a picture."""
    length = round(WINDOW * rate)
    spectrum = torch.stft(wave, length, round(STEP * rate), window=torch.hann_window(length), return_complex=True, pad_mode="constant")
    powers = mel_filters(rate, length, mels) @ spectrum.abs().square()
    logs = (powers + QUIET).log().flip(0)
    return ((logs - logs.mean()) / (logs.std() + 1e-6)).unsqueeze(0)


@cache
def mel_filters(rate: int, length: int, mels: int) -> Tensor:
    """Triangles of equal width on the mel scale, 2595 log10(1 + f / 700) (O'Shaughnessy 1987; as HTK): (mels, length // 2 + 1)."""
    frequencies = np.linspace(0, rate / 2, length // 2 + 1)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), mels + 2) / 2595) - 1)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    return torch.from_numpy(np.clip(np.minimum(rising, falling), 0, None)).float()
