"""`innerloop new`: the files that a project of one's own begins with. Nothing of innerloop's is copied. Imports no torch."""

from pathlib import Path

from innerloop.files import check_new_folder, write_whole

MODULE = '''"""A family of tasks: saw teeth, whose period and shift are drawn for each task."""

from innerloop.tasks.functions.functions import FunctionTasks


class Sawtooth(FunctionTasks):
    def __init__(self, shots, queries):
        super().__init__(parameters=[(1, 4), (0, 4)], x=(-5, 5), shots=shots, queries=queries)

    def value(self, x, period, shift):
        return (x + shift) % period
'''

TASK = """# Saw teeth.
_target_: mine.Sawtooth
shots: 10 # support points
queries: 10 # query points
"""

EXPERIMENT = """# @package _global_
# A first result, in half a minute: innerloop train experiment=first
defaults:
  - override /task: mine
outer_steps: 2000
"""

README = """# A project on innerloop

    innerloop train task=mine                          # train MAML on saw teeth
    innerloop train -m task=mine algo=maml,joint seed=0,1,2
    innerloop train experiment=first                   # settings of conf/experiment/first.yaml
    innerloop train --help                             # your choices beside innerloop's
    innerloop eval outputs/.../RUN task.shots=5
    pytest

`mine.py` has the task, `conf/` its settings. Add models and algorithms in the same way: a class in a module here, a YAML that names it in
`conf/model/` or `conf/algo/`. Stand in this folder when you train or evaluate: its modules and `conf/` are found then.
"""

TEST = '''"""The task trains."""

import subprocess
import sys


def test_a_step_of_training(tmp_path):
    command = [sys.executable, "-m", "innerloop", "train", "task=mine", "outer_steps=2", "val_every=2", "val_episodes=4", "test_episodes=4"]
    subprocess.run([*command, f"hydra.run.dir={tmp_path}"], check=True)
    assert (tmp_path / "results.json").is_file()
'''

FILES = {
    "mine.py": MODULE,
    "test_mine.py": TEST,
    "conf/task/mine.yaml": TASK,
    "conf/experiment/first.yaml": EXPERIMENT,
    "README.md": README,
    ".gitignore": "__pycache__/\noutputs/\nmultirun/\ndata/\n",
}


def write_project(directory: Path) -> None:
    """Raises InputError where there is something already, or nothing can be written."""
    check_new_folder(directory)
    for name, content in FILES.items():
        write_whole(directory / name, content.encode())
