"""What was learned beside a language model, for those who know nothing of innerloop."""

from pathlib import Path

from innerloop.config import InputError
from innerloop.files import check_new_folder
from innerloop.models.hf import HuggingFace
from innerloop.runs.experiment import load_run
from innerloop.runs.settings import load_config

ADAPTER = ("lora_", "prompt", "modules_to_save")  # in the names of what peft writes


def is_language_model(run: Path) -> bool:
    """Whether a run learned to predict tokens, and so has no learner.json."""
    return not (run / "learner.json").is_file() and "innerloop.tasks.language." in str(load_config(run).task.get("_target_"))


def export_adapter(run: Path, directory: Path, trust: bool = False) -> None:
    """Writes a run's low-rank weights or prompt as peft's own files (adapter_config.json, adapter_model.safetensors), which
    peft.PeftModel.from_pretrained(base, directory) loads. Raises InputError where the run has none, or `directory` cannot be written."""
    model = load_run(run, trust).learner.algorithm.model
    if not isinstance(model, HuggingFace) or not hasattr(model.model, "peft_config"):
        raise InputError(f"{run} has no weights that peft could load; they are those of model=hf with model.lora_rank or model.prompt")
    beside = [name for name, weight in model.named_parameters() if weight.requires_grad and not any(part in name for part in ADAPTER)]
    if beside:
        raise InputError(
            f"{run} learned {beside[0]} too, which peft does not keep beside the base; learn low-rank weights or a prompt alone "
            "(algo.meta_learned=*lora_*)"
        )
    check_new_folder(directory)
    try:
        model.model.save_pretrained(str(directory))
    except OSError as error:
        raise InputError(f"cannot write {directory}: {error.strerror}; name another folder") from error
