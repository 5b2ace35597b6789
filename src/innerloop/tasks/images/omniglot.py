"""Few-shot classification of handwritten characters."""

from pathlib import Path
from typing import Any

import numpy as np

from innerloop.config import InputError, check_flag
from innerloop.tasks.base import Split
from innerloop.tasks.class_episodes import Classes
from innerloop.tasks.class_split import read_split
from innerloop.tasks.class_tasks import ClassTasks
from innerloop.tasks.images.omniglot_cache import SIDE, load_characters
from innerloop.tasks.images.omniglot_files import DRAWINGS
from innerloop.tasks.places import one_place
from innerloop.tasks.readers import Pictures

# The lists of vinyals are those that prototypical-networks published (Snell et al. 2017). The authors of maml and reptile shuffled the
# order in which their file system listed the folders, so their lists cannot be had again: ours were made by `random.Random(seed).shuffle`
# of the sorted names of all 1623 characters, seed 1 for maml and 0 for reptile: the first 1100 (1200) are train, maml's next 100 are val,
# the last 423 are test.
PUBLISHED = {name: f"omniglot_{name}" for name in ("vinyals", "maml", "reptile", "background")}


class Omniglot(ClassTasks):
    """Omniglot: 1623 characters of 50 alphabets, each drawn by 20 people (Lake, Salakhutdinov and Tenenbaum 2015, Science 350).

    The few-shot protocol is that of Vinyals et al. 2016 (arXiv:1606.04080): 28x28 images, and each character turned by 0, 90, 180
    and 270 degrees is four classes. Inputs are (1, 28, 28) float32 in [0, 1], ink 1.

    root: folder of images_background and images_evaluation, as .zip or extracted; what is missing is downloaded into it.
    split: vinyals has 1028 / 172 / 423 characters for train / val / test, maml (Finn et al. 2017) 1100 / 100 / 423,
        reptile (Nichol et al. 2018) 1200 / 0 / 423, background (Lake et al.: train is images_background, test images_evaluation) 964 / 0 /
        659. Or a CSV of class,split, where a class is a character ("Greek/character01"). Where a split has no validation characters, its
        val episodes are drawn from the training ones.
    within: alphabet, all classes of a test episode are of one alphabet, as Lake et al. test, which is harder; null, of any.
    rotate_test: whether test has the turned classes too (4 x 423, as Vinyals et al. and ProtoNet) or only the upright ones (423).
    ways, shots, queries: of val and test episodes. train_ways, train_shots, train_queries: of train episodes. shots + queries <= 20.

    Raises InputError for arguments that do not fit, and for images that are missing (and cannot be downloaded) or damaged.
    """

    input_shape = (1, SIDE, SIDE)
    reader = Pictures(1, SIDE, SIDE, ink=True)

    def __init__(
        self, root: str, split: str, rotate_test: bool, within: str | None = None, **shape: Any,
    ) -> None:  # fmt: skip
        super().__init__(**shape)
        check_flag("task.rotate_test", rotate_test)
        if split not in PUBLISHED and not Path(split).expanduser().is_file():
            raise InputError(f"task.split={split} must be one of {', '.join(PUBLISHED)}, or a CSV file of class,split")
        if within not in (None, "alphabet"):
            raise InputError(f"task.within must be alphabet or null, got {within!r}")
        self.rotate_test, self.within = rotate_test, within
        self.characters = load_characters(one_place(root))
        self.parts = parts_of(self.characters.names, split)

    def classes(self, split: Split) -> Classes:
        start = {name: DRAWINGS * i for i, name in enumerate(self.characters.names)}
        turns = range(4) if split != "test" or self.rotate_test else (0,)
        turned = [(name, turn) for name in self.parts[split] for turn in turns]
        rows = [np.arange(start[name], start[name] + DRAWINGS) for name, _ in turned]
        names = [f"{name}/rot{90 * turn:03d}" for name, turn in turned]
        groups = [f"{name.rpartition('/')[0]}, turned {turn} times" for name, turn in turned] if self.within and split == "test" else None
        return Classes(self.characters.images, rows, names, quarter_turns=[turn for _, turn in turned], groups=groups)


def parts_of(characters: list[str], split: str) -> dict[str, list[str]]:
    """The characters of train, val and test."""
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    known = set(characters)
    for character, part in read_split(PUBLISHED.get(split, split)).items():
        if part and character not in known:
            raise InputError(f"{character} of the {split} split is not in task.root; delete the images there to download the official ones")
        if part:
            parts[part].append(character)
    if not parts["train"] or not parts["test"]:
        raise InputError(f"task.split={split} has no {'test' if parts['train'] else 'train'} characters; put some there")
    return parts if parts["val"] else parts | {"val": parts["train"]}
