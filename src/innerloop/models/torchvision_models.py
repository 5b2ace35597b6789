"""Networks of torchvision."""

import warnings
from collections.abc import Sequence
from typing import Any

import torchvision
from torch import nn

from innerloop.config import InputError, check_choice
from innerloop.models.backbone import Backbone, load_weights


class Torchvision(Backbone):
    """name: of torchvision.models, "resnet18"; its last linear layer gives way to the task's head. weights: a local file of the library's
    own weights; null, random ones. stem: "small" begins with a 3x3 convolution of stride 1 and no pooling, for images of 32 pixels or so
    (as He et al. 2016, section 4.2, for CIFAR); "own", as it is. lora_rank, lora_targets: as for Backbone. settings: what else its
    constructor takes.

    Raises InputError for a name that is none, and a network without a last linear layer, or without a stem to change.
    """

    def __init__(
        self, input_shape: Sequence[int], outputs: int, name: str, weights: str | None, stem: str, lora_rank: int,
        lora_targets: list[str] | None, settings: dict[str, Any] | None,
    ) -> None:  # fmt: skip
        check_choice("model.stem", stem, ("own", "small"))
        if len(input_shape) != 3 or input_shape[0] not in (1, 3):
            raise InputError(f"model=torchvision takes images of 1 or 3 channels, this task has {tuple(input_shape)}; use another model")
        if name not in torchvision.models.list_models(module=torchvision.models):
            raise InputError(f"model.name={name} is no network of torchvision.models; resnet18, mobilenet_v3_small, vit_b_16 are some")
        chosen = dict(settings or {})
        if name.startswith("vit_"):
            chosen.setdefault("image_size", input_shape[-1])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of how long its own initialisation takes
                body = torchvision.models.get_model(name, weights=None, **chosen)
        except Exception as error:  # each network has its own way to refuse what it is given
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"model.name={name} cannot be built with {chosen}: {reason}; set model.settings") from error
        last, layer = [pair for pair in body.named_modules() if not list(pair[1].children())][-1]
        if not isinstance(layer, nn.Linear):
            raise InputError(f"model.name={name} ends with {type(layer).__name__}, and a task's head is linear; use another network")
        body.set_submodule(last, nn.Identity())
        if stem == "small":
            make_stem_small(body, name)
        if weights:
            load_weights(body, weights, without=last)
        super().__init__(body, layer.in_features, outputs, channels=3, lora_rank=lora_rank, lora_targets=lora_targets)


def make_stem_small(body: nn.Module, name: str) -> None:
    first, layer = next(((name, m) for name, m in body.named_modules() if isinstance(m, nn.Conv2d)), ("", None))
    if layer is None or max(layer.stride) == 1 or name.startswith(("vit_", "swin", "convnext")):
        raise InputError(f"model.name={name} has no stem that could be made small; leave model.stem=own")
    body.set_submodule(first, nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1, bias=layer.bias is not None))
    if pool := next((name for name, layer in body.named_modules() if isinstance(layer, nn.MaxPool2d)), None):
        body.set_submodule(pool, nn.Identity())
