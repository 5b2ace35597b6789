"""Where the jobs of a sweep run: what launchers are told of devices, and what is refused before anything starts. Imports no torch."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigLoadError, ConfigStore
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from innerloop.config import InputError
from innerloop.sweeps.slurm import check_slurm, record_lost_jobs

CHOICE = "INNERLOOP_GPUS"  # what CUDA_VISIBLE_DEVICES was: submitit overwrites it


def preset_launchers(directory: Path) -> None:
    """Sets the launchers that are installed to the values in `directory`: hydra/launcher=joblib means Hydra's joblib.yaml and then ours.

    (A file of ours in Hydra's place, conf/hydra/launcher/joblib.yaml, works too, with a warning that this will go.)
    """
    Plugins.instance()  # finds the launchers
    store = ConfigStore.instance()
    for path in directory.glob("*.yaml"):
        with contextlib.suppress(ConfigLoadError):
            launcher = store.load(f"hydra/launcher/{path.name}")
            store.store(path.stem, OmegaConf.merge(launcher.node, OmegaConf.load(path)), "hydra/launcher", provider=launcher.provider)


class CheckLauncher(Callback):
    """Refuses a sweep that its launcher could not carry out."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        try:
            check_launcher(config)
        except InputError as error:
            print(f"Error: {error}", file=sys.stderr)
            raise SystemExit(1) from None


def check_launcher(config: DictConfig) -> None:
    """Raises InputError for settings that cannot work."""
    name, trainer = config.hydra.launcher._target_.rsplit(".", 1)[-1], config.trainer
    if name in ("SlurmLauncher", "RayLauncher") and trainer.accelerator == "auto":
        raise InputError("trainer.accelerator=auto leaves open whether a cluster is to give each job GPUs; set it to gpu or cpu")
    if name in ("JoblibLauncher", "LocalLauncher") and gpus_here(trainer.accelerator):
        if not isinstance(trainer.devices, int):
            raise InputError(f"trainer.devices={trainer.devices}: jobs side by side choose from CUDA_VISIBLE_DEVICES; give a number")
        os.environ.setdefault(CHOICE, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    if name == "SlurmLauncher":
        check_slurm(config)
    if name in ("SlurmLauncher", "LocalLauncher"):
        record_lost_jobs()
    try:
        OmegaConf.to_container(config.hydra.launcher, resolve=True)
    except InterpolationResolutionError as error:
        raise InputError(str(error).splitlines()[0].rpartition("raised while resolving interpolation: ")[2]) from error


def gpus_here(accelerator: str) -> int:
    """The GPUs of this machine, if they are asked for."""
    if accelerator == "cpu":
        return 0
    import torch

    return torch.cuda.device_count()


def gpus_asked(accelerator: str, devices: Any) -> int | None:
    """Of each node of a cluster, whose GPUs this machine may not have."""
    return None if accelerator == "cpu" else number_of(devices)


def jobs_at_once(accelerator: str, devices: Any) -> int:
    """On this machine: one for each core, which is -1, or for each share of the GPUs."""
    gpus = gpus_here(accelerator)
    return max(1, gpus // number_of(devices)) if gpus else -1


def number_of(devices: Any) -> int:
    """Of what Lightning calls devices: a number or a list. Raises InputError for what leaves it open."""
    number = len(devices) if OmegaConf.is_list(devices) or isinstance(devices, list) else devices
    if not isinstance(number, int) or number < 1:
        raise InputError(f"trainer.devices={devices} leaves open how many devices a job of a sweep takes; give a number")
    return number


for resolver in (gpus_here, gpus_asked, jobs_at_once):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
