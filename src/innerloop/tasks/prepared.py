"""Images (or recordings) decoded once: one checksummed file beside the data, which loads in a moment."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock

from innerloop.config import InputError
from innerloop.tasks.archives import files_below
from innerloop.tasks.places import place_for, places

DIGEST_BYTES, LENGTH_BYTES = hashlib.sha256().digest_size, 8

log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """images: (n, channels, height, width), uint8 or float32. about: what else is known of them."""

    images: np.ndarray
    about: dict[str, Any]


class Unprepared(NamedTuple):
    """What a file is prepared from. shape: of all images. images: each of them, in order. about: whole when the images have come.
    dtype: of their numbers."""

    shape: tuple[int, ...]
    images: Iterable[np.ndarray]
    about: dict[str, Any]
    dtype: str = "|u1"


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
    lock = FileLock(f"{path}.lock")  # several processes may start at once; the first prepares, the others wait
    try:
        with lock:
            sources = fetch()
            state = fingerprint(sources)
            if ready := read_prepared(path, state, memory_mb):
                return ready
            if path.exists():
                log.warning("%s is damaged or older than the images; preparing it again", path)
            write_prepared(path, prepare(sources), state)
    finally:  # nothing but the images is left in a user's folder
        Path(lock.lock_file).unlink(missing_ok=True)
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
            digest.update(f"{source.name}/{name} {entry.st_size} {entry.st_mtime_ns}\n".encode(errors="surrogateescape"))
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
        dtype = np.dtype(about.get("dtype", "|u1"))
        images = content[start - prod(about["shape"]) * dtype.itemsize : start].view(dtype).reshape(about["shape"])
    except (OSError, ValueError, KeyError, TypeError):  # what damaged bytes lead to where they are not summed
        return None
    return Prepared(images, about) if state in (None, about["fingerprint"]) else None


def write_prepared(path: Path, unprepared: Unprepared, state: str) -> None:
    """The images as an .npy, what else is known, its length, and the sha256 of all before: one file, so that they cannot come apart.

    Raises InputError where the disk has no room. What was written by half is deleted.
    """
    shape, images, about, dtype = unprepared
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)  # of a process that was killed
    needed, free = prod(shape) * np.dtype(dtype).itemsize, shutil.disk_usage(path.parent).free
    if needed > free:
        raise InputError(
            f"the prepared images take {needed / 1e6:,.0f} MB and {path.parent} has {free / 1e6:,.0f} MB left; "
            "make room, or lower task.size"
        )
    header = BytesIO()
    np.lib.format.write_array_header_2_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as file:

            def write(piece: bytes) -> None:
                file.write(piece)
                digest.update(piece)

            write(header.getvalue())
            for image in images:
                write(image.tobytes())
            text = json.dumps(about | {"shape": shape, "dtype": dtype, "fingerprint": state}).encode()
            write(text + len(text).to_bytes(LENGTH_BYTES, "big"))
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); make room, or set XDG_CACHE_HOME to another disk") from error
    finally:
        partial.unlink(missing_ok=True)
