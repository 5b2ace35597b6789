"""Small matrices beside the layers of a model (Hu et al. 2021, arXiv 2106.09685)."""

from torch import nn

from innerloop.config import InputError


def add_lora(model: nn.Module, rank: int, layers: list[str]) -> None:
    """Low-rank matrices beside the linear layers of those names, by peft. Raises InputError where it is not installed."""
    try:
        from peft import LoraConfig, inject_adapter_in_model  # seconds
    except ImportError as error:
        raise InputError("LoRA needs peft; pip install 'innerloop[lm]'") from error
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers), model)
    model.requires_grad_()  # what is learned is for the algorithm to say
