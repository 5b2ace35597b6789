"""Every kind of task by every algorithm, in one table."""

from typing import Any, NamedTuple

import numpy as np
import torch
from rich.table import Table

from innerloop.reports.compare import Scored, contenders_of, on_the_same
from innerloop.reports.table import measured, unit
from innerloop.reports.verdicts import Contender, compare_contenders
from innerloop.training.evaluation import mean_ci95

LEGEND = "mean and 95 % interval over test episodes; †: not shown to beat the best baseline of its row"


class Kind(NamedTuple):
    """Runs on the same test episodes. values: what each algorithm reached, a line for each of its settings, averaged over its seeds.
    best: the name and value of the best. unbeaten: those of the best baseline, where no algorithm is shown to beat it, or None."""

    name: str
    values: dict[str, str]
    best: tuple[str, str]
    unbeaten: tuple[str, str] | None


def gallery(runs: list[Scored]) -> tuple[Table, list[str]]:
    """Finished runs, kinds of episodes by algorithms; and where meta-learning does not pay."""
    algorithms, kinds = by_kind(runs)
    table = Table("", *algorithms, title=LEGEND, title_justify="left")
    for kind in kinds:
        table.add_row(kind.name, *(kind.values.get(algorithm, "") for algorithm in algorithms))
    unbeaten = [(kind.name, *kind.unbeaten) for kind in kinds if kind.unbeaten]
    return table, [f"on {name}, nothing is shown to beat the baseline {best}, {value}" for name, best, value in unbeaten]


def by_kind(runs: list[Scored]) -> tuple[list[str], list[Kind]]:
    """The algorithms, baselines first, and what they reached on each kind of test episodes."""
    runs = sorted(runs, key=lambda run: (not run.results["baseline"], run.results["algo"]))
    return list(dict.fromkeys(run.results["algo"] for run in runs)), [kind_of(alike) for alike in on_the_same(runs)]


def kind_of(runs: list[Scored]) -> Kind:
    results = runs[0].results
    lower = results["lower_is_better"]
    contenders = best_first(contenders_of(runs, None), lower)
    finite = [one for one in contenders if np.isfinite(one.scores.mean())]
    baselines, others = [one for one in finite if one.is_baseline], [one for one in contenders if not one.is_baseline]
    doubted, unbeaten = set(), None
    if baselines and others:
        doubted = {one.name for one in compare_contenders(baselines[0], others, lower) if not one.answer}
        if len(doubted) == len(others):
            unbeaten = (baselines[0].name, reached(baselines[0]))
    values: dict[str, list[str]] = {}
    for one in contenders:
        values.setdefault(one.algo, []).append(reached(one) + " †" * (one.name in doubted))
    best = (contenders[0].name, reached(contenders[0]))
    return Kind(name_of(results), {algo: "\n".join(lines) for algo, lines in values.items()}, best, unbeaten)


def name_of(results: dict[str, Any]) -> str:
    """omniglot, 20-way 1-shot, accuracy."""
    ways = f"{results['ways']}-way " if results["ways"] else ""
    return f"{results['task']}, {ways}{results['shots']}-shot, {unit(results['metric'])}"


def best_first(contenders: list[Contender], lower_is_better: bool) -> list[Contender]:
    """What diverged comes last."""
    return sorted(contenders, key=lambda one: np.nan_to_num(one.scores.mean() * (1 if lower_is_better else -1), nan=np.inf))


def reached(one: Contender) -> str:
    """The mean over seeds, and its interval over episodes."""
    mean, ci95 = mean_ci95(torch.from_numpy(one.scores.mean(0)))
    return " ".join(measured({"value": mean if np.isfinite(mean) else None, "ci95": ci95}, one.metric)).strip()
