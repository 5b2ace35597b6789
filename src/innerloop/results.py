"""results.json: what a run found, and all it takes to find it again."""

import functools
import hashlib
import json
import math
import os
import platform
import resource
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from innerloop.evaluation import mean_ci95, uses_batch_statistics
from innerloop.evidence import checksum, evidence_path, summary, time_to_target, write_evidence
from innerloop.learner import MetaLearner
from innerloop.output import write_whole
from innerloop.tasks.base import Tasks

PACKAGES = ("innerloop", "torch", "lightning", "hydra-core", "numpy")


class Training(NamedTuple):
    """What training took, and the lowest validation loss; None where it was not this process that trained."""

    outer_steps: int
    seconds: float | None
    val_loss: float | None


def write_results(
    path: Path, cfg: DictConfig, tasks: Tasks, ids: list[str], learner: MetaLearner, training: Training, eval_seconds: float
) -> dict[str, Any]:
    """Writes the evidence of a learner that was tested on the episodes `ids`, and then its results, which it returns.

    A contract that other tools read: keys are added, never renamed.
    """
    curve = learner.curve
    assert curve is not None, "test the learner first"
    objective = tasks.objective
    points = curve_points(curve.steps, curve.measures[objective.metric])
    results = {
        "metric": objective.metric,
        "lower_is_better": objective.lower_is_better,
        "value": points[-1]["value"],
        "ci95": points[-1]["ci95"],
        "episodes": len(ids),
        "episodes_checksum": checksum(ids),
        "curve": points,
        "measures": {name: curve_points([curve.steps[-1]], curve.measures[name][:, -1:])[0] for name in ("loss", *objective.more)},
        **summary(curve, objective.metric, objective.lower_is_better),
        "time_to_target": None if cfg.target is None else time_to_target(curve, objective, cfg.target, tasks.support_size),
        "transductive": cfg.transductive is True and uses_batch_statistics(learner),
        "seed": cfg.seed,
        "algo": type_name(cfg.algo._target_),
        "task": tasks.name,
        "engine": getattr(learner.algorithm.engine, "__name__", type(learner.algorithm.engine).__name__),
        "ways": tasks.ways,
        "shots": tasks.shots,
        "queries": tasks.queries,
        "outer_steps": training.outer_steps,
        "val_loss": None if training.val_loss is None else finite(training.val_loss),
        "train_seconds": training.seconds,
        "eval_seconds": eval_seconds,
        # training tasks over train_seconds, which includes validation
        "tasks_per_second": training.outer_steps * cfg.meta_batch_size / training.seconds
        if training.outer_steps and training.seconds
        else None,
        "peak_memory_mb": peak_memory_mb(),
        "command": command(),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
        "config": OmegaConf.to_container(cfg, resolve=True),
    }
    write_evidence(evidence_path(path), curve, ids)
    write_json(path, results)
    return results


def curve_points(steps: list[int], scores: Tensor) -> list[dict[str, float | None]]:
    """Mean and interval of the metric after each reported number of inner steps; None where an episode diverged (JSON has no NaN)."""
    points = ((step, *mean_ci95(at_step)) for step, at_step in zip(steps, scores.T, strict=True))
    return [{"step": step, "value": finite(value), "ci95": finite(ci95)} for step, value, ci95 in points]


def finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


@rank_zero_only
def write_json(path: Path, content: Any) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide the numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def type_name(target: str) -> str:
    """ "innerloop.algorithms.maml.MAML" -> "maml"."""
    return target.rsplit(".", 1)[-1].lower()


def peak_memory_mb() -> float:
    """Most memory so far of this process: on the GPU if one was used, else in all. Jobs of one process share it."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def command() -> str:
    """What to type to have this again: of a job in a sweep, the job alone."""
    if HydraConfig.initialized():
        return shlex.join(["python", "train.py", *HydraConfig.get().overrides.task])
    program = Path(sys.argv[0]).name.replace("__main__.py", "innerloop")
    return shlex.join([program, *sys.argv[1:]])


@functools.cache  # of the code that was loaded, not of what it is when a run ends
def commit() -> str | None:
    """The commit of the source tree, with "+changes-" and letters for what was edited in it; None outside a git checkout."""
    git = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent)]  # a killed process would leave its lock behind
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        code = ["--", ":/src", ":/conf", ":/train.py"]  # what a user keeps beside it does not matter
        commands = [[*git, "status", "--porcelain", *code], [*git, "diff", "HEAD", *code]]
        changes = "".join(subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in commands)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+changes-{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else head


def hardware() -> str:
    """The processor, or the GPU if torch sees one."""
    processor = f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{torch.cuda.get_device_name()}; {processor}" if torch.cuda.is_available() else processor


def cpu_name() -> str:
    """As the kernel names it where it says (Linux), else the architecture."""
    try:
        names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
