"""Digits, heard and seen."""

from collections import Counter
from typing import Any

import numpy as np

from innerloop.config import InputError
from innerloop.tasks.base import Split
from innerloop.tasks.class_episodes import Classes
from innerloop.tasks.images.mnist import Mnist
from innerloop.tasks.places import place_of
from innerloop.tasks.senses.senses import Senses, vectors
from innerloop.tasks.sounds.spoken import Spoken

COPIES = 4  # times that each recording is paired with an image: always another one


class HeardAndSeen(Senses):
    """MNIST's digits as `task=mnist` has them and spoken ones as `task=spoken` has: an episode is of one speaker, whom training did not
    hear, and of images that it did not see. Inputs are vectors (tasks/senses/senses.py); the senses are called seen and heard.

    seen: folder of MNIST. heard: folder or zip of class_speaker_index.wav, classes being digits. speakers: the train, val and test lists.
    rate, seconds, mels: as for `task=spoken`. Raises InputError as these two do.
    """

    def __init__(
        self, seen: str, heard: str, speakers: dict[str, list[str]], rate: int, seconds: float, mels: int, support: str, query: str,
        train_support: str, train_query: str, **shape: Any,
    ) -> None:  # fmt: skip
        place_of(heard, "a folder or a zip of .wav files", "task.heard")
        self.digits = Mnist(seen, **shape)
        self.spoken = Spoken(heard, None, None, "speaker", speakers, rate, seconds, mels, **shape)
        senses = {"seen": self.digits.input_shape, "heard": self.spoken.input_shape}
        super().__init__(senses, support, query, train_support, train_query, **shape)

    def classes(self, split: Split) -> Classes:
        rng = np.random.default_rng(0)  # the pairs are part of the data
        images, recordings = self.digits.classes(split), self.spoken.classes(split)
        check_digits(images, recordings)
        unused = {digit: iter(rng.permutation(rows)) for digit, rows in zip(images.names, images.members, strict=True)}
        seen: list[int] = []
        heard: list[int] = []
        members, names, groups = [], [], []
        for copy in range(COPIES):
            for name, rows, speaker in zip(recordings.names, recordings.members, recordings.groups or (), strict=True):
                digit = name.partition("/")[0]
                members.append(len(seen) + np.arange(len(rows)))
                seen += [next(unused[digit]) for _ in rows]
                heard += [*rows]
                names.append(f"{name}/{copy}")
                groups.append(f"{speaker}/{copy}")
        inputs = vectors(images.inputs[seen] / np.float32(255), recordings.inputs[heard])
        return Classes(inputs, members, names, groups=groups, origins=np.array(heard))


def check_digits(images: Classes, recordings: Classes) -> None:
    """Raises InputError for recordings of other words than the images show, and for more of them than there are images."""
    needed: Counter[str] = Counter()
    for name, rows in zip(recordings.names, recordings.members, strict=True):
        needed[name.partition("/")[0]] += COPIES * len(rows)
    there = {name: len(rows) for name, rows in zip(images.names, images.members, strict=True)}
    for word, count in needed.items():
        if word not in there:
            raise InputError(f"task.heard has recordings of '{word}', and MNIST shows digits; name the files 7_speaker_0.wav and the like")
        if count > there[word]:
            raise InputError(
                f"task.heard needs {count} images of a {word}, {COPIES} a recording, and the split has {there[word]}; leave some out"
            )
