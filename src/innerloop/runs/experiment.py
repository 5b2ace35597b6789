"""A run, from its configuration to results.json."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from innerloop.config import InputError, check_choice, check_count, differences, flat, short_name
from innerloop.console import say
from innerloop.files import DISK_FULL, write_whole
from innerloop.runs.answers import answers_of, answers_path, write_answers
from innerloop.runs.build import Run, build_run, build_trainer
from innerloop.runs.evidence import evidence_path, ids_and_targets
from innerloop.runs.folder import ENDS, claimed, read_results
from innerloop.runs.learner_file import write_learner
from innerloop.runs.provenance import hardware
from innerloop.runs.results import Training, write_results
from innerloop.runs.settings import check_same_run, origin_of, settle_paths, with_output_dir
from innerloop.runs.trained_split import check_unseen, keep_split
from innerloop.runs.trust import trusted_config
from innerloop.training.checkpoint import State, checkpoints_of, continue_logs, latest, read
from innerloop.training.learner import MetaLearner
from innerloop.training.lightning_settings import accumulated, in_lightning_steps
from innerloop.training.signals import TERMINATED

log = logging.getLogger(__name__)


def run(cfg: DictConfig, output_dir: str | Path) -> dict[str, Any]:
    """Trains, selects the weights with the best validation loss, tests them and writes results.json into `output_dir`.

    Where `output_dir` holds the same run already it goes on from its last checkpoint, or returns its results if it was finished.
    Returns what results.json holds. Raises InputError for bad input, also if `output_dir` holds another run or a process is at work in it.
    """
    if rank_zero_only.rank:  # type: ignore[attr-defined]  # the first process holds the lock for all
        return run_in(cfg, Path(output_dir).absolute())
    with claimed(output_dir) as directory:
        for name in ENDS:
            (directory / name).unlink(missing_ok=True)
        try:
            return run_in(cfg, directory)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            raise InputError(f"cannot write in {directory}: {error.strerror}; make room and give the same command again") from error


def run_in(cfg: DictConfig, directory: Path) -> dict[str, Any]:
    """`run` in a directory that is ours."""
    check_choice("resume", cfg.resume, ("auto", "force"))
    force = cfg.resume == "force"
    cfg = with_output_dir(cfg, str(directory))
    cfg.val_every = validation_interval(cfg)
    settle_paths(cfg)
    origin = origin_of(cfg)
    check_same_run(directory, origin, force)
    results = directory / "results.json"
    if results.exists() and not force:
        finished = read_results(results)
        code = {"commit": finished["commit"], "project": finished.get("project"), **finished["versions"]}
        other = differences(code, origin["code"])
        log.info(f"{directory} holds the results of this run already" + (f", of other code ({other})" if other else ""))
        return finished
    built = build_run(cfg)
    settle_paths(cfg)  # what was downloaded is there now
    origin = origin_of(cfg)
    keep_split(directory, built.data.tasks, force)
    state = latest(directory / "checkpoints", origin, force)
    if state:
        go_on_as_before(built, *state)
    before = state[1]["innerloop"]["origin"].get("machines", []) if state else []
    origin["machines"] = list(dict.fromkeys([*before, hardware()]))
    trainer = build_trainer(cfg, origin, built.learner.steps_at_once)
    rank_zero_only(results.unlink)(missing_ok=True)  # of other settings
    rank_zero_only(write_whole)(directory / "config.yaml", OmegaConf.to_yaml(with_output_dir(cfg, None)).encode())
    with closed_after(trainer):
        training = train(built, trainer, state)._replace(machines=origin["machines"])
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            write_learner(directory, built)
        return test(built, trainer, results, training)


@contextlib.contextmanager
def closed_after(trainer: lightning.Trainer) -> Iterator[None]:
    """W&B has one run a process, and Lightning leaves it open: the next job of a sweep would write into it."""
    try:
        yield
    finally:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
                logger.experiment.finish()


def go_on_as_before(run: Run, path: Path, state: State) -> None:
    """An interrupted training counts in as many outer steps at once as it did. Raises InputError where others are asked for."""
    before = state.get("steps_at_once") or state["innerloop"]["origin"]["settings"].get("steps_at_once") or 1
    if run.cfg.steps_at_once not in (None, before):
        now = run.cfg.steps_at_once
        raise InputError(f"{path} took {before} outer steps at once, and cannot go on with {now}; set steps_at_once={before}")
    try:
        in_lightning_steps(run.cfg, before)
    except InputError as error:
        if before == 1:
            raise
        raise InputError(
            f"{path} took {before} outer steps at once, and what goes on does too: {error}; or take another hydra.run.dir"
        ) from error
    run.learner.take_at_once(before)
    run.data.steps_at_once = before


def train(run: Run, trainer: lightning.Trainer, state: tuple[Path, State] | None) -> Training:
    """Trains from the beginning or from a checkpoint, and takes the best weights."""
    started, earlier, path = time.perf_counter(), 0.0, None
    if steps_to_train(run) == 0:
        return Training(0, 0.0, trainer.validate(run.learner, datamodule=run.data, verbose=False)[0]["val/loss"])
    continue_logs(trainer, state[1] if state else None)
    for logger in trainer.loggers:
        logger.log_hyperparams(hyperparameters(run.cfg))
    if state:
        path, content = state
        earlier = content["innerloop"]["seconds"]
        rank_zero_only(log.info)(f"going on after outer step {content['global_step']}, from {path}")
        in_precision(run)
        load_weights(run.learner, path)  # for its sentence, where the architecture is another
    task, cfg = run.data.tasks.name, run.cfg
    what = f"{short_name(cfg.algo._target_)} on {task}, {cfg.outer_steps} outer steps of {cfg.meta_batch_size * accumulated(cfg)} tasks"
    rank_zero_only(log.info)(f"{what}, into {cfg.output_dir}")
    rank_zero_only(log.info)("weights: " + ", ".join(f"{count:,} {what}" for what, count in run.learner.algorithm.counts().items()))
    if cfg.engine.compile is None and run.learner.shares.execution.compile:
        rank_zero_only(log.info)("engine.compile=true, since it pays in so many steps of so small a network (false: without)")
    with stoppable(lambda: f"at outer step {trainer.global_step}; the same command goes on from {last_saved(run.cfg)}"):
        trainer.fit(run.learner, datamodule=run.data, ckpt_path=path, weights_only=True)
    seconds = earlier + time.perf_counter() - started
    if trainer.should_stop and trainer.global_step < steps_to_train(run):
        stopper = trainer.early_stopping_callback
        why = f": {stopper.monitor} was not better for {stopper.patience} validations" if stopper else ""
        rank_zero_only(log.info)(f"stopped early at outer step {trainer.global_step} of {steps_to_train(run)}{why}")
    if checkpoints := checkpoints_of(trainer):
        load_weights(run.learner, checkpoints.best_weights)
        return Training(trainer.global_step, seconds, checkpoints.best_loss)
    return Training(trainer.global_step, seconds, trainer.callback_metrics["val/loss"].item())


@contextlib.contextmanager
def stoppable(where: Callable[[], str]) -> Iterator[None]:
    """Says where a signal stopped what is done here. The exit code is 143 after SIGTERM and 1 after Ctrl-C."""
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as end:  # as Lightning hands them on
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            say(f"Stopped {where()}", error=True)
        raise SystemExit(TERMINATED if isinstance(end, SIGTERMException) else getattr(end, "code", 1)) from None


def last_saved(cfg: DictConfig) -> str:
    """The checkpoint that a run goes on from."""
    steps = [int(path.stem.removeprefix("step-")) for path in (Path(cfg.output_dir) / "checkpoints").glob("step-*.ckpt")]
    return f"outer step {max(steps)}" if steps else "the beginning"


def steps_to_train(run: Run) -> int:
    """The outer steps that a run takes: none where there is nothing to learn."""
    return run.cfg.outer_steps if run.learner.algorithm.learns else 0


def validation_interval(cfg: DictConfig) -> int:
    """Outer steps between validations, at most all of them. Raises InputError where the last steps would never be validated."""
    check_count("val_every", cfg.val_every)
    interval = min(cfg.val_every, max(cfg.outer_steps, 1))
    if cfg.outer_steps % interval:
        raise InputError(
            f"outer_steps={cfg.outer_steps} is no multiple of val_every={cfg.val_every}, so its last steps would never be validated; "
            "change one of them"
        )
    return interval


def test(run: Run, trainer: lightning.Trainer, path: Path, training: Training) -> dict[str, Any]:
    """Scores the test episodes and writes the results to `path`."""
    started = time.perf_counter()
    with stoppable(lambda: "as the test episodes were scored; give the same command again"):
        trainer.test(run.learner, datamodule=run.data, verbose=False)
    seconds = time.perf_counter() - started
    assert run.learner.curve is not None
    count = len(run.learner.curve.measures["loss"])  # fewer than all with trainer=debug
    ids, targets = ids_and_targets(run.data.test_episodes, count)
    if answers := answers_of(run.learner.curve, run.data.test_episodes, targets):
        write_answers(answers_path(evidence_path(path)), answers)
    results = write_results(path, with_output_dir(run.cfg, None), run.data.tasks, ids, run.learner, training, seconds)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and results["value"] is not None:  # which lists settings beside scores, or not at all
            logger.log_hyperparams(hyperparameters(run.cfg), {f"final/{results['metric']}": results["value"]})
            logger.finalize("success")
    return results


def hyperparameters(cfg: DictConfig) -> dict[str, Any]:
    """The settings under the names of the command line, for loggers."""
    settings: Any = OmegaConf.to_container(with_output_dir(cfg, None), resolve=True)
    return {key: str(value) if isinstance(value, list) else value for key, value in flat(settings).items()}


def in_precision(run: Run) -> None:
    """The learner in the type that trainer.precision gives its weights: Lightning converts it too late, when a checkpoint is read."""
    kinds = {"64": torch.float64, "64-true": torch.float64, "bf16-true": torch.bfloat16, "16-true": torch.float16}
    run.learner.to(kinds.get(str(run.cfg.trainer.precision), torch.float32))


def load_weights(learner: MetaLearner, path: Path, to_score: bool = False) -> None:
    """Weights of a checkpoint; to_score: without those that only training uses.

    Raises InputError when the file is missing, damaged or of another architecture.
    """
    content = read(path)
    learner.shares.obstacle = content.get("obstacle", learner.shares.obstacle)  # or `innerloop eval` would leave the threads idle
    state = content["state_dict"]
    learner.add_frozen(content)
    if to_score:
        own = learner.state_dict()
        for name in own:
            if learner.algorithm.only_trains(name.removeprefix("algorithm.")):
                state[name] = own[name]
    try:
        if learner.device_mesh is None:
            learner.load_state_dict(state)
        else:  # trainer=fsdp: each device takes its part
            set_model_state_dict(learner, state, options=StateDictOptions(full_state_dict=True))
    except RuntimeError as error:
        reason = mismatch(state, learner.state_dict()) or " ".join(str(error).split())[:300]
        raise InputError(f"checkpoint {path} is of another architecture than this configuration: {reason}") from error


def mismatch(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> str:
    """The weights of two architectures that differ, in words."""
    for name in here.keys() & there.keys():
        if there[name].shape != here[name].shape and name.endswith("head.weight") and there[name].shape[1:] == here[name].shape[1:]:
            outputs = f"{len(there[name])} outputs there and {len(here[name])} here"
            return f"{outputs}, one for each way; keep task.ways, or train with algo=protonet, which takes any"
    shapes = {name: (size(there.get(name)), size(here.get(name))) for name in sorted({*there, *here})}
    parts = [f"{name.removeprefix('algorithm.')} is {old} there and {new} here" for name, (old, new) in shapes.items() if old != new]
    return ", ".join(parts[:3]) + (f", and {len(parts) - 3} more" if len(parts) > 3 else "")


def size(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else "x".join(map(str, tensor.shape)) or "a number"


def load_run(output_dir: str | Path, trust: bool = False) -> Run:
    """A finished run: its configuration, its data and its learner at the best checkpoint, in float32. Raises InputError if it is
    none.

    trust: build whatever classes its configuration names, also those of others (trust.py).
    """
    output_dir = Path(output_dir)
    run = load_checkpoint(trusted_config(output_dir, trust), output_dir)
    run.learner.float()
    return run


def load_checkpoint(cfg: DictConfig, output_dir: Path) -> Run:
    """Builds `cfg` and takes the weights of the run in `output_dir`."""
    built = build_run(cfg)
    if steps_to_train(built) > 0:
        check_unseen(output_dir, cfg.task, built.data.tasks)
        in_precision(built)
        load_weights(built.learner, output_dir / "checkpoints" / "best.ckpt", to_score=True)
    built.learner.eval()
    return built
