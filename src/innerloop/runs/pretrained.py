"""The run whose weights another begins with: `model.base`."""

from pathlib import Path

from omegaconf import DictConfig
from torch import Tensor

from innerloop.config import InputError
from innerloop.runs.settings import load_config
from innerloop.tasks.tokenizers import BYTES
from innerloop.training.checkpoint import BEST, read

PREFIX = "algorithm.model."


def check_tokens(cfg: DictConfig) -> None:
    """Raises InputError where the model learned other tokens than the task has: they would be taken for its own, without an error."""
    task, base, path = cfg.task, cfg.model.get("base"), cfg.model.get("path")
    if base:
        theirs = load_config(Path(base).expanduser()).task
        found = task.get("vocabulary", 0) > BYTES and not task.get("tokenizer")
        for key in ("tokenizer", "vocabulary", *(("root", "split", "split_seed") if found else ())):
            if theirs.get(key) != task.get(key):
                raise InputError(
                    f"model.base={base} has its tokens from task.{key}={theirs.get(key)}, and here it is {task.get(key)}; make it equal"
                )
    backbone = (cfg.backbone or {}).get("path")
    if backbone and "tokenizer" in task and not task.tokenizer:
        raise InputError(f"backbone.path={backbone} has tokens of its own; set task.tokenizer to the folder that has its tokenizer.json")
    if path and "tokenizer" in task and not task.tokenizer and (Path(path).expanduser() / "tokenizer.json").is_file():
        raise InputError(f"model.path={path} has tokens of its own; set task.tokenizer to that folder")


def base_weights(model: DictConfig) -> dict[str, Tensor]:
    """The weights that the run `model.base` ended with, by name. Raises InputError where it is none, or its model was read otherwise."""
    run = Path(model.base).expanduser()
    state = read(run / "checkpoints" / BEST)["state_dict"]
    own = load_config(run).model
    if own.get("heads") != model.get("heads"):  # which the shapes of the weights do not show
        raise InputError(f"model.base={model.base} has model.heads={own.get('heads')}, and here it is {model.get('heads')}; make it equal")
    return {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
