"""Beginning with weights that were trained before, and adding small ones to them."""

from pathlib import Path

from torch import nn

from innerloop.checkpoint import BEST, read
from innerloop.config import InputError

OWN = ("lora_", "prompt")  # in the names of what is added to a base


def load_base(model: nn.Module, run: str) -> None:
    """The weights that a finished run ended with. Raises InputError where it is none, or its model has another shape."""
    path = Path(run).expanduser() / "checkpoints" / BEST
    prefix = "algorithm.model."
    state = {name.removeprefix(prefix): value for name, value in read(path)["state_dict"].items() if name.startswith(prefix)}
    try:
        missing, unknown = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise InputError(f"model.base={run} has a model of another shape: {' '.join(str(error).split())[:300]}") from error
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
