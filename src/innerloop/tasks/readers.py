"""From a raw input (a picture, a sentence, a recording, a row) to what a network takes. A run keeps its reader, and needs no data."""

import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from innerloop.config import InputError
from innerloop.episode import PADDING
from innerloop.tasks.images.seen import as_seen, is_deep
from innerloop.tasks.sounds.log_mel import log_mel, read_wav

MODES = {1: "L", 3: "RGB"}


class Reader(Protocol):
    """kind: its name in a file. suffixes: of the files that hold one input each; none where inputs are rows of a table."""

    kind: ClassVar[str]

    @property
    def suffixes(self) -> tuple[str, ...]: ...

    def read(self, raw: Any, name: str) -> Tensor:
        """One raw input -> what the network takes of it. raw: the bytes of a file, or what Python has for it (see each class).

        Raises InputError, with the name, for what cannot be read or has another shape.
        """
        ...


@dataclass(frozen=True)
class Pictures:
    """Images as (channels, height, width) float32 in [0, 1]: scaled to the size, grey where channels is 1.

    ink: dark strokes on a light ground become bright ones on 0, as characters are learned. bits: that 16-bit images of the training data
    use; None: there were none, and each is taken to use what it needs. raw: bytes of a file that Pillow reads, a PIL
    image, an array (height, width[, 3]) of uint8, or (channels, height, width) of floats that are ready.
    """

    kind: ClassVar[str] = "pictures"
    channels: int
    height: int
    width: int
    ink: bool = False
    bits: int | None = None

    @property
    def suffixes(self) -> tuple[str, ...]:
        return tuple(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN)

    def read(self, raw: Any, name: str) -> Tensor:
        if isinstance(raw, bytes):
            try:
                raw = Image.open(io.BytesIO(raw))
                raw.load()
            except Exception as error:  # a damaged file makes Pillow raise almost anything
                raise InputError(f"{name} cannot be read as an image; replace it or leave it out") from error
        if not isinstance(raw, Image.Image):
            array = np.asarray(raw)
            if array.dtype.kind == "f":
                return self.ready(array, name)
            if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
                raise InputError(
                    f"{name} is {array.dtype} of shape {array.shape}; an image is uint8 (height, width[, 3]), or float of shape "
                    f"{(self.channels, self.height, self.width)}"
                )
            raw = Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)
        if raw.mode in ("I", "F"):
            raise InputError(f"{name} has 32 bits a pixel, of no known range; save it with 8 or 16")
        bits = self.bits or (max(8, int(np.asarray(raw).max()).bit_length()) if is_deep(raw) else 16)
        return torch.from_numpy(self.scaled(as_seen(raw, bits))).float() / 255

    def scaled(self, image: Image.Image) -> np.ndarray:
        """(channels, height, width) uint8, whatever the image's own shape."""
        pixels = np.asarray(image.convert(MODES[self.channels]).resize((self.width, self.height), Image.Resampling.LANCZOS))
        pixels = pixels.reshape(self.height, self.width, self.channels).transpose(2, 0, 1)
        return 255 - pixels if self.ink else pixels.copy()

    def ready(self, array: np.ndarray, name: str) -> Tensor:
        shape = (self.channels, self.height, self.width)
        if array.shape != shape or not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise InputError(f"{name} is of shape {array.shape}; floats must be {shape}, from 0 to 1; uint8 images may have any size")
        return torch.from_numpy(np.array(array, np.float32))


@dataclass(frozen=True)
class Texts:
    """Texts as (length,) int64 ids of tokens. tokenizer: the content of a tokenizer.json. raw: a string, or the bytes of one in UTF-8."""

    kind: ClassVar[str] = "texts"
    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    tokenizer: str
    length: int

    def read(self, raw: Any, name: str) -> Tensor:
        try:
            text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        except UnicodeDecodeError as error:
            raise InputError(f"{name} is no text in UTF-8; convert it or leave it out") from error
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{name} has no text; fill it in or leave it out")
        ids = tokenizer_of(self.tokenizer, self.length).encode(text.strip()).ids
        return torch.tensor(ids + [PADDING] * (self.length - len(ids)))


@cache
def tokenizer_of(content: str, length: int) -> Tokenizer:
    """Texts end in what the tokenizer puts there, also those that are cut off, as in training."""
    made = Tokenizer.from_str(content)
    made.enable_truncation(length)
    made.no_padding()
    return made


