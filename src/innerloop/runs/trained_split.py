"""The split that a run was trained on, kept in its directory: files of splits may be edited, and nothing trained on may be tested on."""

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from innerloop.config import InputError
from innerloop.runs.settings import load_config
from innerloop.tasks.class_split import read_split, write_split

FILE = "split.csv"


def keep_split(run: Path, parts: dict[str, list[str]], force: bool) -> None:
    """Writes RUN/split.csv, where the tasks have a split by names. Raises InputError where what was trained so far had another."""
    if not parts:
        return
    path, split = run / FILE, {name: part for part, names in parts.items() for name in names}
    if path.exists() and any(run.glob("checkpoints/*.ckpt")) and not force and read_split(str(path)) != split:
        raise InputError(f"train, val and test are not those that this run began with, which are in {path}; put them back")
    rank_zero_only(write_split)(path, split)


def check_unseen(run: Path, task: DictConfig, parts: dict[str, list[str]]) -> None:
    """Raises InputError where the run was trained on what is in the test split now, of the same data."""
    path = run / FILE
    if not parts or not path.exists():
        return
    own = load_config(run).task
    if any(own.get(key) != task.get(key) for key in ("_target_", "root", "path")):
        return
    trained = {name for name, part in read_split(str(path)).items() if part == "train"}
    if seen := sorted(trained.intersection(parts["test"])):
        raise InputError(f"'{seen[0]}' would be tested on, and {run} was trained on it ({path} has the split); put the split back")
