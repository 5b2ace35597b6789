"""Where a run writes. Imports no torch: train.py's parent process uses it too."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from innerloop.config import InputError

LOCK = ".lock"


class InUse(InputError):
    """Another process is at work in an output directory."""


def check_writable(path: Path) -> None:
    """Makes a directory. Raises InputError when nothing can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"cannot write to the output directory {path}: {error.strerror}; set hydra.run.dir to another one") from error


@contextlib.contextmanager
def claimed(path: str | Path) -> Iterator[Path]:
    """Makes the output directory of a run and keeps other processes out. Raises InputError when it cannot be written, or is in use."""
    path = Path(path).absolute()
    check_writable(path)
    lock = FileLock(path / LOCK, timeout=1)  # a moment: `innerloop table` tries it too
    try:
        lock.acquire()
    except Timeout:
        raise InUse(f"another process is running in {path}; wait for it, or set hydra.run.dir to another directory") from None
    try:
        yield path
    finally:
        lock.release()


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Writes a file whole or not at all, and waits until it is on the disk. Raises InputError when it cannot."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}; nothing that was there is lost, so make room and start again") from error


def in_use(path: Path) -> bool:
    """Whether a process is running in the output directory of a run."""
    if not (path / LOCK).exists():
        return False
    try:
        with FileLock(path / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # someone else's
        return False


class CheckOutput(Callback):
    """Refuses an output directory that cannot be written before Hydra tries, and fails with a traceback."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        refuse_unwritable(config.hydra.run)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        refuse_unwritable(config.hydra.sweep)
        old = Path(config.hydra.sweep.dir) / "multirun.yaml"
        if old.is_file() and not ({"algo", "outer_steps"} <= set(OmegaConf.load(old))):
            print(f"Error: {old.parent} holds a sweep of another project; set hydra.sweep.dir to another directory", file=sys.stderr)
            raise SystemExit(1)


def refuse_unwritable(node: DictConfig) -> None:
    """Checks the folder that will hold `dir`, as far as it is there and known: a ${stamp} cannot be resolved yet."""
    directory = OmegaConf.to_container(node, resolve=False)["dir"]  # type: ignore[call-overload, index]
    known, stamp, _ = directory.partition("${")
    path = Path(known).absolute() if not stamp or known.endswith("/") else Path(known).absolute().parent
    while not path.exists():
        path = path.parent
    try:
        check_writable(path)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
