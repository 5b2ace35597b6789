"""Every notebook and script runs."""

import json
import os
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.filterwarnings("default")  # Jupyter's own
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_is_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    assert not [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs if o.get("name") == "stderr"]
    assert printed


def test_demo_trains_and_draws(tmp_path):
    """And its numbers are what the README claims of them, within loose bounds."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "demo.py")], capture_output=True, text=True, cwd=tmp_path, timeout=600, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for line in ("from scratch", "joint training", "MAML", "picture: outputs/demo/sinusoid.png"):
        assert line in done.stdout
    mse = {}
    for algo in ("scratch", "joint", "maml"):
        curve = json.loads((tmp_path / "outputs" / "demo" / algo / "results.json").read_text())["curve"]
        mse[algo] = {point["step"]: point["value"] for point in curve}
    assert mse["maml"][1] < 1.0 and mse["maml"][10] < 0.5
    assert mse["joint"][10] > 1.0 and mse["scratch"][1] > 3.0
    assert mse["maml"][1] < mse["joint"][1] < mse["scratch"][1]
    assert (tmp_path / "outputs" / "demo" / "sinusoid.png").stat().st_size > 20_000
