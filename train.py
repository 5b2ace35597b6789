"""Trains and evaluates one run, or with -m a sweep of them. `python train.py --help` lists the choices."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from innerloop.config import InputError, register
from innerloop.console import announced
from innerloop.sweeps import reference  # noqa: F401  what --help says of the settings
from innerloop.sweeps.launchers import preset_launchers
from innerloop.sweeps.overrides import check_arguments

register()
preset_launchers(Path(__file__).parent / "conf" / "hydra" / "launcher_presets")


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    with announced("loading PyTorch and Lightning"):
        from innerloop.sweeps.job import run_job  # here, so that --help and a sweep's parent stay light

    return run_job(cfg)


if __name__ == "__main__":
    try:
        check_arguments(sys.argv[1:])
    except InputError as error:
        sys.exit(f"Error: {error}")
    main()
