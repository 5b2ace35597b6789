"""Where a run writes. Imports no torch: train.py's parent process uses it too."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from innerloop.config import InputError


def check_writable(path: Path) -> None:
    """Makes a directory. Raises InputError when nothing can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"cannot write to the output directory {path}: {error.strerror}; set hydra.run.dir to another one") from error


def prepare_directory(path: str | Path) -> Path:
    """Makes the output directory of a run. Raises InputError when it cannot be written, or holds the results or weights of another."""
    path = Path(path).absolute()
    check_writable(path)
    for old in (path / "results.json", path / "checkpoints" / "best.ckpt"):
        if old.exists():
            raise InputError(f"{path} already holds a run ({old.name}); delete it or set hydra.run.dir to another directory")
    return path


class CheckOutput(Callback):
    """Refuses an output directory that cannot be written before Hydra tries, and fails with a traceback."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        refuse_unwritable(config.hydra.run)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        refuse_unwritable(config.hydra.sweep)


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
