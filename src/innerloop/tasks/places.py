"""Where what belongs to data is kept: beside it, or in the user's cache folder."""

import hashlib
import os
import tempfile
from pathlib import Path

from innerloop.config import InputError


def place_of(value: str | None, kinds: str, key: str = "task.root") -> Path:
    """Where the data are. kinds: what they may be. Raises InputError where there is nothing, or the setting `key` names none."""
    if not value:
        raise InputError(f"this task has no data of its own; set {key} to {kinds}")
    path = one_place(value, key)
    if not path.exists():
        raise InputError(f"{key}={value} is not there; it must be {kinds}")
    return path


def one_place(value: str | Path, key: str = "task.root") -> Path:
    """Raises InputError for a list."""
    if not isinstance(value, str | Path):
        raise InputError(f"{key}={value} must be one place here; task=images takes a list of them")
    return Path(value).expanduser()


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


def cache_folder() -> Path:
    """The user's, for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "innerloop"


def places(root: Path, name: str) -> tuple[Path, Path]:
    """Where a file that belongs to the data in `root` can be: there, or in the user's cache folder."""
    return root / name, cache_folder() / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12] / name


def place_for(root: Path, name: str) -> Path:
    """The first of them that can be written to. Raises InputError where none can."""
    for path in places(root, name):
        if writable(path.parent):
            return path
    raise InputError(f"neither {root} (task.root) nor {path.parent} can be written to; set XDG_CACHE_HOME to a folder that can")
