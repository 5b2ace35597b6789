"""How far a thing is turned, from an origin that only the examples tell."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from innerloop.config import check_choice, check_count
from innerloop.episode import Episode, Examples
from innerloop.objective import POSE
from innerloop.tasks.base import Split, Tasks
from innerloop.tasks.images.scenes import SOURCES, source_of


class TurnedEpisodes:
    """An episode is one drawing of an unseen class, turned by angles drawn evenly from the circle; targets are counted from a direction
    that is drawn for the episode, so that they cannot be known without its support set."""

    def __init__(self, images: np.ndarray, rows: Sequence[np.ndarray], shots: int, queries: int) -> None:
        self.images, self.rows, self.shots, self.queries = images, rows, shots, queries

    def sample(self, rng: np.random.Generator) -> Episode:
        drawing = self.images[rng.choice(self.rows[int(rng.integers(len(self.rows)))])]
        origin, angles = rng.uniform(0, 360), rng.uniform(0, 360, self.shots + self.queries)
        x = torch.stack([turned(drawing, angle) for angle in angles])
        radians = torch.from_numpy(np.deg2rad(angles + origin)).float()
        examples = Examples(x, torch.stack([radians.cos(), radians.sin()], 1))
        support, query = slice(self.shots), slice(self.shots, None)
        return Episode(*(Examples(examples.x[part], examples.y[part]) for part in (support, query)))


def turned(drawing: np.ndarray, degrees: float) -> Tensor:
    """(channels, h, w) uint8, counterclockwise, 0 where nothing was -> float32 in [0, 1]."""
    channels = [np.asarray(Image.fromarray(channel).rotate(degrees, Image.Resampling.BILINEAR)) for channel in drawing]
    return torch.from_numpy(np.stack(channels)).float() / 255


class Turned(Tasks):
    """Tell by how much drawings of an unseen character are turned, as (cos, sin), from `shots` whose angles are known: regression that has
    to adapt, since each episode counts from a direction of its own (mutually exclusive tasks, Yin et al. 2020, arXiv 1912.03820). Scored by
    the mean error in degrees; a guess has 90.

    of: glyphs | omniglot | images, where the drawings come from; root, split: of omniglot and images, as those tasks have them. channels,
    size: of images. Raises InputError for what does not fit.
    """

    objective = POSE
    outputs = 2

    def __init__(self, of: str, root: str | None, split: str | None, channels: int, size: int, shots: int, queries: int) -> None:
        check_choice("task.of", of, SOURCES)
        for name, count in (("shots", shots), ("queries", queries)):
            check_count(f"task.{name}", count)
        check_count("task.size", size, least=16)
        self.shots, self.queries = shots, queries
        self.source = source_of(of, root, split, channels, size, ways=2)
        self.input_shape, self.reader = self.source.input_shape, self.source.reader

    def contents(self, split: Split) -> dict[str, np.ndarray]:
        return self.source.contents(split)

    def distribution(self, split: Split) -> TurnedEpisodes:
        classes = self.source.classes(split)
        upright = [
            rows for rows, turn in zip(classes.members, classes.quarter_turns or [0] * len(classes.members), strict=True) if not turn
        ]
        return TurnedEpisodes(classes.inputs, upright, self.shots, self.queries)
