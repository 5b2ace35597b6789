"""A run, from its configuration to results.json. The only place that instantiates."""

import logging
import os
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from hydra.utils import get_class, instantiate
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from innerloop import engine as engines
from innerloop.algorithms.base import Algorithm
from innerloop.config import InputError, RunConfig, check_count
from innerloop.data import EpisodicDataModule
from innerloop.execution import Execution
from innerloop.learner import MetaLearner
from innerloop.output import prepare_directory
from innerloop.results import write_results
from innerloop.tasks.base import Tasks

ALL_THREADS = torch.get_num_threads()


class Run(NamedTuple):
    """What a configuration builds."""

    cfg: DictConfig
    data: EpisodicDataModule
    learner: MetaLearner


def run(cfg: DictConfig, output_dir: str | Path) -> dict[str, Any]:
    """Trains, selects the checkpoint with the best validation loss, tests it and writes results.json into `output_dir`.

    Returns what results.json holds. Raises InputError for bad input, also if `output_dir` already holds a run.
    """
    output_dir = prepare_directory(output_dir)
    cfg = with_output_dir(cfg, str(output_dir))
    cfg.val_every = validation_interval(cfg)
    built = build_run(cfg)
    trainer = build_trainer(cfg)
    rank_zero_only(OmegaConf.save)(with_output_dir(cfg, None), output_dir / "config.yaml")
    started = time.perf_counter()
    if steps_to_train(built) > 0:
        trainer.fit(built.learner, datamodule=built.data)
        load_best(built.learner, trainer)
    train_seconds = time.perf_counter() - started
    return test(built, trainer, output_dir / "results.json", trainer.global_step, train_seconds)


def build(node: DictConfig, **arguments: Any) -> Any:
    """Calls the `_target_` of a config node with its keys and `arguments`, which are passed as they are (instantiate would copy them).

    Raises InputError for arguments that the target refuses.
    """
    call = instantiate(node, _partial_=True, _convert_="all")
    try:
        return call(**arguments)
    except InputError:
        raise
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise InputError(f"{node._target_} refuses its arguments: {' '.join(str(error).split())}") from error


def build_run(cfg: DictConfig) -> Run:
    """Data and learner of a configuration, at their initial weights."""
    check_count("seed", cfg.seed, least=0, most=2**32 - 1)
    if cfg.threads is not None:
        check_count("threads", cfg.threads)
    torch.set_num_threads(cfg.threads or ALL_THREADS)
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    tasks = build(cfg.task)
    data = EpisodicDataModule(
        tasks, cfg.seed, cfg.outer_steps, cfg.meta_batch_size, cfg.val_episodes, cfg.test_episodes, cfg.eval_batch_size, cfg.num_workers,
        cfg.steps_at_once,
    )  # fmt: skip
    execution = build(cfg.engine)
    if not isinstance(execution, Execution):
        raise InputError(f"engine has the form of an older version ({cfg.engine._target_}); set it anew from conf/engine")
    algorithm = build_algorithm(cfg, tasks, execution.forward)
    optimizer, scheduler = partial(build, cfg.optimizer), partial(build, cfg.scheduler)
    return Run(
        cfg,
        data,
        MetaLearner(
            algorithm,
            execution,
            torch.get_num_threads(),
            optimizer,
            scheduler,
            cfg.eval_adaptation_steps,
            cfg.transductive,
            cfg.steps_at_once,
        ),
    )


def build_algorithm(cfg: DictConfig, tasks: Tasks, engine: engines.Engine) -> Algorithm[Any]:
    """Model and algorithm, fitted to the shapes of the tasks."""
    model = build(cfg.model, input_shape=tasks.input_shape, outputs=tasks.outputs)
    node = cfg.algo
    if engine is engines.learn2learn:
        from innerloop.algorithms.learn2learn import learn2learn_class  # takes seconds, prints a notice

        target = learn2learn_class(get_class(node._target_))
        node = OmegaConf.merge(node, {"_target_": f"{target.__module__}.{target.__name__}"})
    algorithm = build(node, model=model, objective=tasks.objective, engine=engine)
    if tasks.train_ways != tasks.ways and not algorithm.any_ways:
        raise InputError(
            f"task.train_ways={tasks.train_ways} differs from task.ways={tasks.ways}, but {node._target_.rsplit('.', 1)[-1]} has one "
            "output for each way; make them equal or use algo=protonet"
        )
    return algorithm


