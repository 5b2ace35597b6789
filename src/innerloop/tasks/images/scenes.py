"""Scenes with objects of unseen classes, to be found or cut out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from innerloop.config import InputError, check_choice, check_count, check_span
from innerloop.detection import DETECTION, SEGMENTATION, encode_boxes
from innerloop.episode import Episode, Examples
from innerloop.tasks.base import Split, Tasks
from innerloop.tasks.class_episodes import Classes
from innerloop.tasks.images.glyphs import Glyphs
from innerloop.tasks.images.images import Images
from innerloop.tasks.images.omniglot import Omniglot

SOURCES = "glyphs", "omniglot", "images"  # of drawings
INK = 64  # of 255: what is darker is no part of a character
SIZES = 0.28, 0.5  # of the longer side of an object, in sides of the scene
ATTEMPTS = 20  # to place an object where no other one is
UNUSED = {"shots": 1, "queries": 1, "train_ways": 2, "train_shots": 1, "train_queries": 1}  # counts that a source of drawings does not use


class Scene:
    """An empty image (channels, size, size), on which objects are put."""

    def __init__(self, channels: int, size: int, cell: int) -> None:
        self.pixels = np.zeros((channels, size, size), np.uint8)
        self.mask = np.zeros((size, size), np.int64)
        self.boxes: list[tuple[int, int, int, int]] = []  # top, left, bottom, right
        self.labels: list[int] = []
        self.cell, self.taken = cell, set[tuple[int, int]]()  # pixels of a cell's side, and the cells that objects have their middle in

    def put(self, rng: np.random.Generator, drawing: np.ndarray, label: int) -> None:
        """A drawing (channels, h, w) at a random size and place; not at all where there is no room for it."""
        _, height, width = drawing.shape
        size = self.pixels.shape[-1]
        scale = rng.uniform(*SIZES) * size / max(height, width)
        height, width = (max(2, round(side * scale)) for side in (height, width))
        for _ in range(ATTEMPTS):
            top, left = rng.integers(size - height + 1), rng.integers(size - width + 1)
            cell = ((top + height / 2) // self.cell, (left + width / 2) // self.cell)
            box = (top, left, top + height, left + width)
            if cell not in self.taken and all(apart(box, other) for other in self.boxes):
                resized = [Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR) for channel in drawing]
                there = np.stack([np.asarray(channel) for channel in resized])
                area = (..., slice(top, top + height), slice(left, left + width))
                self.pixels[area] = there
                self.mask[area] = np.where(there.max(0) > INK, label, 0) if len(drawing) == 1 else label
                self.boxes.append(box)
                self.labels.append(label)
                self.taken.add(cell)
                return


def apart(some: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two boxes share no pixel."""
    return some[0] >= other[2] or other[0] >= some[2] or some[1] >= other[3] or other[1] >= some[3]


