"""`innerloop train`, which is train.py: trains and evaluates one run, or with -m a sweep of them. Imports no torch itself."""

import sys

import hydra
from omegaconf import DictConfig

from innerloop.config import InputError, register
from innerloop.console import loading
from innerloop.project import CONF, check_names, enter, project
from innerloop.sweeps import reference  # noqa: F401  what --help says of the settings
from innerloop.sweeps.launchers import preset_launchers
from innerloop.sweeps.overrides import ELSEWHERE, check_arguments

register()
preset_launchers(CONF / "hydra" / "launcher_presets")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def run(cfg: DictConfig) -> float | None:
    with loading():
        from innerloop.sweeps.job import run_job  # here, so that --help and a sweep's parent stay light

    return run_job(cfg)


def main() -> None:
    """With the settings and classes of the project that the user stands in, if it is one."""
    enter()
    try:
        check_names()
        check_arguments(sys.argv[1:])
    except InputError as error:
        sys.exit(f"Error: {error}")
    if (own := project()) and not any(argument.startswith(ELSEWHERE[:2]) for argument in sys.argv[1:]):
        sys.argv.insert(1, f"--config-dir={own / 'conf'}")  # processes of other devices are started with it too
    run()
