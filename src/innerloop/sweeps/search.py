"""Makes an Optuna search one that can be interrupted: the same command goes on with it. Imports torch only where there is one."""

import json
import logging
import math
import sys
import warnings
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from innerloop.config import NOT_THE_NUMBERS, InputError, differences, without
from innerloop.runs.folder import ERROR_FILE

LOCKS: list[FileLock] = []  # until this process ends; not in the callback, which launchers send to their workers


class ContinueSearch(Callback):
    """Takes up the study that the storage of hydra.sweeper holds.

    hydra.sweeper.n_trials counts finished and pruned trials from its beginning. Trials that were interrupted, or failed, come first, with
    the same values, hence in the same folders, where their runs go on.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        if "optuna" not in config.hydra.sweeper._target_:
            return
        try:
            check_sweeper(config.hydra.sweeper)
            claim(Path(config.hydra.sweep.dir))
            go_on(config)
        except InputError as error:
            print(f"Error: {error}", file=sys.stderr)
            raise SystemExit(1) from None


def check_sweeper(sweeper: DictConfig) -> None:
    """Raises InputError for settings of hydra.sweeper under which a search cannot go on, or looks for the wrong thing."""
    for name in ("storage", "study_name"):
        if not sweeper[name]:
            raise InputError(f"hydra.sweeper.{name} must be set for a search to go on with; conf/sweep/search_maml.yaml shows how")
    if str(getattr(sweeper.direction, "name", sweeper.direction)) != "minimize":
        raise InputError(f"hydra.sweeper.direction={sweeper.direction} must be minimize: a job is worth its lowest validation loss")
    if "Grid" in sweeper.sampler._target_:
        raise InputError("a grid needs no search: give the values, algo.inner_lr=0.01,0.1, without hydra/sweeper=optuna")


def claim(directory: Path) -> None:
    """Raises InputError where another search runs in the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / ".search.lock", timeout=1)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"another search is running in {directory}; wait for it, or set hydra.sweep.dir") from None
    LOCKS.append(lock)


def go_on(config: DictConfig) -> None:
    """Prepares the study and hydra.sweeper. Raises InputError for a study of other settings, and for a storage that cannot be read."""
    import optuna
    from optuna.trial import TrialState

    sweeper = config.hydra.sweeper
    optuna.logging.set_verbosity(logging.WARNING)  # the table and Hydra's log say the same
    try:
        study = optuna.create_study(study_name=sweeper.study_name, storage=sweeper.storage, load_if_exists=True)
        trials = study.trials
    except Exception as error:  # of the database's library
        raise InputError(f"the search in {sweeper.storage} cannot be read ({str(error).splitlines()[0]}); delete or repair it") from error
    check_same_search(study, config)
    errors = errors_below(Path(config.hydra.sweep.dir))
    lost = [trial for trial in trials if trial.state in (TrialState.RUNNING, TrialState.FAIL) or failed(trial, errors)]
    for trial in lost:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        if trial.params and values_of(trial) not in map(values_of, trials[trial.number + 1 :]):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.enqueue_trial(trial.params)
    with open_dict(sweeper):
        done = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial not in lost]
        values = [values_of(trial) for trial in done]
        again = sum(trial.value == math.inf and values_of(trial) in values[at + 1 :] for at, trial in enumerate(done))  # had failed
        sweeper.n_trials = max(0, sweeper.n_trials - len(done) + again)
        if sweeper.sampler.get("seed") is not None:
            sweeper.sampler.seed += len(trials)  # a sampler begins anew: the same seed would propose the same again


def errors_below(directory: Path) -> list[set[str]]:
    """The command lines of the jobs that failed. Those that diverged are not among them: they would diverge again."""
    folders = [path.parent / ".hydra" for path in directory.rglob(ERROR_FILE)]
    return [set(OmegaConf.load(folder / "overrides.yaml")) for folder in folders if (folder / "overrides.yaml").exists()]


def failed(trial: Any, errors: list[set[str]]) -> bool:
    return any({f"{name}={value}" for name, value in trial.params.items()} <= overrides for overrides in errors)


def values_of(trial: Any) -> dict[str, Any]:
    """Also of one that waits to be run."""
    return trial.params or trial.system_attrs.get("fixed_params", {})  # type: ignore[no-any-return]


def check_same_search(study: Any, config: DictConfig) -> None:
    """Trials of other settings are not to be compared. Raises InputError where the study has some."""
    plain: Any = OmegaConf.to_container(config)
    settings: dict[str, Any] = without(plain, (*NOT_THE_NUMBERS, "callbacks", "hydra"))
    swept = sorted(text for text in config.hydra.overrides.task if "," in text or "(" in text)
    settings["searched"] = {"params": plain["hydra"]["sweeper"]["params"], "command": swept}
    there = study.user_attrs.get("settings")
    if there and (other := differences(json.loads(there), settings)):
        raise InputError(f"{config.hydra.sweep.dir} holds a search with other settings ({other}); set hydra.sweep.dir to another directory")
    study.set_user_attr("settings", json.dumps(settings))
