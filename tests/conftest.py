"""Small networks and episodes that the tests share."""

import os
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import nn

from innerloop.config import register
from innerloop.episode import Episode, Examples
from innerloop.models.conv4 import Conv4
from innerloop.models.mlp import MLP

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("INNERLOOP_DATA", ROOT.parent / "shared" / "data"))
OMNIGLOT = DATA / "omniglot"
TINY = ("outer_steps=2", "meta_batch_size=2", "val_every=2", "val_episodes=2", "test_episodes=4", "eval_adaptation_steps=2", "threads=1")
NO_BAR = "~callbacks.progress", "+trainer.enable_progress_bar=false"


def compose_run(*overrides: str) -> DictConfig:
    """What `python train.py OVERRIDES` would run, without its progress bar."""
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=[*NO_BAR, *overrides])


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors are slowest on many threads, most of all when tests run side by side."""
    torch.set_num_threads(1)


@pytest.fixture
def float64():
    """Oracles compare to 1e-9 and need doubles."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def classification_episodes(tasks: int, shape: tuple[int, ...], ways: int = 3, shots: int = 2, queries: int = 2, seed: int = 1) -> Episode:
    """Random inputs, labels in a different order for each task."""
    generator = torch.Generator().manual_seed(seed)

    def examples(per_class: int) -> Examples:
        x = torch.rand(tasks, ways * per_class, *shape, generator=generator, dtype=torch.get_default_dtype())
        order = torch.stack([torch.randperm(ways * per_class, generator=generator) for _ in range(tasks)])
        return Examples(x, torch.arange(ways).repeat_interleave(per_class)[order])

    return Episode(examples(shots), examples(queries))


def make_model(kind: str, ways: int = 3) -> tuple[nn.Module, tuple[int, ...]]:
    """An MLP or a conv4 with batch norm, at weights that do not depend on what ran before; and its input shape."""
    torch.manual_seed(0)
    if kind == "mlp":
        return MLP((4,), ways, hidden=[8, 6], activation="tanh"), (4,)
    return Conv4((1, 16, 16), ways, filters=4, norm="batch", pool="max" if kind == "conv4_max" else "stride"), (1, 16, 16)
