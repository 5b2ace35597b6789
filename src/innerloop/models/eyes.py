"""Pretrained networks whose features stand in the place of images."""

import hashlib
import json
import logging
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

log = logging.getLogger(__name__)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of its pixels, which torchvision's networks were trained on


class Eyes:
    """A frozen network of timm or torchvision: images (n, channels, h, w) uint8 -> features (n, width) float32.

    name, weights, settings: as model=timm and model=torchvision have them; weights null: random ones, always the same. size: pixels of a
    side that images are scaled to. mean, std: of the pixels it was trained on; null: as timm knows them, else ImageNet's. Batch norm is on
    its running statistics, whatever the rest does. key: another one for anything that changes a feature.
    Raises InputError as these models do.
    """

    vocabulary = 0

    def __init__(
        self, library: str, name: str, weights: str | None, size: int, mean: Sequence[float] | None, std: Sequence[float] | None,
        settings: dict[str, Any] | None,
    ) -> None:  # fmt: skip
        check_choice("backbone.library", library, ("timm", "torchvision"))
        check_count("backbone.size", size)
        if not weights:
            log.warning(f"{name} sees the images with random weights; set backbone.weights=FILE, one of {library}'s own")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # torch.manual_seed would set those of all GPUs too
            model = (
                Timm((3, size, size), 1, name, weights, 0, None, settings)
                if library == "timm"
                else Torchvision((3, size, size), 1, name, weights, "own", 0, None, settings)
            )
        self.body, self.width, self.size = model.body.eval().requires_grad_(False), model.head.in_features, size
        known = getattr(self.body, "pretrained_cfg", {})
        self.mean, self.std = of_colours(mean or known.get("mean") or IMAGENET[0], std or known.get("std") or IMAGENET[1])
        file = hashlib.sha256(Path(weights).expanduser().read_bytes()).hexdigest() if weights else "random"
        said = [library, name, size, self.mean.tolist(), self.std.tolist(), dict(settings or {}), file]
        self.key = hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()[:16]

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        found: Tensor = self.body(shown(images, self.size, self.mean, self.std))
        return found.flatten(1).numpy()


def of_colours(mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Both (1, 3, 1, 1)."""
    if len(mean) != 3 or len(std) != 3:
        raise InputError("backbone.mean and backbone.std must be three numbers each, of red, green and blue")
    return torch.tensor(list(mean)).view(1, 3, 1, 1), torch.tensor(list(std)).view(1, 3, 1, 1)


def shown(images: np.ndarray, size: int, mean: Tensor, std: Tensor) -> Tensor:
    """Images (n, 1 or 3, h, w) uint8 as a network is shown them: (n, 3, size, size) of mean 0 and deviation 1 where it was trained."""
    x = torch.from_numpy(images).float() / 255
    if x.shape[-1] != size or x.shape[-2] != size:
        x = functional.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return (x.expand(-1, 3, -1, -1) - mean) / std
