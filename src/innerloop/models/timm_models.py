"""Networks of timm (Wightman, github.com/huggingface/pytorch-image-models)."""

from collections.abc import Sequence
from typing import Any

from innerloop.config import InputError
from innerloop.models.backbone import Backbone, load_weights


class Timm(Backbone):
    """name: of timm.list_models(), "vit_tiny_patch16_224"; its head gives way to the task's. weights: a local file of the library's own
    weights; null, random ones. lora_rank, lora_targets: as for Backbone. settings: what else timm.create_model takes. Vision transformers
    are built for the size of the images.

    Raises InputError where timm is not installed, for a name that is none, and for settings that it refuses.
    """

    def __init__(
        self, input_shape: Sequence[int], outputs: int, name: str, weights: str | None, lora_rank: int, lora_targets: list[str] | None,
        settings: dict[str, Any] | None,
    ) -> None:  # fmt: skip
        try:
            import timm  # seconds
        except ImportError as error:
            raise InputError("model=timm needs timm; pip install 'innerloop[vision]'") from error
        if len(input_shape) != 3:
            raise InputError(f"model=timm takes images (channels, height, width), this task has {tuple(input_shape)}; use another model")
        if not timm.is_model(name):
            raise InputError(f"model.name={name} is no network of timm; vit_tiny_patch16_224 and resnet18 are some of timm.list_models()")
        channels = 3 if input_shape[0] == 1 else input_shape[0]
        chosen = {"in_chans": channels, "num_classes": 0, **(settings or {})}
        known = timm.get_pretrained_cfg(name, allow_unregistered=False)
        if known and known.fixed_input_size:
            chosen.setdefault("img_size", input_shape[-1])
        try:
            body = timm.create_model(name, pretrained=False, **chosen)
        except (AssertionError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"model.name={name} cannot be built with {chosen}: {' '.join(str(error).split())[:200]}") from error
        if weights:
            load_weights(body, weights, without=(known and known.classifier) or "head")
        features: Any = getattr(body, "head_hidden_size", None) or body.num_features
        super().__init__(body, features, outputs, channels, lora_rank, lora_targets)