class SceneEpisodes:
    """An episode has some classes; its support and query scenes show other drawings of them."""

    def __init__(self, tasks: "Scenes", classes: Classes) -> None:
        self.tasks, self.images = tasks, classes.inputs
        upright = range(len(classes.members)) if classes.quarter_turns is None else np.flatnonzero(np.equal(classes.quarter_turns, 0))
        self.members = [rows for rows in (classes.members[int(index)] for index in upright) if len(rows) >= 2]
        if len(self.members) < tasks.of_classes:
            raise InputError(f"task.ways={tasks.of_classes} asks for more than the {len(self.members)} classes there are; lower it")

    def sample(self, rng: np.random.Generator) -> Episode:
        tasks = self.tasks
        chosen = rng.choice(len(self.members), tasks.of_classes, replace=False)
        halves = [np.array_split(rng.permutation(self.members[index]), 2) for index in chosen]
        support, query = zip(*halves, strict=True)
        return Episode(self._part(rng, support, tasks.shots), self._part(rng, query, tasks.queries))

    def _part(self, rng: np.random.Generator, drawings: Sequence[np.ndarray], count: int) -> Examples:
        """`count` scenes; classes come in turn, so that all of them occur where there is room."""
        low, high = self.tasks.objects
        objects = rng.integers(low, high + 1, size=count)
        objects[0] = max(objects[0], 1)
        labels = iter(np.concatenate([rng.permutation(len(drawings)) for _ in range(-(-objects.sum() // len(drawings)))]).tolist())
        scenes = []
        for number in objects:
            scene = Scene(len(self.images[0]), self.tasks.size, self.tasks.size // self.tasks.grid)
            for _ in range(number):
                label = next(labels)
                scene.put(rng, cut_out(self.images[rng.choice(drawings[label])]), label + 1)
            scenes.append(scene)
        x = torch.from_numpy(np.stack([scene.pixels for scene in scenes])).float() / 255
        return Examples(x, torch.stack([self.tasks.target(scene) for scene in scenes]))


def cut_out(image: np.ndarray) -> np.ndarray:
    """The part of a grey image (1, h, w) that has ink; a coloured one is all object."""
    if len(image) > 1:
        return image
    rows, columns = (np.flatnonzero((image[0] > INK).any(axis)) for axis in (1, 0))
    return image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else image


class Scenes(Tasks):
    """Find objects of `ways` unseen classes in scenes of size x size pixels, from `shots` scenes where they are marked.

    of: glyphs | omniglot | images, where the drawings come from; root, split: of omniglot and images, as those tasks have them. channels:
    of images. objects: [least, most] in a scene. kind: boxes, y (n, grid * grid, 5) as encode_boxes has it, scored by AP50; points,
    the same of a box of one cell around the middle of each object, which is found within a third of a cell; masks, y (n, size * size), the
    class of each pixel or 0, scored by mean IoU. Characters of the test split do not occur in training, and
    drawings of the support set not in the query set. Raises InputError for what does not fit.
    """

    reader = None

    def __init__(
        self, of: str, kind: str, root: str | None, split: str | None, channels: int, size: int, grid: int, ways: int, shots: int,
        queries: int, objects: Sequence[int],
    ) -> None:  # fmt: skip
        check_choice("task.of", of, SOURCES)
        check_choice("task.kind", kind, ("boxes", "masks", "points"))
        for name, count in (("ways", ways), ("shots", shots), ("queries", queries), ("grid", grid)):
            check_count(f"task.{name}", count)
        check_count("task.size", size, least=16)
        self.objects = check_span("task.objects", objects, least=0)
        if self.objects[1] < 1:
            raise InputError("task.objects=[least, most] must allow for one object, got [0, 0]")
        if size % grid:
            raise InputError(f"task.grid={grid} must divide task.size={size}, since cells are equal")
        self.kind, self.size, self.grid, self.shots, self.queries, self.of_classes = kind, size, grid, shots, queries, ways
        self.source = source_of(of, root, split, channels, size // 2, ways)
        self.input_shape = (self.source.input_shape[0], size, size)
        self.objective, self.outputs, self.places = (SEGMENTATION, ways + 1, size**2) if kind == "masks" else (DETECTION, ways + 5, grid**2)

    @property
    def support_size(self) -> dict[str, int]:
        return {"scenes": self.shots}

    def contents(self, split: Split) -> dict[str, np.ndarray]:
        return self.source.contents(split)

    def distribution(self, split: Split) -> SceneEpisodes:
        try:
            return SceneEpisodes(self, self.source.classes(split))
        except InputError as error:
            raise InputError(f"in the {split} split, {error}") from error

    def target(self, scene: Scene) -> Tensor:
        """What is to be said of a scene."""
        if self.kind == "masks":
            return torch.from_numpy(scene.mask).flatten()
        boxes = np.array(scene.boxes, dtype=float).reshape(-1, 4) * self.grid / self.size
        if self.kind == "points":
            middles = (boxes[:, :2] + boxes[:, 2:]) / 2
            boxes = np.concatenate([middles - 0.5, middles + 0.5], 1)
        return torch.from_numpy(encode_boxes(boxes, np.array(scene.labels, dtype=float), self.grid))


def source_of(of: str, root: str | None, split: str | None, channels: int, size: int, ways: int) -> Any:
    """The task that the drawings come from. size: of those of images."""
    counts: dict[str, Any] = {"ways": max(ways, 2), **UNUSED}
    if of == "glyphs":
        return Glyphs(**counts)
    if of == "omniglot":
        if root is None:
            raise InputError("task.of=omniglot needs task.root, the folder of its images")
        return Omniglot(root=root, split=split or "vinyals", rotate_test=False, **counts)
    return Images(
        root=root, folders=None, pool=False, size=size, channels=channels, split=split, split_seed=0, memory_mb=4000, augment=None,
        **counts,
    )  # fmt: skip
