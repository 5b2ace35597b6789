"""What a family of tasks is to the rest of the project."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from torch import nn

from innerloop.config import short_name
from innerloop.episode import Episode
from innerloop.objective import Objective
from innerloop.tasks.class_episodes import ClassEpisodes
from innerloop.tasks.readers import Numbers, Reader

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class TaskDistribution(Protocol):
    """Where episodes come from. All randomness is in `rng`: the same generator state gives the same episode."""

    def sample(self, rng: np.random.Generator) -> Episode: ...


@runtime_checkable
class OfAnyShape(Protocol):
    """Episodes that have a shape, which `sample` or `draw` takes as its second argument: the episodes of one meta-batch have one shape.

    varies: it is not always the same.
    """

    varies: bool

    def shape(self, rng: np.random.Generator) -> Any: ...


@runtime_checkable
class DrawnTogether(Protocol):
    """Where many episodes come from at once, each from its own `numbers` uniform numbers: quicker where an episode is cheap to make."""

    numbers: int

    def draw(self, uniform: np.ndarray) -> Episode:
        """uniform (tasks, numbers) in [0, 1) -> a meta-batch."""
        ...


@runtime_checkable
class ListedTasks(Protocol):
    """Published test tasks, which are not drawn."""

    def first(self, count: int) -> Any:
        """The first `count`, as training/data.py has episodes. Raises InputError where there are fewer."""
        ...


class Tasks(ABC):
    """A family of tasks: what `task=...` builds.

    objective: loss and metric. input_shape: shape of one input. outputs: width of a prediction (ways, or regression targets).
    ways: classes in an evaluation episode, None for regression. train_ways: classes in a training episode.
    shots, queries: examples (per class) in the support and query set of an evaluation episode.
    strangers: queries of a test episode, after the others, that are of none of its classes.
    vocabulary: how many tokens inputs are made of; None where they are none. actions: what a policy may do; None where nothing is done.
    senses: by name, the shape of what each of several senses has of a thing; None where there is one alone.
    sampling: of episodes whose sizes differ even within a meta-batch, by name, so that a meta-batch is a single one.
    places: of which predictions are made in each input, where there are several: cells or pixels of an image.
    varied: the ranges, [low, high], of those of `ways`, `shots`, `train_ways` and `train_shots` that differ between episodes; the
    attributes of these names are then the most of them.
    """

    objective: Objective
    input_shape: tuple[int, ...]
    outputs: int
    ways: int | None = None
    train_ways: int | None = None
    shots: int
    queries: int
    strangers: int = 0
    vocabulary: int | None = None
    actions: Any = None
    varied: dict[str, list[int]] = {}
    places: int | None = None
    senses: dict[str, tuple[int, ...]] | None = None
    sampling: str | None = None

    @property
    def name(self) -> str:
        """What tables call it."""
        return short_name(f"{type(self).__module__}.{type(self).__name__}")

    @property
    def support_size(self) -> dict[str, int]:
        """What a learner is shown of an evaluation episode, in its units."""
        return {"examples": self.shots * (self.ways or 1)}

    @cached_property
    def reader(self) -> Reader | None:
        """What becomes of a raw input; None where there is nothing to be read. By default numbers of that shape, as they are."""
        return Numbers(tuple(self.input_shape))

    @property
    def as_vectors(self) -> nn.Module:
        """Inputs (n, *input_shape) as float vectors (n, d), for what compares inputs as they are."""
        return nn.Flatten()

    @property
    def train_classes(self) -> int | None:
        """How many classes the training split has; None for regression."""
        episodes = self.distribution("train")
        return len(episodes.members) if isinstance(episodes, ClassEpisodes) else None

    def contents(self, split: Split) -> dict[str, np.ndarray]:
        """The classes (texts, ...) of a split by name, with an example of each: nothing trained on may be tested on. None by default."""
        return {}

    @abstractmethod
    def distribution(self, split: Split) -> TaskDistribution:
        """The episodes of one split."""