@dataclass(frozen=True)
class Recordings:
    """Sounds as log-mel spectrograms (1, mels, frames) float32. raw: the bytes of a .wav file, or samples (n,) in [-1, 1] at that rate."""

    kind: ClassVar[str] = "recordings"
    suffixes: ClassVar[tuple[str, ...]] = (".wav",)
    rate: int
    seconds: float
    mels: int

    def read(self, raw: Any, name: str) -> Tensor:
        samples = round(self.seconds * self.rate)
        if isinstance(raw, bytes):
            wave = read_wav(name, raw, self.rate, samples)
        else:
            wave = np.asarray(raw, np.float32)
            if wave.ndim != 1 or not len(wave) or not (np.abs(wave) <= 1).all():
                raise InputError(f"{name} is of shape {wave.shape}; samples are one row of numbers from -1 to 1, {self.rate} a second")
            wave = np.pad(wave[:samples], (0, max(samples - len(wave), 0)))
        return log_mel(torch.from_numpy(wave), self.rate, self.mels)


@dataclass(frozen=True)
class Numbers:
    """Numbers of a shape as they are, or, of a table, rows scaled to mean 0 and deviation 1 over the training problems.

    columns: what the numbers of a row are called, in their order. raw: an array, a list, or a row of a table by its columns.
    """

    kind: ClassVar[str] = "numbers"
    suffixes: ClassVar[tuple[str, ...]] = ()
    shape: tuple[int, ...]
    columns: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None

    def read(self, raw: Any, name: str) -> Tensor:
        if isinstance(raw, Mapping):
            raw = self.of_row(raw, name)
        try:
            array = np.asarray(raw, np.float64).reshape(self.shape)
        except (TypeError, ValueError) as error:
            found = np.shape(raw) if not isinstance(raw, str | bytes) else "text"
            raise InputError(f"{name} is {found}, and the network takes numbers of shape {self.shape}") from error
        if not np.isfinite(array).all():
            raise InputError(f"{name} has numbers that are missing or infinite; fill them in or leave it out")
        if self.mean:
            array = (array - np.array(self.mean)) / np.array(self.deviation)
        return torch.from_numpy(array.astype(np.float32))

    def of_row(self, row: Mapping[str, Any], name: str) -> list[float]:
        if missing := [column for column in self.columns or () if column not in row]:
            raise InputError(f"{name} has no column {missing[0]}; it needs {', '.join(self.columns or ())}")
        numbers = []
        for column in self.columns or row:
            try:
                numbers.append(float(row[column]))
            except (TypeError, ValueError):
                numbers.append(math.nan)
            if not math.isfinite(numbers[-1]):
                raise InputError(f"{name} has {str(row[column]).strip() or 'nothing'} in the column {column}, which is no number")
        return numbers


class Features(Protocol):
    """A frozen network: inputs (n, ...), images as uint8 or tokens as int64 -> (n, width) float32, always the same under the same `key`.

    vocabulary: how many tokens it knows; 0 where it takes images.
    """

    key: str
    width: int
    vocabulary: int

    def __call__(self, inputs: np.ndarray) -> np.ndarray: ...


class ThroughBackbone:
    """What `reader` reads, as a frozen network sees it: (width,) float32."""

    def __init__(self, reader: Reader, see: Features) -> None:
        self.reader, self.see, self.kind, self.suffixes = reader, see, reader.kind, reader.suffixes

    def read(self, raw: Any, name: str) -> Tensor:
        x = self.reader.read(raw, name)
        inputs = x if self.see.vocabulary else (x * 255).round().to(torch.uint8)
        return torch.from_numpy(self.see(inputs[None].numpy())[0])


KINDS: tuple[Any, ...] = (Pictures, Texts, Recordings, Numbers)


def as_json(reader: Any) -> dict[str, Any]:
    """A reader as it is kept; without what sees for it."""
    if isinstance(reader, ThroughBackbone):
        reader = reader.reader
    return {"kind": reader.kind, **json.loads(json.dumps(asdict(reader)))}


def from_json(kept: Mapping[str, Any]) -> Any:
    """Raises ValueError for what no reader is."""
    cls = next((cls for cls in KINDS if cls.kind == kept.get("kind")), None)
    if cls is None:
        raise ValueError(f"its reader is of no kind that there is ({', '.join(cls.kind for cls in KINDS)})")
    try:
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in kept.items() if key != "kind"})
    except TypeError as error:
        raise ValueError(str(error)) from error
