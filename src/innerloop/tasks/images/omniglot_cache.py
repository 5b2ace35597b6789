"""Omniglot prepared once: every drawing at 28x28."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from innerloop.config import InputError
from innerloop.tasks.archives import with_progress_bar
from innerloop.tasks.images.omniglot_files import CHARACTERS, DRAWINGS, fetch_sources, find_sources, read_characters
from innerloop.tasks.prepared import Unprepared, load_prepared
from innerloop.tasks.readers import Pictures

SIDE = 28  # pixels, as in every paper since Vinyals et al.
FILE = f"omniglot_{SIDE}x{SIDE}.npy"


class Characters(NamedTuple):
    """names: every character ("Alphabet/characterNN"). images: (20 * characters, 1, 28, 28) uint8, ink 255, 20 rows a name."""

    names: list[str]
    images: np.ndarray


def load_characters(root: Path) -> Characters:
    """Omniglot from the prepared file; prepares it first (and downloads the images) where that has to be.

    The prepared file lies in `root`, or in the user's cache folder where `root` is read-only. Raises InputError when the images
    can neither be found nor downloaded, or are damaged.
    """
    if root.exists() and not root.is_dir():
        raise InputError(f"task.root must be a folder, but {root} is a file; name the folder that holds (or shall hold) the Omniglot zips")
    ready = load_prepared(root, FILE, lambda: find_sources(root), lambda: fetch_sources(root), prepare)
    return Characters(ready.about["names"], ready.images)


def prepare(sources: list[Path]) -> Unprepared:
    """Inverted (the background is 0) and resized with Lanczos, as in the reference implementations."""
    total, names = sum(CHARACTERS[source.stem] for source in sources), []

    def images() -> Iterator[np.ndarray]:
        read = (character for source in sources for character in read_characters(source, CHARACTERS[source.stem]))
        for name, drawings in with_progress_bar(read, "Omniglot (once)", total):
            names.append(name)
            yield from (shrink(drawing) for drawing in drawings)

    return Unprepared((total * DRAWINGS, 1, SIDE, SIDE), images(), {"names": names})


def shrink(drawing: Image.Image) -> np.ndarray:
    return Pictures(1, SIDE, SIDE, ink=True).scaled(drawing)[0]
