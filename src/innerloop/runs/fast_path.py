"""What makes the steps of a small network quicker, and is done unasked where it pays within the run."""

from typing import Any

from omegaconf import DictConfig
from torch import nn
from torch.nn.modules.conv import _ConvNd

from innerloop.algorithms.base import Algorithm
from innerloop.engine.forward import vmap
from innerloop.objective import CLASSIFICATION, REGRESSION
from innerloop.tasks.base import Tasks
from innerloop.training.lightning_settings import accumulated, in_trust_region, on_gpu

TASKS = 400_000  # of training; at so many it pays where nothing was compiled before (docs/performance.md has the times)
WEIGHTS = 100_000  # at most: larger ones were not timed
GPU_STEPS = 200  # of a run that a GPU takes as a CUDA graph: capturing takes a second
GPU_WEIGHTS = 1_000_000  # at most: of larger networks it was not timed
SEVERAL = 10  # outer steps at once
STEPS = 1000  # of training, from which on several are taken at once: in fewer nothing is won that is noticed
# for which a Lightning step may be several outer steps: others count its steps
CALLBACKS = {"checkpoint", "progress", "early_stopping"}
TRAINER = {
    "_target_", "accelerator", "devices", "num_nodes", "precision", "val_check_interval", "gradient_clip_val", "log_every_n_steps",
    "num_sanity_val_steps", "enable_model_summary", "inference_mode", "use_distributed_sampler", "enable_progress_bar", "max_time",
}  # fmt: skip


def compiling_pays(cfg: DictConfig, tasks: Tasks, algorithm: Algorithm[Any]) -> bool:
    """For many steps of a small network without convolutions, all tasks at once, on one CPU, and of any network that leaves one GPU idle;
    by its settings and the device, so that an interrupted run decides as it did; one that is made longer than it was may go on compiled."""
    steps = cfg.outer_steps * accumulated(cfg)
    pays = steps >= GPU_STEPS if on_one_gpu(cfg, algorithm) else steps * cfg.meta_batch_size >= TASKS and on_one_cpu(cfg, algorithm)
    known = CALLBACKS.issuperset(cfg.callbacks)  # others may change what was read once
    return pays and known and is_usual(tasks, algorithm) and not getattr(algorithm, "checkpoint_inner", False)


def steps_at_once(cfg: DictConfig, tasks: Tasks, algorithm: Algorithm[Any]) -> int:
    """How many outer steps are one of Lightning's: what is asked for, else 10 where that changes nothing but the time."""
    if cfg.steps_at_once is not None:
        return int(cfg.steps_at_once)
    whole = [cfg.outer_steps, cfg.val_every, cfg.trainer.get("log_every_n_steps")]
    divides = all(isinstance(number, int) and number % SEVERAL == 0 for number in whole) and cfg.outer_steps >= STEPS
    plain = cfg.trainer.get("gradient_clip_val") is None and cfg.reuse == 1 and not in_trust_region(cfg)
    known = CALLBACKS.issuperset(cfg.callbacks) and TRAINER.issuperset(cfg.trainer)
    pays = divides and plain and known and on_one_cpu(cfg, algorithm) and is_usual(tasks, algorithm)
    return SEVERAL if pays else 1


def is_usual(tasks: Tasks, algorithm: Algorithm[Any]) -> bool:
    """All tasks at once; functions or classes, of one shape."""
    return algorithm.engine is vmap and tasks.objective in (CLASSIFICATION, REGRESSION) and not tasks.varied and not tasks.sampling


def on_one_cpu(cfg: DictConfig, algorithm: Algorithm[Any]) -> bool:
    """And small: at most WEIGHTS, none of a convolution."""
    small = weights(algorithm) <= WEIGHTS and not any(isinstance(layer, _ConvNd) for layer in algorithm.modules())
    return small and is_alone(cfg) and cfg.trainer.get("accelerator") == "cpu"


def on_one_gpu(cfg: DictConfig, algorithm: Algorithm[Any]) -> bool:
    """And of at most GPU_WEIGHTS."""
    return on_gpu(cfg) and is_alone(cfg) and weights(algorithm) <= GPU_WEIGHTS


def is_alone(cfg: DictConfig) -> bool:
    usual = {"devices": 1, "num_nodes": 1, "precision": "32-true", "fast_dev_run": None}
    return all(cfg.trainer.get(key) == value for key, value in usual.items())


def weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
