"""Whether compiling a run's outer gradient pays within the run."""

from typing import Any

from omegaconf import DictConfig
from torch import nn
from torch.nn.modules.conv import _ConvNd

from innerloop.algorithms.base import Algorithm
from innerloop.engine.forward import vmap
from innerloop.objective import CLASSIFICATION, REGRESSION
from innerloop.tasks.base import Tasks
from innerloop.training.lightning_settings import accumulated

TASKS = 400_000  # of training; at so many it pays where nothing was compiled before (docs/performance.md has the times)
WEIGHTS = 100_000  # at most: larger ones were not timed


def compiling_pays(cfg: DictConfig, tasks: Tasks, algorithm: Algorithm[Any]) -> bool:
    """For many steps of a small network without convolutions, all tasks at once, on one CPU; by its settings alone, so that an interrupted
    run decides as it did; one that is made longer than it was may go on compiled."""
    many = cfg.outer_steps * accumulated(cfg) * cfg.meta_batch_size >= TASKS
    usual = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "precision": "32-true", "fast_dev_run": None}
    alone = all(cfg.trainer.get(key) == value for key, value in usual.items())
    plain = algorithm.engine is vmap and tasks.objective in (CLASSIFICATION, REGRESSION) and not tasks.varied
    return many and alone and plain and not getattr(algorithm, "checkpoint_inner", False) and is_small(algorithm)


def is_small(module: nn.Module) -> bool:
    weights = sum(parameter.numel() for parameter in module.parameters())
    return weights <= WEIGHTS and not any(isinstance(layer, _ConvNd) for layer in module.modules())
