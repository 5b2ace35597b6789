"""Test episodes that share no image, so that their interval answers for the choice of the images too."""

from typing import Any

import numpy as np
from torch.utils.data import default_collate

from innerloop.config import InputError
from innerloop.episode import Episode
from innerloop.tasks.class_episodes import ClassEpisodes
from innerloop.training.data import TEST

KEY = (TEST, 1)  # of random streams that no EpisodeDataset has


class DisjointEpisodes:
    """Episodes drawn without replacement until too few images are left for another one, at most `most` of them.

    No image is in two episodes, nor twice in one under another turn. The interval of their mean is then one for images that
    were not collected, where episodes that share images have one for episodes that were not drawn (Lafargue et al. 2024, arXiv:2409.02850).
    Raises InputError for tasks without a pool of images, and where they are too few for two episodes.
    """

    one_by_one = False

    def __init__(self, distribution: Any, most: int) -> None:
        if not isinstance(distribution, ClassEpisodes):
            raise InputError("disjoint=true draws episodes that share no image, and this task has no pool of images; leave it false")
        if distribution.varies:
            raise InputError("disjoint=true draws episodes of one shape; set task.ways and task.shots to a number each")
        if not distribution.balanced:
            raise InputError("disjoint=true draws as many queries of each class; leave out task.balanced=false")
        if distribution.strangers:
            raise InputError("disjoint=true draws no strangers; leave out task.strangers")
        self.distribution = distribution
        self.drawn = draw(distribution, most)
        if len(self.drawn) < 2:
            raise InputError(
                "disjoint=true: the test images are too few for two episodes that share none; lower task.queries or task.shots"
            )

    def __len__(self) -> int:
        return len(self.drawn)

    def meta_batch(self, indices: range) -> Episode:
        """The episodes `indices`, with a leading task axis."""
        return default_collate(
            [self.distribution.episode(np.random.default_rng([*KEY, i]), *self.drawn[i], self.distribution.shots) for i in indices]
        )


def draw(pool: ClassEpisodes, most: int) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """For each episode its classes, and the rows of their images."""
    rng, needed = np.random.default_rng([*KEY, 2**32 - 1]), pool.shots + pool.queries
    origins = np.arange(len(pool.inputs)) if pool.origins is None else pool.origins  # an image may have a row for each of its turns
    members = origins[np.concatenate(pool.members)]
    starts = np.cumsum([0, *map(len, pool.members[:-1])])
    unused = np.ones(int(origins.max()) + 1, bool)
    found: list[tuple[np.ndarray, list[np.ndarray]]] = []
    while len(found) < most:
        classes: list[int] = []
        rows: list[np.ndarray] = []
        for _ in range(pool.ways):
            enough = np.add.reduceat(unused[members], starts, dtype=int) >= needed
            enough[classes] = False
            if classes:
                enough &= pool.group_of == pool.group_of[classes[0]]
            else:  # of a group that has as many classes as it takes
                enough &= (np.bincount(pool.group_of, enough) >= pool.ways)[pool.group_of]
            if not enough.any():
                return found
            classes.append(int(rng.choice(np.flatnonzero(enough))))
            mine = pool.members[classes[-1]]
            rows.append(rng.choice(mine[unused[origins[mine]]], needed, replace=False))
            unused[origins[rows[-1]]] = False
        found.append((np.array(classes), rows))
    return found
