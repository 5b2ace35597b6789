"""answers.npz: what a classifier answered to each query of its test episodes, and which class that was."""

import copy
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only

from innerloop.files import write_whole
from innerloop.runs.disjoint_episodes import DisjointEpisodes
from innerloop.tasks.class_episodes import ClassEpisodes
from innerloop.training.data import EpisodeDataset, Episodes
from innerloop.training.evaluation import Curve


class Answers(NamedTuple):
    """All (episodes, queries); where episodes have fewer queries than others, truth is -1 in the rest, as it is of queries of no
    class. truth, first, last: the way of a query, the answer after the first and the last of the steps that were scored. confidence: of the
    last answer, NaN where it diverged. classes: the row of a query's class in `names`; -1 where it has none."""

    truth: np.ndarray
    first: np.ndarray
    last: np.ndarray
    confidence: np.ndarray
    classes: np.ndarray
    names: list[str]


def answers_path(evidence: Path) -> Path:
    """RUN/evidence.csv -> RUN/answers.npz; evaluations/NAME.csv -> evaluations/NAME.npz."""
    return evidence.with_name("answers.npz") if evidence.name == "evidence.csv" else evidence.with_suffix(".npz")


def answers_of(curve: Curve, episodes: Episodes, truth: torch.Tensor) -> Answers | None:
    """Of the test episodes, truth (episodes, queries) being the ways of their queries. None for what is no classifier."""
    if curve.answers is None:
        return None
    first, last, confidence = curve.answers.cpu()[:, : truth.shape[1]].unbind(-1)
    classes, names = classes_of(episodes, len(truth))
    ways = [np.asarray(numbers.nan_to_num(-1), np.int16) for numbers in (truth, first, last)]
    known = np.full(truth.shape, -1) if classes is None else classes
    return Answers(ways[0], ways[1], ways[2], confidence.numpy().astype(np.float32), known, names)


def classes_of(episodes: Any, count: int) -> tuple[np.ndarray | None, list[str]]:
    """The class of each query, (episodes, queries), and what the classes are called; None where episodes do not say."""
    key = "tasks" if isinstance(episodes, EpisodeDataset) else "distribution"
    if not isinstance(episodes, EpisodeDataset | DisjointEpisodes) or not isinstance(getattr(episodes, key), ClassEpisodes):
        return None, []
    by_class = copy.copy(getattr(episodes, key))
    by_class.by_class = True
    relabelled = copy.copy(episodes)
    setattr(relabelled, key, by_class)
    labels = [relabelled.meta_batch(range(i, i + 1)).query.y[0].numpy() for i in range(count)]
    whole = np.full((count, max(map(len, labels))), -1, np.int32)
    for row, of_episode in zip(whole, labels, strict=True):
        row[: len(of_episode)] = of_episode
    return whole, list(by_class.names)


@rank_zero_only
def write_answers(path: Path, answers: Answers) -> None:
    """As a compressed file of arrays."""
    content = io.BytesIO()
    np.savez_compressed(content, **answers._asdict())
    write_whole(path, content.getvalue())


def read_answers(path: Path) -> Answers | None:
    """None where there is none that can be read: runs of functions and of languages have none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in Answers._fields}
    except Exception:  # missing, or whatever damaged bytes lead to
        return None
    return Answers(**arrays | {"names": arrays["names"].tolist()})
