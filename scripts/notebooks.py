"""Runs the notebooks and keeps what they print and draw, so that they can be read without being run: scripts/notebooks.py [NOTEBOOK...]"""

import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def main() -> None:
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = executed(nbformat.read(path, as_version=4), path.parent)
        nbformat.write(notebook, path)
        print(f"notebook: {path}")


def executed(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """With fresh outputs, and without what differs from run to run besides them."""
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    for cell in notebook.cells:
        cell.get("outputs", [])[:] = [output for output in cell.get("outputs", []) if output.output_type != "update_display_data"]
    language = notebook.metadata.language_info.name
    notebook.metadata.language_info = NotebookNode(name=language)
    return notebook


def told(notebook: NotebookNode) -> list[tuple[str, int]]:
    """Of each cell of code, what it prints, with # for numbers, which differ from machine to machine, and how many pictures it draws."""
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            text = "".join(output.get("text", "") for output in cell.outputs)
            pictures = sum("image/png" in output.get("data", {}) for output in cell.outputs)
            cells.append((re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?", "#", " ".join(text.split())), pictures))
    return cells


if __name__ == "__main__":
    main()
