"""Handwritten digits as episodes."""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.config import InputError
from innerloop.tasks.base import Split
from innerloop.tasks.class_episodes import Classes
from innerloop.tasks.class_tasks import ClassTasks
from innerloop.tasks.download import download
from innerloop.tasks.places import one_place
from innerloop.tasks.readers import Pictures

BASE_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
# of the archives there, and of what is in them: a user's own copy may be packed otherwise, or not at all
PACKED = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
PLAIN = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
SIDE = 28
VALIDATION = 10_000  # of the 60,000 training images, the last ones


class Mnist(ClassTasks):
    """MNIST (LeCun, Bottou, Bengio and Haffner 1998): 70,000 digits. Inputs are (1, 28, 28) float32 in [0, 1], ink 1, as Omniglot's.

    The ten digits are the classes of all three splits, whose images differ: test has the 10,000 test images. Meant as the domain that a
    learner of other characters meets (`innerloop eval RUN task=mnist`); one trained on it has seen the digits.

    root: folder of the four idx files, packed (.gz) or not, or above MNIST/raw; what is missing is downloaded into it. Raises InputError
    for files that are missing (and cannot be downloaded) or damaged.
    """

    input_shape = (1, SIDE, SIDE)
    reader = Pictures(1, SIDE, SIDE)  # its own files are bright on dark

    def __init__(
        self, root: str, **shape: Any
    ) -> None:  # fmt: skip
        super().__init__(**shape)
        folder = one_place(root)
        pixels, digits = (
            np.concatenate([read_idx(folder, f"{half}-{kind}", start) for half in ("train", "t10k")])
            for kind, start in (("images-idx3-ubyte", 16), ("labels-idx1-ubyte", 8))
        )
        self.images, self.digits = pixels.reshape(-1, 1, SIDE, SIDE), digits
        first, last = len(digits) - 10_000 - VALIDATION, len(digits) - 10_000
        self.rows: dict[Split, range] = {"train": range(first), "val": range(first, last), "test": range(last, len(digits))}

    def classes(self, split: Split) -> Classes:
        rows = self.rows[split]
        members = [rows.start + np.flatnonzero(self.digits[rows.start : rows.stop] == digit) for digit in range(10)]
        return Classes(self.images, members, [str(digit) for digit in range(10)])


def read_idx(root: Path, name: str, start: int) -> np.ndarray:
    """The bytes of an idx file after its header of `start` bytes."""
    path = find(root, name) or download(BASE_URL, f"{name}.gz", f"md5:{PACKED[name]}", root, "MNIST's files")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error):
        content = b""
    if hashlib.md5(content).hexdigest() != PLAIN[name]:
        raise InputError(f"{path} is damaged, or not MNIST's; delete it and start again to download the official one")
    return np.frombuffer(content, np.uint8, offset=start)


def find(root: Path, name: str) -> Path | None:
    candidates = [folder / f"{name}{suffix}" for folder in (root, root / "MNIST" / "raw") for suffix in ("", ".gz")]
    return next((path for path in candidates if path.is_file()), None)
