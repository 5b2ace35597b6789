"""Few-shot classification, whatever the examples are."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from innerloop.config import InputError, check_count, check_flag, check_span
from innerloop.objective import CLASSIFICATION
from innerloop.tasks.base import Split, Tasks
from innerloop.tasks.class_episodes import ClassEpisodes, Classes
from innerloop.tasks.meta_dataset import MetaDatasetEpisodes

Count = int | Sequence[int]  # or a range of them


class ClassTasks(Tasks):
    """Tell `ways` classes apart from `shots` examples of each: a subclass sets `input_shape` and says what classes a split has.

    ways, shots, queries: of val and test episodes. train_ways, train_shots, train_queries: of train episodes. ways and shots may be ranges,
    [low, high]: each evaluation episode has numbers of its own then, and so has each meta-batch of training. balanced: as for
    ClassEpisodes, of val and test episodes; strangers too, of test episodes alone. sampling: null, or meta_dataset, as
    MetaDatasetEpisodes has it, a meta-batch being one episode.
    augment: as for ClassEpisodes, in training alone. Raises InputError for a count below its least, and, from `distribution`, for more
    ways or examples than there are.
    """

    objective = CLASSIFICATION
    augment: Sequence[Callable[[Tensor], Any]] = ()
    episodes: type[ClassEpisodes] = ClassEpisodes

    def __init__(
        self, ways: Count, shots: Count, queries: int, train_ways: Count, train_shots: Count, train_queries: int, balanced: bool = True,
        sampling: str | None = None, strangers: int = 0,
    ) -> None:  # fmt: skip
        given = {"ways": ways, "shots": shots, "train_ways": train_ways, "train_shots": train_shots}
        spans = {name: check_span(f"task.{name}", value, least=2 if "ways" in name else 1) for name, value in given.items()}
        for name, value in (("queries", queries), ("train_queries", train_queries)):
            check_count(f"task.{name}", value)
        check_count("task.strangers", strangers, least=0)
        check_flag("task.balanced", balanced)
        self.varied = {name: [low, high] for name, (low, high) in spans.items() if low < high}
        self.ways, self.shots, self.train_ways, _ = (high for _, high in spans.values())
        self.outputs, self.queries, self.balanced, self.sampling = self.ways, queries, balanced, sampling
        self.strangers = strangers
        if sampling not in (None, "meta_dataset"):
            raise InputError(f"task.sampling must be meta_dataset or null, got {sampling!r}")
        if sampling and (len(self.varied) < len(spans) or not balanced):
            raise InputError(
                "task.sampling=meta_dataset draws ways and shots from ranges, with as many queries of each class; set 'task.ways=[5,50]' "
                "'task.shots=[1,100]' task.queries=10 task.balanced=true"
            )
        self._train_counts = (spans["train_ways"], spans["train_shots"], train_queries)
        self._eval_counts = (spans["ways"], spans["shots"], queries)

    @abstractmethod
    def classes(self, split: Split) -> Classes:
        """The classes of a split, with all their examples."""

    def contents(self, split: Split) -> dict[str, np.ndarray]:
        classes = self.classes(split)  # turned images count as what they are turned from
        return {name: classes.inputs[members[0]] for name, members in zip(classes.names, classes.members, strict=True) if len(members)}

    def distribution(self, split: Split) -> ClassEpisodes:
        counts, augment = (self._train_counts, self.augment) if split == "train" else (self._eval_counts, ())
        strangers = self.strangers if split == "test" else 0
        try:
            if self.sampling:
                return MetaDatasetEpisodes(self.classes(split), *counts, augment=augment, strangers=strangers)
            balanced = self.balanced or split == "train"
            return self.episodes(self.classes(split), *counts, augment=augment, balanced=balanced, strangers=strangers)
        except InputError as error:
            raise InputError(f"in the {split} split, {error}") from error
