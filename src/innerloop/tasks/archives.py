"""A folder or a zip of files, read alike. Nothing is extracted to disk."""

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from innerloop.config import InputError

Item = TypeVar("Item")
MOST_OF_LISTS = 2**31  # of a file of annotations, in bytes: COCO's have 2**28 and more
MOST_BYTES = 2**28  # of a file: a small zip can unpack to more than the memory holds


@contextmanager
def opened(source: Path, remedy: str) -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
    """The names of the files in a folder or zip, with / between their parts, and how to read one. remedy: what to do with a bad zip.

    Whatever else lies about (.DS_Store, __MACOSX/) is passed over. Raises InputError for a zip that is damaged or points outside of itself.
    """
    if source.is_dir():
        names = [name.replace(os.sep, "/") for name in files_below(source)]
        if strange := next((name for name in names if name != name.encode(errors="replace").decode()), None):
            raise InputError(f"{source} has a file whose name is not UTF-8, {ascii(strange)}; rename it")
        yield [name for name in names if not is_stray(name)], lambda name: read_member(name, source, lambda: (source / name).read_bytes())
        return
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{source} is not a whole zip file ({error}); {remedy}") from error
    with archive:
        for name in archive.namelist():
            path = PureWindowsPath(name)  # takes / and \ for separators, and knows drives
            if path.anchor or ".." in path.parts:
                raise InputError(f"{source} has a member that points outside of it, {name!r}; {remedy}")

        def read(name: str) -> bytes:
            size = archive.getinfo(name).file_size
            if size > (MOST_OF_LISTS if name.lower().endswith((".json", ".xml")) else MOST_BYTES):
                raise InputError(f"{name} in {source} unpacks to {size / 1e6:,.0f} MB, which no example has; {remedy}")
            return read_member(name, source, lambda: archive.read(name))

        yield [name for name in archive.namelist() if not name.endswith("/") and not is_stray(name)], read


def read_member(name: str, source: Path, read: Callable[[], bytes]) -> bytes:
    """Raises InputError where that fails."""
    try:
        return read()
    except Exception as error:  # a damaged or encrypted member makes zipfile and its decompressors raise almost anything
        raise InputError(f"{name} in {source} cannot be read ({error}); replace it or delete it") from error


def files_below(folder: Path) -> list[str]:
    """The path of every file below `folder`, relative to it, also behind links; those that lead back are not followed."""
    found = []
    for at, folders, names in os.walk(folder, followlinks=True):
        parts = Path(at).relative_to(folder).parts
        found += [os.path.join(*parts, name) for name in names]
        above = {os.path.realpath(os.path.join(folder, *parts[:depth])) for depth in range(len(parts) + 1)}
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(at, name)) not in above]
    return found


def is_stray(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def with_progress_bar(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The same, with a progress bar on a terminal."""
    terminal = Console(stderr=True)
    yield from track(items, f"Preparing {what}", total=total, console=terminal, transient=True, disable=not terminal.is_terminal)
