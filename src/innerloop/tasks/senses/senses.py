"""Classification of what is known by several senses, any of which may be missing."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from innerloop.config import check_choice
from innerloop.episode import Episode, Examples
from innerloop.tasks.base import Split
from innerloop.tasks.class_episodes import ClassEpisodes
from innerloop.tasks.class_tasks import ClassTasks


class SensesEpisodes(ClassEpisodes):
    """Inputs are vectors: a 1 for each sense that is there, then the numbers of each, 0 where it is missing.

    widths: how many numbers each sense has. support, query: the senses that the support and the query set have, as their indices; None:
    any of them that are not none, drawn for each episode.
    """

    widths: Sequence[int]
    support: Sequence[int] | None
    query: Sequence[int] | None

    def episode(self, rng: np.random.Generator, *drawn: Any) -> Episode:
        support, query = super().episode(rng, *drawn)
        return Episode(self._sensed(rng, support, self.support), self._sensed(rng, query, self.query))

    def with_strangers(self, rng: np.random.Generator, episode: Episode, *candidates: Any) -> Episode:
        support, query = super().with_strangers(rng, episode, *candidates)
        there = query.x[0, : len(self.widths)].nonzero()[:, 0].tolist()  # strangers are met as the others are
        return Episode(support, self._sensed(rng, query, there))

    def _sensed(self, rng: np.random.Generator, examples: Examples, there: Sequence[int] | None) -> Examples:
        """Examples without the numbers of the senses that are missing."""
        count = len(self.widths)
        if there is None:
            drawn = rng.integers(1, 2**count)  # a bit for each
            there = [sense for sense in range(count) if drawn >> sense & 1]
        x, starts = examples.x.clone(), count + np.cumsum([0, *self.widths])
        for sense in {*range(count)} - {*there}:
            x[:, sense] = 0
            x[:, starts[sense] : starts[sense + 1]] = 0
        return Examples(x, examples.y)


class Senses(ClassTasks):
    """What is the same for all of them.

    senses: the shape of what each sense has of a thing, by name; a subclass sets it, and its `classes` have vectors that `vectors` made.
    support, query: a sense, which alone is there in the support or query sets of val and test episodes; all; or any, drawn for each
    episode. train_support, train_query: of train episodes.
    """

    episodes = SensesEpisodes

    def __init__(
        self, senses: dict[str, tuple[int, ...]], support: str, query: str, train_support: str, train_query: str, **shape: Any
    ) -> None:  # fmt: skip
        super().__init__(**shape)
        self.senses: dict[str, tuple[int, ...]] = senses
        self.widths = [int(np.prod(of)) for of in senses.values()]
        self.input_shape = (len(senses) + sum(self.widths),)
        for name, value in (("support", support), ("query", query), ("train_support", train_support), ("train_query", train_query)):
            check_choice(f"task.{name}", value, (*senses, "all", "any"))
        self._train_senses, self._eval_senses = (train_support, train_query), (support, query)

    def distribution(self, split: Split) -> ClassEpisodes:
        drawn = super().distribution(split)
        assert isinstance(drawn, SensesEpisodes)
        drawn.widths = self.widths
        drawn.support, drawn.query = map(self._indices, self._train_senses if split == "train" else self._eval_senses)
        return drawn

    def _indices(self, there: str) -> list[int] | None:
        return None if there == "any" else [index for index, name in enumerate(self.senses) if there in (name, "all")]


def vectors(*senses: np.ndarray) -> np.ndarray:
    """What each sense has of n things (n, ...) -> (n, senses + all their numbers) float32."""
    n = len(senses[0])
    return np.concatenate([np.ones((n, len(senses))), *(of.reshape(n, -1) for of in senses)], 1, dtype=np.float32)
