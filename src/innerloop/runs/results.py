"""results.json: what a run found, and all it takes to find it again."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from innerloop.config import short_name
from innerloop.files import write_whole
from innerloop.project import code_of_project
from innerloop.runs.evidence import by_shape, checksum, evidence_path, summary, time_to_target, write_evidence
from innerloop.runs.provenance import command, commit, hardware, peak_memory_mb, versions
from innerloop.tasks.base import Tasks
from innerloop.training.evaluation import mean_ci95, sees_other_queries
from innerloop.training.learner import MetaLearner
from innerloop.training.lightning_settings import accumulated


class Training(NamedTuple):
    """What training took, and the lowest validation loss; None where it was not this process that trained. machines: that it ran on, in
    turn."""

    outer_steps: int
    seconds: float | None
    val_loss: float | None
    machines: Sequence[str] = ()


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
    more = [name for name in curve.measures if name not in (objective.metric, "support_loss", "ms", "ways", "shots")]
    results = {
        "metric": objective.metric,
        "lower_is_better": objective.lower_is_better,
        "value": points[-1]["value"],
        "ci95": points[-1]["ci95"],
        "episodes": len(ids),
        "episodes_checksum": checksum(ids),
        "curve": points,
        "measures": {name: curve_points([curve.steps[-1]], curve.measures[name][:, -1:])[0] for name in more},
        **summary(curve, objective.metric, objective.lower_is_better),
        "time_to_target": None if cfg.target is None else time_to_target(curve, objective, cfg.target, tasks.support_size),
        "transductive": cfg.transductive is True and sees_other_queries(learner.algorithm),
        "tags": list(cfg.tags),
        "seed": cfg.seed,
        "algo": short_name(cfg.algo._target_),
        "baseline": learner.algorithm.baseline,
        "task": tasks.name,
        "engine": getattr(learner.algorithm.engine, "__name__", type(learner.algorithm.engine).__name__),
        "ways": tasks.varied.get("ways", tasks.ways),
        "shots": tasks.varied.get("shots", tasks.shots),
        "by_shape": by_shape(curve, objective.metric),
        "queries": tasks.queries,
        "outer_steps": training.outer_steps,
        "val_loss": None if training.val_loss is None else finite(training.val_loss),
        "train_seconds": training.seconds,
        "eval_seconds": eval_seconds,
        # training tasks over train_seconds, which includes validation
        "tasks_per_second": training.outer_steps * accumulated(cfg) * cfg.meta_batch_size / training.seconds
        if training.outer_steps and training.seconds
        else None,
        "peak_memory_mb": peak_memory_mb(),
        "parameters": learner.algorithm.counts(),
        "command": command(),
        "commit": commit(),
        "project": code_of_project(),
        "versions": versions(),
        "hardware": ", then ".join(training.machines) or hardware(),
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
    write_whole(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
