"""The folder of a run: the names of its files, who is at work in it, and its results as they were written. Imports no torch."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from innerloop.config import InputError
from innerloop.files import check_writable

Results = dict[str, Any]
LOCK = ".lock"
ERROR_FILE = "error.txt"  # of a job in a sweep: why it failed
DIVERGED_FILE = "diverged.txt"  # that its loss was no number any more: it would be so again
PRUNED_FILE = "pruned.txt"  # why a search ended it early
ENDS = (ERROR_FILE, DIVERGED_FILE, PRUNED_FILE)
READ = {  # what is read from results.json here
    "algo", "baseline", "ci95", "commit", "config", "curve", "episodes", "episodes_checksum", "lower_is_better", "metric", "seed", "task",
    "val_loss", "value", "versions",
}  # fmt: skip


class InUse(InputError):
    """Another process is at work in an output directory."""


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


def check_finished(run: Path) -> None:
    """Raises InputError for a run that has no results yet."""
    if not (run / "results.json").is_file():
        raise InputError(f"the run in {run} is not finished; give its command again, and it goes on")


def read_results(path: Path) -> Results:
    """results.json of a run. Raises InputError for a damaged file, and one of version 0.1."""
    try:
        results = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); delete it or run the job again") from error
    if isinstance(results, dict) and isinstance(results.get("config"), dict):
        check_version(path, results["config"])
    if not isinstance(results, dict) or not READ <= set(results) or not is_curve(results["curve"]):
        raise InputError(f"{path} is damaged (it is not a run's); delete it or run the job again")
    return results


def is_curve(points: Any) -> bool:
    """Whether these are the points of an adaptation curve."""
    return isinstance(points, list) and bool(points) and all(isinstance(p, dict) and {"step", "value", "ci95"} <= set(p) for p in points)


def check_version(path: Path, config: Mapping[Any, Any]) -> None:
    """Raises InputError for settings that innerloop 0.1 saved: its classes have moved since."""
    engine = config.get("engine")
    if isinstance(engine, Mapping) and str(engine.get("_target_")).startswith("innerloop.execution."):
        raise InputError(f"{path} is of innerloop 0.1, whose runs version 0.2 does not read; run it again, or read it with 0.1")
