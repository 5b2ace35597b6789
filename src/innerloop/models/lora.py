"""Small matrices beside the layers of a model (Hu et al. 2021, arXiv 2106.09685)."""

from torch import nn

from innerloop.config import InputError


def add_lora(model: nn.Module, rank: int, layers: list[str]) -> None:
    """Low-rank matrices beside the layers of those names, by peft; they add nothing to begin with. Raises InputError where it is not
    installed, and where there are no such layers."""
    try:
        from peft import LoraConfig, inject_adapter_in_model  # seconds
    except ImportError as error:
        raise InputError("LoRA needs peft; pip install 'innerloop[lm]'") from error
    try:
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers), model)
    except ValueError as error:
        raise InputError(f"model.lora_targets={layers} do not fit: {' '.join(str(error).split())[:300]}") from error
    model.requires_grad_()  # what is learned is for the algorithm to say
