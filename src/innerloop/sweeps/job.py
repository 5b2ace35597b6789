"""One job of train.py: what is around a run when it is started from the command line."""

import contextlib
import importlib.util
import math
import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf, flag_override
from rich.markup import escape
from rich.tree import Tree

import __main__
from innerloop.config import Diverged, InputError
from innerloop.console import said, say
from innerloop.reports.table import as_text, results_table, show
from innerloop.runs.build import build_run
from innerloop.runs.estimate import cost_table, estimate
from innerloop.runs.experiment import run
from innerloop.runs.folder import DIVERGED_FILE, ERROR_FILE, PRUNED_FILE, InUse, Results
from innerloop.sweeps.gpus import claim_gpus
from innerloop.sweeps.launchers import gpus_here, number_of
from innerloop.sweeps.pruning import Pruned

BESIDE_OTHERS = ("JoblibLauncher", "LocalLauncher")  # they start several jobs on this machine and leave its GPUs to them


def run_job(cfg: DictConfig) -> float | None:
    """Runs, prints the result and returns the lowest validation loss, which sweepers minimise.

    Bad input is one sentence and exit code 1 (a traceback with HYDRA_FULL_ERROR=1). In a sweep the sentence is kept beside the job's other
    files, the value is infinite, as it is where the loss diverged, and the other jobs go on, whatever the error. No value: another process
    is at work on the same job.
    """
    hydra = HydraConfig.get()
    output_dir, sweeping = Path(hydra.runtime.output_dir), hydra.mode == RunMode.MULTIRUN
    try:
        if sweeping and hydra.launcher._target_.endswith(BESIDE_OTHERS) and gpus_here(cfg.trainer.accelerator):
            claim_gpus(number_of(cfg.trainer.devices))
        if cfg.print_config and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            show(settings_tree(OmegaConf.to_container(cfg, resolve=True)))
        if cfg.estimate:
            show(cost_table(estimate(build_run(cfg))))
            return None
        with alone() if sweeping else contextlib.nullcontext():
            results = run(cfg, output_dir)
    except Pruned as end:
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            say(f"pruned: {end}")
            (output_dir / PRUNED_FILE).write_text(f"{end}\n")
        return end.loss
    except KeyboardInterrupt:
        say("Stopped before the training began; give the same command again", error=True)
        raise SystemExit(1) from None
    except Exception as error:
        expected = isinstance(error, InputError) and os.environ.get("HYDRA_FULL_ERROR") != "1"
        if not expected and not sweeping:
            raise
        if not expected:
            traceback.print_exc()
        say(f"Error: {error}", error=True)
        if not sweeping:
            raise SystemExit(1) from None
        if isinstance(error, InUse):  # that job is well
            return None
        with contextlib.suppress(OSError):
            (output_dir / (DIVERGED_FILE if isinstance(error, Diverged) else ERROR_FILE)).write_text(f"{error}\n")
        return math.inf
    report(results, output_dir)
    if not sweeping and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        say(f"next: innerloop report {shlex.quote(str(output_dir))}")
    return math.inf if results["val_loss"] is None else results["val_loss"]


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Makes a job of a sweep what it is when it is run alone, in the same directory: for several devices Lightning starts the program
    again, by the module that __main__ is (in a launcher's worker, one of the launcher's) and with sys.argv, in hydra.run.dir, and leaves
    its environment variables and process group to the next job."""
    hydra, argv, environment, spec = HydraConfig.get(), sys.argv, dict(os.environ), __main__.__spec__
    given = [f"--config-dir={source.path}" for source in hydra.runtime.config_sources if source.provider == "command-line"]
    with flag_override(cast(DictConfig, hydra), "readonly", False):
        hydra.run.dir = hydra.runtime.output_dir
    sys.argv = [argv[0], "train", *given, *hydra.overrides.task, "hydra.mode=RUN"]  # an experiment may ask for a sweep
    __main__.__spec__ = importlib.util.find_spec("innerloop.cli")
    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        sys.argv, __main__.__spec__ = argv, spec
        os.environ.clear()
        os.environ.update(environment)


@rank_zero_only
def report(results: Results, output_dir: Path) -> None:
    """What a run ends with on the terminal."""
    table = results_table(results)
    show(table)
    said.info(as_text(table))
    if batches := results["config"]["trainer"].get("fast_dev_run"):
        say(f"Note: all goes well, in {batches} batches of training, validation and test; the numbers mean nothing")
    elif hint := hint_of(results):
        say(f"Note: {hint}")
    say(f"results: {output_dir / 'results.json'}")


def settings_tree(settings: Any, title: str = "settings") -> Tree:
    """The composed configuration, to be read."""
    tree = Tree(escape(title))
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            tree.add(settings_tree(value, key))
        else:
            tree.add(escape(f"{key}: {value}"))
    return tree


def hint_of(results: Results) -> str | None:
    """What to change where the score explodes within the adaptation steps: often they are more than it was trained for."""
    first, last = results["curve"][0], results["curve"][-1]
    exploded = last["value"] is None or (results["lower_is_better"] and first["value"] and last["value"] > 10 * first["value"])
    trained = results["config"]["algo"].get("adaptation_steps")
    if not exploded or not last["step"]:
        return None
    if trained and trained < last["step"]:
        return (
            f"it was trained for {trained} inner step{'s' * (trained > 1)} and scored after {last['step']}, by when it has diverged; "
            f"lower algo.inner_lr, or set eval_adaptation_steps={trained}"
        )
    return "it diverges within the adaptation steps; lower algo.inner_lr"
