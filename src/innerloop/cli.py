"""`innerloop VERB RUN...`: everything about finished runs. Also `python -m innerloop`."""

import argparse
import sys
from pathlib import Path

from innerloop.config import InputError


def main() -> None:
    parser = argparse.ArgumentParser(prog="innerloop", description="Work on finished runs.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    evaluate = verbs.add_parser("eval", help="score a finished run again, also on other tasks, ways, shots, steps or episodes")
    evaluate.add_argument("run", type=Path, help="output directory of the run")
    evaluate.add_argument("overrides", nargs="*", help="as for train.py: task.shots=1 eval_adaptation_steps=20 task=glyphs")
    table = verbs.add_parser("table", help="one table over the jobs of a sweep, or over all runs below a directory")
    table.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.verb == "eval":
            evaluate_run(arguments.run, arguments.overrides)
        else:
            print_table(arguments.directory)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def evaluate_run(run: Path, overrides: list[str]) -> None:
    """Prints the results and writes them into the run's folder `evaluations`."""
    from innerloop.rescore import rescore  # loads torch
    from innerloop.table import results_table, show

    results, path = rescore(run, overrides)
    show(results_table(results))
    print(f"results: {path}")


def print_table(directory: Path) -> None:
    from innerloop.table import show, sweep_table

    show(sweep_table(directory))


if __name__ == "__main__":
    main()
