"""Networks of other libraries, with a head of the task's own."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention

from innerloop.config import InputError, check_count
from innerloop.models.lora import add_lora


class Backbone(nn.Module):
    """body: a network of `channels` input channels, without its last layer; head: linear to `outputs`. x (n, c, h, w) -> (n, outputs);
    a grey image is taken for one of `channels` equal channels. lora_rank: of matrices beside layers of the body, those of lora_targets, or
    its linear ones, or its convolutions where it has none; their names have lora_ in them. 0: none.
    """

    def __init__(
        self, body: nn.Module, features: int, outputs: int, channels: int, lora_rank: int, lora_targets: list[str] | None
    ) -> None:  # fmt: skip
        super().__init__()
        check_count("model.lora_rank", lora_rank, least=0)
        if lora_rank:
            add_lora(body, lora_rank, lora_targets or layers_of(body))
            if silent := [name for name in silent_layers(body) if any("lora_" in of for of, _ in body.get_submodule(name).named_modules())]:
                raise InputError(f"model.lora_targets: {silent[0]} is not called by this network, which reads its weights; name others")
        self.body, self.channels = body, channels
        self.head = nn.Linear(features, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.expand(-1, self.channels, -1, -1) if x.shape[1] == 1 else x))


def silent_layers(body: nn.Module) -> set[str]:
    """Linear layers whose weights alone are read, by torch's and torchvision's attention: what stands beside them would do nothing."""
    attention = [(name, of) for name, of in body.named_modules() if isinstance(of, nn.MultiheadAttention | ShiftedWindowAttention)]
    return {f"{name}.{child}" for name, of in attention for child, layer in of.named_children() if not isinstance(layer, nn.Sequential)}


def layers_of(body: nn.Module) -> list[str]:
    """Its linear layers by name, or its convolutions; but for those that are never called."""
    silent = silent_layers(body)
    linear = [name for name, module in body.named_modules() if isinstance(module, nn.Linear) and name not in silent]
    return linear or [name for name, module in body.named_modules() if isinstance(module, nn.Conv2d) and module.groups == 1]


def load_weights(body: nn.Module, file: str, without: str) -> None:
    """The weights that a library published, from a local file (.pth, .pt or .safetensors); nothing is downloaded.

    without: the name of the layer in whose place the task's head stands. Raises InputError where they do not fit.
    """
    path = Path(file).expanduser()
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever damaged bytes lead to
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"model.weights={file} cannot be read as a file of weights ({reason}); give a local .pth or .safetensors"
        ) from error
    own = {name: value for name, value in state.items() if not name.startswith(f"{without}.")} if isinstance(state, dict) else {}
    try:
        missing, unknown = body.load_state_dict(own, strict=False)
    except (RuntimeError, AttributeError) as error:
        raise InputError(f"model.weights={file} do not fit this network: {' '.join(str(error).split())[:300]}") from error
    if missing or unknown:
        raise InputError(f"model.weights={file} do not fit this network: only one of both has {[*missing, *unknown][0]}")
