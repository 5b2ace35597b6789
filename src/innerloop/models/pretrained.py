"""Beginning with weights that were trained before, and adding small ones to them."""

from pathlib import Path

from omegaconf import DictConfig
from torch import nn

from innerloop.checkpoint import BEST, read
from innerloop.config import InputError
from innerloop.settings import load_config

BYTES = 256  # tokens of that many kinds are bytes; more were found in the training texts
OWN = ("lora_", "prompt")  # in the names of what is added to a base


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
    if path and "tokenizer" in task and not task.tokenizer and (Path(path).expanduser() / "tokenizer.json").is_file():
        raise InputError(f"model.path={path} has tokens of its own; set task.tokenizer to that folder")


def load_base(model: nn.Module, run: str, **settings: int) -> None:
    """The weights that a finished run ended with. settings: of the model, what the shapes of its weights do not show.

    Raises InputError where it is none, or its model is another.
    """
    path = Path(run).expanduser() / "checkpoints" / BEST
    prefix = "algorithm.model."
    state = {name.removeprefix(prefix): value for name, value in read(path)["state_dict"].items() if name.startswith(prefix)}
    try:
        missing, unknown = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise InputError(f"model.base={run} has a model of another shape: {' '.join(str(error).split())[:300]}") from error
    own = load_config(Path(run).expanduser()).model
    for name, value in settings.items():
        if own.get(name) != value:
            raise InputError(f"model.base={run} has model.{name}={own.get(name)}, and here it is {value}; make it equal")
    wanted = [name for name in missing if not any(part in name for part in OWN)]
    if wanted or unknown:
        raise InputError(
            f"model.base={run} has {'no ' + wanted[0] if wanted else unknown[0] + ' too'}; "
            "its model must be this one, with all of its weights learned"
        )


def add_lora(model: nn.Module, rank: int, layers: list[str]) -> None:
    """Low-rank matrices beside the linear layers of those names, by peft. Raises InputError where it is not installed."""
    try:
        from peft import LoraConfig, inject_adapter_in_model  # seconds
    except ImportError as error:
        raise InputError("LoRA needs peft; pip install 'innerloop[lm]'") from error
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers), model)
    model.requires_grad_()  # what is learned is for the algorithm to say
