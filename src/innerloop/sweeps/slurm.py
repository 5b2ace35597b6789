"""Sweeps on a Slurm cluster: what is refused before submission, and jobs that the cluster ended. Imports no torch."""

import logging
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from innerloop.config import InputError
from innerloop.runs.folder import ERROR_FILE

log = logging.getLogger(__name__)
OF_THE_ARRAY = ("trainer", "trainer.devices", "trainer.num_nodes", "trainer.accelerator")


def check_slurm(config: DictConfig) -> None:
    """Raises InputError for what Slurm would refuse, leave waiting, or run in vain."""
    launcher, trainer = config.hydra.launcher, config.trainer
    if not shutil.which("sbatch"):
        raise InputError("hydra/launcher=submitit_slurm needs sbatch, which is not here; start the sweep on a login node of the cluster")
    for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
        if override.is_sweep_override() and override.key_or_group in OF_THE_ARRAY:
            raise InputError(
                f"{override.key_or_group} cannot be swept on Slurm, where all jobs of an array get the same processes; start a sweep for "
                "each value, in one hydra.sweep.dir"
            )
    if not isinstance(trainer.devices, int) or trainer.devices < 1:
        raise InputError(f"trainer.devices={trainer.devices} does not say how many processes Slurm is to start; give a number")
    for name, key in (("tasks_per_node", "devices"), ("nodes", "num_nodes")):
        if launcher[name] != trainer[key]:
            raise InputError(f"hydra.launcher.{name}={launcher[name]} must be trainer.{key}={trainer[key]}: set trainer.{key} alone")
    gpus = (launcher.gpus_per_node or 0) + (launcher.gpus_per_task or 0) * trainer.devices
    if trainer.accelerator in ("gpu", "cuda") and not launcher.gres and gpus < trainer.devices:
        raise InputError(f"hydra.launcher.gpus_per_node={launcher.gpus_per_node} is too few for trainer.devices={trainer.devices}")
    # Slurm may give its signal a minute early
    if launcher.max_num_timeout > 0 and launcher.timeout_min * 60 <= launcher.signal_delay_s + 60:
        raise InputError(
            f"hydra.launcher.timeout_min={launcher.timeout_min} leaves no time to train before hydra.launcher.signal_delay_s="
            f"{launcher.signal_delay_s}, when a job is to queue itself again; ask for more minutes"
        )
    if not accounting():
        log.warning(
            "sacct does not answer: a job that the cluster kills will be waited for without end; see `innerloop table` for how they are"
        )


def accounting() -> bool:
    """Whether Slurm keeps a record of what became of jobs."""
    try:
        return subprocess.run(["sacct", "--noheader"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def record_lost_jobs() -> None:
    """Makes a job that the cluster ended (killed, or out of allotments) one that failed, beside which the others go on.

    The launcher would end the whole sweep with submitit's exception.
    """
    from submitit import Job
    from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError

    results = Job.results

    def or_lost(job: Any) -> list[Any]:
        try:
            return results(job)
        except (UncompletedJobError, FailedJobError, FailedSubmissionError) as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            directory = folder_of(job)
            directory.mkdir(parents=True, exist_ok=True)
            text = f"job {job.job_id} ended as {job.state} without a result ({lines[-1].strip()}); log: {job.paths.stderr}"
            log.error(text)
            (directory / ERROR_FILE).write_text(f"{text}\n")
            return [JobReturn(status=JobStatus.COMPLETED, _return_value=None)]

    Job.results = or_lost  # type: ignore[method-assign, assignment]


def folder_of(job: Any) -> Path:
    """The output directory of a job, which it may not have come to make."""
    submission = job.submission()
    launcher, overrides = submission.function, submission.args[0]
    config = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, overrides)
    HydraConfig.instance().set_config(config)
    return Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir
