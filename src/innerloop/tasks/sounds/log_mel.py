"""Recordings as pictures of their pitches: log-mel spectrograms."""

import io
import warnings
from functools import cache

import numpy as np
import torch
from scipy.io import wavfile
from torch import Tensor

from innerloop.config import InputError

WINDOW, STEP = 0.032, 0.016  # seconds of a spectrum, and from one to the next
LOUDEST = 1000  # of a sample: those of floats may be a little above 1
QUIET = 1e-6  # added to a power before its logarithm: 60 dB below the loudest that a recording can hold


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
