"""How SIGTERM ends training and evaluation."""

import signal
import threading
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment

TERMINATED = 128 + signal.SIGTERM  # exit code, as shells have it


class EndBySigterm(Callback):
    """Ends the process with exit code 143 at once, and those that it started for other devices with it.

    Lightning itself looks for SIGTERM after a batch, which may take minutes in an evaluation, ends with exit code 0, and on several devices
    broadcasts in the middle of other collectives. Checkpoints are whole files, so that nothing is lost. Where somebody else listens
    already (submitit, Lightning on Slurm) it stays out of the way.
    """

    def __init__(self) -> None:
        self.free = signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, None) and threading.current_thread() is threading.main_thread()

    def _listen(self, trainer: Any) -> None:
        launcher = trainer.strategy.launcher
        if not self.free or SLURMEnvironment.detect():
            return

        def end(*_: Any) -> None:
            if hasattr(launcher, "kill"):
                launcher.kill(signal.SIGKILL)
            raise SystemExit(TERMINATED)

        signal.signal(signal.SIGTERM, end)  # Lightning puts back what was there before it began

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen(trainer)
