"""Few-shot classification episodes from a table of images."""

from collections.abc import Sequence

import numpy as np
import torch

from innerloop.config import InputError
from innerloop.episode import Episode, Examples


class ClassEpisodes:
    """Draws `ways` classes, then `shots` support and `queries` query images of each, all different.

    images: (n, channels, height, width) uint8. members: for each class, the rows of `images` that show it. quarter_turns: for each
    class, by how many times 90 degrees its images are turned (a turned character is a class of its own). names: for each class.

    Way labels are the order of the draw, so they are redrawn in every episode; examples come in random order. Inputs are float32 in [0, 1].
    by_class: the same episodes labelled by class, 0 to len(members) - 1, for baselines that learn the classes themselves.
    Raises InputError when there are fewer classes than ways, or a class has fewer images than shots + queries.
    """

    def __init__(
        self, images: np.ndarray, members: Sequence[np.ndarray], names: Sequence[str], ways: int, shots: int, queries: int,
        quarter_turns: Sequence[int] | None = None, by_class: bool = False,
    ) -> None:  # fmt: skip
        if ways > len(members):
            raise InputError(
                f"task.ways={ways} asks for more than the {len(members)} classes there are; lower task.ways (or task.train_ways)"
            )
        smallest = min(range(len(members)), key=lambda c: len(members[c]))
        if shots + queries > len(members[smallest]):
            raise InputError(
                f"class '{names[smallest]}' has {len(members[smallest])} images but an episode needs shots + queries = {shots + queries}; "
                "lower task.shots or task.queries (or task.train_shots, task.train_queries)"
            )
        self.images, self.members, self.names = images, members, names
        self.ways, self.shots, self.queries = ways, shots, queries
        self.by_class = by_class
        self.quarter_turns = quarter_turns if quarter_turns is not None else [0] * len(members)

    def sample(self, rng: np.random.Generator) -> Episode:
        classes = rng.choice(len(self.members), self.ways, replace=False)
        needed = self.shots + self.queries
        return self.episode(rng, classes, [rng.choice(self.members[c], needed, replace=False) for c in classes])

    def episode(self, rng: np.random.Generator, classes: np.ndarray, rows: Sequence[np.ndarray]) -> Episode:
        """Of given classes and, for each, the rows of its shots + queries images; `rng` shuffles the examples."""
        drawn = [np.rot90(self.images[r], self.quarter_turns[c], axes=(-2, -1)) for c, r in zip(classes, rows, strict=True)]
        support = np.concatenate([images[: self.shots] for images in drawn])
        query = np.concatenate([images[self.shots :] for images in drawn])
        labels = classes if self.by_class else np.arange(self.ways)
        return Episode(self._examples(rng, support, labels, self.shots), self._examples(rng, query, labels, self.queries))

    def _examples(self, rng: np.random.Generator, images: np.ndarray, labels: np.ndarray, per_class: int) -> Examples:
        order = rng.permutation(len(images))
        return Examples(torch.from_numpy(images[order]).float() / 255, torch.from_numpy(np.repeat(labels, per_class)[order]))
