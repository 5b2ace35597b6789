"""Where a run writes. Imports no torch: train.py's parent process uses it too."""

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from uuid import uuid4

from innerloop.config import InputError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_writable(path: Path) -> None:
    """Makes a directory. Raises InputError when nothing can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"cannot write to the output directory {path}: {error.strerror}; set hydra.run.dir to another one") from error


def check_new_folder(path: Path) -> None:
    """Raises InputError where something is in the way of a folder that is to be written."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} is there already; name an empty folder, or a new one")


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Writes a file whole or not at all, in a folder that it makes, and waits until it is on the disk. Raises InputError when it cannot."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")  # processes of two machines may have one number
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        remedy = "make room and start again" if error.errno in DISK_FULL else "name another place"
        raise InputError(f"cannot write {path}: {error.strerror}; nothing that was there is lost, so {remedy}") from error


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, where the system can (Windows opens no folder)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
