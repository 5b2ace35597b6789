"""What Lightning has to be told: its intervals where one of its steps is several of ours, and not to speak of what is known."""

import logging
import warnings

import torch
from omegaconf import DictConfig

from innerloop.config import InputError, check_count
from innerloop.training.trust_region import TrustRegion


def on_gpu(cfg: DictConfig) -> bool:
    """Whether it trains on GPUs of CUDA."""
    return cfg.trainer.get("accelerator") in ("gpu", "cuda", "auto") and torch.cuda.is_available()


def accumulated(cfg: DictConfig) -> int:
    """How many meta-batches make an outer step. Raises InputError for what is no count."""
    count: int = cfg.trainer.get("accumulate_grad_batches", 1)
    check_count("trainer.accumulate_grad_batches", count)
    return count


def in_trust_region(cfg: DictConfig) -> bool:
    """Whether the outer optimizer is TrustRegion, which takes steps of its own kind."""
    return str(cfg.optimizer._target_) == f"{TrustRegion.__module__}.{TrustRegion.__name__}"


def in_lightning_steps(cfg: DictConfig, steps_at_once: int) -> dict[str, int]:
    """The Trainer's intervals, in meta-batches, or in several with steps_at_once. Raises InputError for what does not go with it."""
    check_count("reuse", cfg.reuse)
    if steps_at_once == cfg.reuse == 1 and not in_trust_region(cfg):
        return {"val_check_interval": cfg.val_every * accumulated(cfg)}
    several = f"steps_at_once={steps_at_once}" if steps_at_once > 1 else f"reuse={cfg.reuse}"
    plain = "steps_at_once=1" if steps_at_once > 1 else "reuse=1"
    if in_trust_region(cfg):
        several, plain = "optimizer=trust_region", "optimizer=adam reuse=1"
    if cfg.outer_steps % steps_at_once or cfg.val_every % steps_at_once:
        raise InputError(f"outer_steps={cfg.outer_steps} and val_every={cfg.val_every} must be multiples of {several}; change one of them")
    if cfg.trainer.get("strategy") or cfg.trainer.devices != 1 or cfg.trainer.get("num_nodes", 1) != 1:
        raise InputError(f"{several} runs on one device; use {plain} on several")
    precise = str(cfg.trainer.precision) in ("32", "64", "32-true", "64-true", "16-true", "bf16-true")
    if cfg.trainer.gradient_clip_val is not None or not precise or accumulated(cfg) != 1:
        raise InputError(f"{several} does without gradient clipping, accumulation and mixed precision; use {plain} for them")
    log_every = cfg.trainer.log_every_n_steps
    log_every = {"log_every_n_steps": max(1, log_every // steps_at_once)} if log_every else {}
    return {"val_check_interval": cfg.val_every // steps_at_once, **log_every}


def quieten_lightning() -> None:
    """Keeps Lightning's notices (devices found, tips) off the screen, and warnings that a user can do nothing about."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")  # episodes are cheap to draw
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")  # short runs are fine
    warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")  # ours begins at the step that training is at
    warnings.filterwarnings("ignore", ".*Experiment logs directory.*")  # a run that goes on restores them
    warnings.filterwarnings("ignore", ".*`srun` command is available.*")  # on a login node that is what one wants
    warnings.filterwarnings("ignore", ".*WeightAveraging callback with a model that overrides.*")  # trainer=fsdp is another matter
    warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")  # Lightning 2.6 calling torch 2.15
