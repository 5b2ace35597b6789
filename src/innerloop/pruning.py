"""Ends the trials of an Optuna search that have no hope, early."""

import math
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning import Callback, LightningModule, Trainer

from innerloop.checkpoint import Checkpoints


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
        hopeless = False
        if self.trial:
            self.trial.report(loss, step)
            hopeless = self.trial.should_prune() and not trainer.is_last_batch  # then it is done
        if trainer.strategy.broadcast(hopeless):
            reached = math.inf if math.isnan(loss) else loss
            best = min([reached, *(c.best_loss for c in trainer.checkpoint_callbacks if isinstance(c, Checkpoints))])
            raise Pruned(f"val/loss is {loss:.4g} after {step} outer steps, hopeless beside the other trials", best)


def running_trial(pruner: Any) -> Any:
    """The trial of the search that this process is: the one under way whose values are those of this job. None outside a search."""
    sweeper: Any = HydraConfig.get().sweeper if HydraConfig.initialized() else {}
    if not sweeper.get("storage"):
        return None
    import optuna

    study = optuna.load_study(sweeper.study_name, sweeper.storage, pruner=pruner)
    overrides = set(HydraConfig.get().overrides.task)
    for trial in reversed(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))):
        if {f"{name}={value}" for name, value in trial.params.items()} <= overrides:
            return optuna.trial.Trial(study, trial._trial_id)
    return None
