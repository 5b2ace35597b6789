"""Pictures and what they are called."""

import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from innerloop.tasks.base import Split
from innerloop.tasks.class_episodes import Classes
from innerloop.tasks.images.images import Images
from innerloop.tasks.senses.senses import Senses, vectors

NUMBERS = 256  # of a name


class NamedPictures(Senses):
    """Any images as `task=images` has them, and the names of their classes, which are those of their folders. Inputs are vectors
    (tasks/senses/senses.py); the senses are called picture and name. All of a class have one name: with support=name a class is told by
    its name alone, so that a learner has to know from other classes what names look like.

    root, folders, pool, size, channels, split, split_seed: as `task=images` has them. A name is the sum of its words' character trigrams,
    each hashed to one of 256 numbers (as Bojanowski et al. 2017, arXiv 1607.04606, without their learned vectors), of length 1. Raises
    InputError as `task=images` does.
    """

    def __init__(
        self, root: str | Sequence[str] | None, folders: list[str] | None, pool: bool, size: int, channels: int, split: str | None,
        split_seed: int, support: str, query: str, train_support: str, train_query: str, **shape: Any,
    ) -> None:  # fmt: skip
        self.pictures = Images(root, folders, pool, size, channels, split, split_seed, memory_mb=4000, augment=None, **shape)
        super().__init__(
            {"picture": self.pictures.input_shape, "name": (NUMBERS,)}, support, query, train_support, train_query, **shape
        )  # fmt: skip

    def classes(self, split: Split) -> Classes:
        of = self.pictures.classes(split)
        ends = np.cumsum([len(rows) for rows in of.members])
        called = np.repeat(np.stack([numbers_of(name) for name in of.names]), [len(rows) for rows in of.members], axis=0)
        inputs = vectors(of.inputs[np.concatenate(of.members)] / np.float32(255), called)
        return Classes(inputs, np.split(np.arange(len(inputs)), ends[:-1]), of.names, groups=of.groups)


def numbers_of(name: str) -> np.ndarray:
    """(256,) of length 1; all 0 of a name without letters and digits."""
    found = np.zeros(NUMBERS)
    for word in re.findall(r"[^\W_]+", name.lower()):
        for start in range(len(word)):
            found[zlib.crc32(f"<{word}>"[start : start + 3].encode()) % NUMBERS] += 1
    return found / max(float(np.linalg.norm(found)), 1e-12)
