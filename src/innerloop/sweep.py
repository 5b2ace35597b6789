"""What train.py -m adds to its jobs. Imports no torch: it lives in the parent process."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

ERROR_FILE = "error.txt"


class PrintTable(Callback):
    """Ends a sweep with one table over its jobs, and with exit code 1 if one failed."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from innerloop.table import show, sweep_table

        directory = Path(config.hydra.sweep.dir)
        show(sweep_table(directory))
        if any(directory.rglob(ERROR_FILE)):
            raise SystemExit(1)
