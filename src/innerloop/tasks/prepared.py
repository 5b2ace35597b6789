"""Images decoded once: one checksummed file beside the data, which loads in a moment."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from filelock import FileLock
from rich.console import Console
from rich.progress import track

from innerloop.config import InputError
from innerloop.tasks.archives import files_below

DIGEST_BYTES, LENGTH_BYTES = hashlib.sha256().digest_size, 8
Item = TypeVar("Item")

log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """images: (n, channels, height, width) uint8. about: what else is known of them."""

    images: np.ndarray
    about: dict[str, Any]


class Unprepared(NamedTuple):
    """What a file is prepared from. shape: of all images. images: each of them, in order. about: whole when the images have come."""

    shape: tuple[int, ...]
    images: Iterable[np.ndarray]
    about: dict[str, Any]


def load_prepared(
    root: Path, name: str, find: Callable[[], list[Path] | None], fetch: Callable[[], list[Path]],
    prepare: Callable[[list[Path]], Unprepared], memory_mb: float = float("inf"),
) -> Prepared:  # fmt: skip
    """The images in the file `name`, which is prepared first where it is missing, damaged or older than its sources.

    It lies in the folder `root`, or in the user's cache folder where `root` cannot be written to. find: the sources where all are there;
    fetch: the same, or an InputError. Files above `memory_mb` are mapped and not read: of them the size is checked, and not the checksum.
    """
    sources = find()
    state = fingerprint(sources) if sources else None  # None: the prepared file alone will do
    for path in places(root, name):
        if ready := read_prepared(path, state, memory_mb):
            return ready
    path = place_for(root, name)
    with FileLock(f"{path}.lock"):  # several processes may start at once; the first prepares, the others wait
        sources = fetch()
        state = fingerprint(sources)
        if ready := read_prepared(path, state, memory_mb):
            return ready
        if path.exists():
            log.warning("%s is damaged or older than the images; preparing it again", path)
        write_prepared(path, prepare(sources), state)
    ready = read_prepared(path, state, memory_mb)
    assert ready
    return ready


def fingerprint(sources: list[Path]) -> str:
    """Changes when a file of the sources changes size, name or date."""
    digest = hashlib.sha256()
    for source in sources:
        for name in sorted(files_below(source)) if source.is_dir() else [""]:
            path = os.path.join(source, name) if name else source
            try:
                entry = os.stat(path)
            except OSError as error:
                raise InputError(f"{path} cannot be read ({error.strerror}); mend it or delete it") from error
            digest.update(f"{source.name}/{name} {entry.st_size} {entry.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read_prepared(path: Path, state: str | None, memory_mb: float) -> Prepared | None:
    """The file's content, or None where it is missing, damaged, or made from sources with another fingerprint than `state`."""
    try:
        mapped = path.stat().st_size > memory_mb * 1e6
        content = np.memmap(path, mode="r") if mapped else np.frombuffer(path.read_bytes(), np.uint8)
        if not mapped and hashlib.sha256(content[:-DIGEST_BYTES].data).digest() != content[-DIGEST_BYTES:].tobytes():
            return None
        end = len(content) - DIGEST_BYTES - LENGTH_BYTES
        start = end - int.from_bytes(content[end : end + LENGTH_BYTES].tobytes(), "big")
        about = json.loads(content[start:end].tobytes())
        images = content[start - prod(about["shape"]) : start].reshape(about["shape"])
    except (OSError, ValueError, KeyError, TypeError):  # what damaged bytes lead to where they are not summed
        return None
    return Prepared(images, about) if state in (None, about["fingerprint"]) else None


def write_prepared(path: Path, unprepared: Unprepared, state: str) -> None:
    """The images as an .npy, what else is known, its length, and the sha256 of all before: one file, so that they cannot come apart.

    Raises InputError where the disk has no room. What was written by half is deleted.
    """
    shape, images, about = unprepared
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)  # of a process that was killed
    needed, free = prod(shape), shutil.disk_usage(path.parent).free
    if needed > free:
        raise InputError(
            f"the prepared images take {needed / 1e6:,.0f} MB and {path.parent} has {free / 1e6:,.0f} MB left; "
            "make room, or lower task.size"
        )
    header = BytesIO()
    np.lib.format.write_array_header_2_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as file:

            def write(piece: bytes) -> None:
                file.write(piece)
                digest.update(piece)

            write(header.getvalue())
            for image in images:
                write(image.tobytes())
            text = json.dumps(about | {"shape": shape, "fingerprint": state}).encode()
            write(text + len(text).to_bytes(LENGTH_BYTES, "big"))
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); make room, or set XDG_CACHE_HOME to another disk") from error
    finally:
        partial.unlink(missing_ok=True)


def shown(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The same, with a progress bar on a terminal."""
    terminal = Console(stderr=True)
    yield from track(items, f"Preparing {what} (once)", total=total, console=terminal, transient=True, disable=not terminal.is_terminal)


def writable(folder: Path) -> bool:
    """Whether files can be put into `folder`, which is made if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not folder.stat().st_mode & 0o222:  # root could write here all the same, but nobody is meant to
            return False
        with tempfile.TemporaryFile(dir=folder):  # read-only mounts and network drives refuse only now
            return True
    except OSError:
        return False


def places(root: Path, name: str) -> tuple[Path, Path]:
    """Where a file that belongs to the data in `root` can be: there, or in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / name, cache / "innerloop" / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12] / name


def place_for(root: Path, name: str) -> Path:
    """The first of them that can be written to. Raises InputError where none can."""
    for path in places(root, name):
        if writable(path.parent):
            return path
    raise InputError(f"neither {root} (task.root) nor {path.parent} can be written to; set XDG_CACHE_HOME to a folder that can")
