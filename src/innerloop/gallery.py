"""Every kind of task by every algorithm, in one table."""

from pathlib import Path

import numpy as np
from rich.table import Table

from innerloop.compare import Scored, compare_scored, is_baseline, not_beaten, scored_below
from innerloop.config import InputError


def gallery(directory: Path) -> tuple[Table, list[str]]:
    """The finished runs of a sweep over tasks and algorithms: accuracy in % and its interval, by task and algorithm; and a sentence for
    each baseline that the best meta-learning algorithm is not shown to beat. Raises InputError where no run is finished."""
    kinds: dict[str, dict[str, Scored]] = {}
    for run in scored_below(directory):
        kinds.setdefault(run.results["task"], {})[run.results["algo"]] = run
    algorithms = list(dict.fromkeys(algo for runs in kinds.values() for algo in sorted(runs, key=lambda a: (not is_baseline(runs[a]), a))))
    table = Table("", *algorithms, title="accuracy in %, 95 % interval over test episodes", title_justify="left")
    for kind, runs in kinds.items():
        first = next(iter(runs.values())).results
        name = f"{kind}, {first['ways']}-way {first['shots']}-shot"
        table.add_row(name, *(percent(runs[algo]) if algo in runs else "" for algo in algorithms))
    return table, [sentence for kind, runs in kinds.items() for sentence in unbeaten(kind, list(runs.values()))]


def percent(run: Scored) -> str:
    value, ci95 = run.results["value"], run.results["ci95"]
    return "diverged" if value is None else f"{100 * value:.1f} ± {100 * ci95:.1f}"


def unbeaten(kind: str, runs: list[Scored]) -> list[str]:
    """What the best algorithm that is no baseline does not beat."""
    ours = [run for run in runs if not is_baseline(run) and run.results["value"] is not None]
    theirs = [run for run in runs if is_baseline(run)]
    if not ours or not theirs:
        return []
    best = ours[int(np.argmax([run.results["value"] for run in ours]))]
    try:
        return [f"on {kind}, beside {best.results['algo']}, {sentence}" for sentence in not_beaten(compare_scored([best, *theirs])[1])]
    except InputError as error:
        return [f"on {kind}, nothing is compared: {error}"]
