"""Small data of every kind, made up, for tasks that read files."""

import csv
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import wavfile


def picture(seed: int, side: int = 12) -> bytes:
    """A colour PNG whose pixels are drawn from `seed`."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 4, 3), dtype=np.uint8)
    content = BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def image_files(classes: int = 20, each: int = 4, below: str = "") -> dict[str, bytes]:
    """By path: class00/image0.png and so on, below a folder."""
    return {f"{below}class{c:02}/image{i}.png": picture(100 * c + i) for c in range(classes) for i in range(each)}


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_csv(path: Path, rows: list[tuple[object, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def table(problems: int = 20, classes: int = 2, each: int = 6, features: int = 3) -> list[tuple[object, ...]]:
    """The rows of a CSV file of tabular problems, with its heading."""
    rng = np.random.default_rng(0)
    named = [(f"problem{p}", f"c{c}") for p in range(problems) for c in range(classes) for _ in range(each)]
    return [("task", "class", *(f"f{i}" for i in range(features))), *((*name, *rng.normal(size=features).round(3)) for name in named)]


def texts(classes: int = 20, each: int = 4) -> list[tuple[object, ...]]:
    """The rows of a CSV file of texts, with its heading."""
    words = "the a red blue Old new cat dog house tree sings Walks over under my your".split()
    rng = np.random.default_rng(0)
    return [("text", "class"), *((" ".join(rng.choice(words, 5)), f"class{c:02}") for c in range(classes) for _ in range(each))]


def wav(pitch: float, seed: int, rate: int = 8000, seconds: float = 0.1) -> bytes:
    """A tone of `pitch` Hz in noise, 16 bits."""
    time = np.arange(round(rate * seconds)) / rate
    wave = 0.5 * np.sin(2 * np.pi * pitch * time) + 0.05 * np.random.default_rng(seed).normal(size=len(time))
    content = BytesIO()
    wavfile.write(content, rate, (wave * 20000).astype(np.int16))
    return content.getvalue()


def wav_files(each: int = 4) -> dict[str, bytes]:
    """By name: word0_ann_0.wav and so on; 6 words of 6 speakers, each word a tone of its own."""
    speakers = "ann bob cem dan eva fay".split()
    names = [(w, s, i) for w in range(6) for s in range(len(speakers)) for i in range(each)]
    return {f"word{w}_{speakers[s]}_{i}.wav": wav(300 + 400 * w + 20 * s, 1000 * w + 100 * s + i) for w, s, i in names}
