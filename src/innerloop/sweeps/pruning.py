"""Ends the trials of an Optuna search that have no hope, early."""

import logging
import math
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning import Callback, LightningModule, Trainer

from innerloop.training.checkpoint import Checkpoints

log = logging.getLogger(__name__)


class Pruned(Exception):
    """A trial that ended early. loss: the lowest validation loss that it reached."""

    def __init__(self, reason: str, loss: float) -> None:
        super().__init__(reason)
        self.loss = loss


class Prune(Callback):
    """Reports val/loss to the search after each validation, and raises Pruned where `pruner` finds it hopeless beside the other trials.

    pruner: of `optuna.pruners`. A run that is no trial of a search is left alone.
    """

    def __init__(self, pruner: Any) -> None:
        self.pruner = pruner
        self.trial: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.trial = running_trial(self.pruner) if trainer.is_global_zero else None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit":
            return
        step, loss = trainer.global_step, trainer.callback_metrics["val/loss"].item()
        hopeless = self._is_hopeless(loss, step) and not trainer.is_last_batch  # then it is done
        if trainer.strategy.broadcast(hopeless):
            reached = math.inf if math.isnan(loss) else loss
            best = min([reached, *(c.best_loss for c in trainer.checkpoint_callbacks if isinstance(c, Checkpoints))])
            raise Pruned(f"val/loss is {loss:.4g} after {step} outer steps, hopeless beside the other trials", best)

    def _is_hopeless(self, loss: float, step: int) -> bool:
        if self.trial is None:
            return False
        try:
            self.trial.report(loss, step)
            return bool(self.trial.should_prune())
        except Exception as error:  # of the database's library: a busy database is no reason to lose a run
            log.warning(f"this trial cannot be compared with the others after outer step {step}: {str(error).splitlines()[0]}")
            return False


def running_trial(pruner: Any) -> Any:
    """The trial of the search that this process is: the one under way whose values are those of this job. None outside a search."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN or "optuna" not in HydraConfig.get().sweeper._target_:
        return None
    sweeper = HydraConfig.get().sweeper
    import optuna

    study = optuna.load_study(sweeper.study_name, sweeper.storage, pruner=pruner)
    overrides = set(HydraConfig.get().overrides.task)
    for trial in reversed(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))):
        if {f"{name}={value}" for name, value in trial.params.items()} <= overrides:
            return optuna.trial.Trial(study, trial._trial_id)
    return None
