"""Checkpoints: what a run needs to go on exactly where it was, and the weights that it ends with.

Each file is written whole or not at all, holds a checksum of each of its parts (the CRC-32 of torch's zip format, verified on reading), and
is read without running code from it (weights_only).
"""

import contextlib
import csv
import io
import logging
import math
import random
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from innerloop.config import InputError, differences
from innerloop.files import write_whole

log = logging.getLogger(__name__)
State = dict[str, Any]
BEST = "best.ckpt"
GENERATIONS = 2
# settings that decide what validation measures
MEASURED = {"algo", "task", "model", "backbone", "eval_adaptation_steps", "val_episodes", "select_by", "transductive"}


class AtomicFiles(CheckpointIO):
    """How Lightning's checkpoints are written and read. Raises InputError where the disk refuses, leaving the file that was there."""

    def save_checkpoint(self, checkpoint: State, path: Any, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(path), content.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> State:
        return read(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def read(path: Path) -> State:
    """Raises InputError when the file is missing, or differs from what was written."""
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}; was the run trained to its end?")
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"wrong checksum of {damaged}")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the damaged bytes lead to
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"checkpoint {path} is damaged ({reason}); use another one or train again") from error


class Checkpoints(Checkpoint):
    """After each validation: best.ckpt, the weights, if the loss is the lowest so far; and step-N.ckpt, all that training needs to go
    on to the same bits, the last two of them.

    origin: of which run, see `experiment.origin_of`.
    """

    def __init__(self, directory: Path, origin: State) -> None:
        self.directory, self.origin = directory, origin
        self.best_loss = math.inf
        self.seconds = 0.0  # spent on training before this process
        self._restored: State | None = None
        self._started = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.perf_counter()
        if self._restored:
            set_random_state(self._restored["random"])
            if self._restored["origin"]["settings"] != self.origin["settings"]:
                take_new_rates(trainer, pl_module)
            elif self._restored.get("stopped", False):
                trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        loss = trainer.callback_metrics["val/loss"].item()
        missing = trainer.strategy.broadcast(not self.best_weights.exists())  # all save, or none: nodes may have disks of their own
        if loss < self.best_loss or missing:
            self.best_loss = math.inf if math.isnan(loss) else loss
            with averaged(trainer, pl_module):
                trainer.save_checkpoint(self.best_weights, weights_only=True)
        trainer.save_checkpoint(self.directory / f"step-{trainer.global_step:08d}.ckpt")
        self._forget_older()

    @property
    def best_weights(self) -> Path:
        return self.directory / BEST

    @rank_zero_only
    def _forget_older(self) -> None:
        for path in sorted(self.directory.glob("step-*.ckpt"))[:-GENERATIONS]:
            path.unlink()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: State) -> None:
        metrics: list[Any] = []
        for logger in csv_loggers(trainer):
            metrics = logged(logger)
        seconds = self.seconds + time.perf_counter() - self._started
        checkpoint["innerloop"] = {
            "origin": self.origin, "best_loss": self.best_loss, "seconds": seconds, "random": random_state(), "metrics": metrics,
            "stopped": trainer.should_stop,  # by another callback
        }  # fmt: skip

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: State) -> None:
        self._restored = checkpoint["innerloop"]
        self.best_loss, self.seconds = self._restored["best_loss"], self._restored["seconds"]
        before, now = self._restored["origin"]["settings"], self.origin["settings"]
        if before != now:  # by resume=force: a stopper would keep its old patience
            checkpoint["callbacks"] = {key: kept for key, kept in checkpoint["callbacks"].items() if not key.startswith("EarlyStopping")}
        other = {key.partition(".")[0] for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
        if other & MEASURED and checkpoint["global_step"] < now["outer_steps"]:
            self.best_loss = math.inf  # what was lowest is of another measure
        if before["outer_steps"] < now["outer_steps"]:  # more than were asked for before
            checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False


@contextlib.contextmanager
def averaged(trainer: Trainer, learner: LightningModule) -> Iterator[None]:
    """The learner has the weights that were validated: averages, where a callback keeps some (callbacks=ema)."""
    keepers = [callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
    for keeper in keepers:
        keeper._swap_models(learner)
    try:
        yield
    finally:
        for keeper in keepers:
            keeper._swap_models(learner)


def take_new_rates(trainer: Trainer, learner: Any) -> None:
    """After resume=force: what a checkpoint holds of the outer optimizer is its moments, but also its old settings, and the schedule's."""
    (optimizer,), (schedule,) = trainer.optimizers, trainer.lr_scheduler_configs
    new = learner.optimizer(params=learner.algorithm.trained())
    for group, wanted in zip(optimizer.param_groups, new.param_groups, strict=True):
        group.update({key: value for key, value in wanted.items() if key != "params"}, initial_lr=wanted["lr"])
    schedule.scheduler = scheduler = learner.scheduler(optimizer=optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps of the schedule without the optimizer's
        for _ in range(trainer.global_step):
            scheduler.step()


def latest(directory: Path, origin: State, force: bool) -> tuple[Path, State] | None:
    """The newest checkpoint that the run `origin` can go on from, and what it holds; None: it starts anew.

    One that cannot be used is named, put aside as FILE.unusable, and the one before it is tried. Raises InputError when it was written
    under other settings or by other code, unless `force`.
    """
    for leftover in directory.glob(".*.ckpt.*"):  # of a process killed as it wrote
        leftover.unlink(missing_ok=True)
    for path in sorted(directory.glob("step-*.ckpt"), reverse=True):
        try:
            state = read(path)
            check_program(path, state)
            read(directory / BEST)
        except InputError as error:
            put_aside(path, str(error).partition(";")[0])
            continue
        if (other := differences(state["innerloop"]["origin"]["settings"], origin["settings"])) and not force:
            raise InputError(f"{path} is of a run with other settings ({other}); delete it, or go on with the new ones by resume=force")
        if (other := differences(state["innerloop"]["origin"]["code"], origin["code"])) and not force:
            raise InputError(
                f"{path} was written by other code ({other}), which may not give the same numbers; go back to it, start in another "
                "directory, or go on with resume=force"
            )
        check_force(path, state, origin)
        return path, state
    return None


def check_force(path: Path, state: State, origin: State) -> None:
    """Raises InputError for new settings that even resume=force cannot go on with."""
    old, new = state["innerloop"]["origin"]["settings"], origin["settings"]
    if (before := old["optimizer._target_"]) != (now := new["optimizer._target_"]):
        raise InputError(
            f"{path} is of a training with optimizer={before}, which cannot go on with optimizer={now}; start in another directory"
        )
    if state["global_step"] > new["outer_steps"]:
        raise InputError(f"{path} is past outer_steps={new['outer_steps']}; ask for more, or start in another directory")


def checkpoints_of(trainer: Trainer) -> Checkpoints | None:
    """Ours, whatever else a user added; None where it was left out, and with trainer=debug."""
    ours = next((callback for callback in trainer.checkpoint_callbacks if isinstance(callback, Checkpoints)), None)
    return ours if ours and ours.best_weights.exists() else None


def check_program(path: Path, state: State) -> None:
    """Raises InputError for a checkpoint of another program."""
    if "innerloop" not in state:
        raise InputError(f"checkpoint {path} was not written by a run of innerloop; delete it")


@rank_zero_only
def put_aside(path: Path, reason: str) -> None:
    path.rename(f"{path}.unusable")
    log.warning(f"{reason}; trying the one before it")


def csv_loggers(trainer: Trainer) -> list[CSVLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, CSVLogger)] if trainer.is_global_zero else []


def continue_logs(trainer: Trainer, state: State | None) -> None:
    """Makes metrics.csv what it was at the checkpoint `state`, whatever a killed process logged after that."""
    for logger in csv_loggers(trainer):
        experiment = logger.experiment  # it deletes the file that it finds
        if state:
            experiment.metrics = state["innerloop"]["metrics"]
            logger.save()


def logged(logger: CSVLogger) -> list[dict[str, str]]:
    """The rows of metrics.csv so far."""
    logger.save()
    path = Path(logger.experiment.metrics_file_path)
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def random_state() -> State:
    """Of all generators that a model may draw from, in types that load without running code."""
    algorithm, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        # this process's own: the first writes for all, and the others drew as much
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],
        "python": random.getstate(),
        "numpy": (algorithm, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
    }


def set_random_state(state: State) -> None:
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and state["cuda"]:
        torch.cuda.set_rng_state(state["cuda"][0])
    random.setstate(state["python"])
    algorithm, keys, *rest = state["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), *rest))
