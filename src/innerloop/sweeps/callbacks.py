"""What train.py -m adds to its jobs. Imports no torch: it lives in the parent process."""

import contextlib
import hashlib
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from innerloop.config import PLACES, InputError
from innerloop.files import check_writable
from innerloop.runs.folder import DIVERGED_FILE, ERROR_FILE

ERRORS: list[InputError] = []


def run_key(_root_: DictConfig) -> str:
    """Eight letters for a configuration, whatever the order of its overrides: a sweep finds the folders of its jobs again."""
    plain: Any = OmegaConf.to_container(_root_)
    for place in PLACES:
        plain[place] = None
    plain.pop("hydra", None)
    text = json.dumps(OmegaConf.to_container(OmegaConf.create(plain), resolve=True), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


OmegaConf.register_new_resolver("run_key", run_key, replace=True)  # on import: workers of launchers import the callbacks below


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Prints what goes wrong at the end of a sweep; the table of its jobs comes last, and then the exit code is 1."""
    try:
        yield
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        ERRORS.append(error)


class PrintComparison(Callback):
    """Ends a sweep over algorithms with the paired differences from `beside`, a choice of the group algo, and says which baselines it is
    not shown to beat; of runs that were scored on other episodes apart."""

    def __init__(self, beside: str) -> None:
        self.beside = beside

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from innerloop.reports.compare import Scored, compare_scored, comparison_table, on_the_same, scored_below  # loads torch
        from innerloop.reports.table import show
        from innerloop.reports.verdicts import doubts

        directory = Path(config.hydra.sweep.dir)

        def is_other(run: Scored) -> bool:
            return not str(Path(run.job.name).relative_to(directory)).startswith(f"{self.beside}-")

        with told():
            for runs in on_the_same(scored_below(directory)):
                if all(map(is_other, runs)):
                    raise InputError(f"no run of {self.beside} is finished, which the others are to be compared with")
                title, comparisons = compare_scored(sorted(runs, key=is_other))
                show(comparison_table(title, comparisons))
                for sentence in doubts(comparisons):
                    print(f"Note: {sentence}")


class PrintCrossDomain(Callback):
    """Ends a sweep over tasks with a matrix: each of its runs on each of `tasks`, for each number of `shots`."""

    def __init__(self, tasks: list[str], shots: list[int]) -> None:
        self.tasks, self.shots = tasks, shots

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from innerloop.reports.cross_domain import cross_domain, matrix  # loads torch
        from innerloop.reports.jobs import jobs_below
        from innerloop.reports.table import show

        with told():
            directory = Path(config.hydra.sweep.dir)
            runs = [directory / job.name for job in jobs_below(directory) if job.results]
            for shots, rows in cross_domain(runs, self.tasks, self.shots).items():
                show(matrix(rows, self.tasks, shots))


class PrintGallery(Callback):
    """Ends a sweep over tasks and algorithms with a table of one by the other, and says which baselines are not beaten."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from innerloop.reports.compare import scored_below  # loads torch
        from innerloop.reports.gallery import gallery
        from innerloop.reports.table import show

        with told():
            table, sentences = gallery(scored_below(Path(config.hydra.sweep.dir)))
            show(table)
            for sentence in sentences:
                print(f"Note: {sentence}")


class PrintCosts(Callback):
    """Ends a sweep over learners with a table of what each costs and how far it comes, in equal time and on equal tasks."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from innerloop.reports.compare import on_the_same, scored_below  # loads torch
        from innerloop.reports.costs import costs
        from innerloop.reports.table import show

        with told():
            for runs in on_the_same(scored_below(Path(config.hydra.sweep.dir))):
                show(costs(runs))


class PrintTable(Callback):
    """Ends a sweep with one table over its jobs, and with exit code 1 if one failed or diverged."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from innerloop.reports.table import show, sweep_table

        directory = Path(config.hydra.sweep.dir)
        ends = [path for name in (ERROR_FILE, DIVERGED_FILE) for path in directory.rglob(name)]
        failed = any(not (path.parent / "results.json").exists() for path in ends)
        with told():  # Hydra makes a warning of what a callback raises
            show(sweep_table(directory))
            print(f"next: innerloop report {shlex.quote(str(directory))}")
        if failed or ERRORS:
            ERRORS.clear()
            raise SystemExit(1)


class CheckOutput(Callback):
    """Refuses an output directory that cannot be written before Hydra tries, and fails with a traceback."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        refuse_unwritable(config.hydra.run)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        refuse_unwritable(config.hydra.sweep)
        old = Path(config.hydra.sweep.dir) / "multirun.yaml"
        if old.is_file() and not ({"algo", "outer_steps"} <= set(OmegaConf.load(old))):
            print(f"Error: {old.parent} holds a sweep of another project; set hydra.sweep.dir to another directory", file=sys.stderr)
            raise SystemExit(1)


def refuse_unwritable(node: DictConfig) -> None:
    """Checks the folder that will hold `dir`, as far as it is there and known: a ${stamp} cannot be resolved yet."""
    directory = OmegaConf.to_container(node, resolve=False)["dir"]  # type: ignore[call-overload, index]
    known, stamp, _ = directory.partition("${")
    path = Path(known).absolute() if not stamp or known.endswith("/") else Path(known).absolute().parent
    while not path.exists():
        path = path.parent
    try:
        check_writable(path)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
