"""Objects of unseen classes in photographs."""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from innerloop.config import InputError, check_count
from innerloop.detection import DETECTION, encode_boxes
from innerloop.episode import Episode, Examples
from innerloop.tasks.archives import opened, with_progress_bar
from innerloop.tasks.base import SPLITS, Split, Tasks
from innerloop.tasks.class_split import by_split, drawn_split, read_split
from innerloop.tasks.images.box_files import KINDS, Photo, Thing, read_boxes
from innerloop.tasks.images.image_files import decoded
from innerloop.tasks.images.seen import in_8_bits, upright
from innerloop.tasks.places import place_of
from innerloop.tasks.prepared import Unprepared, load_prepared
from innerloop.tasks.readers import MODES, Pictures

CHECKED = 10_000  # sets of classes that are looked at before training: all, but for many classes at many ways
ALIKE = 0.01  # of a shape, and a pixel more: small copies of an image are rounded


class BoxEpisodes:
    """An episode has some classes; each of its images shows one of them at least. What else there is counts as background."""

    def __init__(self, tasks: "Boxes", classes: list[str], rows: list[int]) -> None:
        self.tasks, self.classes = tasks, classes
        self.showing = {name: [row for row in rows if any(thing.name == name for thing in tasks.things[row])] for name in classes}
        least = -(-(tasks.shots + tasks.queries) // tasks.of_classes)
        if few := [name for name, shown in self.showing.items() if len(shown) < least]:
            raise InputError(
                f"'{few[0]}' is in {len(self.showing[few[0]])} images, and an episode may need {least}; lower task.shots or task.queries, "
                "or leave the class out of the split"
            )
        if len(classes) < tasks.of_classes:
            raise InputError(f"task.ways={tasks.of_classes} asks for more than the {len(classes)} classes there are; lower it")
        needed = tasks.shots + tasks.queries
        small = {name: set(shown) for name, shown in self.showing.items() if len(shown) < needed}  # any other is enough by itself
        for names in itertools.islice(itertools.combinations(small, tasks.of_classes), CHECKED):
            check_enough(names, len(set().union(*(small[name] for name in names))), needed)

    def sample(self, rng: np.random.Generator) -> Episode:
        """Classes come in turn, each with an image that shows it and is not in the episode yet."""
        tasks = self.tasks
        names = [self.classes[index] for index in rng.choice(len(self.classes), tasks.of_classes, replace=False)]
        left = {name: rng.permutation(self.showing[name]).tolist() for name in names}
        rows: list[int] = []
        while len(rows) < tasks.shots + tasks.queries:
            before = len(rows)
            for name in names:
                left[name] = [row for row in left[name] if row not in rows]
                if left[name] and len(rows) < tasks.shots + tasks.queries:
                    rows.append(left[name].pop())
            if len(rows) == before:
                check_enough(names, len(rows), tasks.shots + tasks.queries)
        parts = rows[: tasks.shots], rows[tasks.shots :]
        return Episode(*(self._examples(part, names) for part in parts))

    def _examples(self, rows: list[int], names: list[str]) -> Examples:
        tasks = self.tasks
        x = torch.from_numpy(np.stack([tasks.images[row] for row in rows])).float() / 255
        return Examples(x, torch.from_numpy(np.stack([target(tasks.things[row], names, tasks.grid) for row in rows])))


def check_enough(names: Sequence[str], there: int, needed: int) -> None:
    """Raises InputError where the images that show some of these classes are too few for an episode."""
    if there < needed:
        raise InputError(
            f"{', '.join(names)} are in {there} images together, and an episode needs {needed}; lower task.shots or task.queries"
        )


def target(things: list[Thing], names: list[str], grid: int) -> np.ndarray:
    """As encode_boxes has it; of two objects in the middle of one cell, the larger."""
    shown = sorted((thing for thing in things if thing.name in names), key=lambda t: (t.bottom - t.top) * (t.right - t.left))
    boxes = np.array([thing[1:] for thing in shown], dtype=float).reshape(-1, 4) * grid
    return encode_boxes(boxes, np.array([names.index(thing.name) + 1 for thing in shown], dtype=float), grid)


class Boxes(Tasks):
    """Find objects of `ways` unseen classes in images, from `shots` images where they are marked; scored by AP50.

    root: a folder or a zip in COCO's or Pascal VOC's layout. size: images are scaled to size x size pixels, whatever their own shape.
    grid: cells of a side, each of which can hold one object. split: a CSV of class,split; null: drawn once from split_seed, and written
    beside the data. Images that show a class of val or test are in no training episode. Raises InputError for what does not fit.
    """

    objective = DETECTION
    reader = None

    def __init__(
        self, root: str | None, size: int, channels: int, grid: int, split: str | None, split_seed: int, memory_mb: float, ways: int,
        shots: int, queries: int,
    ) -> None:  # fmt: skip
        for name, count in (("ways", ways), ("shots", shots), ("queries", queries), ("grid", grid), ("size", size)):
            check_count(f"task.{name}", count)
        if channels not in MODES:
            raise InputError(f"task.channels must be 3 (colour) or 1 (grey), got {channels!r}")
        path = place_of(root, KINDS).resolve()
        folder = path if path.is_dir() else path.parent
        name = f"{path.stem}_{size}x{size}_{MODES[channels].lower()}_objects.prepared"
        there = partial(sources_of, path)
        ready = load_prepared(folder, name, there, there, lambda _: prepare(path, size, channels), memory_mb)
        self.images, self.things = ready.images, [[Thing(*thing) for thing in things] for things in ready.about["things"]]
        classes = sorted({thing.name for things in self.things for thing in things})
        known = read_split(split) if split else drawn_split(classes, folder, f"{path.stem}_split{split_seed}.csv", split_seed)
        self.parts = by_split(known, classes, path)
        self.grid, self.shots, self.queries, self.of_classes = grid, shots, queries, ways
        self.input_shape, self.outputs, self.places = (channels, size, size), ways + 5, grid**2

    @property
    def support_size(self) -> dict[str, int]:
        return {"images": self.shots}

    def contents(self, split: Split) -> dict[str, np.ndarray]:
        rows = self.rows(split)
        return {name: self.images[next(r for r in rows if any(t.name == name for t in self.things[r]))] for name in self.parts[split]}

    def rows(self, split: Split) -> list[int]:
        """Images that show a class of the split, and none of the splits that come after it."""
        later = {name for part in SPLITS[SPLITS.index(split) + 1 :] for name in self.parts[part]}
        own = set(self.parts[split])
        shown = [{thing.name for thing in things} for things in self.things]
        return [row for row, names in enumerate(shown) if names & own and not names & later]

    def distribution(self, split: Split) -> BoxEpisodes:
        try:
            return BoxEpisodes(self, self.parts[split], self.rows(split))
        except InputError as error:
            raise InputError(f"in the {split} split, {error}") from error


def sources_of(root: Path) -> list[Path]:
    """Not what is written beside the images."""
    written = (".prepared", ".partial", ".lock", ".csv")
    there = root.iterdir() if root.is_dir() else [root]
    return sorted(path for path in there if path.suffix not in written and not path.name.startswith("."))


def prepare(root: Path, size: int, channels: int) -> Unprepared:
    """Each image scaled to the square, with its objects."""
    photos = read_boxes(root)

    def images() -> Any:
        with opened(root, f"task.root must be {KINDS}") as (_, read):
            about: dict[str, int] = {}
            pairs = zip(photos.items(), decoded(root, [*photos], read, about), strict=True)
            for (name, photo), image in with_progress_bar(pairs, "images (once)", len(photos)):
                yield Pictures(channels, size, size).scaled(in_8_bits(turned(image, photo, f"{name} in {root}"), **about))

    return Unprepared((len(photos), channels, size, size), images(), {"things": [photo.things for photo in photos.values()]})


def turned(image: Image.Image, photo: Photo, name: str) -> Image.Image:
    """Upright, or as it lies where that is more like the shape of its annotations. Raises InputError where they are of another one."""

    def misfit(shown: Image.Image) -> float:
        return abs(math.log(shown.width / shown.height * photo.height / photo.width))

    best = min((upright(image), image), key=misfit)
    if misfit(best) > ALIKE + 1 / min(image.size):
        sides = f"{image.height} x {image.width} pixels, and {photo.height:g} x {photo.width:g} by its annotations"
        raise InputError(f"{name} has {sides}; mend them")
    return best
