"""Pretrained networks whose features stand in the place of images."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from innerloop.config import InputError, check_choice, check_count
from innerloop.models.timm_models import Timm
from innerloop.models.torchvision_models import Torchvision

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of its pixels, which torchvision's networks were trained on


class Eyes:
    """A frozen network of timm or torchvision: images (n, channels, h, w) uint8 -> features (n, width) float32.

    name, weights, settings: as model=timm and model=torchvision have them; weights null: random ones, always the same. size: pixels of a
    side that images are scaled to. mean, std: of the pixels it was trained on; null: as timm knows them, else ImageNet's. Batch norm is on
    its running statistics, whatever the rest does. key: another one for anything that changes a feature.
    Raises InputError as these models do.
    """

    def __init__(
        self, library: str, name: str, weights: str | None, size: int, mean: Sequence[float] | None, std: Sequence[float] | None,
        settings: dict[str, Any] | None,
    ) -> None:  # fmt: skip
        check_choice("backbone.library", library, ("timm", "torchvision"))
        check_count("backbone.size", size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = (
                Timm((3, size, size), 1, name, weights, 0, None, settings)
                if library == "timm"
                else Torchvision((3, size, size), 1, name, weights, "own", 0, None, settings)
            )
        self.body, self.width, self.size = model.body.eval().requires_grad_(False), model.head.in_features, size
        known = getattr(self.body, "pretrained_cfg", {})
        self.mean, self.std = (
            torch.tensor(list(given or known.get(what) or default)).view(1, -1, 1, 1)
            for given, what, default in ((mean, "mean", IMAGENET[0]), (std, "std", IMAGENET[1]))
        )
        if self.mean.shape[1] != 3 or self.std.shape[1] != 3:
            raise InputError("backbone.mean and backbone.std must be three numbers each, of red, green and blue")
        file = hashlib.sha256(Path(weights).expanduser().read_bytes()).hexdigest() if weights else "random"
        said = [library, name, size, self.mean.tolist(), self.std.tolist(), dict(settings or {}), file]
        self.key = hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()[:16]

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(images).float() / 255
        if x.shape[-1] != self.size or x.shape[-2] != self.size:
            x = functional.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        found: Tensor = self.body((x.expand(-1, 3, -1, -1) - self.mean) / self.std)
        return found.flatten(1).numpy()
