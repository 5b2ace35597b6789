"""Episodes for Lightning."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from innerloop.config import InputError, check_count
from innerloop.episode import Episode, Examples
from innerloop.tasks.base import DrawnTogether, ListedTasks, OfAnyShape, TaskDistribution, Tasks
from innerloop.tasks.class_episodes import ClassEpisodes

TRAIN, VAL, TEST = range(3)
SHAPE = 3  # more: the random streams that shapes come from


class Episodes(Protocol):
    """A numbered list of episodes: drawn (EpisodeDataset), or from a file (frozen.py).

    one_by_one: their shapes differ, so that a meta-batch is a single one.
    """

    one_by_one: bool

    def __len__(self) -> int: ...

    def meta_batch(self, indices: range) -> Episode: ...


class EpisodeDataset(Dataset[Episode]):
    """Episode i is a pure function of (key, i): the same for any worker, batch size, device or order.

    of_one_shape: where the shapes of episodes vary, so many in a row have the same. one_by_one: no two have, but by chance.
    """

    def __init__(self, tasks: TaskDistribution, num_episodes: int, key: Sequence[int], of_one_shape: int = 1) -> None:
        self.tasks, self.num_episodes, self.key, self.of_one_shape = tasks, num_episodes, tuple(key), of_one_shape
        self._shapes = tasks if isinstance(tasks, OfAnyShape) and tasks.varies else None
        self.one_by_one = self._shapes is not None and of_one_shape == 1
        self._together = tasks if isinstance(tasks, DrawnTogether) else None
        self._stream_key = np.random.SeedSequence(self.key).generate_state(2, np.uint64)

    def __len__(self) -> int:
        return self.num_episodes

    def __getitem__(self, index: int) -> Episode:
        if not 0 <= index < self.num_episodes:
            raise IndexError(f"there is no episode {index} of {self.num_episodes}")
        if self._together:
            return Episode(*(Examples(x[0], y[0]) for x, y in self.meta_batch(range(index, index + 1))))
        return self.tasks.sample(np.random.default_rng([*self.key, index]), *self._shape(index))

    def _shape(self, index: int) -> list[Any]:
        """That of an episode, where it varies."""
        if self._shapes is None:
            return []
        first, *rest = self.key
        return [self._shapes.shape(np.random.default_rng([SHAPE + first, *rest, index // self.of_one_shape]))]

    def meta_batch(self, indices: range) -> Episode:
        """The episodes `indices`, one at least, with a leading task axis."""
        if not indices or min(indices) < 0 or max(indices) >= self.num_episodes:
            raise IndexError(f"there are no episodes {indices} of {self.num_episodes}")
        if self._together:
            return self._together.draw(self._uniform(indices, self._together.numbers), *self._shape(indices[0]))
        return default_collate([self[index] for index in indices])

    def _uniform(self, indices: range, numbers: int) -> np.ndarray:
        """Each episode has its own stretch of one Philox stream, which can be entered anywhere: (len(indices), numbers) in [0, 1)."""
        stretch = -(-numbers // 4)  # the generator counts in blocks of four numbers
        stream = np.random.Philox(key=self._stream_key).advance(indices[0] * stretch)
        drawn = np.random.Generator(stream).random((indices[-1] - indices[0] + 1, 4 * stretch))
        return drawn[:: indices.step, :numbers]


class MetaBatches(Dataset[Episode]):
    """The episodes of one rank in meta-batches of `size`; rank r of `world` has the episodes r, r + world, ..."""

    def __init__(self, episodes: Episodes, size: int, rank: int, world: int) -> None:
        self.episodes, self.size = episodes, size
        self.share = range(rank, len(episodes), world)

    def __len__(self) -> int:
        return -(-len(self.share) // self.size)

    def __getitem__(self, index: int) -> Episode:
        return self.episodes.meta_batch(self.share[index * self.size : (index + 1) * self.size])


class Remaining(Sampler[int]):
    """The batches from `done` on. As long as all of them: Lightning counts a run that it goes on with from its beginning."""

    def __init__(self, batches: int, done: int) -> None:
        self.batches, self.done = batches, done

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.done, self.batches))


class EpisodicDataModule(LightningDataModule):
    """Meta-batches of episodes. One epoch is the whole training: `outer_steps` meta-batches, no episode twice.

    Training episodes are keyed by the seed. Validation and test episodes are the same for every seed and algorithm.
    steps_at_once: how many meta-batches come as one, for the learner to take them apart. by_class: label training episodes by class.
    On several devices rank r of w takes the episodes r, r + w, ... of each meta-batch.
    """

    def __init__(
        self, tasks: Tasks, seed: int, outer_steps: int, meta_batch_size: int, val_episodes: int, test_episodes: int,
        eval_batch_size: int, num_workers: int, steps_at_once: int = 1, by_class: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        for name, value in (("meta_batch_size", meta_batch_size), ("eval_batch_size", eval_batch_size), ("steps_at_once", steps_at_once)):
            check_count(name, value)
        for name, value in (("outer_steps", outer_steps), ("num_workers", num_workers)):
            check_count(name, value, least=0)
        # numpy splits larger seeds into two words, which would then collide with other keys
        check_count("seed", seed, least=0, most=2**32 - 1)
        for name, value in (("val_episodes", val_episodes), ("test_episodes", test_episodes)):
            check_count(name, value, least=2)  # an interval needs a spread
        self.tasks, self.meta_batch_size, self.eval_batch_size, self.num_workers = tasks, meta_batch_size, eval_batch_size, num_workers
        self.steps_at_once = steps_at_once
        if tasks.varied and steps_at_once > 1:
            raise InputError(f"steps_at_once={steps_at_once} takes meta-batches of one shape, and those of this task vary; set it to 1")
        if tasks.sampling and meta_batch_size > 1:
            raise InputError(f"task.sampling={tasks.sampling} gives each episode a size of its own; set meta_batch_size=1")
        # keys of equal length: numpy pads short ones with zeros, so that (1,) and (1, 0) would be the same
        train = tasks.distribution("train")
        if by_class and isinstance(train, ClassEpisodes):
            train = copy.copy(train)  # the task keeps its own
            train.by_class = True
        self.train_episodes = EpisodeDataset(train, outer_steps * meta_batch_size, (TRAIN, seed), meta_batch_size)
        self.val_episodes = EpisodeDataset(tasks.distribution("val"), val_episodes, (VAL, 0))
        test = tasks.distribution("test")
        self.test_episodes: Episodes = (
            test.first(test_episodes) if isinstance(test, ListedTasks) else EpisodeDataset(test, test_episodes, (TEST, 0))
        )

    def train_dataloader(self) -> DataLoader[Episode]:
        world = self.trainer.world_size if self.trainer else 1
        if self.meta_batch_size % world:
            raise InputError(f"meta_batch_size={self.meta_batch_size} does not divide by {world} devices; make it a multiple of {world}")
        done = self.trainer.global_step * self.trainer.accumulate_grad_batches // self.steps_at_once if self.trainer else 0
        return self._loader(self.train_episodes, self.steps_at_once * self.meta_batch_size // world, done)

    def val_dataloader(self) -> DataLoader[Episode]:
        return self._loader(self.val_episodes, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Episode]:
        return self._loader(self.test_episodes, self.eval_batch_size)

    def _loader(self, episodes: Episodes, batch_size: int, done: int = 0) -> DataLoader[Episode]:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if len(episodes) < world:
            raise InputError(f"{len(episodes)} episodes are too few for {world} devices; raise val_episodes and test_episodes")
        batches = MetaBatches(episodes, 1 if episodes.one_by_one else batch_size, rank, world)
        return DataLoader(
            batches, batch_size=None, sampler=Remaining(len(batches), done), num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0, generator=torch.Generator(),  # its own: an iterator draws a number that no one uses
        )  # fmt: skip
