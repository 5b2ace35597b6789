"""Runs a cell of the ledger and enters what came of it: python scripts/reproduce.py CELL [--seeds 0,1,2] [trainer=gpu ...]

CELL: a name in ledger/cells.yaml. Its runs lie in outputs/ledger/; one that was interrupted goes on where it was, one that is finished is
not run again, and cells of the same training share it. Overrides are for the machine (trainer=gpu, threads=1, task.root=DIR), not for the
numbers.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from innerloop.config import InputError
from innerloop.files import write_whole
from innerloop.reports.ledger import Cell, entry, read_cells

ROOT = Path(__file__).parents[1]
LEDGER, OUTPUTS = ROOT / "ledger", ROOT / "outputs/ledger"


def trained(cell: Cell, seed: int, machine: list[str]) -> Path:
    """The folder of a finished run, which is trained where it is not there."""
    settings = shlex.split(cell.run)
    folder = OUTPUTS / re.sub(r"[^\w.-]+", "-", cell.run) / str(seed)
    if not (folder / "results.json").exists():
        command = [sys.executable, "train.py", *settings, f"seed={seed}", f"hydra.run.dir={folder}", *machine]
        if subprocess.run(command, cwd=ROOT).returncode:
            sys.exit(1)
    return folder


def scored(cell: Cell, folder: Path) -> dict[str, Any]:
    """Its results, under the conditions of the cell."""
    results = json.loads((folder / "results.json").read_text())
    if cell.evaluate is None:
        return results
    from innerloop.runs.rescore import rescore  # loads torch

    found = rescore(folder, shlex.split(cell.evaluate))[0]
    machines = ", then ".join(dict.fromkeys([results["hardware"], found["hardware"]]))
    return found | {"train_seconds": results["train_seconds"], "commit": results["commit"], "hardware": machines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell")
    parser.add_argument("--seeds", default="0,1,2")
    arguments, machine = parser.parse_known_args()
    cells = read_cells(LEDGER)
    if arguments.cell not in cells:
        raise InputError(f"there is no cell {arguments.cell}; the ledger has {', '.join(cells)}")
    cell = cells[arguments.cell]
    for seed in map(int, arguments.seeds.split(",")):
        results = scored(cell, trained(cell, seed, machine))
        after = f"; innerloop eval RUN {cell.evaluate}" if cell.evaluate else ""
        content = entry(results, f"python train.py {cell.run} seed={seed}{after}")
        path = LEDGER / arguments.cell / f"seed{seed}.json"
        path.parent.mkdir(exist_ok=True)
        write_whole(path, (json.dumps(content, indent=1) + "\n").encode())
        print(f"entered: {path}", flush=True)
    print("next: innerloop ledger; make docs puts it into the tables")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"Error: {error}")
