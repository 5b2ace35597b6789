"""Pretrained networks of the transformers library whose features stand in the place of images or texts."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.config import InputError, check_count
from innerloop.episode import PADDING
from innerloop.models.eyes import IMAGENET, of_colours, shown

USUAL_SIZE = 224  # of networks that do not say it


class HuggingFaceEyes:
    """A frozen network of transformers in a local folder, as save_pretrained writes it. One of images (ViT, DINOv2): (n, channels, h, w)
    uint8 -> (n, width) float32, the class token after the last layer, or the mean over places where there is none. One of texts (BERT):
    tokens (n, length) -> (n, width), the mean over tokens that are no padding.

    size: pixels of a side that images are scaled to; null: as the network was trained. mean, std: of the pixels that it was trained on;
    null: as the folder's preprocessor_config.json says, else ImageNet's. key: another one for anything that changes a feature.
    Raises InputError for a folder without such a network.
    """

    def __init__(self, path: str | None, size: int | None, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        folder = Path(path or "").expanduser()
        if not path or not (folder / "config.json").is_file():
            raise InputError(f"backbone.path={path} has no config.json; name the folder of a model, as save_pretrained writes it")
        self.body = load(folder)
        config = self.body.config
        self.vocabulary, self.longest = getattr(config, "vocab_size", 0), getattr(config, "max_position_embeddings", None)
        if size is not None:
            check_count("backbone.size", size)
        self.size: int = size or getattr(config, "image_size", None) or USUAL_SIZE
        self.begins_with_class = any("cls_token" in name or "class_embedding" in name for name, _ in self.body.named_parameters())
        known = json.loads(file.read_text()) if (file := folder / "preprocessor_config.json").is_file() else {}
        self.mean, self.std = of_colours(mean or known.get("image_mean") or IMAGENET[0], std or known.get("image_std") or IMAGENET[1])
        digest = hashlib.sha256(json.dumps([self.size, self.mean.tolist(), self.std.tolist()]).encode())
        for each in sorted(folder.iterdir()):
            if each.name == "config.json" or each.suffix in (".safetensors", ".bin"):
                digest.update(each.read_bytes())
        self.key = digest.hexdigest()[:16]
        self.width = self._width(path)

    def _width(self, path: str) -> int:
        """Of its features. Raises InputError for a network of other inputs, and for one that draws random numbers."""
        shape, dtype = ((2, 4), np.int64) if self.vocabulary else ((2, 3, self.size, self.size), np.uint8)
        some = np.random.default_rng(0).integers(1, min(self.vocabulary or 256, 256), shape, dtype)
        try:
            first, again = self(some), self(some)
        except Exception as error:  # of whatever library
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"the model in {path} takes neither images nor tokens alone ({reason}); use a ViT, a BERT or the like"
            ) from error
        if not np.allclose(first, again, atol=1e-5):
            raise InputError(f"the model in {path} sees the same image otherwise each time, so that it has no features; use another")
        return first.shape[1]

    @torch.no_grad()
    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return (self._of_tokens(torch.from_numpy(inputs)) if self.vocabulary else self._of_images(inputs)).numpy()

    def _of_tokens(self, tokens: Tensor) -> Tensor:
        if self.longest and tokens.shape[1] > self.longest:
            raise InputError(f"the backbone takes texts of {self.longest} tokens at most, got {tokens.shape[1]}; lower task.length")
        there = (tokens != PADDING).long()
        found = self.body(input_ids=tokens, attention_mask=there).last_hidden_state
        return (found * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1)

    def _of_images(self, images: np.ndarray) -> Tensor:
        found: Tensor = self.body(pixel_values=shown(images, self.size, self.mean, self.std)).last_hidden_state
        if found.dim() == 3:
            return found[:, 0] if self.begins_with_class else found.mean(1)
        return found.flatten(2).mean(-1)


def load(folder: Path) -> Any:
    """The network without a head, its weights as they are there. Raises InputError where it cannot be built."""
    try:
        import transformers  # seconds
    except ImportError as error:
        raise InputError("backbone=hf needs transformers; pip install 'innerloop[lm]'") from error
    transformers.utils.logging.disable_progress_bar()
    try:
        body = transformers.AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    except Exception as error:  # whatever a damaged folder leads to
        raise InputError(f"the model in {folder} cannot be built: {' '.join(str(error).split())[:300]}") from error
    return body.eval().requires_grad_(False)
