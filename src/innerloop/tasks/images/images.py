"""Few-shot classification of any images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from innerloop.config import InputError, check_count, check_flag, check_positive
from innerloop.tasks.archives import with_progress_bar
from innerloop.tasks.base import Split
from innerloop.tasks.class_episodes import Classes
from innerloop.tasks.class_split import by_split, drawn_split, is_published, read_split
from innerloop.tasks.class_tasks import ClassTasks
from innerloop.tasks.images.image_files import KINDS, image_source
from innerloop.tasks.places import place_of
from innerloop.tasks.prepared import Unprepared, load_prepared
from innerloop.tasks.readers import MODES, Pictures


class Images(ClassTasks):
    """Images of classes that do not occur in training. Inputs are (channels, size, size) float32 in [0, 1].

    root: a folder with a folder for each class, a zip of one (or the folder of the zip), or an .npz (docs/your_data.md). A list of them:
    all classes of an episode are of one, drawn evenly.
    folders: which of the folders in it to take; null, all. pool: where the same classes are in folders train, val and test, as in sets that
    split images, take all images of a class together and split the classes.
    size: pixels of a side, whatever the images' own shape. channels: 3 or 1. split: a CSV of class,split or the name of a published one;
    null takes folders train, val, test (or the .npz's split), and else draws one from split_seed, 64, 16 and 20 % of the classes, and
    writes it beside the data. memory_mb: larger sets stay on the disk. augment: by name, what changes a training image at random
    (torchvision.transforms.v2).

    Raises InputError for what is missing, damaged or does not fit.
    """

    def __init__(
        self, root: str | Sequence[str] | None, folders: list[str] | None, pool: bool, size: int, channels: int, split: str | None,
        split_seed: int, memory_mb: float,
        augment: dict[str, Callable[[Tensor], Any]] | None, **shape: Any,
    ) -> None:  # fmt: skip
        super().__init__(**shape)
        check_count("task.size", size)
        check_flag("task.pool", pool)
        if folders is not None and not (isinstance(folders, list) and folders and all(isinstance(name, str) for name in folders)):
            raise InputError(f"task.folders must be a list of names of folders in task.root, got {folders!r}")
        if channels not in MODES:
            raise InputError(f"task.channels must be 3 (colour) or 1 (grey), got {channels!r}")
        check_count("task.split_seed", split_seed, least=0)
        check_positive("task.memory_mb", memory_mb)
        self.input_shape, self.augment = (channels, size, size), list((augment or {}).values())
        self.published = split if split and is_published(split) else None
        roots = [root] if root is None or isinstance(root, str) else list(root)
        if len(roots) > 1 and split:
            raise InputError(
                f"task.split={split} is of one task.root, and there are {len(roots)}; leave each its own folders, or its drawn split"
            )
        sets = [images_of(each, folders, pool, size, channels, split, split_seed, memory_mb / len(roots)) for each in roots]
        self.images, self.rows, self.parts, bits = sets[0] if len(sets) == 1 else joined([str(each) for each in roots], sets)
        self.reader, self.several = Pictures(channels, size, size, bits=bits), len(sets) > 1

    @property
    def name(self) -> str:
        """A published split's: mini_imagenet."""
        return self.published or super().name

    def classes(self, split: Split) -> Classes:
        names = self.parts[split]
        groups = [name.partition(": ")[0] for name in names] if self.several else None
        return Classes(self.images, [self.rows[name] for name in names], names, groups=groups)


class ImageSet(NamedTuple):
    """All images, the rows of each class, the classes of each split, and the bits that 16-bit images used, if there were any."""

    images: np.ndarray
    rows: dict[str, np.ndarray]
    parts: dict[str, list[str]]
    bits: int | None


def images_of(
    root: str | None, folders: list[str] | None, pool: bool, size: int, channels: int, split: str | None, split_seed: int, memory_mb: float
) -> ImageSet:
    """What is in a root."""
    path = packed(place_of(root, KINDS).resolve())
    folder = path if path.is_dir() else path.parent
    chosen = [name.replace("_", "%5F").replace("pooled", "%pooled") for name in sorted(folders or [])]  # [train_val] is not [train,val]
    stem = "_".join([path.stem, *chosen, *["pooled"] * pool])
    name = f"{stem}_{size}x{size}_{MODES[channels].lower()}.prepared"
    ready = load_prepared(
        folder,
        name,
        lambda: sources_of(path),
        lambda: sources_of(path),
        lambda _: prepare(path, folders, pool, size, channels),
        memory_mb,
    )
    counts = ready.about["counts"]
    starts = dict(zip(counts, np.cumsum([0, *counts.values()]), strict=False))
    rows = {name: np.arange(starts[name], starts[name] + n) for name, n in counts.items()}
    known = read_split(split) if split else ready.about["split"]
    if not known:
        known = drawn_split(list(counts), folder, f"{stem}_split{split_seed}.csv", split_seed)
    return ImageSet(ready.images, rows, by_split(known, list(counts), path), ready.about.get("bits"))


def joined(roots: Sequence[str], sets: Sequence[ImageSet]) -> ImageSet:
    """Several sets as one, in memory, whose classes are called "ROOT: CLASS"."""
    bits = {one.bits for one in sets if one.bits}  # where they differ, an image of one's own is taken to use what it needs
    starts = np.cumsum([0, *(len(one.images) for one in sets)])
    rows: dict[str, np.ndarray] = {}
    parts: dict[str, list[str]] = {}
    for root, start, one in zip(roots, starts, sets, strict=False):
        rows |= {f"{root}: {name}": start + at for name, at in one.rows.items()}
        for split, names in one.parts.items():
            parts.setdefault(split, []).extend(f"{root}: {name}" for name in names)
    return ImageSet(np.concatenate([one.images for one in sets]), rows, parts, next(iter(bits)) if len(bits) == 1 else None)


def packed(root: Path) -> Path:
    """The zip in a folder that has nothing else to offer."""
    if not root.is_dir() or any(path.is_dir() for path in root.iterdir()):
        return root
    zips = list(root.glob("*.zip"))
    return zips[0] if len(zips) == 1 else root


def sources_of(root: Path) -> list[Path]:
    """Not what is written beside the folders of the classes."""
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else [root]


def prepare(root: Path, folders: list[str] | None, pool: bool, size: int, channels: int) -> Unprepared:
    """Each image scaled to the square, whatever its shape, as mini-ImageNet's are."""
    with image_source(root, folders, pool) as source:
        about: dict[str, Any] = {"counts": source.counts, "split": source.split}
    count = sum(source.counts.values())

    def images() -> Any:
        with image_source(root, folders, pool) as source:
            for image in with_progress_bar(source.images, "images (once)", count):
                yield Pictures(channels, size, size).scaled(image)
            about.update(source.about)

    return Unprepared((count, channels, size, size), images(), about)
