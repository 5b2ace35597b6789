"""Makes an Optuna search one that can be interrupted: the same command goes on with it. Imports no torch."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict

LOCKS: list[FileLock] = []  # until this process ends; not in the callback, which launchers send to their workers


class ContinueSearch(Callback):
    """Takes up the study that the storage of hydra.sweeper holds: hydra.sweeper.n_trials counts from its beginning, and trials that were
    interrupted come first, with the same values, hence in the same folders, where their runs go on."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        sweeper, directory = config.hydra.sweeper, Path(config.hydra.sweep.dir)
        if "optuna" not in sweeper._target_ or not sweeper.storage:
            return
        import optuna

        optuna.logging.set_verbosity(logging.WARNING)  # the table and Hydra's log say the same
        directory.mkdir(parents=True, exist_ok=True)
        LOCKS.append(FileLock(directory / ".search.lock"))
        try:
            LOCKS[-1].acquire(timeout=1)
        except Timeout:
            print(f"Error: another search is running in {directory}; wait for it, or set hydra.sweep.dir", file=sys.stderr)
            raise SystemExit(1) from None
        direction = getattr(sweeper.direction, "name", sweeper.direction)
        study = optuna.create_study(study_name=sweeper.study_name, storage=sweeper.storage, direction=direction, load_if_exists=True)
        states = [trial.state for trial in study.trials]
        for trial in study.trials:
            if trial.state == optuna.trial.TrialState.RUNNING:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    study.enqueue_trial(trial.params)
        with open_dict(sweeper):
            sweeper.n_trials = max(0, sweeper.n_trials - states.count(optuna.trial.TrialState.COMPLETE))
            if sweeper.sampler.get("seed") is not None:
                sweeper.sampler.seed += len(states)  # a sampler begins anew: the same seed would propose the same again
