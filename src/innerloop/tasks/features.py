"""Features of a frozen network in the place of images or texts, made once."""

import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from filelock import FileLock

from innerloop.config import InputError
from innerloop.tasks import readers
from innerloop.tasks.archives import with_progress_bar
from innerloop.tasks.base import Split, Tasks
from innerloop.tasks.class_episodes import ClassEpisodes
from innerloop.tasks.places import cache_folder, place_for
from innerloop.tasks.prepared import Unprepared, read_prepared, write_prepared
from innerloop.tasks.readers import Features

AT_ONCE = 64  # images through the network


class Seen(Tasks):
    """Tasks of classes of images or texts, as a frozen network sees them: all of them once through it, into a file in the user's cache
    folder, which is found again by what is in them and in the network. Inputs are features (width,); images are not changed at random any
    more. Raises InputError for tasks of what the network does not take.
    """

    def __init__(self, tasks: Tasks, see: Features) -> None:
        what = "texts" if see.vocabulary else "images"
        if tasks.ways is None or not (tasks.vocabulary if see.vocabulary else len(tasks.input_shape) == 3):
            raise InputError(f"this backbone sees {what} of classes, and this task has none; use another task, or leave the backbone out")
        if see.vocabulary and (tasks.vocabulary or 0) > see.vocabulary:
            raise InputError(
                f"the backbone has {see.vocabulary} tokens and the task {tasks.vocabulary}; set task.tokenizer to the backbone's"
            )
        self.tasks, self.see = tasks, see
        self.objective, self.outputs, self.varied, self.sampling = tasks.objective, tasks.outputs, tasks.varied, tasks.sampling
        self.strangers = tasks.strangers
        self.ways, self.train_ways, self.shots, self.queries = tasks.ways, tasks.train_ways, tasks.shots, tasks.queries
        self.input_shape = (see.width,)
        self.reader: Any = tasks.reader and readers.ThroughBackbone(tasks.reader, see)

    @property
    def name(self) -> str:
        return self.tasks.name

    def contents(self, split: Split) -> dict[str, np.ndarray]:
        return self.tasks.contents(split)

    def distribution(self, split: Split) -> ClassEpisodes:
        episodes = copy.copy(self.tasks.distribution(split))
        if not isinstance(episodes, ClassEpisodes) or episodes.inputs.dtype != (np.int64 if self.see.vocabulary else np.uint8):
            raise InputError("a backbone sees images, and the inputs of this task are other numbers; leave it out")
        turns = [0] * len(episodes.members) if episodes.quarter_turns is None else episodes.quarter_turns
        shown = [(row, turn) for rows, turn in zip(episodes.members, turns, strict=True) for row in rows]
        places = {key: index for index, key in enumerate(dict.fromkeys(shown))}
        episodes.inputs = features_of(episodes.inputs, list(places), self.see)
        episodes.members = [np.array([places[row, turn] for row in rows]) for rows, turn in zip(episodes.members, turns, strict=True)]
        episodes.origins = np.array([row for row, _ in places])
        episodes.quarter_turns, episodes.augment = None, ()
        return episodes


def features_of(inputs: np.ndarray, shown: list[tuple[int, int]], see: Features) -> np.ndarray:
    """Of the inputs `shown`, (row, quarter turns) each: (len(shown), width)."""

    def batches() -> Iterator[np.ndarray]:
        for start in range(0, len(shown), AT_ONCE):
            some = shown[start : start + AT_ONCE]
            yield np.stack([np.rot90(inputs[row], turn, axes=(-2, -1)) if turn else inputs[row] for row, turn in some])

    digest = hashlib.blake2b(digest_size=16)
    for batch in batches():
        digest.update(np.ascontiguousarray(batch).data)
    state = f"{see.key} {inputs.shape} {digest.hexdigest()}"
    path = place_for(cache_folder() / "features", f"{hashlib.sha256(state.encode()).hexdigest()[:24]}.prepared")
    if not (ready := read_prepared(path, state, float("inf"))):
        with FileLock(f"{path}.lock"):  # several processes may start at once; the first looks, the others wait
            ready = read_prepared(path, state, float("inf"))
            if not ready:
                at_once = with_progress_bar(batches(), "what the backbone sees (once)", -(-len(shown) // AT_ONCE))
                seen = (row for batch in at_once for row in see(batch))
                write_prepared(path, Unprepared((len(shown), see.width), seen, {}, "<f4"), state)
                ready = read_prepared(path, state, float("inf"))
    assert ready
    return ready.images
