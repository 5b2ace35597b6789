"""Episodes for Lightning."""

from collections.abc import Sequence

import numpy as np
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Subset

from innerloop.config import InputError, check_count
from innerloop.episode import Episode
from innerloop.tasks.base import TaskDistribution, Tasks

TRAIN, VAL, TEST = range(3)


class EpisodeDataset(Dataset[Episode]):
    """Episode i is a pure function of (key, i): the same for any worker, batch size, device or order."""

    def __init__(self, tasks: TaskDistribution, num_episodes: int, key: Sequence[int]) -> None:
        self.tasks, self.num_episodes, self.key = tasks, num_episodes, tuple(key)

    def __len__(self) -> int:
        return self.num_episodes

    def __getitem__(self, index: int) -> Episode:
        return self.tasks.sample(np.random.default_rng([*self.key, index]))


class EpisodicDataModule(LightningDataModule):
    """Meta-batches of episodes. One epoch is the whole training: `outer_steps` meta-batches, no episode twice.

    Training episodes are keyed by the seed. Validation and test episodes are the same for every seed and algorithm.
    On several devices rank r of w takes the episodes r, r + w, ... of each meta-batch.
    """

    def __init__(
        self, tasks: Tasks, seed: int, outer_steps: int, meta_batch_size: int, val_episodes: int, test_episodes: int,
        eval_batch_size: int, num_workers: int,
    ) -> None:  # fmt: skip
        super().__init__()
        for name, value in (("meta_batch_size", meta_batch_size), ("eval_batch_size", eval_batch_size)):
            check_count(name, value)
        for name, value in (("outer_steps", outer_steps), ("num_workers", num_workers)):
            check_count(name, value, least=0)
        # numpy splits larger seeds into two words, which would then collide with other keys
        check_count("seed", seed, least=0, most=2**32 - 1)
        for name, value in (("val_episodes", val_episodes), ("test_episodes", test_episodes)):
            check_count(name, value, least=2)  # an interval needs a spread
        self.tasks, self.meta_batch_size, self.eval_batch_size, self.num_workers = tasks, meta_batch_size, eval_batch_size, num_workers
        # keys of equal length: numpy pads short ones with zeros, so that (1,) and (1, 0) would be the same
        self.train_episodes = EpisodeDataset(tasks.distribution("train"), outer_steps * meta_batch_size, (TRAIN, seed))
        self.val_episodes = EpisodeDataset(tasks.distribution("val"), val_episodes, (VAL, 0))
        self.test_episodes = EpisodeDataset(tasks.distribution("test"), test_episodes, (TEST, 0))

    def train_dataloader(self) -> DataLoader[Episode]:
        world = self.trainer.world_size if self.trainer else 1
        if self.meta_batch_size % world:
            raise InputError(f"meta_batch_size={self.meta_batch_size} does not divide by {world} devices; make it a multiple of {world}")
        return self._loader(self.train_episodes, self.meta_batch_size // world)

    def val_dataloader(self) -> DataLoader[Episode]:
        return self._loader(self.val_episodes, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Episode]:
        return self._loader(self.test_episodes, self.eval_batch_size)

    def _loader(self, episodes: EpisodeDataset, batch_size: int) -> DataLoader[Episode]:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if len(episodes) < world:
            raise InputError(f"{len(episodes)} episodes are too few for {world} devices; raise val_episodes and test_episodes")
        share: Dataset[Episode] = episodes if world == 1 else Subset(episodes, range(rank, len(episodes), world))
        return DataLoader(share, batch_size=batch_size, num_workers=self.num_workers, persistent_workers=self.num_workers > 0)
