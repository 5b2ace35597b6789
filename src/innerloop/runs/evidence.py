"""evidence.csv: what a run measured of each test episode, and of which episodes."""

import csv
import hashlib
import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only

from innerloop.config import InputError
from innerloop.episode import Episode
from innerloop.files import write_whole
from innerloop.objective import Objective
from innerloop.training.data import Episodes
from innerloop.training.evaluation import Curve, area_under, mean_ci95, reported_steps

KEYS = ("episode", "id", "step")


class Evidence(NamedTuple):
    """ids: 16 letters for each episode, equal where inputs and targets are. steps: reported. measures: by name, (episodes, len(steps))."""

    ids: list[str]
    steps: list[int]
    measures: dict[str, np.ndarray]


def evidence_path(results: Path) -> Path:
    """RUN/results.json -> RUN/evidence.csv, and the like of an evaluation."""
    return results.with_name("evidence.csv") if results.name == "results.json" else results.with_suffix(".csv")


def ids_and_targets(episodes: Episodes, count: int, at_once: int = 100) -> tuple[list[str], torch.Tensor]:
    """Of the first `count` episodes of a split: their names, and the targets of their query sets; -1 where another has more of them."""
    names: list[str] = []
    targets: list[torch.Tensor] = []
    at_once = 1 if episodes.one_by_one else at_once
    for start in range(0, count, at_once):
        batch = episodes.meta_batch(range(start, min(start + at_once, count)))
        names += names_of(batch)
        targets += batch.query.y
    return names, torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=-1)


def names_of(meta_batch: Episode) -> list[str]:
    """A name for each episode by what is in it; targets of a regression count to a thousandth, since libraries round differently."""
    tensors = [tensor for part in meta_batch for tensor in (part.x, part.y)]
    whole = [(1000 * t).round().long() if i % 2 and t.is_floating_point() else t for i, t in enumerate(tensors)]
    arrays = [tensor.contiguous().numpy() for tensor in whole]
    return [hashlib.blake2b(b"".join(array[i].tobytes() for array in arrays), digest_size=8).hexdigest() for i in range(len(arrays[0]))]


def checksum(ids: list[str]) -> str:
    """Of a list of episodes."""
    return hashlib.blake2b("".join(ids).encode(), digest_size=8).hexdigest()


@rank_zero_only
def write_evidence(path: Path, curve: Curve, ids: list[str]) -> None:
    """A row for each episode and number of adaptation steps, with all digits; "nan" and "inf" are what diverged."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*KEYS, *curve.measures])
    values = torch.stack(list(curve.measures.values()), -1).tolist()
    for episode, (name, rows) in enumerate(zip(ids, values, strict=True)):
        writer.writerows([episode, name, step, *(f"{value:.9g}" for value in row)] for step, row in zip(curve.steps, rows, strict=True))
    write_whole(path, text.getvalue().encode())


def read_evidence(path: Path) -> Evidence:
    """Raises InputError for a file that is missing or damaged."""
    try:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        names = header[len(KEYS) :]
        steps = list(dict.fromkeys(int(row[2]) for row in rows))
        ids = [row[1] for row in rows[:: len(steps)]]
        table = np.array([row[len(KEYS) :] for row in rows], dtype=float).reshape(len(ids), len(steps), len(names))
    except (OSError, ValueError, IndexError) as error:
        run = path.parent.parent if path.parent.name == "evaluations" else path.parent
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise InputError(
            f"{path} cannot be read ({reason}); `innerloop eval {run}` scores the run again, into {run / 'evaluations' / 'as_trained.json'}"
        ) from error
    return Evidence(ids, steps, {name: table[:, :, index] for index, name in enumerate(names)})


def time_to_target(curve: Curve, objective: Objective, target: float, support: dict[str, int]) -> dict[str, Any]:
    """The first of the reported steps after which the mean over episodes reaches the target, and the milliseconds of adaptation up to it;
    None where none does. support: what an episode's support set has, {"examples": 25}."""
    means = curve.measures[objective.metric].mean(0)
    reached = (means <= target if objective.lower_is_better else means >= target).nonzero()
    if not len(reached):
        return {"target": target, "steps": None, **dict.fromkeys(support), "ms": None}
    first = int(reached[0])
    return {"target": target, "steps": curve.steps[first], **support, "ms": curve.measures["ms"][:, first].mean().item()}


def by_shape(curve: Curve, metric: str, bins: int = 3) -> dict[str, Any] | None:
    """Where episodes differ in ways or shots: the metric after the last step in bins of each, [{from, to, value, ci95, episodes}, ...];
    None where they do not. A mean over all hides what an average episode was."""
    found: dict[str, Any] = {}
    for name in ("ways", "shots"):
        if name in curve.measures and len(counts := curve.measures[name][:, -1].unique()) > 1:
            groups = [counts[len(counts) * i // bins : len(counts) * (i + 1) // bins] for i in range(bins)]
            found[name] = [row_of(curve, metric, name, group) for group in groups if len(group)]
    return found or None


def row_of(curve: Curve, metric: str, name: str, counts: torch.Tensor) -> dict[str, Any]:
    scores = curve.measures[metric][torch.isin(curve.measures[name][:, -1], counts), -1]
    value, ci95 = mean_ci95(scores) if len(scores) > 1 else (scores.item(), math.nan)
    numbers = {"value": value, "ci95": ci95}
    return {"from": counts[0].item(), "to": counts[-1].item(), "episodes": len(scores)} | {
        key: number if math.isfinite(number) else None for key, number in numbers.items()
    }


def summary(curve: Curve, metric: str, lower_is_better: bool) -> dict[str, Any]:
    """auc: the metric averaged over the adaptation curve (the area under it, divided by its steps).
    worst5: its mean over the worst twentieth of the episodes, after the last step."""
    scores = curve.measures[metric]
    area = area_under(curve, metric) if {*reported_steps(curve.steps[-1])} <= {*curve.steps} else math.nan  # not of a few of its points
    worst = scores[:, -1].sort(descending=lower_is_better).values[: max(1, len(scores) // 20)].mean().item()
    worst = math.nan if scores[:, -1].isnan().any() else worst  # sorting would take what diverged for the best
    return {"auc": area if math.isfinite(area) else None, "worst5": worst if math.isfinite(worst) else None}
