"""One job of train.py: what is around a run when it is started from the command line."""

import os
import sys
import traceback
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from innerloop.config import InputError
from innerloop.experiment import run
from innerloop.sweep import ERROR_FILE
from innerloop.table import Results, results_table, show


def run_job(cfg: DictConfig) -> float:
    """Runs, prints the result and returns its value. Bad input is one sentence and exit code 1 (a traceback with HYDRA_FULL_ERROR=1).

    In a sweep the sentence is kept beside the job's other files, the value is NaN, and the other jobs go on, whatever the error.
    """
    hydra = HydraConfig.get()
    output_dir, sweeping = Path(hydra.runtime.output_dir), hydra.mode == RunMode.MULTIRUN
    (output_dir / ERROR_FILE).unlink(missing_ok=True)
    try:
        results = run(cfg, output_dir)
    except Exception as error:
        expected = isinstance(error, InputError) and os.environ.get("HYDRA_FULL_ERROR") != "1"
        if not expected and not sweeping:
            raise
        if not expected:
            traceback.print_exc()
        print(f"Error: {error}", file=sys.stderr)
        if not sweeping:
            raise SystemExit(1) from None
        (output_dir / ERROR_FILE).write_text(f"{error}\n")
        return float("nan")
    report(results, output_dir)
    return float("nan") if results["value"] is None else results["value"]


@rank_zero_only
def report(results: Results, output_dir: Path) -> None:
    """What a run ends with on the terminal."""
    show(results_table(results))
    print(f"results: {output_dir / 'results.json'}")
