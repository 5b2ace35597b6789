"""`innerloop VERB ...`: train, and everything about finished runs. Also `python -m innerloop`."""

import argparse
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

from innerloop.config import InputError
from innerloop.console import loading
from innerloop.project import enter


def main() -> None:
    if is_training(sys.argv[1:]):
        from innerloop.sweeps.command import main as train

        sys.argv = [sys.argv[0], *(sys.argv[2:] if sys.argv[1] == "train" else sys.argv[1:])]
        train()
        return
    enter()
    arguments = read(verbs_and_arguments(), sys.argv[1:])
    try:
        if arguments.verb == "new":
            begin_project(arguments.directory)
            return
        check_there(arguments)
        if arguments.verb not in ("table", "ledger"):
            with loading():
                import innerloop.runs.build  # noqa: F401
        if arguments.verb == "eval":
            evaluate_run(arguments.run, arguments.overrides, arguments.trust)
        elif arguments.verb == "episodes":
            freeze_episodes(arguments.run, arguments.file, arguments.trust)
        elif arguments.verb == "export":
            take_away(arguments)
        elif arguments.verb == "predict":
            predict_new(arguments)
        elif arguments.verb == "leak":
            measure_leak(arguments.run, arguments.overrides, arguments.trust)
        elif arguments.verb == "compare":
            compare_runs(arguments.runs, arguments.step)
        elif arguments.verb == "ledger":
            print_ledger(arguments.directory)
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


def read(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Options may stand between the words of a list, as in `eval RUN --trust task.shots=1`, which argparse does not see (bpo-14191)."""
    arguments, left = parser.parse_known_args(words)
    several = next((name for name in ("overrides", "runs") if name in arguments), None)
    if left and (several is None or any(word.startswith("-") for word in left)):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if several:
        getattr(arguments, several).extend(Path(word) if several == "runs" else word for word in left)
    return arguments


def verbs_and_arguments() -> argparse.ArgumentParser:
    """What can be typed."""
    parser = argparse.ArgumentParser(prog="innerloop", description="Train few-shot learners, and work on finished runs.")
    parser.add_argument("--version", action="version", version=f"innerloop {version('innerloop')}")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("train", help="train and evaluate a run, or with -m a sweep; `innerloop train --help` lists every setting")
    new = verbs.add_parser("new", help="begin a project of your own: a folder with a task, its settings and a test")
    new.add_argument("directory", type=Path, help="to be written, a new folder")
    evaluate = verbs.add_parser("eval", help="score a finished run again, also on other tasks, ways, shots, steps or episodes")
    evaluate.add_argument("run", type=Path, help="output directory of the run")
    evaluate.add_argument("overrides", nargs="*", help="as for train.py: task.shots=1 eval_adaptation_steps=20 task=glyphs")
    freeze = verbs.add_parser("episodes", help="write the test episodes of a run into a file, for others to be scored on (episodes=FILE)")
    freeze.add_argument("run", type=Path, help="output directory of the run")
    freeze.add_argument("file", type=Path, help="to be written, NAME.npz")
    predict = verbs.add_parser("predict", help="fit a run to a few examples of your own, and label new ones")
    predict.add_argument("run", type=Path, help="output directory of the run, or the folder of an exported learner")
    predict.add_argument("support", help="what to fit it to: a folder with a folder for each class, a zip of one, or a CSV file")
    predict.add_argument("new", help="what to label: a folder of files, or a CSV file")
    predict.add_argument("--csv", type=Path, metavar="FILE", help="write all answers as a CSV file, and show the first")
    predict.add_argument("--abstain", type=float, metavar="SHARE", help="answer the surest part alone, as 0.8 for four fifths")
    export = verbs.add_parser(
        "export", help="take a learner away: a folder for innerloop.load and hubs; with SUPPORT, the network fitted to it (torch, ONNX)"
    )
    export.add_argument("run", type=Path, help="output directory of the run; of a language model, peft's own files are written")
    export.add_argument("directory", type=Path, help="to be written, a new folder")
    export.add_argument("support", nargs="?", help="as for predict")
    export.add_argument("--onnx", action="store_true", help="network.onnx beside network.pt2")
    for verb in (predict, export):
        verb.add_argument("--steps", type=int, metavar="K", help="of adaptation, instead of the run's own")
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
    ledger = verbs.add_parser(
        "ledger", help="published numbers beside those of runs here, with verdicts; `make reproduce cell=NAME` adds some"
    )
    ledger.add_argument("directory", type=Path, nargs="?", default=Path("ledger"), help="with cells.yaml; ./ledger by default")
    report = verbs.add_parser("report", help="one HTML page on runs or sweeps, with charts and episodes")
    report.add_argument("runs", nargs="+", type=Path, help="runs, sweeps or evaluations")
    report.add_argument("--output", type=Path, metavar="FILE", help="report.html in the first of them by default")
    for verb in (evaluate, freeze, predict, export, meter, report):
        verb.add_argument("--trust", action="store_true", help="build also classes that neither innerloop nor your conf/ names")
    return parser


def is_training(arguments: list[str]) -> bool:
    """`innerloop train ...`, or settings without the verb, as Lightning starts the processes of further devices."""
    return bool(arguments) and (arguments[0] == "train" or "=" in arguments[0] or arguments[0].startswith(("~", "-cd", "--config")))


def begin_project(directory: Path) -> None:
    """Writes it and says what to do in it."""
    from innerloop.new_project import write_project

    write_project(directory)
    print(f"project: {directory}\nnext: cd {shlex.quote(str(directory))} && innerloop train task=mine")


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


def predict_new(arguments: argparse.Namespace) -> None:
    """Prints what the fit is worth, and the answers, or the first of them."""
    from innerloop.reports.table import show
    from innerloop.use.predict import answer_table, predict, write_answers  # loads torch

    answers, told = predict(
        arguments.run, arguments.support, arguments.new, arguments.steps, arguments.abstain, arguments.trust
    )  # fmt: skip
    if arguments.csv:
        write_answers(arguments.csv, answers)
    show(answer_table(answers))
    print("\n".join(told))
    if arguments.csv:
        print(f"answers: {arguments.csv}")


def take_away(arguments: argparse.Namespace) -> None:
    """Writes a learner, an adapted network or an adapter, and says where."""
    from innerloop.runs.export import export_adapter, is_language_model  # loads torch
    from innerloop.use.export import export_learner, export_network

    run, directory, trust = arguments.run, arguments.directory, arguments.trust
    if arguments.support is None and (arguments.onnx or arguments.steps is not None):
        raise InputError("--onnx and --steps are of a network that was fitted; name the support set after the folder")
    if arguments.support is not None:
        export_network(run, directory, arguments.support, arguments.steps, arguments.onnx, trust)
        print(f"network: {directory}")
    elif is_language_model(run):
        export_adapter(run, directory, trust)
        print(f"adapter: {directory}")
    else:
        export_learner(run, directory, trust)
        print(f"learner: {directory}, for innerloop.load; README.md is its card")


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


def print_ledger(directory: Path) -> None:
    from innerloop.reports.ledger import ledger_table, read_rows, unfilled
    from innerloop.reports.table import show

    rows = read_rows(directory)
    show(ledger_table(rows))
    if missing := unfilled(rows):
        print(f"not run yet: {', '.join(missing)}")


if __name__ == "__main__":
    main()
