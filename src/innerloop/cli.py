"""`innerloop VERB RUN...`: everything about finished runs. Also `python -m innerloop`."""

import argparse
import os
import sys
from pathlib import Path

from innerloop.config import InputError
from innerloop.console import announced


def main() -> None:
    sys.path.append(os.getcwd())  # a user's own classes, as for train.py
    parser = argparse.ArgumentParser(prog="innerloop", description="Work on finished runs.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    evaluate = verbs.add_parser("eval", help="score a finished run again, also on other tasks, ways, shots, steps or episodes")
    evaluate.add_argument("run", type=Path, help="output directory of the run")
    evaluate.add_argument("overrides", nargs="*", help="as for train.py: task.shots=1 eval_adaptation_steps=20 task=glyphs")
    freeze = verbs.add_parser("episodes", help="write the test episodes of a run into a file, for others to be scored on (episodes=FILE)")
    freeze.add_argument("run", type=Path, help="output directory of the run")
    freeze.add_argument("file", type=Path, help="to be written, NAME.npz")
    export = verbs.add_parser("export", help="write the low-rank weights or the prompt of a language model as peft's own files")
    export.add_argument("run", type=Path, help="output directory of the run")
    export.add_argument("directory", type=Path, help="to be written, a new folder")
    meter = verbs.add_parser("leak", help="how much better a run is for looking at the other queries (batch norm)")
    meter.add_argument("run", type=Path, help="output directory of the run")
    meter.add_argument("overrides", nargs="*", help="as for eval; task.queries=3 test_episodes=200 is quicker")
    table = verbs.add_parser("table", help="one table over the jobs of a sweep, or over all runs below a directory")
    table.add_argument("directory", type=Path)
    table.add_argument("--sort", metavar="COLUMN", help="value, ci95, algo.inner_lr, ...; --sort=-value from high to low")
    table.add_argument("--csv", type=Path, metavar="FILE", help="write it as a CSV file too, with all columns")
    comparison = verbs.add_parser("compare", help="paired differences between runs, on the same test episodes")
    comparison.add_argument(
        "runs", nargs="+", type=Path, help="runs, sweeps or evaluations (RUN/evaluations/NAME.json); the first is the baseline"
    )
    comparison.add_argument("--step", type=int, metavar="N", help="after N adaptation steps instead of the last")
    report = verbs.add_parser("report", help="one HTML page on runs or sweeps, with charts and episodes")
    report.add_argument("runs", nargs="+", type=Path, help="runs, sweeps or evaluations")
    report.add_argument("--output", type=Path, metavar="FILE", help="report.html in the first of them by default")
    for verb in (evaluate, freeze, export, meter, report):
        verb.add_argument("--trust", action="store_true", help="build also classes that neither innerloop nor your conf/ names")
    arguments = parser.parse_args()
    try:
        check_there(arguments)
        if arguments.verb != "table":
            with announced("loading PyTorch and Lightning"):
                import innerloop.runs.build  # noqa: F401
        if arguments.verb == "eval":
            evaluate_run(arguments.run, arguments.overrides, arguments.trust)
        elif arguments.verb == "episodes":
            freeze_episodes(arguments.run, arguments.file, arguments.trust)
        elif arguments.verb == "export":
            export_weights(arguments.run, arguments.directory, arguments.trust)
        elif arguments.verb == "leak":
            measure_leak(arguments.run, arguments.overrides, arguments.trust)
        elif arguments.verb == "compare":
            compare_runs(arguments.runs, arguments.step)
        elif arguments.verb == "report":
            report_runs(arguments.runs, arguments.output, arguments.trust)
        else:
            print_table(arguments.directory, arguments.sort, arguments.csv)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("Stopped; nothing was written", file=sys.stderr)
        raise SystemExit(1) from None


def check_there(arguments: argparse.Namespace) -> None:
    """Before torch is loaded, which takes seconds: whether what is named is there, and can be of use."""
    for path in arguments.runs if "runs" in arguments else [arguments.run if "run" in arguments else arguments.directory]:
        if not path.exists():
            raise InputError(f"{path} is not there; name the folder of a run")
    if arguments.verb == "episodes" and arguments.file.suffix != ".npz":
        raise InputError(f"episodes are written into an .npz file, got {arguments.file}; name it {arguments.file.with_suffix('.npz')}")


def evaluate_run(run: Path, overrides: list[str], trust: bool) -> None:
    """Prints the results and writes them into the run's folder `evaluations`."""
    from innerloop.reports.table import results_table, show
    from innerloop.runs.rescore import rescore  # loads torch

    results, path = rescore(run, overrides, trust)
    show(results_table(results))
    print(f"results: {path}")


def freeze_episodes(run: Path, file: Path, trust: bool) -> None:
    """Writes the test episodes and prints their checksum."""
    from innerloop.runs.build import build_run
    from innerloop.runs.frozen_episodes import write_episodes
    from innerloop.runs.trust import trusted_config

    episodes = build_run(trusted_config(run, trust)).data.test_episodes
    print(f"episodes: {file}, checksum {write_episodes(file, episodes, len(episodes))}")


def export_weights(run: Path, directory: Path, trust: bool) -> None:
    """Writes them and says where."""
    from innerloop.runs.export import export_adapter  # loads torch and transformers

    export_adapter(run, directory, trust)
    print(f"adapter: {directory}")


def measure_leak(run: Path, overrides: list[str], trust: bool) -> None:
    """Prints the scores under other batch statistics beside that of all queries."""
    from innerloop.reports.compare import comparison_table
    from innerloop.reports.leak import leak
    from innerloop.reports.table import show

    show(comparison_table(*leak(run, overrides, trust)))


def compare_runs(runs: list[Path], step: int | None) -> None:
    """Prints each run's difference from the first."""
    from innerloop.reports.compare import compare, comparison_table  # loads torch and scipy
    from innerloop.reports.table import show

    show(comparison_table(*compare(runs, step)))


def report_runs(runs: list[Path], output: Path | None, trust: bool) -> None:
    """Writes the page and says where."""
    from innerloop.reports.report import write_report  # loads torch and matplotlib

    first = runs[0] if runs[0].is_dir() else runs[0].parent
    path = output or first / "report.html"
    write_report(runs, path, trust)
    print(f"report: {path}")


def print_table(directory: Path, sort: str | None, csv: Path | None) -> None:
    from innerloop.reports.table import show, sweep_table, write_csv

    show(sweep_table(directory, sort))
    if csv:
        write_csv(directory, csv, sort)
        print(f"table: {csv}")


if __name__ == "__main__":
    main()
