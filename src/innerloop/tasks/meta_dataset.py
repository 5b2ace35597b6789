"""Episodes of Meta-Dataset's sizes."""

from typing import Any

import numpy as np

from innerloop.episode import Episode
from innerloop.tasks.class_episodes import ClassEpisodes, Classes

MOST_SUPPORT = 500  # examples in a support set


class MetaDatasetEpisodes(ClassEpisodes):
    """As Triantafillou et al. 2020 (arXiv 1903.03096, section 3.2) draw them: numbers of classes and of support examples differ between
    episodes, and those of support examples between the classes of an episode, larger ones having more.

    ways: the fewest and most classes (5 and 50 there). shots: (1, the most examples of a class that count towards the size of the support
    set) (100 there). queries: the most of each class (10 there), and no more than half of the smallest. An episode has at most 500 support
    examples. Raises InputError where there are fewer classes than the fewest, or a class has a single example.
    """

    def __init__(self, classes: Classes, ways: tuple[int, int], shots: tuple[int, int], queries: int, **options: Any) -> None:
        super().__init__(classes, ways[0], 1, 1, **options)
        self._most_ways, self._most_shots, self.queries, self.varies = ways[1], shots[1], queries, True

    def shape(self, rng: np.random.Generator) -> Any:
        """Nothing: it depends on the classes."""
        return None

    def sample(self, rng: np.random.Generator, shape: Any = None) -> Episode:
        candidates = self._by_group[rng.integers(len(self._by_group)) if len(self._by_group) > 1 else 0]
        ways = rng.integers(self.ways, min(self._most_ways, len(candidates) - (self.strangers > 0)) + 1)
        classes = rng.choice(candidates, ways, replace=False)
        sizes = np.array([len(self.members[c]) for c in classes])
        queries = min(self.queries, sizes.min() // 2)
        left = sizes - queries
        support = min(MOST_SUPPORT, np.ceil((1 - rng.random()) * np.minimum(self._most_shots, left)).sum())
        shares = sizes * np.exp(rng.uniform(np.log(0.5), np.log(2), ways))
        shots = np.minimum((shares / shares.sum() * max(support - ways, 0)).astype(int) + 1, left)
        drawn = [rng.choice(self.members[c], count + queries, replace=False) for c, count in zip(classes, shots, strict=True)]
        return self.with_strangers(rng, self.episode(rng, classes, drawn, shots), candidates, classes)
