"""Few-shot classification of handwritten characters."""

from pathlib import Path

import numpy as np

from innerloop.config import InputError, check_choice, check_count, check_flag
from innerloop.objective import CLASSIFICATION
from innerloop.tasks.base import Split, Tasks
from innerloop.tasks.class_episodes import ClassEpisodes
from innerloop.tasks.omniglot_cache import Characters, load_characters
from innerloop.tasks.omniglot_files import DRAWINGS
from innerloop.tasks.omniglot_splits import SPLITS, read_split


class Omniglot(Tasks):
    """Omniglot: 1623 characters of 50 alphabets, each drawn by 20 people (Lake, Salakhutdinov and Tenenbaum 2015, Science 350).

    The few-shot protocol is that of Vinyals et al. 2016 (arXiv:1606.04080): 28x28 images, and each character turned by 0, 90, 180
    and 270 degrees is four classes. Inputs are (1, 28, 28) float32 in [0, 1], ink 1.

    root: folder of images_background and images_evaluation, as .zip or extracted; what is missing is downloaded into it.
    split: vinyals has 1028 / 172 / 423 characters for train / val / test, maml (Finn et al. 2017) 1100 / 100 / 423,
        reptile (Nichol et al. 2018) 1200 / 0 / 423: it has no validation characters, so its val episodes are drawn from the training ones.
    rotate_test: whether test has the turned classes too (4 x 423, as Vinyals et al. and ProtoNet) or only the upright ones (423).
    ways, shots, queries: of val and test episodes. train_ways, train_shots, train_queries: of train episodes. shots + queries <= 20.

    Raises InputError for arguments that do not fit, and for images that are missing (and cannot be downloaded) or damaged.
    """

    objective = CLASSIFICATION
    input_shape = (1, 28, 28)

    def __init__(
        self, root: str, split: str, rotate_test: bool,
        ways: int, shots: int, queries: int, train_ways: int, train_shots: int, train_queries: int,
    ) -> None:  # fmt: skip
        check_choice("task.split", split, SPLITS)
        check_flag("task.rotate_test", rotate_test)
        counts = {"ways": ways, "shots": shots, "queries": queries}
        train_counts = {"train_ways": train_ways, "train_shots": train_shots, "train_queries": train_queries}
        for name, value in (counts | train_counts).items():
            check_count(f"task.{name}", value)
        self.outputs = self.ways = ways
        self.train_ways, self.shots, self.queries = train_ways, shots, queries
        characters = load_characters(Path(root).expanduser())
        members = _members(characters, split)
        # All three at once: a test split with too few classes should not wait for the end of training to say so.
        self._distributions = {
            "train": _episodes(characters, members["train"], True, train_ways, train_shots, train_queries),
            "val": _episodes(characters, members["val"], True, ways, shots, queries),
            "test": _episodes(characters, members["test"], rotate_test, ways, shots, queries),
        }

    def distribution(self, split: Split) -> ClassEpisodes:
        return self._distributions[split]


def _members(characters: Characters, split: str) -> dict[str, list[str]]:
    """The characters of train, val and test."""
    members: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    known = set(characters.names)
    for character, part in read_split(split).items():
        if character not in known:
            raise InputError(f"{character} of the {split} split is not in task.root; delete the images there to download the official ones")
        members[part].append(character)
    return members if members["val"] else members | {"val": members["train"]}


def _episodes(characters: Characters, members: list[str], rotate: bool, ways: int, shots: int, queries: int) -> ClassEpisodes:
    """Episodes of the characters in `members`, each a class, or four classes with `rotate`."""
    start = {name: DRAWINGS * i for i, name in enumerate(characters.names)}
    classes = [(name, turns) for name in members for turns in (range(4) if rotate else (0,))]
    rows = [np.arange(start[name], start[name] + DRAWINGS) for name, _ in classes]
    names = [f"{name}/rot{90 * turns:03d}" for name, turns in classes]
    return ClassEpisodes(characters.images, rows, names, ways, shots, queries, [turns for _, turns in classes])
