"""Models of the transformers library."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.config import InputError, check_choice, check_count
from innerloop.episode import PADDING

NEEDED = "model=hf needs transformers and peft; pip install 'innerloop[lm]'"


class HuggingFace(nn.Module):
    """A causal language model, x (n, length) tokens -> logits (n, length, outputs); or a classifier of sequences, -> (n, outputs).

    path: a local folder, as save_pretrained writes it; or null, and `config` says what to build with random weights: model_type and what
    its configuration class takes. head: "causal" or "classifier". lora_rank: of matrices beside linear layers (Hu et al. 2021, arXiv
    2106.09685), those of lora_targets or all; their names have lora_ in them. prompt: vectors before the tokens (Lester et al. 2021, arXiv
    2104.08691); their name has prompt in it. 0: none. Both are peft's. vocabulary: how many tokens the task has.

    Attention is written out ("eager"): the fused kernels have no second derivative, and vmap refuses them. Raises InputError where
    something is not there, or does not fit.
    """

    def __init__(
        self, input_shape: Sequence[int], outputs: int, vocabulary: int | None, path: str | None, config: dict[str, Any] | None,
        head: str, lora_rank: int, lora_targets: list[str] | None, prompt: int,
    ) -> None:  # fmt: skip
        super().__init__()
        check_choice("model.head", head, ("causal", "classifier"))
        for name, value in (("lora_rank", lora_rank), ("prompt", prompt)):
            check_count(f"model.{name}", value, least=0)
        if lora_rank and prompt:
            raise InputError("model.lora_rank and model.prompt are two ways to add weights; set one of them to 0")
        if prompt and head == "classifier":  # transformers then takes the class from the last token, padding or not
            raise InputError("model.prompt does not go with model.head=classifier; use model.lora_rank")
        if not vocabulary:
            raise InputError(f"model=hf takes tokens, this task has inputs {tuple(input_shape)}; use another model")
        self.head_is_causal = head == "causal"
        self.model = load(path, config, head, outputs, vocabulary)
        if self.model.config.vocab_size < vocabulary:
            raise InputError(
                f"the model has {self.model.config.vocab_size} tokens and the task {vocabulary}; set task.tokenizer to the model's"
            )
        self.outputs = outputs
        if lora_rank or prompt:
            self.model = with_small_weights(self.model, head, lora_rank, lora_targets, prompt)
            self.model.requires_grad_()  # what is learned is for the algorithm to say

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.ones_like(x) if self.head_is_causal else (x != PADDING).long()
        logits: Tensor = self.model(input_ids=x, attention_mask=seen, use_cache=False).logits
        return logits[:, -x.shape[1] :, : self.outputs] if self.head_is_causal else logits


def load(path: str | None, config: dict[str, Any] | None, head: str, outputs: int, vocabulary: int) -> Any:
    """The model alone, in the precision that weights have here, whatever its file has; ready to be trained."""
    try:
        import transformers  # seconds
    except ImportError as error:
        raise InputError(NEEDED) from error
    transformers.utils.logging.disable_progress_bar()
    kind = transformers.AutoModelForCausalLM if head == "causal" else transformers.AutoModelForSequenceClassification
    labels = {} if head == "causal" else {"num_labels": outputs, "pad_token_id": PADDING}
    try:
        if path:
            folder = Path(path).expanduser()
            if not (folder / "config.json").is_file():
                raise InputError(f"model.path={path} has no config.json; name the folder of a model, as save_pretrained writes it")
            how = {"attn_implementation": "eager", "local_files_only": True, "dtype": torch.get_default_dtype()}
            return kind.from_pretrained(folder, **how, **labels).train()
        if not config or "model_type" not in config:
            raise InputError("model=hf needs model.path, a local folder, or model.config with its model_type")
        arguments = dict(config)
        if arguments.get("vocab_size") is None:
            arguments["vocab_size"] = vocabulary
        made = transformers.AutoConfig.for_model(arguments.pop("model_type"), **arguments, **labels)
        return kind.from_config(made, attn_implementation="eager")
    except InputError:
        raise
    except Exception as error:  # whatever a damaged folder or a wrong argument leads to
        raise InputError(f"the model {path or config} cannot be built: {' '.join(str(error).split())[:300]}") from error


def with_small_weights(model: Any, head: str, lora_rank: int, lora_targets: list[str] | None, prompt: int) -> Any:
    """Wrapped by peft."""
    try:
        import peft  # seconds
    except ImportError as error:
        raise InputError(NEEDED) from error
    task = peft.TaskType.CAUSAL_LM if head == "causal" else peft.TaskType.SEQ_CLS
    for remark in ("`is_gradient_checkpointing` is deprecated", "fan_in_fan_out is set to False but"):  # between these two libraries
        warnings.filterwarnings("ignore", remark)
    try:
        if prompt:
            return peft.get_peft_model(model, peft.PromptTuningConfig(task_type=task, num_virtual_tokens=prompt))
        targets = lora_targets or "all-linear"
        return peft.get_peft_model(model, peft.LoraConfig(task_type=task, r=lora_rank, lora_alpha=2 * lora_rank, target_modules=targets))
    except ValueError as error:
        raise InputError(f"model.lora_targets={lora_targets} do not fit: {' '.join(str(error).split())[:300]}") from error
