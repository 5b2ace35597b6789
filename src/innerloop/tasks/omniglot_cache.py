"""Omniglot prepared once: every drawing at 28x28 in one checksummed file, which loads in a moment."""

import hashlib
import logging
import os
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock
from PIL import Image
from rich.console import Console
from rich.progress import track

from innerloop.config import InputError
from innerloop.tasks.omniglot_files import CHARACTERS, fetch_sources, files_below, find_sources, read_characters, writable

SIDE = 28  # pixels, as in every paper since Vinyals et al.
FILE = f"omniglot_{SIDE}x{SIDE}.npz"
DIGEST_BYTES = hashlib.sha256().digest_size

log = logging.getLogger(__name__)


class Characters(NamedTuple):
    """names: every character ("Alphabet/characterNN"), sorted. images: (20 * characters, 1, 28, 28) uint8, ink 255, 20 rows a name."""

    names: list[str]
    images: np.ndarray


def load_characters(root: Path) -> Characters:
    """Omniglot from the prepared file; prepares it first (and downloads the images) where that has to be.

    The prepared file lies in `root`, or in the user's cache folder where `root` is read-only. Raises InputError when the images
    can neither be found nor downloaded, or are damaged.
    """
    if root.exists() and not root.is_dir():
        raise InputError(f"task.root must be a folder, but {root} is a file; name the folder that holds (or shall hold) the Omniglot zips")
    sources = find_sources(root)
    state = fingerprint(sources) if sources else None  # None: the prepared file alone will do
    for path in (root / FILE, _private_file(root)):
        ready = read_prepared(path, state)
        if ready:
            return ready
    path = _writable_file(root)
    with FileLock(f"{path}.lock"):  # several processes may start at once; the first prepares, the others wait
        sources = fetch_sources(root)
        state = fingerprint(sources)
        return read_prepared(path, state) or _renew(path, sources, state)


def fingerprint(sources: list[Path]) -> str:
    """Changes when a file of the sources changes size, name or date."""
    digest = hashlib.sha256()
    for source in sources:
        for name in sorted(files_below(source)) if source.is_dir() else [""]:
            entry = os.stat(os.path.join(source, name) if name else source)
            digest.update(f"{source.name}/{name} {entry.st_size} {entry.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read_prepared(path: Path, state: str | None) -> Characters | None:
    """The prepared file's content, or None where it is missing, damaged, or made from sources with another fingerprint than `state`."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[:-DIGEST_BYTES]).digest() != content[-DIGEST_BYTES:]:
        return None
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        current = state in (None, str(arrays["fingerprint"]))
        return Characters(arrays["names"].tolist(), arrays["images"]) if current else None


def _private_file(root: Path) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]
    return cache / "innerloop" / key / FILE


def _writable_file(root: Path) -> Path:
    for path in (root / FILE, _private_file(root)):
        if writable(path.parent):
            return path
    raise InputError(f"neither {root} (task.root) nor {path.parent} can be written to; set XDG_CACHE_HOME to a folder that can")


def _renew(path: Path, sources: list[Path], state: str) -> Characters:
    if path.exists():
        log.warning("%s is damaged or older than the images; preparing it again", path)
    characters = _prepare(sources)
    _write(path, characters, state)
    return characters


def _prepare(sources: list[Path]) -> Characters:
    """Inverted (the background is 0) and resized with Lanczos, as in the reference implementations."""
    expected = [CHARACTERS[source.stem] for source in sources]
    read = (character for source, count in zip(sources, expected, strict=True) for character in read_characters(source, count))
    terminal = Console(stderr=True)
    steps = track(
        read, "Preparing Omniglot (once)", total=sum(expected), console=terminal, transient=True, disable=not terminal.is_terminal
    )
    shrunk = {name: np.stack([_shrink(drawing) for drawing in drawings]) for name, drawings in steps}
    names = sorted(shrunk)
    return Characters(names, np.stack([shrunk[name] for name in names]).reshape(-1, 1, SIDE, SIDE))


def _shrink(drawing: Image.Image) -> np.ndarray:
    return 255 - np.asarray(drawing.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _write(path: Path, characters: Characters, state: str) -> None:
    """An .npz followed by the sha256 of all before it: one file, so that content and checksum cannot come apart."""
    content = BytesIO()
    np.savez(content, images=characters.images, names=np.array(characters.names), fingerprint=np.array(state))
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content.getvalue())
            file.write(hashlib.sha256(content.getvalue()).digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:  # a full disk: this run has what it needs, the next one prepares again
        partial.unlink(missing_ok=True)
        log.warning("%s could not be written (%s)", path, error)