def build_trainer(cfg: DictConfig, training: bool = True) -> lightning.Trainer:
    """The Trainer with its callbacks, checkpoints and loggers; without the last two if it is only to test.

    Raises InputError for devices that are not there.
    """
    quieten_lightning()
    if not torch.cuda.is_available():
        # Lightning's way of asking for GPUs opens a library anew each time, and torch's optimizers ask at every step: 0.1 to 0.25 ms
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    if any(word in str(cfg.trainer.get("strategy")) for word in ("fork", "spawn", "notebook")):
        raise InputError(f"trainer.strategy={cfg.trainer.strategy} cannot bring results back to this process; use trainer.strategy=ddp")
    if cfg.trainer.accelerator in ("gpu", "cuda") and not torch.accelerator.is_available():
        raise InputError(f"trainer.accelerator={cfg.trainer.accelerator} asks for a GPU and torch sees none; use trainer=cpu")
    callbacks = [build(node) for name, node in cfg.callbacks.items() if training or name != "checkpoint"]
    loggers = [build(node) for node in cfg.logger.values()] if training else False
    checkpoints = training and "checkpoint" in cfg.callbacks
    # one epoch is the whole run: a second one would repeat its episodes
    arguments = {"callbacks": callbacks, "logger": loggers, "enable_checkpointing": checkpoints, "max_epochs": 1}
    if training and cfg.steps_at_once > 1:
        arguments |= in_lightning_steps(cfg)
    return build(cfg.trainer, **arguments)


def in_lightning_steps(cfg: DictConfig) -> dict[str, int]:
    """The Trainer's intervals where each of its steps is several outer steps. Raises InputError for what goes only with one."""
    several = f"steps_at_once={cfg.steps_at_once}"
    if cfg.outer_steps % cfg.steps_at_once or cfg.val_every % cfg.steps_at_once:
        raise InputError(f"outer_steps={cfg.outer_steps} and val_every={cfg.val_every} must be multiples of {several}; change one of them")
    if cfg.trainer.get("strategy") or cfg.trainer.devices != 1 or cfg.trainer.get("num_nodes", 1) != 1:
        raise InputError(f"{several} runs on one device; use steps_at_once=1 on several")
    precise = str(cfg.trainer.precision) in ("32", "64", "32-true", "64-true", "16-true", "bf16-true")
    if cfg.trainer.gradient_clip_val is not None or not precise or cfg.trainer.get("accumulate_grad_batches", 1) != 1:
        raise InputError(f"{several} does without gradient clipping, accumulation and mixed precision; use steps_at_once=1 for them")
    log_every = cfg.trainer.log_every_n_steps
    log_every = {"log_every_n_steps": max(1, log_every // cfg.steps_at_once)} if log_every else {}
    return {"val_check_interval": cfg.val_every // cfg.steps_at_once, **log_every}


def quieten_lightning() -> None:
    """Keeps Lightning's notices (devices found, tips) off the screen, and warnings that a user can do nothing about."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")  # episodes are cheap to draw
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")  # short runs are fine
    warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")  # Lightning 2.6 calling torch 2.15


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


def test(run: Run, trainer: lightning.Trainer, path: Path, outer_steps: int, train_seconds: float | None) -> dict[str, Any]:
    """Scores the test episodes and writes the results to `path`. outer_steps: how many the weights were trained for."""
    started = time.perf_counter()
    trainer.test(run.learner, datamodule=run.data, verbose=False)
    seconds = {"train_seconds": train_seconds, "eval_seconds": time.perf_counter() - started}
    return write_results(path, with_output_dir(run.cfg, None), run.data.tasks, run.learner, outer_steps, seconds)


def load_best(learner: MetaLearner, trainer: lightning.Trainer) -> None:
    """Takes the weights of the checkpoint with the best validation loss, where one was written (trainer=debug writes none)."""
    path = getattr(trainer.checkpoint_callback, "best_model_path", "")
    if path:
        load_weights(learner, Path(path))


def load_weights(learner: MetaLearner, path: Path) -> None:
    """Weights of a checkpoint. Raises InputError when the file is missing, damaged or of another architecture."""
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}; was the run trained to its end?")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # torch raises whatever the damaged bytes lead to
        raise InputError(f"checkpoint {path} is damaged ({type(error).__name__}); use another one or train again") from error
    try:
        learner.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"checkpoint {path} is of another architecture than this configuration: {reason}") from error


def load_run(output_dir: str | Path) -> Run:
    """A finished run: its configuration, its data and its learner at the best checkpoint. Raises InputError if it is none."""
    output_dir = Path(output_dir)
    return load_checkpoint(load_config(output_dir), output_dir)


def load_config(output_dir: Path) -> DictConfig:
    """The configuration that a run was started with."""
    path = output_dir / "config.yaml"
    if not path.is_file():
        raise InputError(f"{output_dir} is not the output directory of a run: it has no config.yaml")
    try:
        return with_output_dir(OmegaConf.merge(RunConfig, OmegaConf.load(path)), str(output_dir))  # type: ignore[arg-type]
    except (YAMLError, ValueError) as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error


def load_checkpoint(cfg: DictConfig, output_dir: Path) -> Run:
    """Builds `cfg` and takes the weights of the run in `output_dir`."""
    built = build_run(cfg)
    if steps_to_train(built) > 0:
        load_weights(built.learner, output_dir / "checkpoints" / "best.ckpt")
    built.learner.eval()
    return built


def with_output_dir(cfg: DictConfig, path: str | None) -> DictConfig:
    """The configuration with its place set, or taken out: two runs of it then have equal results."""
    return OmegaConf.merge(cfg, {"output_dir": path})  # type: ignore[return-value]
