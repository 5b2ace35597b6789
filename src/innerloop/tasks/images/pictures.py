"""Pictures as functions from places to colours."""

from typing import Any

import numpy as np
import torch

from innerloop.config import InputError, check_count
from innerloop.episode import Episode, Examples
from innerloop.objective import PICTURE
from innerloop.tasks.base import Split
from innerloop.tasks.class_episodes import Classes
from innerloop.tasks.images.images import Images
from innerloop.tasks.readers import Numbers


class PictureEpisodes:
    """An episode is one picture: x its places (n, 2) in [-1, 1], down and right, y their colours (n, channels) in [0, 1]. The support set
    is `pixels` of them at random, all if None; the query set is all."""

    def __init__(self, classes: Classes, pixels: int | None) -> None:
        self.images, self.rows, self.pixels = classes.inputs, np.concatenate(list(classes.members)), pixels
        size = self.images.shape[-1]
        places = (np.arange(size) + 0.5) / size * 2 - 1
        self.x = torch.from_numpy(np.stack(np.meshgrid(places, places, indexing="ij"), -1).reshape(-1, 2).astype(np.float32))

    def sample(self, rng: np.random.Generator) -> Episode:
        image = self.images[rng.choice(self.rows)]
        y = torch.from_numpy(image.reshape(len(image), -1).T.astype(np.float32) / 255)
        shown = slice(None) if self.pixels is None else torch.from_numpy(rng.choice(len(self.x), self.pixels, replace=False))
        return Episode(Examples(self.x[shown], y[shown]), Examples(self.x, y))


class Pictures(Images):
    """A network is fitted to each picture, from places to colours (Tancik et al. 2021, arXiv 2012.02189): learn where that begins.

    pixels: of the support set, at random, to complete a picture from some of it; None, all. The rest as Images has it; pictures of the test
    split are of classes that do not occur in training.
    Raises InputError for more pixels than there are.
    """

    objective = PICTURE

    def __init__(self, pixels: int | None, **images: Any) -> None:
        super().__init__(augment=None, ways=2, shots=1, queries=1, train_ways=2, train_shots=1, train_queries=1, **images)
        channels, size, _ = self.input_shape
        if pixels is not None:
            check_count("task.pixels", pixels)
            if pixels > size**2:
                raise InputError(f"task.pixels={pixels} asks for more than the {size**2} of a picture; lower it, or set it to null")
        self.pixels, self.size = pixels, size
        self.shots, self.queries = pixels or size**2, size**2
        self.input_shape, self.outputs, self.ways, self.train_ways = (2,), channels, None, None
        self.reader = Numbers((2,))

    def distribution(self, split: Split) -> Any:
        return PictureEpisodes(self.classes(split), self.pixels)
